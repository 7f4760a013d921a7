/* SPDX-License-Identifier: Apache-2.0 */
/* A change that was cut off is undone first, and what is staged goes through the journal last. */
#include "cli/repair_in_place.h"
#include "io/file.h"
#include "io/journal.h"
#include "io/stage.h"

static int open_file(struct cli_image *image, const char *path, const struct cli_common *common,
	bool write, struct vmimg_error *err)
{
	cli_files_init(&image->files, common, vmimg_resolver_none(),
		write ? VMIMG_LOCK_WRITE : VMIMG_LOCK_READ);
	image->io = vmimg_file_open(path, write, err);
	if (!image->io || cli_files_add(&image->files, image->io, err))
		return -1;
	if (common->sandbox)
		cli_sandbox_write(common->sandbox, path);
	return 0;
}

static int find_format(struct cli_image *image, const struct cli_common *common,
	struct cli_repair *repair, struct vmimg_error *err)
{
	const struct vmimg_format *format = common->format ? vmimg_format_find(common->format)
							   : vmimg_disk_probe(image->io, err);

	if (!format && !common->format)
		return -1;
	repair->format = format ? format->name : common->format;
	return 0;
}

static bool has_repair(const char *name)
{
	const struct vmimg_format *format = vmimg_format_find(name);

	return !format || format->repair;
}

/* What the whole repair would have done is forgotten. */
static int leaks_alone(struct cli_image *image, struct vmimg_journal *journal,
	struct cli_repair *repair, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *stage = vmimg_stage_open(image->io, err);

	repair->did.fixed = (struct vmimg_report){ 0 };
	repair->held_back = false;
	if (!stage || vmimg_repair_leaks(stage, repair->format, &repair->did.fixed, err))
		return -1;
	return journal ? vmimg_journal_apply(journal, stage, err) : 0;
}

/* A dry run does not undo the change, and looks at what would be there. */
static int view_undone(struct cli_image *image, struct cli_repair *repair, struct vmimg_error *err)
{
	struct cli_undone undone;
	struct vmimg_io *view = cli_files_undone(&image->files, image->io, &undone, err);

	if (!view)
		return -1;
	repair->rolled_back = undone.note[0] != '\0';
	vmimg_io_unref(image->io);
	image->io = view;
	return 0;
}

int cli_repair_in_place(struct cli_image *image, const char *path, const struct cli_common *common,
	struct cli_repair *repair, const struct vmimg_run_how *how, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_journal_close) struct vmimg_journal *journal = NULL;
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *stage = NULL;
	bool cut_off;

	if (open_file(image, path, common, !repair->dry_run, err))
		return -1;
	if (!repair->dry_run && !(journal = vmimg_journal_open(path, image->io, err)))
		return -1;
	if (journal && repair->copied)
		vmimg_journal_is_copied(journal);
	if (repair->dry_run && view_undone(image, repair, err))
		return -1;
	if (common->sandbox && cli_sandbox_enter(common->sandbox, common->untrusted, err))
		return -1;
	cut_off = journal ? vmimg_journal_left(image->io) : repair->rolled_back;
	if (journal && vmimg_journal_roll_back(journal, &repair->rolled_back, err))
		return -1;
	stage = vmimg_stage_open(image->io, err);
	if (!stage || find_format(image, common, repair, err))
		return -1;
	if (cut_off && !has_repair(repair->format)) /* a raw disk, as it was */
		return 0;
	if (vmimg_repair_run(stage, repair->format, how, &repair->did, err))
		return -1;
	repair->held_back = repair->leaks && repair->did.fixed.count[VMIMG_FINDING_CORRUPTION];
	if (repair->held_back && repair->beside)
		return leaks_alone(image, journal, repair, err);
	return journal && !repair->held_back ? vmimg_journal_apply(journal, stage, err) : 0;
}

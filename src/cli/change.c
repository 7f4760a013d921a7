/* SPDX-License-Identifier: Apache-2.0 */
/* The write lock comes first: an image that a machine has open is not changed under it. */
#include "cli/change.h"
#include "disk/info.h"
#include "io/file.h"
#include "io/journal.h"
#include "io/lock.h"

static int open_image(struct cli_image *image, const char *path, const struct cli_common *common,
	struct vmimg_open *options, struct vmimg_error *err)
{
	options->format = common->format;
	options->resolver = &image->files.resolver;
	options->max_iterations = common->max_iterations;
	if (cli_secrets_source(common->secrets, &options->secrets, &options->secret_count, err))
		return -1;
	image->io = vmimg_file_open(path, true, err);
	image->files.image = image->io;
	if (!image->io || vmimg_io_lock(image->io, VMIMG_LOCK_WRITE, err) ||
		vmimg_journal_refuse(image->io, err))
		return common->face ? vmimg_within(err, "Could not open '%.100s'", path) : -1;
	if (common->face && !options->format &&
		!(options->format = cli_face_format(image->io, err)))
		return -1;
	image->disk = vmimg_disk_open(image->io, options, err);
	if (!image->disk && common->face)
		return vmimg_within(err, "Could not open '%.100s'", path);
	return image->disk ? 0 : -1;
}

int cli_change_open_with(struct cli_image *image, const char *path, const struct cli_common *common,
	const struct cli_file_id *parent, struct vmimg_error *err)
{
	struct vmimg_open options = { 0 };

	cli_files_init(
		&image->files, common, cli_resolver(common, CLI_REFS_BESIDE), VMIMG_LOCK_READ);
	image->files.written = parent;
	return open_image(image, path, common, &options, err);
}

int cli_change_open(struct cli_image *image, const char *path, const struct cli_common *common,
	struct vmimg_error *err)
{
	return cli_change_open_with(image, path, common, NULL, err);
}

/* With a lock of its own: what the image is can be told only afterwards. */
static int undo(const char *path, const struct cli_common *common, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_file_open(path, true, err);
	VMIMG_AUTO(vmimg_journal_close) struct vmimg_journal *journal = NULL;
	bool done;

	if (!io || vmimg_io_lock(io, VMIMG_LOCK_WRITE, err))
		return -1;
	if (io->is_device)
		return 0;
	journal = vmimg_journal_open(path, io, err);
	if (!journal || vmimg_journal_roll_back(journal, &done, err))
		return -1;
	if (done && !common->quiet)
		cli_warn("%s: a change that was interrupted was undone first", vmimg_io_name(io));
	return 0;
}

int cli_change_open_undone(struct cli_image *image, const char *path,
	const struct cli_common *common, struct vmimg_error *err)
{
	return undo(path, common, err) ? -1 : cli_change_open(image, path, common, err);
}

int cli_change_open_alone(struct cli_image *image, const char *path,
	const struct cli_common *common, struct vmimg_error *err)
{
	struct vmimg_open options = { .alone = true };

	cli_files_init(&image->files, common, vmimg_resolver_none(), VMIMG_LOCK_READ);
	return open_image(image, path, common, &options, err);
}

int cli_change_refuse_snapshots(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_info info;
	size_t count;

	if (vmimg_disk_info(disk, NULL, &info, err))
		return -1;
	count = json_array_size(json_object_get(info.root, "snapshots"));
	json_decref(info.root);
	if (!count)
		return 0;
	return vmimg_fail(err, VMIMG_EREFUSED,
		"%s has %zu internal snapshots, which would be lost or show something else: take them "
		"out first (convert -l, snapshot delete)",
		vmimg_io_name(disk->io), count);
}

int cli_change_unsupported(const struct cli_image *image, const char *what, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s: format %s has no %s",
		vmimg_io_name(image->io), image->disk->format->name, what);
}

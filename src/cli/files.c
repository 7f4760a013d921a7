/* SPDX-License-Identifier: Apache-2.0 */
/* A policy on references with a memory. */
#include "cli/files.h"
#include <stdio.h>
#include <string.h>
#include "io/file.h"
#include "io/journal.h"

#define CUT_OFF                                                                           \
	"a change of it in place was cut off: it is read as it was before (vmimg repair " \
	"--in-place undoes the change)"

static bool is_written(const struct cli_files *files, const struct vmimg_io *io)
{
	return files->written && !memcmp(files->written->id, io->id, sizeof(io->id));
}

static bool has_io(const struct cli_files *files, const struct vmimg_io *io)
{
	if (files->image && files->image != io && vmimg_io_same(files->image, io))
		return true;
	for (size_t i = 0; i < files->count; i++)
		if (!memcmp(files->ids[i].id, io->id, sizeof(io->id)))
			return true;
	return false;
}

static int add(
	struct cli_files *files, struct vmimg_io *io, enum vmimg_lock mode, struct vmimg_error *err)
{
	if (!files->share && vmimg_io_lock(io, mode, err))
		return err->status == VMIMG_ELOCKED && has_io(files, io)
			? vmimg_fail(err, VMIMG_EREFUSED,
				  "it is open here already: it cannot be read and written at once")
			: -1;
	if (vmimg_grow_array(&files->ids, &files->cap, files->count + 1, sizeof(*files->ids), err))
		return -1;
	memcpy(files->ids[files->count++].id, io->id, sizeof(io->id));
	return 0;
}

int cli_files_add(struct cli_files *files, struct vmimg_io *io, struct vmimg_error *err)
{
	return add(files, io, files->mode, err);
}

static bool is_id(const uint64_t id[2], const struct stat *st)
{
	bool device = S_ISBLK(st->st_mode);

	return id[0] == (device ? st->st_rdev : st->st_dev) &&
		id[1] == (device ? UINT64_MAX : st->st_ino);
}

bool cli_files_has(const struct cli_files *files, const struct stat *st)
{
	for (size_t i = 0; i < files->count; i++)
		if (is_id(files->ids[i].id, st))
			return true;
	return false;
}

bool cli_is_at(const char *path, const struct vmimg_io *io)
{
	struct stat st;

	return !stat(path, &st) && is_id(io->id, &st);
}

int cli_files_spare(const struct cli_files *files, const char *path, struct vmimg_error *err)
{
	struct stat st;

	if (!strcmp(path, "-") || stat(path, &st) || !cli_files_has(files, &st))
		return 0;
	return vmimg_fail(
		err, VMIMG_EINVAL, "%.100s is being read: it cannot be the output as well", path);
}

/* An image that is written has its data written as well, where that is in other files. */
static bool holds_written(const struct cli_files *files, const struct vmimg_reference *ref,
	const struct vmimg_io *from)
{
	return vmimg_reference_is_part(ref) &&
		(files->image == from || (from && is_written(files, from)));
}

/* Those who look at the image alone are told; those who read its content must not get half of it.
 */
struct vmimg_io *cli_files_undone(const struct cli_files *files, struct vmimg_io *io,
	struct cli_undone *undone, struct vmimg_error *err)
{
	bool cut_off;
	struct vmimg_io *view = vmimg_journal_view(io, &cut_off, err);
	bool only_looks = !view && files->mode == VMIMG_LOCK_LOOK;

	*undone = (struct cli_undone){ 0 };
	if (view && cut_off)
		snprintf(undone->note, sizeof(undone->note), "%s", CUT_OFF);
	if (only_looks)
		snprintf(undone->note, sizeof(undone->note), "%s", err->text);
	return only_looks ? vmimg_io_ref(io) : view;
}

static int add_ref(struct cli_files *files, struct vmimg_io *io, const struct vmimg_reference *ref,
	const struct vmimg_io *from, struct vmimg_error *err)
{
	bool written = is_written(files, io) || holds_written(files, ref, from);

	if (add(files, io, written ? VMIMG_LOCK_WRITE : files->mode, err))
		return -1;
	return written ? vmimg_journal_refuse(io, err) : 0;
}

/* What is open for writing has none to undo. */
static struct vmimg_io *undone_ref(
	const struct cli_files *files, struct vmimg_io *io, struct vmimg_error *err)
{
	struct cli_undone undone;
	struct vmimg_io *view = cli_files_undone(files, io, &undone, err);

	if (undone.note[0] && !files->quiet)
		cli_warn("warning: %s: %s", vmimg_io_name(io), undone.note);
	vmimg_io_unref(io);
	return view;
}

static struct vmimg_io *open_ref(const struct vmimg_resolver *self,
	const struct vmimg_reference *ref, const struct vmimg_io *from, struct vmimg_error *err)
{
	struct cli_files *files = (struct cli_files *)(uintptr_t)self;
	struct vmimg_io *io = files->policy->open(files->policy, ref, from, err);
	bool written = io && (is_written(files, io) || holds_written(files, ref, from));

	if (io && is_written(files, io)) {
		struct vmimg_io *reading = io;

		io = vmimg_file_reopen(reading, err);
		vmimg_io_unref(reading);
	}
	if (io && !files->searching && add_ref(files, io, ref, from, err)) {
		vmimg_io_unref(io);
		return NULL;
	}
	return io && !written && !files->searching ? undone_ref(files, io, err) : io;
}

static int judge_ref(const struct vmimg_resolver *self, const struct vmimg_reference *ref,
	const struct vmimg_io *from, struct vmimg_error *err)
{
	const struct cli_files *files = (const struct cli_files *)self;

	return files->policy->judge(files->policy, ref, from, err);
}

static int search(const struct vmimg_resolver *self, const char *suffix,
	const struct vmimg_io *from, bool (*each)(void *ctx, const char *name), void *ctx,
	struct vmimg_error *err)
{
	struct cli_files *files = (struct cli_files *)(uintptr_t)self;
	int result;

	files->searching = true;
	result = files->policy->search(files->policy, suffix, from, each, ctx, err);
	files->searching = false;
	return result;
}

void cli_files_init(struct cli_files *files, const struct cli_common *common,
	const struct vmimg_resolver *policy, enum vmimg_lock mode)
{
	*files = (struct cli_files){ .resolver = { open_ref, judge_ref,
					     policy && policy->search ? search : NULL },
		.policy = policy,
		.mode = mode,
		.share = common->share,
		.quiet = common->quiet };
}

void cli_files_done(struct cli_files *files)
{
	free(files->ids);
	files->ids = NULL;
}

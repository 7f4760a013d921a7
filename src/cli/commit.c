/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmimg commit: what an image holds goes down into one of its parents, which has it in storage
 * before the image is emptied.
 */
#include "cli/commit.h"
#include <string.h>
#include "cli/change.h"
#include "cli/progress.h"
#include "cli/target.h"
#include "engine/in_place.h"

struct args {
	struct cli_common common;
	const char *base;
	bool drop; /* -d: the image is to be thrown away, so it is not emptied */
};

struct job {
	const struct args *args;
	const char *path;
	struct cli_image image;
	struct vmimg_disk *base; /* in the image's chain */
	struct cli_file_id id;   /* its file's */
};

static int fail_no_base(const struct job *job, struct vmimg_error *err)
{
	const char *base = job->args->base;

	if (base)
		return vmimg_fail(err, VMIMG_EINVAL,
			"Did not find '%.80s' in the backing chain of '%.80s'", base, job->path);
	return vmimg_fail(err, VMIMG_EINVAL, "Image does not have a backing file");
}

static bool names(const struct vmimg_disk *disk, const char *name)
{
	for (size_t i = 0; i < disk->ref_count; i++)
		if (!strcmp(disk->refs[i].ref.name, name))
			return true;
	return false;
}

/* By the name that the layer above has for it, or by the file that the name leads to. */
static bool is_base(const struct vmimg_disk *above, const char *name)
{
	return names(above, name) || cli_is_at(name, above->parent->io);
}

static int find_base(struct job *job, struct vmimg_error *err)
{
	const char *name = job->args->base;
	const struct vmimg_disk *above = job->image.disk;

	while (above->parent && name && !is_base(above, name))
		above = above->parent;
	job->base = above->parent;
	return job->base ? 0 : fail_no_base(job, err);
}

/* What is detected as a raw disk, for want of a statement, may be any file. */
static int check_stated(const struct job *job, struct vmimg_error *err)
{
	const struct vmimg_disk *above = job->image.disk;

	while (above->parent != job->base)
		above = above->parent;
	for (size_t i = 0; i < above->ref_count; i++)
		if (!strcmp(above->refs[i].ref.kind, "backing") && !above->refs[i].ref.format &&
			!strcmp(job->base->format->name, "raw"))
			return vmimg_fail(err, VMIMG_EREFUSED,
				"%s does not state the format of its backing file, which would be "
				"written as a raw disk: state it (rebase -u -b %.80s -F raw)",
				vmimg_io_name(above->io), above->refs[i].ref.name);
	return 0;
}

/* Which file the base is; nothing is locked or held open afterwards. */
static int look(struct job *job, struct vmimg_error *err)
{
	const struct cli_common *common = &job->args->common;
	struct cli_common quiet = {
		.face = common->face, .refs = common->refs, .quiet = true, .share = true
	};
	struct cli_open how = { .format = common->format, .refs = CLI_REFS_BESIDE };
	int failed = cli_image_open(&job->image, job->path, &quiet, &how, err) ||
		find_base(job, err) || check_stated(job, err);

	if (!failed)
		memcpy(job->id.id, job->base->io->id, sizeof(job->id.id));
	cli_image_close(&job->image);
	return failed ? -1 : 0;
}

static int open_both(struct job *job, struct vmimg_error *err)
{
	if (cli_change_open_with(&job->image, job->path, &job->args->common, &job->id, err))
		return -1;
	return find_base(job, err);
}

static bool can_empty(const struct vmimg_disk *disk)
{
	return disk->format->edit && disk->format->edit->empty;
}

/* A base must hold all of the image. What it grows by is zero, as it was to the image. */
static int grow_base(struct job *job, struct vmimg_error *err)
{
	const struct vmimg_edit_ops *edit = job->base->format->edit;
	uint64_t size = job->image.disk->size;

	if (job->base->size >= size)
		return 0;
	if (!edit || !edit->resize)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"%s is smaller than the image, and format %s cannot be resized in place",
			vmimg_io_name(job->base->io), job->base->format->name);
	if (edit->resize(job->base, size, err))
		return vmimg_within(err, "%s", vmimg_io_name(job->base->io));
	cli_image_close(&job->image);
	return open_both(job, err);
}

static int commit(struct job *job, struct vmimg_error *err)
{
	const struct args *args = job->args;
	struct cli_progress progress;
	struct vmimg_run_how how = { .threads = args->common.threads,
		.cancel = cli_catch_signals(),
		.progress = cli_progress_step,
		.progress_ctx = &progress };
	struct vmimg_converted done;
	bool drop = args->drop || args->base;
	int failed;

	if (!drop && !can_empty(job->image.disk) && !args->common.face)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"%s: format %s cannot be emptied in place (-d leaves it as it is)",
			vmimg_io_name(job->image.io), job->image.disk->format->name);
	if (!job->base->format->edit || !job->base->format->edit->update)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"%s: format %s takes no new content in place", vmimg_io_name(job->base->io),
			job->base->format->name);
	cli_image_warn(&job->image, &args->common);
	if (!drop && cli_change_refuse_snapshots(job->image.disk, err))
		return -1;
	if (grow_base(job, err))
		return -1;
	cli_progress_begin(&progress, &args->common, false);
	failed = vmimg_commit_run(job->image.disk, job->base, &how, &done, err);
	cli_progress_end(&progress);
	if (failed || drop || !can_empty(job->image.disk))
		return failed;
	return job->image.disk->format->edit->empty(job->image.disk, err)
		? vmimg_within(err, "all is in the base; emptying %s", vmimg_io_name(job->image.io))
		: 0;
}

static int commit_image(const char *path, const struct args *args, struct vmimg_error *err)
{
	struct job job = { .args = args, .path = path };
	int failed = look(&job, err) || open_both(&job, err) || commit(&job, err);

	cli_image_close(&job.image);
	return failed ? -1 : 0;
}

int cli_commit_down(const char *path, const struct cli_common *common, struct vmimg_error *err)
{
	struct args args = { .common = *common, .drop = true };

	return commit_image(path, &args, err);
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;

	if (commit_image(call->words[0], args, err))
		return -1;
	if (!args->common.quiet)
		printf("Image committed.\n");
	return CLI_OK;
}

static const struct cli_option options[] = {
	{ 'b', NULL, "BASE", "into this one of the parents (the next one); implies -d",
		cli_set_text, offsetof(struct args, base) },
	{ 'd', NULL, NULL, "do not empty the image: it is going to be dropped", cli_set_flag,
		offsetof(struct args, drop) },
	{ 't', NULL, "CACHE", "cache mode: accepted; storage is waited for in any case",
		cli_set_cache, offsetof(struct args, common.ignored) },
	{ 'r', "rate", "SIZE", "no more than that many bytes of the disk a second", cli_set_size,
		offsetof(struct args, common.rate) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	cli_work_options, NULL };

const struct cli_verb cli_commit = {
	.name = "commit",
	.operands = "IMAGE",
	.summary = "Moves what an image holds down into its backing file",
	.detail = "The backing file has it in storage before the image is emptied. Images between "
		  "IMAGE and\n"
		  "BASE, and others that build on the backing file, no longer show what they did.",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg compact: gives back the space that an image takes for nothing, in place or in a new one. */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/change.h"
#include "cli/copy.h"
#include "cli/progress.h"
#include "engine/in_place.h"
#include "inspect/unused.h"
#include "inspect/view.h"
#include "io/file.h"
#include "util/text.h"

struct args {
	struct cli_common common;
	struct cli_target_args target;
	const char *output;
	bool no_fs;
};

struct job {
	struct args *args;
	const char *path;
	struct cli_image image;
	struct vmimg_trim trim;
	struct vmimg_converted done;
	uint64_t before, after; /* bytes of storage */
	json_t *left;           /* what was left alone, and why */
};

/* What the file takes on storage. */
static uint64_t space_of(struct vmimg_io *io)
{
	struct stat st;
	int fd = vmimg_file_fd(io);

	return fd >= 0 && !fstat(fd, &st) ? (uint64_t)st.st_blocks * 512 : vmimg_io_size(io);
}

/* ---- what file systems do not use ---- */

static int note_unused(void *ctx, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	return vmimg_trim_add(&((struct job *)ctx)->trim, at, len, err);
}

static void note_left(void *ctx, unsigned part, const char *type, const char *why)
{
	struct job *job = ctx;
	json_t *item = json_object();
	char place[32] = "the disk";

	if (part)
		snprintf(place, sizeof(place), "partition %u", part);
	if (!job->args->common.quiet && !job->args->common.json && type)
		cli_warn("%s (%s) is left alone: %s", place, type, why);
	vmimg_json_uint(item, "partition", part);
	vmimg_json_text(item, "type", type);
	vmimg_json_text(item, "reason", why);
	json_array_append_new(job->left, item);
}

static int begin_trim(struct job *job, bool in_place, struct vmimg_error *err)
{
	struct vmimg_disk *disk = job->image.disk;
	struct vmimg_unused unused = {
		.sector_size = disk->sector_size, .each = note_unused, .left = note_left, .ctx = job
	};
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *view = NULL;

	vmimg_trim_init(&job->trim, disk, in_place);
	if (job->args->no_fs)
		return 0;
	view = vmimg_view_open(disk, err);
	return view ? vmimg_unused_walk(view, &unused, err) : -1;
}

/* ---- in place ---- */

static int give_back(struct job *job, struct vmimg_error *err)
{
	struct cli_progress progress;
	struct vmimg_run_how how = { .threads = job->args->common.threads,
		.cancel = cli_catch_signals(),
		.progress = cli_progress_step,
		.progress_ctx = &progress };
	int failed;

	cli_progress_begin(&progress, &job->args->common, false);
	failed = vmimg_compact_run(&job->trim, &how, &job->done, err);
	cli_progress_end(&progress);
	return failed;
}

static int squeeze(struct job *job, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	const struct vmimg_edit_ops *edit;
	uint64_t saved;

	cli_image_close(&job->image);
	if (cli_change_open(&image, job->path, &job->args->common, err)) /* all its files */
		return -1;
	edit = image.disk->format->edit;
	if (edit->squeeze && edit->squeeze(image.disk, &saved, err))
		return vmimg_within(err, "%s", vmimg_io_name(image.io));
	job->after = space_of(image.io);
	return 0;
}

static int in_place(struct job *job, struct vmimg_error *err)
{
	if (cli_change_open(&job->image, job->path, &job->args->common, err))
		return -1;
	cli_image_warn(&job->image, &job->args->common);
	job->before = space_of(job->image.io);
	return begin_trim(job, true, err) || give_back(job, err) || squeeze(job, err) ? -1 : 0;
}

/* ---- into a new image ---- */

/* By the name in the image or, where that is no name of a file, as it was found. */
static void keep_parent(const struct job *job, struct cli_target_args *target)
{
	const struct vmimg_disk *parent = job->image.disk->parent;
	const char *name = cli_parent_name(job->image.disk);
	const char *found = vmimg_file_path(parent->io),
		   *slash = found ? strrchr(found, '/') : NULL;
	struct vmimg_error unused;
	VMIMG_AUTO(free)
	char *path = name ? cli_path_beside(job->path, name, &unused) : NULL;

	target->backing = path && !access(path, F_OK) ? name : slash ? slash + 1 : found;
	target->backing_format = parent->format->name;
}

static int into_new(struct job *job, struct vmimg_error *err)
{
	const struct cli_common *common = &job->args->common;
	struct cli_open how = { .format = common->format, .refs = CLI_REFS_BESIDE };
	struct cli_copy copy = { .disk = &job->trim.disk,
		.files = &job->image.files,
		.path = job->args->output,
		.target = &job->args->target };
	struct stat st;

	if (cli_image_open(&job->image, job->path, common, &how, err) ||
		cli_copy_like(&copy, job->image.disk, copy.target->format, err))
		return -1;
	if (job->image.disk->parent)
		keep_parent(job, copy.target);
	job->before = space_of(job->image.io);
	if (begin_trim(job, false, err) || cli_copy_run(&copy, common, &job->done, err))
		return -1;
	job->after = stat(job->args->output, &st) ? 0 : (uint64_t)st.st_blocks * 512;
	return 0;
}

/* ---- the report ---- */

static int print_json(const struct job *job, struct vmimg_error *err)
{
	json_t *root = json_object();

	json_object_set_new(root, "schema", json_string("vmimg.compact/1"));
	vmimg_json_text(root, "filename", job->path);
	vmimg_json_text(root, "output", job->args->output);
	vmimg_json_uint(root, "bytes-before", job->before);
	vmimg_json_uint(root, "bytes-after", job->after);
	vmimg_json_uint(root, "bytes-unused", job->trim.unused);
	vmimg_json_uint(root, "bytes-zeroed", job->done.bytes_zero);
	json_object_set(root, "left-alone", job->left);
	return cli_print_json(stdout, root, err);
}

static void print_human(const struct job *job)
{
	const char *name = job->args->output ? job->args->output : job->path;
	char shown[200], before[16], after[16];

	vmimg_format_size(before, job->before);
	vmimg_format_size(after, job->after);
	printf("%s: %s, before %s\n", vmimg_escape(shown, sizeof(shown), name, strlen(name)), after,
		before);
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	struct job job = { .args = call->args, .path = call->words[0], .left = json_array() };
	const struct cli_common *common = &job.args->common;
	int failed = job.args->output ? into_new(&job, err) : in_place(&job, err);

	if (!failed && common->json)
		failed = print_json(&job, err);
	else if (!failed && !common->quiet)
		print_human(&job);
	cli_image_close(&job.image);
	vmimg_trim_done(&job.trim);
	vmimg_options_done(&job.args->target.options.list);
	json_decref(job.left);
	return failed ? -1 : CLI_OK;
}

static const struct cli_option options[] = {
	{ 0, "no-fs", NULL, "do not look at file systems: only what is zero is given back",
		cli_set_flag, offsetof(struct args, no_fs) },
	{ 'O', NULL, "FMT", "the format of NEW (that of IMAGE)", cli_set_text,
		offsetof(struct args, target.format) },
	{ 'c', NULL, NULL, "compress NEW", cli_set_flag, offsetof(struct args, target.compress) },
	{ 'o', NULL, "NEW", "write a new image, and leave this one as it is", cli_set_text,
		offsetof(struct args, output) },
	{ 0, "force", NULL, "replace an existing file", cli_set_flag,
		offsetof(struct args, target.force) },
	{ 't', NULL, "CACHE", "unsafe: do not wait for storage with NEW; anything else waits",
		cli_set_cache, offsetof(struct args, target.no_sync) },
	{ 0, "max-output", "SIZE", "do not let NEW become larger", cli_set_size,
		offsetof(struct args, common.max_output) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	cli_work_options, cli_report_options, NULL };

const struct cli_verb cli_compact = {
	.name = "compact",
	.operands = "IMAGE",
	.summary = "Gives back space that an image takes for nothing",
	.detail = "What is zero and what file systems inside do not use takes no space any more. A "
		  "file system\n"
		  "that was not unmounted is left alone.",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

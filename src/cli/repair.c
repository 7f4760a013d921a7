/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg repair: a sound image out of a damaged one: a new one, or the same under an undo journal.
 */
#include "cli/repair_in_place.h"
#include <inttypes.h>
#include <string.h>
#include "cli/findings.h"
#include "cli/lost.h"
#include "cli/progress.h"
#include "cli/repair_options.h"
#include "engine/convert.h"
#include "util/text.h"

enum { REPAIRED, FAILED, DAMAGE_LEFT };
#define MAX_RANGES 1000 /* told one by one */

struct args {
	struct cli_common common;
	struct cli_target_args target;
	const char *output;
	bool in_place, dry_run;
};

struct job {
	struct args *args;
	const char *path;
	struct cli_image image;
	struct cli_target target;
	struct vmimg_repair repair;
	struct vmimg_converted done;
	json_t *not_carried;
	const char *format;
	bool rolled_back;
};

/* ---- into a new file ---- */

/* The files that the image names are not opened, and not to be replaced either. */
static int spare_named(const struct job *job, const struct stat *st, struct vmimg_error *err)
{
	const struct vmimg_disk *disk = job->image.disk;

	for (size_t i = 0; i < disk->ref_count; i++) {
		const char *name = disk->refs[i].ref.name;
		VMIMG_AUTO(free) char *path = NULL;
		struct stat other;

		if (!name)
			continue;
		path = cli_path_beside(job->path, name, err);
		if (!path)
			return -1;
		if (!stat(path, &other) && other.st_dev == st->st_dev && other.st_ino == st->st_ino)
			return vmimg_fail(err, VMIMG_EINVAL,
				"the image needs %.100s: it cannot be the output", path);
	}
	return 0;
}

static int refuse_same(const struct job *job, struct vmimg_error *err)
{
	struct stat st;

	if (stat(job->args->output, &st))
		return 0;
	if (!cli_files_has(&job->image.files, &st))
		return spare_named(job, &st, err);
	return vmimg_fail(err, VMIMG_EINVAL,
		"%.100s is the image itself: --in-place repairs it where it is", job->args->output);
}

static int open_source(struct job *job, struct vmimg_error *err)
{
	const struct cli_common *common = &job->args->common;
	const char *wanted = job->args->target.format;
	struct cli_open how = { .format = common->format,
		.refs = CLI_REFS_NONE,
		.alone = !common->refs,
		.lenient = true };

	if (common->sandbox && job->args->output)
		cli_sandbox_write(common->sandbox, job->args->output);
	if (cli_image_open(&job->image, job->path, common, &how, err))
		return -1;
	job->format = job->image.disk->format->name;
	if (!job->image.disk->format->check)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"format %s has no structure that could be damaged", job->format);
	if (wanted && vmimg_format_find(wanted) != job->image.disk->format)
		return vmimg_fail(err, VMIMG_EINVAL,
			"the image is %s and stays so: convert makes it %.40s", job->format,
			wanted);
	return 0;
}

static int convert(struct job *job, struct vmimg_run_how *how, struct vmimg_error *err)
{
	struct vmimg_disk *disk = job->image.disk;
	struct vmimg_salvage salvage;
	struct vmimg_convert convert = { .disk = &salvage.disk,
		.sink = job->target.sink,
		.layer = job->args->target.backing != NULL,
		.how = *how };

	vmimg_salvage_init(&salvage, disk, &job->repair.lost);
	job->not_carried =
		cli_lost(disk, disk->bitmap_count && job->target.sink->ops->carry_bitmaps, err);
	if (!job->not_carried)
		return -1;
	if (disk->bitmap_count && job->target.sink->ops->carry_bitmaps &&
		job->target.sink->ops->carry_bitmaps(job->target.sink, disk, err))
		return -1;
	if (vmimg_convert_run(&convert, &job->done, err))
		return -1;
	if (vmimg_repair_check(job->target.io, job->format, how, &job->repair.left, err))
		return vmimg_within(err, "checking the new image");
	return cli_target_publish(&job->target, err);
}

static int into_new(struct job *job, struct vmimg_run_how *how, struct vmimg_error *err)
{
	struct cli_target_args *target = &job->args->target;
	struct vmimg_repair *repair = &job->repair;
	struct vmimg_disk *disk;

	if (open_source(job, err))
		return -1;
	disk = job->image.disk;
	if (vmimg_repair_check(job->image.io, job->format, how, &repair->fixed, err) ||
		vmimg_survey_run(disk, how, &repair->lost, err))
		return -1;
	if (job->args->dry_run)
		return 0;
	job->target.format = cli_target_format(job->format, NULL, err);
	if (!job->target.format || refuse_same(job, err) ||
		cli_repair_options(target, disk, repair->lost.packed, err))
		return -1;
	job->target.source = &job->image.files;
	if (cli_target_open(&job->target, job->args->output, target, &job->args->common, err) ||
		cli_target_begin(&job->target, target, &job->args->common, disk->size, err))
		return -1;
	return convert(job, how, err);
}

/* ---- in place ---- */

static int in_place(struct job *job, const struct vmimg_run_how *how, struct vmimg_error *err)
{
	struct cli_repair repair = { .dry_run = job->args->dry_run,
		.copied = job->args->target.force };
	int failed =
		cli_repair_in_place(&job->image, job->path, &job->args->common, &repair, how, err);

	job->repair = repair.did;
	job->format = repair.format;
	job->rolled_back = repair.rolled_back;
	return failed;
}

/* ---- the report ---- */

static bool damage_left(const struct job *job)
{
	const struct vmimg_repair *repair = &job->repair;

	return repair->lost.count || repair->fixed.given_up || job->done.shared_blocks ||
		repair->left.count[VMIMG_FINDING_CORRUPTION] ||
		repair->left.count[VMIMG_FINDING_ERROR];
}

static json_t *ranges_json(const struct vmimg_lost *lost)
{
	json_t *list = json_array();

	for (size_t i = 0; i < lost->count && i < MAX_RANGES; i++) {
		json_t *item = json_object();

		vmimg_json_uint(item, "start", lost->ranges[i].at);
		vmimg_json_uint(item, "length", lost->ranges[i].len);
		json_array_append_new(list, item);
	}
	return list;
}

static const char *mode(const struct args *args)
{
	return args->dry_run ? "dry-run" : args->in_place ? "in-place" : "new";
}

static int print_json(const struct job *job, struct vmimg_error *err)
{
	const struct vmimg_repair *repair = &job->repair;
	json_t *root = json_object();

	json_object_set_new(root, "schema", json_string("vmimg.repair/1"));
	vmimg_json_text(root, "filename", job->path);
	vmimg_json_text(root, "format", job->format);
	vmimg_json_text(root, "mode", mode(job->args));
	vmimg_json_text(root, "output", job->args->output);
	vmimg_json_bool(root, "rolled-back", job->rolled_back);
	json_object_set_new(root, "fixed", cli_findings_json(&repair->fixed));
	vmimg_json_uint(root, "fixed-total", cli_findings_count(&repair->fixed));
	json_object_set_new(root, "left", cli_findings_json(&repair->left));
	vmimg_json_uint(root, "left-total", cli_findings_count(&repair->left));
	json_object_set_new(root, "lost-ranges", ranges_json(&repair->lost));
	vmimg_json_uint(root, "lost-ranges-total", repair->lost.count);
	vmimg_json_uint(root, "lost-bytes", repair->lost.bytes);
	vmimg_json_uint(root, "entries-given-up", repair->fixed.given_up);
	vmimg_json_uint(root, "shared-blocks", job->done.shared_blocks);
	if (job->not_carried)
		json_object_set(root, "not-carried", job->not_carried);
	return cli_print_json(stdout, root, err);
}

static void print_lost(const struct vmimg_lost *lost)
{
	if (!lost->count)
		return;
	printf("%" PRIu64 " bytes of the disk could not be read, and are zero now (first: %s):\n",
		lost->bytes, lost->why);
	for (size_t i = 0; i < lost->count && i < MAX_RANGES; i++)
		printf("  0x%" PRIx64 " to 0x%" PRIx64 "\n", lost->ranges[i].at,
			lost->ranges[i].at + lost->ranges[i].len);
	if (lost->count > MAX_RANGES)
		printf("  ... and %zu more ranges\n", lost->count - MAX_RANGES);
}

static void print_human(const struct job *job)
{
	const struct vmimg_repair *repair = &job->repair;
	bool dry = job->args->dry_run;

	if (job->rolled_back)
		printf("A change that was interrupted was undone first.\n");
	if (cli_findings_count(&repair->fixed))
		printf("%s\n", dry ? "To be fixed:" : "Fixed:");
	cli_print_findings(&repair->fixed);
	if (cli_findings_count(&repair->left))
		printf("Left:\n");
	cli_print_findings(&repair->left);
	print_lost(&repair->lost);
	if (job->done.shared_blocks)
		printf("%" PRIu64
		       " blocks of the file served more than one place of the disk, first "
		       "at 0x%" PRIx64 ": each now has a copy, and all but one are wrong.\n",
			job->done.shared_blocks, job->done.shared_at);
	if (!cli_findings_count(&repair->fixed) && !damage_left(job))
		printf("There was nothing to repair.\n");
}

static int report(const struct job *job, struct vmimg_error *err)
{
	if (job->not_carried && !job->args->common.quiet)
		cli_print_lost(job->not_carried);
	if (job->args->common.json && print_json(job, err))
		return -1;
	if (!job->args->common.json && !job->args->common.quiet)
		print_human(job);
	return damage_left(job) ? DAMAGE_LEFT : REPAIRED;
}

static int check_words(const struct args *args, struct vmimg_error *err)
{
	if (args->output && args->in_place)
		return vmimg_fail(err, VMIMG_EINVAL, "-o and --in-place exclude each other");
	if (!args->output && !args->in_place && !args->dry_run)
		return vmimg_fail(err, VMIMG_EINVAL,
			"say where to: -o NEW makes a new image, --in-place changes this one");
	return 0;
}

static int refuse_split(const struct job *job, struct vmimg_error *err)
{
	if (!cli_is_split(job->path, job->args->common.format))
		return 0;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"%.80s is the first of several files of an image: convert it into one first",
		job->path);
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	struct job *job = vmimg_new(struct job, err);
	struct vmimg_run_how how = { .cancel = cli_catch_signals() };
	int result;

	if (!job)
		return -1;
	job->args = call->args;
	job->path = call->words[0];
	how.threads = job->args->common.threads;
	result = check_words(job->args, err) || refuse_split(job, err) ? -1 : 0;
	if (!result)
		result = job->args->in_place ? in_place(job, &how, err) : into_new(job, &how, err);
	if (!result)
		result = report(job, err);
	cli_target_close(&job->target);
	cli_image_close(&job->image);
	vmimg_repair_done(&job->repair);
	vmimg_options_done(&job->args->target.options.list);
	json_decref(job->not_carried);
	free(job);
	return result;
}

/* A usage error is 1: 2 means that damage is left. */
static int exit_code(enum vmimg_status status)
{
	return status == VMIMG_EINVAL ? FAILED : cli_exit_code(status);
}

static const struct cli_option options[] = {
	{ 'o', NULL, "NEW", "the new image", cli_set_text, offsetof(struct args, output) },
	{ 'O', NULL, "FMT", "the format of NEW: that of IMAGE", cli_set_text,
		offsetof(struct args, target.format) },
	{ 0, "in-place", NULL, "change the image itself, under an undo journal", cli_set_flag,
		offsetof(struct args, in_place) },
	{ 'n', "dry-run", NULL, "say what would be done, and change nothing", cli_set_flag,
		offsetof(struct args, dry_run) },
	{ 0, "force", NULL,
		"replace an existing file; in place: undo although the image was copied since",
		cli_set_flag, offsetof(struct args, target.force) },
	{ 0, "max-output", "SIZE", "do not let NEW become larger", cli_set_size,
		offsetof(struct args, common.max_output) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	cli_work_options, cli_report_options, NULL };

const struct cli_verb cli_repair = {
	.name = "repair",
	.operands = "IMAGE",
	.summary = "Makes a damaged image sound",
	.detail = "What cannot be read becomes zeroes, and is listed. Exits 0 when the image is "
		  "sound "
		  "and\ncomplete, 2 when damage is left or data is lost, 1 when it failed.",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.reach = CLI_READS,
	.options = groups,
	.run = run,
	.exit_code = exit_code,
};

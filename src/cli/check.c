/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg check: whether an image is sound. Exit codes and texts are those of qemu-img check. */
#include "engine/check.h"
#include <inttypes.h>
#include <string.h>
#include "cli/face/findings.h"
#include "cli/findings.h"
#include "cli/open.h"
#include "cli/progress.h"
#include "cli/repair_in_place.h"
#include "util/text.h"

enum { SOUND, INCOMPLETE, CORRUPT, LEAKS, NO_CHECK = 63 };

enum { REPAIR_NOTHING, REPAIR_LEAKS, REPAIR_ALL };

struct args {
	struct cli_common common;
	unsigned repair;
};

/* What -r has done, before the check. */
struct fixed {
	uint64_t leaks, corruptions;
};

/* Failures before anything was checked. A usage error is 1: 2 means corrupt. */
static int exit_code(enum vmimg_status status)
{
	return status == VMIMG_EINVAL ? INCOMPLETE : cli_exit_code(status);
}

static int verdict(const struct vmimg_report *report)
{
	if (report->count[VMIMG_FINDING_CORRUPTION])
		return CORRUPT;
	if (report->count[VMIMG_FINDING_ERROR])
		return INCOMPLETE;
	return report->count[VMIMG_FINDING_LEAK] ? LEAKS : SOUND;
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* Callers of qemu-img know how the file is used from qcow2 alone. */
static bool tells_all(const struct vmimg_disk *disk, const struct cli_common *common)
{
	return !common->face || !strcmp(disk->format->name, "qcow2");
}

static void print_totals(const struct vmimg_report *report, bool all)
{
	uint64_t errors = report->count[VMIMG_FINDING_ERROR];
	uint64_t corruptions = report->count[VMIMG_FINDING_CORRUPTION];
	uint64_t leaks = report->count[VMIMG_FINDING_LEAK];

	if (!errors && !corruptions && !leaks)
		printf("No errors were found on the image.\n");
	if (corruptions)
		printf("\n%" PRIu64 " errors were found on the image.\n"
		       "Data may be corrupted, or further writes to the image may corrupt it.\n",
			corruptions);
	if (leaks)
		printf("\n%" PRIu64 " leaked clusters were found on the image.\n"
		       "This means waste of disk space, but no harm to data.\n",
			leaks);
	if (errors)
		printf("\n%" PRIu64 " internal errors have occurred during the check.\n", errors);
	if (all && report->total_blocks && report->allocated_blocks)
		printf("%" PRIu64 "/%" PRIu64 " = %0.2f%% allocated, %0.2f%% fragmented, "
		       "%0.2f%% compressed clusters\n",
			report->allocated_blocks, report->total_blocks,
			percent(report->allocated_blocks, report->total_blocks),
			percent(report->fragmented_blocks, report->allocated_blocks),
			percent(report->compressed_blocks, report->allocated_blocks));
	if (all && report->image_end)
		printf("Image end offset: %" PRIu64 "\n", report->image_end);
}

static void set_if_any(json_t *root, const char *key, uint64_t value)
{
	if (value)
		vmimg_json_uint(root, key, value);
}

static int print_json(const struct vmimg_disk *disk, const char *filename,
	const struct vmimg_report *report, const struct fixed *fixed, struct vmimg_error *err)
{
	json_t *root = json_object();

	set_if_any(root, "image-end-offset", report->image_end);
	set_if_any(root, "total-clusters", report->total_blocks);
	vmimg_json_uint(root, "check-errors", report->count[VMIMG_FINDING_ERROR]);
	vmimg_json_uint(root, "corruptions", report->count[VMIMG_FINDING_CORRUPTION]);
	vmimg_json_uint(root, "leaks", report->count[VMIMG_FINDING_LEAK]);
	set_if_any(root, "corruptions-fixed", fixed->corruptions);
	set_if_any(root, "leaks-fixed", fixed->leaks);
	set_if_any(root, "allocated-clusters", report->allocated_blocks);
	set_if_any(root, "fragmented-clusters", report->fragmented_blocks);
	set_if_any(root, "compressed-clusters", report->compressed_blocks);
	vmimg_json_text(root, "filename", filename);
	vmimg_json_text(root, "format", disk->format->name);
	json_object_set_new(root, "schema", json_string("vmimg.check/1"));
	json_object_set_new(root, "findings", cli_findings_json(report));
	vmimg_json_uint(root, "findings-total", cli_findings_count(report));
	return cli_print_json(stdout, root, err);
}

static int check(struct vmimg_disk *disk, const struct cli_common *common,
	struct vmimg_report *report, struct vmimg_error *err)
{
	struct cli_progress progress;
	struct vmimg_run_how how = {
		.threads = common->threads, .progress = cli_progress_step, .progress_ctx = &progress
	};
	int failed;

	cli_progress_begin(&progress, common, common->json);
	failed = vmimg_check_run(disk, &how, report, err);
	cli_progress_end(&progress);
	return failed;
}

/* Whatever can be mended is, or with REPAIR_LEAKS only lost space, when that is all there is. */
static int repair(
	const char *path, const struct args *args, struct fixed *fixed, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	VMIMG_AUTO(free) struct cli_repair *repair = vmimg_new(struct cli_repair, err);
	struct vmimg_run_how how = { .threads = args->common.threads };
	int failed;

	if (!repair)
		return -1;
	repair->leaks = args->repair == REPAIR_LEAKS;
	repair->beside = args->common.face;
	failed = cli_repair_in_place(&image, path, &args->common, repair, &how, err);
	if (!failed && !repair->held_back) {
		fixed->leaks = repair->did.fixed.count[VMIMG_FINDING_LEAK];
		fixed->corruptions = repair->did.fixed.count[VMIMG_FINDING_CORRUPTION];
	}
	vmimg_repair_done(&repair->did);
	return failed;
}

static void print_fixed(const struct fixed *fixed)
{
	if (fixed->leaks || fixed->corruptions)
		printf("The following inconsistencies were found and repaired:\n\n"
		       "    %" PRIu64 " leaked clusters\n    %" PRIu64 " corruptions\n\n"
		       "Double checking the fixed image now...\n",
			fixed->leaks, fixed->corruptions);
}

static int report(const struct args *args, const char *path, const struct vmimg_disk *disk,
	const struct vmimg_report *found, const struct fixed *fixed, struct vmimg_error *err)
{
	const struct cli_common *common = &args->common;

	if (common->json && print_json(disk, path, found, fixed, err))
		return -1;
	if (!common->json && !common->quiet) {
		print_fixed(fixed);
		if (common->face)
			face_print_findings(found);
		else
			cli_print_findings(found);
		print_totals(found, tells_all(disk, common));
	}
	return verdict(found);
}

/* Formats without a check, or whose faults are mended in a new image only, are told by what the
 * check says. */
static bool can_repair(const char *path, const struct args *args, const struct cli_open *how)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_common quiet = args->common;
	struct vmimg_error unused;

	quiet.quiet = quiet.share = true;
	quiet.sandbox = NULL;
	return args->repair && !cli_is_split(path, how->format) &&
		!cli_image_open(&image, path, &quiet, how, &unused) && image.disk &&
		image.disk->format->repair;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	const struct cli_common *common = &args->common;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	VMIMG_AUTO(free) struct vmimg_report *found = vmimg_new(struct vmimg_report, err);
	struct fixed fixed = { 0 };
	struct cli_open how = { .format = common->format,
		.refs = CLI_REFS_NONE,
		.alone = !common->refs,
		.lenient = true };

	if (!found ||
		(can_repair(call->words[0], args, &how) &&
			repair(call->words[0], args, &fixed, err)))
		return -1;
	if (cli_image_open(&image, call->words[0], common, &how, err))
		return -1;
	if (!image.disk->format->check) {
		cli_warn("This image format does not support checks");
		return NO_CHECK;
	}
	if (check(image.disk, common, found, err))
		return -1;
	if (found->malformed)
		return vmimg_fail(err, VMIMG_ECORRUPT, "%s", found->kept[0].text);
	return report(args, call->words[0], image.disk, found, &fixed, err);
}

static int set_repair(void *to, const char *value, struct vmimg_error *err)
{
	if (strcmp(value, "leaks") != 0 && strcmp(value, "all") != 0)
		return vmimg_fail(err, VMIMG_EINVAL, "it is leaks or all, not '%.40s'", value);
	*(unsigned *)to = value[0] == 'l' ? REPAIR_LEAKS : REPAIR_ALL;
	return 0;
}

static const struct cli_option options[] = {
	{ 'r', NULL, "WHAT", "repair it in place first: all, or leaks when there is nothing worse",
		set_repair, offsetof(struct args, repair) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_report_options,
	cli_work_options, cli_source_options, NULL };

const struct cli_verb cli_check = {
	.name = "check",
	.operands = "IMAGE",
	.summary = "Tells whether an image is sound",
	.detail = "Exits 0 when it is, 1 when the check was not completed, 2 when something is "
		  "corrupt,\n"
		  "3 when space is leaked, 63 when the format has nothing to check.",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.reach = CLI_READS,
	.options = groups,
	.run = run,
	.exit_code = exit_code,
};

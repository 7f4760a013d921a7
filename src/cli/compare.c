/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg compare: whether two disks hold the same. Exit codes and texts are qemu-img compare's. */
#include "engine/compare.h"
#include <inttypes.h>
#include <string.h>
#include "cli/open.h"
#include "cli/progress.h"
#include "util/num.h"

enum { SAME, DIFFER, OPEN_FAILED, MAP_FAILED, READ_FAILED };

struct args {
	struct cli_common common;
	const char *second_format;
	bool exact; /* -s: sizes and allocation as well */
};

struct outcome {
	struct vmimg_compared content;
	bool layout_differs;
	uint64_t layout_at;
	uint64_t shorter; /* bytes of the smaller disk */
};

static int exit_code(enum vmimg_status status)
{
	(void)status; /* that of an error before anything was compared */
	return OPEN_FAILED;
}

/* The first guest offset where one disk has data and the other zeroes, or nothing at all. */
static int compare_layout(struct vmimg_disk *a, struct vmimg_disk *b, struct outcome *outcome,
	struct vmimg_error *err)
{
	uint64_t end = vmimg_min(a->size, b->size), at = 0;

	while (at < end) {
		struct vmimg_run of_a, of_b;

		if (vmimg_disk_resolve(a, at, &of_a, NULL, err) ||
			vmimg_disk_resolve(b, at, &of_b, NULL, err))
			return -1;
		of_a.kind = of_a.kind == VMIMG_RUN_PACKED ? VMIMG_RUN_DATA : of_a.kind;
		of_b.kind = of_b.kind == VMIMG_RUN_PACKED ? VMIMG_RUN_DATA : of_b.kind;
		if (of_a.kind != of_b.kind) {
			outcome->layout_differs = true;
			outcome->layout_at = at;
			return 0;
		}
		at += vmimg_min(of_a.len, of_b.len);
	}
	return 0;
}

static bool content_first(const struct outcome *o)
{
	return !o->content.same && (!o->layout_differs || o->content.differ_at < o->layout_at);
}

static void print_human(const struct outcome *o, bool exact)
{
	if (exact && o->content.sizes_differ) {
		printf("Strict mode: Image size mismatch!\n");
		return;
	}
	if (o->content.sizes_differ && (!content_first(o) || o->content.differ_at >= o->shorter))
		printf("Warning: Image size mismatch!\n");
	if (content_first(o)) /* qemu-img counts in sectors */
		printf("Content mismatch at offset %" PRIu64 "!\n",
			vmimg_align_down(o->content.differ_at, 512));
	else if (o->layout_differs)
		printf("Strict mode: Offset %" PRIu64 " block status mismatch!\n", o->layout_at);
	else
		printf("Images are identical.\n");
}

static int print_json(
	const struct cli_call *call, const struct outcome *o, int code, struct vmimg_error *err)
{
	json_t *root = json_object(), *files = json_array();

	vmimg_json_bool(root, "identical", code == SAME);
	json_object_set_new(root, "schema", json_string("vmimg.compare/1"));
	for (size_t i = 0; i < 2; i++)
		json_array_append_new(
			files, vmimg_json_escaped(call->words[i], strlen(call->words[i])));
	json_object_set_new(root, "filenames", files);
	vmimg_json_bool(root, "content-differs", !o->content.same);
	if (!o->content.same)
		vmimg_json_uint(root, "offset", o->content.differ_at);
	vmimg_json_bool(root, "sizes-differ", o->content.sizes_differ);
	if (o->layout_differs)
		vmimg_json_uint(root, "allocation-differs-at", o->layout_at);
	return cli_print_json(stdout, root, err) ? -1 : code;
}

static int compare(struct cli_image *a, struct cli_image *b, const struct cli_common *common,
	struct outcome *outcome, struct vmimg_error *err)
{
	struct cli_progress progress;
	struct vmimg_run_how how = {
		.threads = common->threads, .progress = cli_progress_step, .progress_ctx = &progress
	};
	int failed;

	cli_progress_begin(&progress, common, common->json);
	outcome->shorter = vmimg_min(a->disk->size, b->disk->size);
	failed = vmimg_compare_run(a->disk, b->disk, &how, &outcome->content, err);
	cli_progress_end(&progress);
	return failed;
}

static int fail_with(int code, const struct vmimg_error *err)
{
	cli_warn("compare: %s", err->text);
	return code;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	const struct cli_common *common = &args->common;
	VMIMG_AUTO(cli_image_close) struct cli_image a = { 0 };
	VMIMG_AUTO(cli_image_close) struct cli_image b = { 0 };
	struct cli_open how = {
		.format = common->format, .spool_for = "", .refs = CLI_REFS_BESIDE
	};
	struct cli_open second = how;
	struct outcome outcome = { 0 };
	int code;

	second.format = args->second_format;
	if (cli_image_open(&a, call->words[0], common, &how, err) ||
		cli_image_open(&b, call->words[1], common, &second, err))
		return -1;
	if (compare(&a, &b, common, &outcome, err))
		return fail_with(READ_FAILED, err);
	if (args->exact && compare_layout(a.disk, b.disk, &outcome, err))
		return fail_with(MAP_FAILED, err);
	code = !outcome.content.same || outcome.layout_differs ||
			(args->exact && outcome.content.sizes_differ)
		? DIFFER
		: SAME;
	if (common->json)
		return print_json(call, &outcome, code, err);
	if (!common->quiet)
		print_human(&outcome, args->exact);
	return code;
}

static const struct cli_option options[] = {
	{ 'F', NULL, "FMT", "the second image's format (detected)", cli_set_text,
		offsetof(struct args, second_format) },
	{ 's', NULL, NULL, "differ in size or allocation too", cli_set_flag,
		offsetof(struct args, exact) },
	{ 0 },
};

static const struct cli_option *const groups[] = { cli_format_options, options, cli_report_options,
	cli_work_options, cli_source_options, NULL };

const struct cli_verb cli_compare = {
	.name = "compare",
	.operands = "IMAGE IMAGE",
	.summary = "Tells whether two disks hold the same",
	.detail = "Where one is longer, the rest must be zero. Exits 0 when they are the same, 1 "
		  "when they\n"
		  "differ, 2 when an image cannot be opened, 3 or 4 when it cannot be read.",
	.least = 2,
	.most = 2,
	.args_size = sizeof(struct args),
	.reach = CLI_READS,
	.options = groups,
	.run = run,
	.exit_code = exit_code,
};

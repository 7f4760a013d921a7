/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg measure: how large an image would become. */
#include "engine/measure.h"
#include <inttypes.h>
#include "cli/target.h"
#include "util/limits.h"

struct args {
	struct cli_common common;
	struct cli_target_args target;
	struct cli_size size;
	const char *snapshot;
};

static int print_measured(const struct vmimg_measured *measured, bool json, struct vmimg_error *err)
{
	json_t *root;

	if (!json) {
		printf("required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n",
			measured->required, measured->full);
		if (measured->carries)
			printf("bitmaps size: %" PRIu64 "\n", measured->bitmaps);
		return CLI_OK;
	}
	root = json_object();
	vmimg_json_uint(root, "required", measured->required);
	vmimg_json_uint(root, "fully-allocated", measured->full);
	if (measured->carries)
		vmimg_json_uint(root, "bitmaps", measured->bitmaps);
	json_object_set_new(root, "schema", json_string("vmimg.measure/1"));
	return cli_print_json(stdout, root, err);
}

static int fail_words(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	const char *text = call->count ? "--size N cannot be used together with a filename."
		: args->common.format || args->snapshot
		? "--image-opts, -f, and -l require a filename argument."
		: "Either --size N or one filename must be specified.";

	if (args->common.face)
		return vmimg_fail(err, VMIMG_EINVAL, "%s", text);
	return vmimg_fail(err, VMIMG_EINVAL, "%s",
		!call->count && args->size.given ? "-f and -l are about IMAGE, which is not given"
						 : "it takes either IMAGE or --size");
}

static int measure(
	const struct cli_call *call, const struct vmimg_format *format, struct vmimg_error *err)
{
	struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_open how = { .format = args->common.format,
		.snapshot = args->snapshot,
		.spool_for = "",
		.refs = CLI_REFS_BESIDE };
	struct vmimg_create create = { .options = &args->target.options.list };
	struct vmimg_measured measured;

	if ((call->count == 1) == args->size.given ||
		(!call->count && (args->common.format || args->snapshot)))
		return fail_words(call, err);
	if (args->size.bytes > VMIMG_MAX_DISK)
		return vmimg_fail(err, VMIMG_ELIMIT, "a disk of more than 4 EiB");
	if (cli_target_split_options(&args->target, NULL, err))
		return -1;
	if (call->count && cli_image_open(&image, call->words[0], &args->common, &how, err))
		return -1;
	create.size = image.disk ? image.disk->size : args->size.bytes;
	create.parent_name = args->target.backing;
	create.parent_format = args->target.backing_format;
	if (vmimg_measure_run(format, &create, image.disk, &measured, err))
		return -1;
	return print_measured(&measured, args->common.json, err);
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	struct args *args = call->args;
	const char *name = args->target.format ? args->target.format : "raw";
	const struct vmimg_format *format = cli_target_format(name, "", err);
	int result;

	if (!format)
		return -1;
	if (args->target.options.help) {
		cli_print_create_options(format, false);
		return CLI_OK;
	}
	result = measure(call, format, err);
	vmimg_options_done(&args->target.options.list);
	return result;
}

static const struct cli_option options[] = {
	{ 'O', NULL, "FMT", "the format of the new image (raw)", cli_set_text,
		offsetof(struct args, target.format) },
	{ 'o', NULL, "KEY=VALUE,...", "options of the format; -o help lists them", cli_set_create,
		offsetof(struct args, target.options) },
	{ 0, "size", "SIZE", "of an empty disk, instead of IMAGE", cli_set_length,
		offsetof(struct args, size) },
	{ 'l', NULL, "SNAPSHOT", "measure an internal snapshot, by id or name", cli_set_text,
		offsetof(struct args, snapshot) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_report_options,
	cli_source_options, NULL };

const struct cli_verb cli_measure = {
	.name = "measure",
	.operands = "[IMAGE]",
	.summary = "Tells how large an image would become, without reading data",
	.most = 1,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

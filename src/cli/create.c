/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg create: an image of an empty disk, or of one that is all in its backing file. */
#include <inttypes.h>
#include <stdio.h>
#include "cli/face/formatting.h"
#include "cli/target.h"
#include "engine/blank.h"
#include "util/num.h"
#include "util/text.h"
#include <string.h>

struct args {
	struct cli_common common;
	struct cli_target_args target;
};

/* In the words that callers of qemu-img look for. */
static int fail_size(struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_EINVAL,
		"Invalid image size specified. You may use k, M, G, T, P or E suffixes for kilobytes, "
		"megabytes, gigabytes, terabytes, petabytes and exabytes.");
}

static int choose_size(const struct cli_call *call, const struct cli_target *target,
	struct cli_size *size, struct vmimg_error *err)
{
	bool face = ((const struct args *)call->args)->common.face;

	if (call->count > 1 && size->given)
		return vmimg_fail(err, VMIMG_EINVAL, "the size is given twice: once is enough");
	if (call->count > 1 && !cli_set_length(size, call->words[1], err))
		return 0;
	if (call->count > 1)
		return face ? fail_size(err) : -1;
	if (size->given)
		return 0;
	if (!target->parent.disk)
		return vmimg_fail(err, VMIMG_EINVAL,
			face ? "Image creation needs a size parameter"
			     : "a size is missing, or a backing file to take it from");
	size->bytes = target->parent.disk->size;
	return 0;
}

static int check_size(uint64_t size, const struct cli_common *common, struct vmimg_error *err)
{
	if (!common->max_virtual_size || size <= common->max_virtual_size)
		return 0;
	return vmimg_fail(err, VMIMG_ELIMIT, "%" PRIu64 " bytes are over --max-virtual-size", size);
}

/* A caller of qemu-img sees what was understood, whether or not it can be done. */
static int show(const struct args *args, const struct cli_target *target, uint64_t size,
	struct vmimg_error *err)
{
	if (!args->common.face || args->common.quiet)
		return 0;
	face_print_formatting(target, &args->target, size);
	return cli_flush(err);
}

static int prepare(const struct cli_call *call, struct cli_target *target, struct cli_size *size,
	struct vmimg_error *err)
{
	struct args *args = call->args;

	if (args->common.face && cli_target_face_options(&args->target, target->format, err))
		return -1;
	if (cli_target_open(target, call->words[0], &args->target, &args->common, err) ||
		choose_size(call, target, size, err) ||
		check_size(size->bytes, &args->common, err) ||
		show(args, target, size->bytes, err))
		return -1;
	cli_target_drop_options(&args->target);
	if (args->common.face && !strcmp(target->format->name, "raw"))
		size->bytes = vmimg_align_up(size->bytes, 512); /* as it is seen by a guest */
	return 0;
}

static int make(const struct cli_call *call, struct cli_target *target, struct cli_size *size,
	struct vmimg_error *err)
{
	const struct args *args = call->args;

	if (prepare(call, target, size, err) ||
		cli_target_begin(target, &args->target, &args->common, size->bytes, err) ||
		vmimg_blank_run(target->sink, err))
		return -1;
	return cli_target_publish(target, err);
}

static int print_made(const struct args *args, const struct cli_target *target, uint64_t size,
	struct vmimg_error *err)
{
	char name[200];
	json_t *root;

	vmimg_escape(name, sizeof(name), target->path, strlen(target->path));
	if (!args->common.json && !args->common.quiet && !args->common.face)
		printf("Created %s, format %s, %" PRIu64 " bytes\n", name, target->format->name,
			size);
	if (!args->common.json)
		return CLI_OK;
	root = json_object();
	vmimg_json_uint(root, "virtual-size", size);
	vmimg_json_text(root, "filename", target->path);
	vmimg_json_text(root, "format", target->format->name);
	json_object_set_new(root, "schema", json_string("vmimg.create/1"));
	return cli_print_json(stdout, root, err);
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	struct args *args = call->args;
	VMIMG_AUTO(cli_target_close) struct cli_target target = { 0 };
	struct cli_size size = { 0 };
	int result;

	target.format =
		cli_target_format(args->target.format, call->count ? call->words[0] : "", err);
	if (!target.format)
		return -1;
	if (args->target.options.help) {
		cli_print_create_options(target.format, call->count);
		return CLI_OK;
	}
	if (!call->count)
		return vmimg_fail(err, VMIMG_EINVAL, "%s",
			args->common.face ? "Expecting image file name"
					  : "the name of the new image is missing");
	if (cli_target_split_options(&args->target, &size, err) || make(call, &target, &size, err))
		result = args->common.face ? vmimg_within(err, "%s", call->words[0]) : -1;
	else
		result = print_made(args, &target, size.bytes, err);
	vmimg_options_done(&args->target.options.list);
	return result;
}

static const struct cli_option options[] = {
	{ 'f', NULL, "FMT", "the format (by the suffix of FILE)", cli_set_text,
		offsetof(struct args, target.format) },
	{ 'b', NULL, "FILE", "the backing file, as it is to be written into the image",
		cli_set_text, offsetof(struct args, target.backing) },
	CLI_TARGET_OPTIONS(struct args, target),
	CLI_BACKING_FORMAT_OPTION(struct args, target),
	{ 'u', NULL, NULL, "do not open the backing file; SIZE must be given", cli_set_flag,
		offsetof(struct args, target.blind) },
	{ 'q', "quiet", NULL, "print nothing but errors", cli_set_flag,
		offsetof(struct args, common.quiet) },
	{ 0, "max-output", "SIZE", "do not let the file become larger", cli_set_size,
		offsetof(struct args, common.max_output) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_report_options, cli_source_options,
	NULL };

const struct cli_verb cli_create = {
	.name = "create",
	.operands = "FILE [SIZE]",
	.summary = "Makes an empty image, or one on top of a backing file",
	.most = 2,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

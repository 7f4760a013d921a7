/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg resize: a larger or a smaller disk, in place. */
#include <inttypes.h>
#include <string.h>
#include "cli/change.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

struct args {
	struct cli_common common;
	bool shrink;
	const char *preallocation;
};

/* "10G", "+1G", "-1G". */
static int parse_target(const char *text, uint64_t now, uint64_t *size, struct vmimg_error *err)
{
	bool plus = text[0] == '+', minus = text[0] == '-';
	uint64_t bytes;

	if (vmimg_parse_size(text + (plus || minus), &bytes, err))
		return -1;
	if (minus && bytes > now)
		return vmimg_fail(err, VMIMG_EINVAL,
			"the disk has %" PRIu64 " bytes: it cannot lose %" PRIu64, now, bytes);
	*size = minus ? now - bytes : bytes;
	if (plus && (!vmimg_add(now, bytes, size) || *size > VMIMG_MAX_DISK))
		return vmimg_fail(err, VMIMG_ELIMIT, "a disk of more than 4 EiB");
	return 0;
}

/* What would be cut off must be nothing, unless the user insists. */
static int guard_data(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	struct vmimg_run run;

	for (uint64_t at = size; at < disk->size; at += run.len) {
		if (vmimg_disk_resolve(disk, at, &run, NULL, err))
			return -1;
		if (run.kind == VMIMG_RUN_DATA || run.kind == VMIMG_RUN_PACKED)
			return vmimg_fail(err, VMIMG_EREFUSED,
				"the disk has data past %" PRIu64 " bytes, at %" PRIu64
				": --shrink cuts it off",
				size, at);
	}
	return 0;
}

/* Where qemu-img asks for --shrink, its callers rely on that, data or no data. */
static int guard(
	const struct args *args, struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	if (!args->common.face)
		return guard_data(disk, size, err);
	cli_warn("warning: Shrinking an image will delete all data beyond the shrunken image's "
		 "end. Before performing such an operation, make sure there is no important data "
		 "there.");
	return vmimg_fail(
		err, VMIMG_EREFUSED, "Use the --shrink option to perform a shrink operation.");
}

static bool reserves(const struct args *args)
{
	return args->preallocation && strcmp(args->preallocation, "off");
}

/* Before anything is changed. */
static int check_preallocation(const struct args *args, const struct vmimg_disk *disk,
	uint64_t size, struct vmimg_error *err)
{
	bool known = !reserves(args) || !strcmp(args->preallocation, "falloc") ||
		!strcmp(args->preallocation, "full");

	if (!known)
		return vmimg_fail(err, VMIMG_EINVAL,
			"--preallocation is off, falloc or full, not '%.40s'", args->preallocation);
	if (!reserves(args))
		return 0;
	if (strcmp(disk->format->name, "raw"))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"format %s grows without preallocation only", disk->format->name);
	return size >= disk->size ? 0
				  : vmimg_fail(err, VMIMG_EINVAL,
					    "Preallocation can only be used for growing images");
}

/* What is reserved reads as zeroes, so full, too, is done without writing any. */
static int reserve(const struct args *args, struct vmimg_io *io, uint64_t old, uint64_t size,
	struct vmimg_error *err)
{
	return reserves(args) && size > old ? vmimg_io_reserve(io, old, size - old, err) : 0;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	const struct vmimg_edit_ops *edit;
	uint64_t size = 0, old;

	if (cli_change_open(&image, call->words[0], &args->common, err) ||
		parse_target(call->words[1], image.disk->size, &size, err))
		return -1;
	edit = image.disk->format->edit;
	if (!edit || !edit->resize)
		return cli_change_unsupported(&image, "resizing in place", err);
	if (size < image.disk->size && !args->shrink && guard(args, image.disk, size, err))
		return -1;
	old = image.disk->size;
	if (check_preallocation(args, image.disk, size, err) ||
		edit->resize(image.disk, size, err) || reserve(args, image.io, old, size, err))
		return vmimg_within(err, "%s", vmimg_io_name(image.io));
	if (!args->common.quiet)
		printf("Image resized.\n");
	return CLI_OK;
}

static const struct cli_option options[] = {
	{ 0, "shrink", NULL, "cut off data that lies past the new end", cli_set_flag,
		offsetof(struct args, shrink) },
	{ 0, "preallocation", "MODE", NULL, cli_set_text, offsetof(struct args, preallocation) },
	{ 'q', "quiet", NULL, "print nothing but errors", cli_set_flag,
		offsetof(struct args, common.quiet) },
	{ 0 },
};
static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	NULL };

const struct cli_verb cli_resize = {
	.name = "resize",
	.operands = "IMAGE [+|-]SIZE",
	.summary = "Makes a disk larger or smaller, in place",
	.least = 2,
	.most = 2,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

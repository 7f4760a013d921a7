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

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	const struct vmimg_edit_ops *edit;
	uint64_t size = 0;

	if (cli_change_open(&image, call->words[0], &args->common, err) ||
		parse_target(call->words[1], image.disk->size, &size, err))
		return -1;
	edit = image.disk->format->edit;
	if (!edit || !edit->resize)
		return cli_change_unsupported(&image, "resizing in place", err);
	if (size < image.disk->size && !args->shrink && guard_data(image.disk, size, err))
		return -1;
	if (edit->resize(image.disk, size, err))
		return vmimg_within(err, "%s", vmimg_io_name(image.io));
	if (!args->common.quiet)
		printf("Image resized.\n");
	return CLI_OK;
}

static const struct cli_option options[] = {
	{ 0, "shrink", NULL, "cut off data that lies past the new end", cli_set_flag,
		offsetof(struct args, shrink) },
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

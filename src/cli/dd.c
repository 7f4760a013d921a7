/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg dd: convert, of a stretch, as those say it who know dd. */
#include <string.h>
#include <sys/stat.h>
#include "cli/convert.h"
#include "cli/dd_operands.h"

/* Into what is there: always into a device, whose first bytes a new image with zeroes before the
 * data would take away. */
static bool is_into(const struct cli_dd *dd, const struct cli_target_args *target)
{
	struct stat st;

	if (stat(dd->out, &st))
		return false;
	if (S_ISBLK(st.st_mode))
		return dd->notrunc || !target->format || !strcmp(target->format, "raw");
	return dd->notrunc;
}

static void set_status(struct cli_common *common, const char *status)
{
	if (status && !strcmp(status, "none"))
		common->quiet = true;
	if (status && !strcmp(status, "progress"))
		common->progress = CLI_PROGRESS_BAR;
}

/* What has no suffix that tells a format is raw, as dd's outputs are. */
static const char *choose_format(const struct cli_dd *dd, const struct cli_target_args *target)
{
	return target->format || vmimg_format_for_name(dd->out) ? target->format : "raw";
}

static int translate(struct cli_call *call, const char **words, struct vmimg_error *err)
{
	struct cli_convert_args *args = call->args;
	struct cli_dd dd;
	struct stat st;

	if (args->target.options.help)
		return 0;
	if (cli_dd_read(&dd, words, call->count, err))
		return -1;
	dd.in = dd.in ? dd.in : "-";
	dd.out = dd.out ? dd.out : "-";
	if (dd.nocreat && stat(dd.out, &st))
		return vmimg_fail(err, VMIMG_EINVAL, "%.80s is not there (conv=nocreat)", dd.out);
	args->window = (struct cli_window){ .pad = dd.seek, .skip = dd.skip, .strict = true };
	args->window.length.given = dd.counted;
	args->window.length.bytes = dd.length;
	args->into = args->target.in_place = is_into(&dd, &args->target);
	if (!args->into)
		args->target.format = choose_format(&dd, &args->target);
	words[0] = dd.in;
	words[1] = dd.out;
	call->count = 2;
	set_status(&args->common, dd.status);
	return 0;
}

static const struct cli_option options[] = {
	{ 'O', NULL, "FMT", "the format of OUT", cli_set_text,
		offsetof(struct cli_convert_args, target.format) },
	CLI_TARGET_OPTIONS(struct cli_convert_args, target),
	{ 'c', NULL, NULL, "compress", cli_set_flag,
		offsetof(struct cli_convert_args, target.compress) },
	{ 'l', NULL, "SNAPSHOT", "of an internal snapshot of IN, by id or name", cli_set_text,
		offsetof(struct cli_convert_args, snapshot) },
	{ 0, "max-output", "SIZE", "do not let OUT become larger", cli_set_size,
		offsetof(struct cli_convert_args, common.max_output) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	cli_work_options, cli_report_options, NULL };

const struct cli_verb cli_dd = {
	.name = "dd",
	.operands = "if=IN of=OUT [bs=N] [count=N] [skip=N] [seek=N] [conv=notrunc]",
	.summary = "Copies a stretch of a disk into an image, new or there already",
	.detail = "bs is 512. N may end in k, M, G ... or be a product, 2x512; one that ends in B counts "
		  "bytes, not\nblocks. Without if and of it is standard input and output. conv=notrunc "
		  "writes into OUT, from block seek\non, and leaves the rest as it is; otherwise OUT is "
		  "new, with zeroes before. OUT's format is that of\n-O, of its suffix, or raw.",
	.least = 0,
	.most = SIZE_MAX,
	.args_size = sizeof(struct cli_convert_args),
	.reach = CLI_READS_TO_LAST,
	.options = groups,
	.translate = translate,
	.run = cli_convert_run,
};

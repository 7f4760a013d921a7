/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg snapshot and vmimg bitmap: what of either an image holds. */
#include <inttypes.h>
#include <string.h>
#include "cli/human.h"
#include "cli/open.h"

struct args {
	struct cli_common common;
	bool list;
};

/* An array that info has, as an object of its own. *root is the caller's. */
static int list_of(struct cli_image *image, const char *filename, const char *schema,
	const char *key, json_t **root, struct vmimg_error *err)
{
	struct vmimg_info info;
	json_t *list;

	if (vmimg_disk_info(image->disk, NULL, &info, err))
		return -1;
	list = json_object_get(info.root, key);
	if (!list)
		list = json_object_get(
			json_object_get(json_object_get(info.root, "format-specific"), "data"),
			key);
	*root = json_object();
	vmimg_json_text(*root, "filename", filename);
	json_object_set_new(*root, "schema", json_string(schema));
	json_object_set_new(*root, key, list ? json_incref(list) : json_array());
	json_decref(info.root);
	return 0;
}

static int open_alone(struct cli_image *image, const char *filename,
	const struct cli_common *common, struct vmimg_error *err)
{
	struct cli_open how = { .format = common->format, .look = true, .alone = true };

	return cli_image_open(image, filename, common, &how, err);
}

static int list_snapshots(
	const char *filename, const struct cli_common *common, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	json_t *root;

	if (open_alone(&image, filename, common, err) ||
		list_of(&image, filename, "vmimg.snapshot/1", "snapshots", &root, err))
		return -1;
	if (common->json)
		return cli_print_json(stdout, root, err);
	cli_print_snapshots(json_object_get(root, "snapshots"));
	json_decref(root);
	return CLI_OK;
}

/* "snapshot -l IMAGE" as qemu-img has it, or "snapshot list IMAGE". */
static int run_snapshot(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	bool word = call->count == 2 && !strcmp(call->words[0], "list");

	if (call->count == 2 && !word)
		return vmimg_fail(
			err, VMIMG_EINVAL, "there is no 'snapshot %.40s'", call->words[0]);
	if (!word && !args->list)
		return vmimg_fail(err, VMIMG_EINVAL, "what is to be done is missing: list");
	return list_snapshots(call->words[word], &args->common, err);
}

static void print_bitmaps(const json_t *list)
{
	const json_t *bitmap, *flag;
	size_t i, j;

	if (json_array_size(list))
		printf("%-24s %12s  %s\n", "NAME", "GRANULARITY", "FLAGS");
	json_array_foreach(list, i, bitmap)
	{
		printf("%-24s %12" JSON_INTEGER_FORMAT " ",
			json_string_value(json_object_get(bitmap, "name")),
			json_integer_value(json_object_get(bitmap, "granularity")));
		json_array_foreach(json_object_get(bitmap, "flags"), j, flag)
			printf(" %s", json_string_value(flag));
		printf("\n");
	}
}

static int run_bitmap(const struct cli_call *call, struct vmimg_error *err)
{
	const struct cli_common *common = &((const struct args *)call->args)->common;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	json_t *root;

	if (strcmp(call->words[0], "list"))
		return vmimg_fail(err, VMIMG_EINVAL, "there is no 'bitmap %.40s'", call->words[0]);
	if (open_alone(&image, call->words[1], common, err) ||
		list_of(&image, call->words[1], "vmimg.bitmap/1", "bitmaps", &root, err))
		return -1;
	if (common->json)
		return cli_print_json(stdout, root, err);
	print_bitmaps(json_object_get(root, "bitmaps"));
	json_decref(root);
	return CLI_OK;
}

static const struct cli_option options[] = {
	{ 'l', NULL, NULL, "list them, as the word list does", cli_set_flag,
		offsetof(struct args, list) },
	{ 'q', "quiet", NULL, "print nothing but errors", cli_set_flag,
		offsetof(struct args, common.quiet) },
	{ 0 },
};

static const struct cli_option *const snapshot_groups[] = { options, cli_format_options,
	cli_report_options, cli_source_options, NULL };
static const struct cli_option *const bitmap_groups[] = { cli_format_options, cli_report_options,
	cli_source_options, NULL };

const struct cli_verb cli_snapshot = {
	.name = "snapshot",
	.operands = "list IMAGE",
	.summary = "Lists internal snapshots",
	.least = 1,
	.most = 2,
	.args_size = sizeof(struct args),
	.options = snapshot_groups,
	.run = run_snapshot,
};

const struct cli_verb cli_bitmap = {
	.name = "bitmap",
	.operands = "list IMAGE",
	.summary = "Lists records of changed blocks",
	.least = 2,
	.most = 2,
	.args_size = sizeof(struct args),
	.options = bitmap_groups,
	.run = run_bitmap,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg bitmap: the records of changed blocks that an image holds, listed and changed. */
#include <inttypes.h>
#include <string.h>
#include "cli/change.h"
#include "cli/list.h"

static const char *const names[] = { "add", "remove", "clear", "enable", "disable", "merge" };

struct act {
	enum vmimg_bitmap_act kind;
	const char *source; /* MERGE */
};

struct acts {
	struct act *list;
	size_t count, cap;
};

struct args {
	struct cli_common common;
	struct acts acts; /* in their order */
	const char *file, *file_format;
	uint64_t granularity;
};

static int note(void *to, enum vmimg_bitmap_act kind, const char *source, struct vmimg_error *err)
{
	struct acts *acts = to;

	if (vmimg_grow_array(&acts->list, &acts->cap, acts->count + 1, sizeof(*acts->list), err))
		return -1;
	acts->list[acts->count++] = (struct act){ kind, source };
	return 0;
}

static int set_add(void *to, const char *value, struct vmimg_error *err)
{
	return note(to, VMIMG_BITMAP_ADD, value, err);
}

static int set_remove(void *to, const char *value, struct vmimg_error *err)
{
	return note(to, VMIMG_BITMAP_REMOVE, value, err);
}

static int set_clear(void *to, const char *value, struct vmimg_error *err)
{
	return note(to, VMIMG_BITMAP_CLEAR, value, err);
}

static int set_enable(void *to, const char *value, struct vmimg_error *err)
{
	return note(to, VMIMG_BITMAP_ENABLE, value, err);
}

static int set_disable(void *to, const char *value, struct vmimg_error *err)
{
	return note(to, VMIMG_BITMAP_DISABLE, value, err);
}

static int set_merge(void *to, const char *value, struct vmimg_error *err)
{
	return note(to, VMIMG_BITMAP_MERGE, value, err);
}

/* ---- the list ---- */

static void print(const json_t *list)
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

static int list(const char *filename, const struct cli_common *common, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	json_t *root;

	if (cli_list_of(&image, filename, common, "bitmaps", &root, err))
		return -1;
	if (common->json)
		return cli_print_json(stdout, root, err);
	print(json_object_get(root, "bitmaps"));
	json_decref(root);
	return CLI_OK;
}

/* ---- changes ---- */

/* One action, whole or not at all: the image is opened anew for the next. */
static int change(const struct args *args, const struct act *act, const char *path,
	const char *name, struct vmimg_error *err)
{
	const struct cli_common *common = &args->common;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 }, other = { 0 };
	struct cli_open how = { .format = args->file_format, .look = true, .alone = true };
	struct vmimg_bitmap_change want = { .act = act->kind,
		.name = name,
		.granularity = args->granularity,
		.source = act->source };
	struct cli_common keyless = *common;
	bool itself;

	keyless.secrets = NULL; /* no data is read */
	if (cli_change_open_alone(&image, path, &keyless, err))
		return -1;
	itself = !args->file || cli_is_at(args->file, image.io);
	if (!itself && cli_image_open(&other, args->file, &keyless, &how, err))
		return -1;
	if (!image.disk->format->edit || !image.disk->format->edit->bitmap)
		return cli_change_unsupported(&image, "persistent bitmaps", err);
	want.source_disk = itself ? image.disk : other.disk;
	if (!image.disk->format->edit->bitmap(image.disk, &want, err))
		return 0;
	if (!common->face)
		(void)!vmimg_within(err, "%s", vmimg_io_name(image.io));
	return vmimg_within(err, "Operation %s on bitmap %.60s failed", names[act->kind], name);
}

static int check_options(const struct args *args, struct vmimg_error *err)
{
	bool adds = false, merges = false;

	for (size_t i = 0; i < args->acts.count; i++) {
		adds |= args->acts.list[i].kind == VMIMG_BITMAP_ADD;
		merges |= args->acts.list[i].kind == VMIMG_BITMAP_MERGE;
	}
	if (!args->acts.count)
		return vmimg_fail(err, VMIMG_EINVAL,
			"Need at least one of --add, --remove, --clear, --enable, --disable, or "
			"--merge");
	if (args->file_format && !args->file)
		return vmimg_fail(err, VMIMG_EINVAL, "-F only supported with -b");
	if (args->file && !merges)
		return vmimg_fail(
			err, VMIMG_EINVAL, "Merge bitmap source file only supported with --merge");
	if (args->granularity && !adds)
		return vmimg_fail(err, VMIMG_EINVAL, "granularity only supported with --add");
	return 0;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	struct args *args = call->args;
	int failed;

	if (!args->common.face && !args->acts.count && !strcmp(call->words[0], "list"))
		return list(call->words[1], &args->common, err);
	failed = check_options(args, err);
	for (size_t i = 0; !failed && i < args->acts.count; i++)
		failed = change(args, &args->acts.list[i], call->words[0], call->words[1], err);
	free(args->acts.list);
	return failed ? -1 : CLI_OK;
}

#define ACTS offsetof(struct args, acts)
static const struct cli_option options[] = {
	{ 0, "add", NULL, "make a new one, which is empty", set_add, ACTS },
	{ 0, "remove", NULL, "take it out of the image", set_remove, ACTS },
	{ 0, "clear", NULL, "forget what it has recorded", set_clear, ACTS },
	{ 0, "enable", NULL, "let it record changes", set_enable, ACTS },
	{ 0, "disable", NULL, "let it stay as it is", set_disable, ACTS },
	{ 0, "merge", "SOURCE", "add what bitmap SOURCE has recorded", set_merge, ACTS },
	{ 'b', NULL, "FILE", "the image that SOURCE is in (the same)", cli_set_text,
		offsetof(struct args, file) },
	{ 'F', NULL, "FORMAT", "its format", cli_set_text, offsetof(struct args, file_format) },
	{ 'g', NULL, "SIZE", "bytes that a bit of a new one stands for", cli_set_size,
		offsetof(struct args, granularity) },
	{ 0 },
};
static const struct cli_option *const groups[] = { options, cli_format_options, cli_report_options,
	cli_source_options, NULL };

const struct cli_verb cli_bitmap = {
	.name = "bitmap",
	.operands = "list IMAGE | --add|--remove|--clear|--enable|--disable|--merge... IMAGE NAME",
	.summary = "Lists and changes records of changed blocks",
	.least = 2,
	.most = 2,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

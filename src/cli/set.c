/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg set: what an image says of itself, changed in place; or what there is to be set. */
#include <string.h>
#include "cli/change.h"
#include "cli/target.h"

struct args {
	struct cli_common common;
};

/* No write lock, no parents: it only asks what the format has. */
static int list_settings(const char *path, const struct cli_common *common, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_open how = { .format = common->format, .look = true, .alone = true };
	const struct vmimg_edit_ops *edit;

	if (cli_image_open(&image, path, common, &how, err))
		return -1;
	edit = image.disk->format->edit;
	if (!edit || !edit->set)
		return cli_change_unsupported(&image, "settings", err);
	printf("Settings of %s images:\n", image.disk->format->name);
	cli_print_specs(edit->settings);
	return CLI_OK;
}

/* "KEY=VALUE", the value as it is, commas and all. */
static int read_word(struct vmimg_options *list, const char *word,
	const struct vmimg_option_spec *specs, struct vmimg_error *err)
{
	const char *equals = strchr(word, '=');
	VMIMG_AUTO(free) char *key = vmimg_strdup(word, err);

	if (!key)
		return -1;
	if (!equals || equals == word)
		return vmimg_fail(err, VMIMG_EINVAL, "'%.80s' is not KEY=VALUE", word);
	key[equals - word] = '\0';
	if (!vmimg_options_find(specs, key))
		return vmimg_fail(err, VMIMG_EINVAL,
			"there is no setting '%.40s' (vmimg set IMAGE lists them)", key);
	return vmimg_options_set(list, key, equals + 1, err);
}

static int change(const struct cli_call *call, struct vmimg_disk *disk, struct vmimg_options *list,
	struct vmimg_error *err)
{
	const struct vmimg_edit_ops *edit = disk->format->edit;

	for (size_t i = 1; i < call->count; i++)
		if (read_word(list, call->words[i], edit->settings, err))
			return -1;
	if (vmimg_options_verify(list, edit->settings, disk->format->name, err))
		return -1;
	return edit->set(disk, list, err);
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct vmimg_options list = { 0 };
	int result;

	if (call->count == 1)
		return list_settings(call->words[0], &args->common, err);
	if (cli_change_open_alone(&image, call->words[0], &args->common, err))
		return -1;
	if (!image.disk->format->edit || !image.disk->format->edit->set)
		return cli_change_unsupported(&image, "settings", err);
	result = change(call, image.disk, &list, err);
	vmimg_options_done(&list);
	if (result)
		return vmimg_within(err, "%s", vmimg_io_name(image.io));
	if (!args->common.quiet)
		printf("Image changed.\n");
	return CLI_OK;
}

static const struct cli_option options[] = {
	{ 'q', "quiet", NULL, "print nothing but errors", cli_set_flag,
		offsetof(struct args, common.quiet) },
	{ 0 },
};
static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	NULL };

const struct cli_verb cli_set = {
	.name = "set",
	.operands = "IMAGE [KEY=VALUE]...",
	.summary = "Changes what an image says of itself, in place",
	.detail = "Without a setting it lists those that the image's format has.",
	.least = 1,
	.most = SIZE_MAX,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

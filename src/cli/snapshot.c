/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg snapshot: what an image holds of them; making, dropping, going back. */
#include <inttypes.h>
#include <string.h>
#include <time.h>
#include "cli/change.h"
#include "cli/external.h"
#include "cli/human.h"
#include "cli/list.h"

struct args {
	struct cli_common common;
	bool list, external;
	const char *create, *apply, *delete; /* qemu-img's letters */
};

/* Formats without snapshots inside have files beside them; others have both, if asked. */
static bool is_external(const struct vmimg_disk *disk, const struct args *args)
{
	return args->external || (!args->common.face && !disk->format->snapshots);
}

static int list_snapshots(const char *filename, const struct args *args, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	const struct cli_common *common = &args->common;
	json_t *root, *external;

	if (cli_list_of(&image, filename, common, "snapshots", &root, err))
		return -1;
	if (is_external(image.disk, args)) {
		if (cli_external_list(filename, common, &external, err)) {
			json_decref(root);
			return -1;
		}
		json_object_set_new(root, "snapshots", external);
	}
	if (common->json)
		return cli_print_json(stdout, root, err);
	cli_print_snapshots(json_object_get(root, "snapshots"));
	json_decref(root);
	return CLI_OK;
}

enum act { ACT_LIST, ACT_CREATE, ACT_APPLY, ACT_DELETE };

static int act_on(struct vmimg_disk *disk, enum act act, const char *name, struct vmimg_error *err)
{
	const struct vmimg_edit_ops *edit = disk->format->edit;
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	struct timespec now = { 0 };

	if (epoch)
		now.tv_sec = (time_t)strtoll(epoch, NULL, 10);
	else
		clock_gettime(CLOCK_REALTIME, &now);
	if (act == ACT_CREATE)
		return edit->snapshot_create(
			disk, name, (uint64_t)now.tv_sec, (uint32_t)now.tv_nsec, err);
	return act == ACT_APPLY ? edit->snapshot_apply(disk, name, err)
				: edit->snapshot_delete(disk, name, err);
}

static int change_external(const char *filename, enum act act, const char *name,
	const struct cli_common *common, struct vmimg_error *err)
{
	if (act == ACT_CREATE)
		return cli_external_create(filename, name, common, err);
	return act == ACT_APPLY ? cli_external_apply(filename, name, common, err)
				: cli_external_delete(filename, name, common, err);
}

static int fail_act(const struct cli_image *image, enum act act, const char *name,
	const struct cli_common *common, struct vmimg_error *err)
{
	static const char *const words[] = { "list", "create", "apply", "delete" };

	return common->face ? vmimg_within(err, "Could not %s snapshot '%.60s'", words[act], name)
			    : vmimg_within(err, "%s", vmimg_io_name(image->io));
}

static int change(const char *filename, enum act act, const char *name, const struct args *args,
	struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	const struct cli_common *common = &args->common;

	if (cli_change_open(&image, filename, common, err))
		return -1;
	if (is_external(image.disk, args)) {
		cli_image_close(&image);
		return change_external(filename, act, name, common, err);
	}
	if (!image.disk->format->edit || !image.disk->format->edit->snapshot_create)
		return cli_change_unsupported(&image, "internal snapshots", err);
	if (act_on(image.disk, act, name, err))
		return fail_act(&image, act, name, common, err);
	return CLI_OK;
}

/* "snapshot -c NAME IMAGE" as qemu-img has it, or "snapshot create IMAGE NAME". */
static int find_act(const struct cli_call *call, enum act *act, const char **file,
	const char **name, struct vmimg_error *err)
{
	static const char *const words[] = { "list", "create", "apply", "delete" };
	const struct args *args = call->args;
	const char *const letters[] = { args->list ? "" : NULL, args->create, args->apply,
		args->delete };
	unsigned given = 0;

	for (unsigned i = 0; i < 4; i++)
		if (letters[i]) {
			given++;
			*act = (enum act)i;
			*name = letters[i];
			*file = call->words[0];
		}
	if (given == 1 && call->count == 1)
		return 0;
	for (unsigned i = 0; i < 4 && !given; i++)
		if (!strcmp(call->words[0], words[i]) && call->count == (i ? 3U : 2U)) {
			*act = (enum act)i;
			*file = call->words[1];
			*name = i ? call->words[2] : "";
			return 0;
		}
	return vmimg_fail(
		err, VMIMG_EINVAL, "it takes list IMAGE, or create, apply or delete IMAGE NAME");
}

static int run_snapshot(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	const char *file = NULL, *name = NULL;
	enum act act = ACT_LIST;

	if (find_act(call, &act, &file, &name, err))
		return -1;
	return act == ACT_LIST ? list_snapshots(file, args, err)
			       : change(file, act, name, args, err);
}

static const struct cli_option options[] = {
	{ 'l', NULL, NULL, "list them, as the word list does", cli_set_flag,
		offsetof(struct args, list) },
	{ 'c', NULL, "NAME", "create one, as the word create does", cli_set_text,
		offsetof(struct args, create) },
	{ 'a', NULL, "NAME", "go back to one, as the word apply does", cli_set_text,
		offsetof(struct args, apply) },
	{ 'd', NULL, "NAME", "delete one, as the word delete does", cli_set_text,
		offsetof(struct args, delete) },
	{ 0, "external", NULL, "as files beside the image, also where it could have them inside",
		cli_set_flag, offsetof(struct args, external) },
	{ 'q', "quiet", NULL, "print nothing but errors", cli_set_flag,
		offsetof(struct args, common.quiet) },
	{ 0 },
};

static const struct cli_option *const snapshot_groups[] = { options, cli_format_options,
	cli_report_options, cli_source_options, NULL };

const struct cli_verb cli_snapshot = {
	.name = "snapshot",
	.operands = "list IMAGE | create|apply|delete IMAGE NAME",
	.summary = "Lists, creates, applies and deletes snapshots",
	.least = 1,
	.most = 3,
	.args_size = sizeof(struct args),
	.options = snapshot_groups,
	.run = run_snapshot,
};

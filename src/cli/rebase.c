/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmimg rebase: another backing file, or none. What the guest sees stays: the image first takes in
 * all in which the old chain and the new one differ, and only then names the new one.
 */
#include <string.h>
#include "cli/change.h"
#include "cli/progress.h"
#include "cli/rebase.h"
#include "engine/in_place.h"

struct args {
	struct cli_common common;
	struct cli_rebase to;
};

/* The image among the layers of what it is to stand on. */
static int check_loop(
	const struct cli_image *image, const struct vmimg_disk *parent, struct vmimg_error *err)
{
	for (; parent; parent = parent->parent)
		if (vmimg_io_same(parent->io, image->io))
			return vmimg_fail(err, VMIMG_EREFUSED,
				"%s is part of the new chain itself: a loop",
				vmimg_io_name(image->io));
	return 0;
}

static int take_in(const struct cli_image *image, struct vmimg_disk *parent,
	const struct cli_common *common, struct vmimg_error *err)
{
	struct cli_progress progress;
	struct vmimg_run_how how = { .threads = common->threads,
		.cancel = cli_catch_signals(),
		.progress = cli_progress_step,
		.progress_ctx = &progress };
	struct vmimg_converted done;
	int failed;

	cli_progress_begin(&progress, common, false);
	failed = vmimg_rebase_run(image->disk, parent, &how, &done, err);
	cli_progress_end(&progress);
	return failed;
}

static int fail_change(const struct cli_rebase *to, const struct cli_common *common,
	const struct cli_image *image, struct vmimg_error *err)
{
	return common->face
		? vmimg_within(err, "Could not change the backing file to '%.80s'", to->name)
		: vmimg_within(err, "%s", vmimg_io_name(image->io));
}

/* A word of QEMU's for a file that nothing is read from here; only a name is written. */
static bool is_qemus(const char *name)
{
	static const char *const names[] = { "file", "host_device", "nbd", "qed", "parallels",
		"bochs", "cloop", "dmg" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(names[i], name))
			return true;
	return false;
}

static const char *stated_name(const char *name)
{
	const struct vmimg_format *format = vmimg_format_find(name);

	return format ? format->name : name;
}

/* On the image opened anew: its tables have changed. */
static int set_parent(const char *path, const struct cli_rebase *to, struct cli_image *parent,
	const struct cli_common *common, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct vmimg_disk *disk = parent->disk;
	struct vmimg_parent value = { .name = to->name,
		.format = disk       ? disk->format->name
			: to->format ? stated_name(to->format)
				     : NULL,
		.disk = disk };
	const struct vmimg_edit_ops *edit;

	if (cli_change_open_alone(&image, path, common, err))
		return -1;
	edit = image.disk->format->edit;
	return edit->set_parent(image.disk, *to->name ? &value : NULL, err)
		? fail_change(to, common, &image, err)
		: 0;
}

static int check_words(
	const struct cli_rebase *to, const struct cli_common *common, struct vmimg_error *err)
{
	if (to->format && !vmimg_format_find(to->format) &&
		!(common->face && to->unsafe && is_qemus(to->format)))
		return common->face
			? vmimg_fail(err, VMIMG_EINVAL, "Invalid format name: '%.40s'", to->format)
			: vmimg_fail(err, VMIMG_EINVAL,
				  "unknown format '%.40s' of the backing file", to->format);
	if (*to->name && !to->format && common->face)
		return vmimg_fail(err, VMIMG_EINVAL,
			"Could not change the backing file to '%.80s': backing format must be "
			"specified",
			to->name);
	return 0;
}

static int open_new(const char *path, const struct cli_rebase *to, struct cli_image *parent,
	const struct cli_common *common, struct vmimg_error *err)
{
	int failed = cli_open_parent(parent, path, to->name, to->format, common, err);

	if (failed && common->face)
		return vmimg_within(err, "Could not open new backing file '%.80s'", to->name);
	if (failed)
		return vmimg_within(err, "backing file");
	if (!to->format && !strcmp(parent->disk->format->name, "raw"))
		return vmimg_fail(err, VMIMG_EINVAL,
			"%.80s is of no known format: -F raw takes it as a raw disk", to->name);
	return 0;
}

static int check_ability(const struct cli_image *image, bool unsafe, const struct cli_rebase *to,
	const struct cli_common *common, struct vmimg_error *err)
{
	const struct vmimg_edit_ops *edit = image->disk->format->edit;

	if (edit && edit->set_parent && (unsafe || edit->update))
		return 0;
	if (common->face)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"Could not change the backing file to '%.80s': Operation not supported",
			to->name);
	return cli_change_unsupported(image, "changing of the parent in place", err);
}

/* *identity: the image knows its parent by more than a name. */
static int rebase(const char *path, const struct cli_rebase *to, struct cli_image *parent,
	bool *identity, const struct cli_common *common, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };

	if (to->unsafe ? cli_change_open_alone(&image, path, common, err)
		       : cli_change_open(&image, path, common, err))
		return -1;
	if (check_ability(&image, to->unsafe, to, common, err))
		return -1;
	*identity = image.disk->format->identity;
	if (to->unsafe)
		return 0;
	cli_image_warn(&image, common);
	if (*to->name && open_new(path, to, parent, common, err))
		return -1;
	if (check_loop(&image, parent->disk, err) ||
		cli_change_refuse_snapshots(image.disk, err))
		return -1;
	return take_in(&image, parent->disk, common, err);
}

/* An unsafe one takes the new parent's identity, or format, where that is needed and can be had. */
static void look_at_new(const char *path, const struct cli_rebase *to, bool identity,
	struct cli_image *parent, const struct cli_common *common)
{
	struct vmimg_error unused;

	if (to->unsafe && *to->name && (identity || !to->format) &&
		cli_open_parent(parent, path, to->name, to->format, common, &unused))
		cli_image_close(parent);
}

int cli_rebase_to(const char *path, const struct cli_rebase *to, const struct cli_common *common,
	struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image parent = { 0 };
	bool identity;

	if (check_words(to, common, err) || rebase(path, to, &parent, &identity, common, err))
		return -1;
	look_at_new(path, to, identity, &parent, common);
	return set_parent(path, to, &parent, common, err);
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	struct args *args = call->args;

	if (!args->to.name && args->to.unsafe && args->common.face)
		args->to.name = "";
	if (!args->to.name)
		return vmimg_fail(err, VMIMG_EINVAL, "%s",
			args->common.face ? "Must specify backing file (-b) or use unsafe mode (-u)"
					  : "-b names the new backing file; -b \"\" makes the "
					    "image stand alone");
	return cli_rebase_to(call->words[0], &args->to, &args->common, err) ? -1 : CLI_OK;
}

static const struct cli_option options[] = {
	{ 'b', NULL, "FILE", "the new backing file, as it is to be written; \"\": none",
		cli_set_text, offsetof(struct args, to.name) },
	{ 'F', NULL, "FMT", "its format (detected; raw must be stated)", cli_set_text,
		offsetof(struct args, to.format) },
	{ 'u', NULL, NULL, "only write the name: the content is known to be the same", cli_set_flag,
		offsetof(struct args, to.unsafe) },
	{ 't', NULL, "CACHE", "cache mode: accepted; storage is waited for in any case",
		cli_set_cache, offsetof(struct args, common.ignored) },
	{ 0, "rate", "SIZE", NULL, cli_set_size, offsetof(struct args, common.rate) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	cli_work_options, NULL };

const struct cli_verb cli_rebase = {
	.name = "rebase",
	.operands = "IMAGE",
	.summary = "Puts an image on another backing file, or on none",
	.detail =
		"What differs between the old chain and the new one is written into the image, and "
		"nothing else;\n"
		"then the new name. What the guest sees stays the same.",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg chain: an image and all that it builds on: shown, linked anew, made one. */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/change.h"
#include "cli/copy.h"
#include "cli/rebase.h"
#include "io/file.h"
#include "util/text.h"

struct args {
	struct cli_common common;
	struct cli_target_args target;
	const char *output;
};

/* ---- show ---- */

/* As far as the chain can be followed. why: what is wrong with it; empty: nothing. */
static int open_shown(struct cli_image *image, const char *path, const struct cli_common *common,
	struct vmimg_error *why, struct vmimg_error *err)
{
	struct cli_open ways[] = { { .refs = CLI_REFS_BESIDE },
		{ .refs = CLI_REFS_BESIDE, .lenient = true }, { .alone = true, .lenient = true } };

	why->text[0] = '\0';
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		ways[i].format = common->format;
		ways[i].look = true;
		ways[i].told = common->json; /* the table has no room for it */
		if (!cli_image_open(image, path, common, &ways[i], err))
			return 0;
		if (!i)
			*why = *err;
		cli_image_close(image);
	}
	return -1;
}

static int describe(struct vmimg_disk *disk, bool matches, json_t **layer, struct vmimg_error *err)
{
	const char *parent = cli_parent_name(disk);
	struct vmimg_info info;
	uint64_t data;
	struct stat st;

	if (cli_count_data(disk, &data, err) || vmimg_disk_info(disk, NULL, &info, err))
		return -1;
	*layer = json_object();
	vmimg_json_text(*layer, "filename", vmimg_io_name(disk->io));
	vmimg_json_text(*layer, "format", disk->format->name);
	vmimg_json_uint(*layer, "virtual-size", disk->size);
	if (vmimg_file_fd(disk->io) >= 0 && !fstat(vmimg_file_fd(disk->io), &st))
		vmimg_json_uint(*layer, "actual-size", (uint64_t)st.st_blocks * 512);
	vmimg_json_uint(*layer, "data-bytes", data);
	json_object_set(*layer, "identity", json_object_get(info.root, "identity"));
	json_object_set(*layer, "references", json_object_get(info.root, "references"));
	if (parent)
		vmimg_json_text(*layer, "parent", parent);
	if (parent && disk->parent)
		vmimg_json_bool(*layer, "parent-matches", matches);
	json_object_set(*layer, "warnings", disk->warnings);
	json_decref(info.root);
	return 0;
}

static void print_layer(const json_t *layer, size_t depth)
{
	char size[16], data[16];
	const json_t *value;
	const char *key;
	uint64_t bytes = (uint64_t)json_integer_value(json_object_get(layer, "virtual-size"));
	uint64_t own = (uint64_t)json_integer_value(json_object_get(layer, "data-bytes"));
	const char *parent = json_string_value(json_object_get(layer, "parent"));
	const json_t *matches = json_object_get(layer, "parent-matches");

	vmimg_format_size(size, bytes);
	vmimg_format_size(data, own);
	printf("%zu  %s\n   %s, %s, of which %s lie here\n", depth,
		json_string_value(json_object_get(layer, "filename")),
		json_string_value(json_object_get(layer, "format")), size, data);
	json_object_foreach((json_t *)(uintptr_t)json_object_get(layer, "identity"), key, value)
	{
		if (json_is_string(value))
			printf("   %s: %s\n", key, json_string_value(value));
	}
	if (parent)
		printf("   parent: %s%s\n", parent,
			json_is_true(matches) ? ", which fits"
				: matches     ? ", about which there is doubt"
					      : ", which was not opened");
}

static int print_chain(json_t *list, const struct vmimg_error *why, const struct cli_common *common,
	struct vmimg_error *err)
{
	json_t *root, *layer;
	size_t i;

	if (common->json) {
		root = json_object();
		json_object_set_new(root, "schema", json_string("vmimg.chain/1"));
		json_object_set(root, "layers", list);
		vmimg_json_bool(root, "whole", !why->text[0]);
		if (why->text[0])
			json_object_set_new(root, "problem", json_string(why->text));
		if (cli_print_json(stdout, root, err))
			return -1;
	} else {
		json_array_foreach(list, i, layer) print_layer(layer, i);
	}
	if (why->text[0])
		cli_warn("chain: %s", why->text);
	return why->text[0] ? cli_exit_code(why->status) : CLI_OK;
}

static int show(const char *path, const struct cli_common *common, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct vmimg_error why;
	json_t *list, *layer;
	int result = 0;

	if (open_shown(&image, path, common, &why, err))
		return -1;
	list = json_array();
	for (struct vmimg_disk *disk = image.disk; disk && !result; disk = disk->parent) {
		result = describe(disk, !why.text[0], &layer, err);
		if (!result)
			json_array_append_new(list, layer);
	}
	if (!result)
		result = print_chain(list, &why, common, err);
	json_decref(list);
	return result;
}

/* ---- relink ---- */

/* Answers the image's question for its parent with the new one, whatever the name in the image:
 * the format then compares identities as ever. */
struct swap {
	struct vmimg_resolver resolver;
	const struct vmimg_resolver *policy;
	const struct vmimg_io *image;
	struct vmimg_io *parent;
};

static bool asks_for_parent(
	const struct swap *swap, const struct vmimg_reference *ref, const struct vmimg_io *from)
{
	return from == swap->image &&
		(!strcmp(ref->kind, "backing") || !strcmp(ref->kind, "parent"));
}

static struct vmimg_io *swap_open(const struct vmimg_resolver *self,
	const struct vmimg_reference *ref, const struct vmimg_io *from, struct vmimg_error *err)
{
	const struct swap *swap = (const struct swap *)self;

	if (asks_for_parent(swap, ref, from))
		return vmimg_io_ref(swap->parent);
	return swap->policy->open(swap->policy, ref, from, err);
}

static int swap_judge(const struct vmimg_resolver *self, const struct vmimg_reference *ref,
	const struct vmimg_io *from, struct vmimg_error *err)
{
	const struct swap *swap = (const struct swap *)self;

	return asks_for_parent(swap, ref, from) ? 0
						: swap->policy->judge(swap->policy, ref, from, err);
}

/* Formats that search are offered the new one alone. */
static int swap_search(const struct vmimg_resolver *self, const char *suffix,
	const struct vmimg_io *from, bool (*each)(void *, const char *), void *ctx,
	struct vmimg_error *err)
{
	const struct swap *swap = (const struct swap *)self;

	(void)suffix, (void)from, (void)err;
	(void)each(ctx, vmimg_io_name(swap->parent));
	return 0;
}

/* Whether the new parent is the one that the image was made on. */
static int check_identity(const char *path, const struct cli_rebase *to,
	const struct cli_common *common, struct vmimg_error *err)
{
	struct swap swap = { .resolver = { swap_open, swap_judge, swap_search },
		.policy = cli_resolver(common, CLI_REFS_BESIDE) };
	struct vmimg_open options = { .format = common->format, .resolver = &swap.resolver };
	VMIMG_AUTO(free) char *beside = cli_path_beside(path, to->name, err);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = NULL;

	if (!beside || !(swap.parent = vmimg_file_open(beside, false, err)))
		return -1;
	io = vmimg_file_open(path, false, err);
	swap.image = io;
	disk = io ? vmimg_disk_open(io, &options, err) : NULL;
	vmimg_io_unref(swap.parent);
	if (!disk)
		return vmimg_within(err, "not a parent that fits (--force takes it)");
	if (!disk->parent)
		return vmimg_fail(err, VMIMG_EINVAL, "%s has no parent to be replaced (--force)",
			vmimg_io_name(io));
	return 0;
}

/* The format that the image states of its parent. */
static int stated_format(const char *path, const struct cli_common *common, const char **format,
	struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_open how = {
		.format = common->format, .look = true, .alone = true, .told = true
	};
	const struct vmimg_format *found = NULL;

	if (cli_image_open(&image, path, common, &how, err))
		return -1;
	for (size_t i = 0; i < image.disk->ref_count && !found; i++)
		if (image.disk->refs[i].ref.format &&
			strcmp(image.disk->refs[i].ref.kind, "extent") != 0)
			found = vmimg_format_find(image.disk->refs[i].ref.format);
	*format = found ? found->name : NULL;
	return 0;
}

/* In another format than that of the parent which the image was made on, there is no identity to
 * compare. */
static int check_opens(const char *path, const struct cli_rebase *to,
	const struct cli_common *common, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image parent = { 0 };

	return cli_open_parent(&parent, path, to->name, to->format, common, err)
		? vmimg_within(err, "not a parent that fits (--force takes it)")
		: 0;
}

static int relink(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	struct cli_rebase to = {
		.name = call->words[2], .format = args->target.backing_format, .unsafe = true
	};
	const char *stated = NULL;
	bool other;

	if (stated_format(call->words[1], &args->common, &stated, err))
		return -1;
	other = to.format && stated && vmimg_format_find(to.format) != vmimg_format_find(stated);
	if (!args->target.force &&
		(other ? check_opens : check_identity)(call->words[1], &to, &args->common, err))
		return -1;
	to.format = to.format ? to.format : stated;
	return cli_rebase_to(call->words[1], &to, &args->common, err) ? -1 : CLI_OK;
}

/* ---- flatten ---- */

static int flatten_to(struct args *args, const char *path, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	const struct cli_common *common = &args->common;
	struct cli_open how = { .format = common->format, .refs = CLI_REFS_BESIDE };
	struct cli_copy copy = {
		.files = &image.files, .path = args->output, .target = &args->target
	};
	struct vmimg_converted done;
	int failed;

	if (cli_image_open(&image, path, common, &how, err))
		return -1;
	copy.disk = image.disk;
	failed = cli_copy_like(&copy, image.disk, args->target.format, err) ||
		cli_copy_run(&copy, common, &done, err);
	vmimg_options_done(&args->target.options.list);
	return failed ? -1 : CLI_OK;
}

static int flatten(struct args *args, const char *path, struct vmimg_error *err)
{
	struct cli_rebase to = { .name = "" };

	if (args->output)
		return flatten_to(args, path, err);
	return cli_rebase_to(path, &to, &args->common, err) ? -1 : CLI_OK;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	struct args *args = call->args;
	const char *word = call->words[0];

	if (!strcmp(word, "show") && call->count == 2)
		return show(call->words[1], &args->common, err);
	if (!strcmp(word, "relink") && call->count == 3)
		return relink(call, err);
	if (!strcmp(word, "flatten") && call->count == 2)
		return flatten(args, call->words[1], err);
	return vmimg_fail(
		err, VMIMG_EINVAL, "it takes show IMAGE, relink IMAGE NEW or flatten IMAGE");
}

static const struct cli_option options[] = {
	{ 'o', NULL, "NEW", "flatten: into a new image, and leave this one as it is", cli_set_text,
		offsetof(struct args, output) },
	{ 'O', NULL, "FMT", "the format of that (the image's)", cli_set_text,
		offsetof(struct args, target.format) },
	{ 'c', NULL, NULL, "compress it", cli_set_flag, offsetof(struct args, target.compress) },
	{ 'F', NULL, "FMT", "relink: the format of NEW (as IMAGE states it)", cli_set_text,
		offsetof(struct args, target.backing_format) },
	{ 0, "force", NULL, "relink: to what is not the same parent; flatten: replace a file",
		cli_set_flag, offsetof(struct args, target.force) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	cli_work_options, cli_report_options, NULL };

const struct cli_verb cli_chain = {
	.name = "chain",
	.operands = "show IMAGE | relink IMAGE NEW | flatten IMAGE",
	.summary = "Shows an image and all that it builds on, links it anew, makes it one",
	.detail = "relink writes another name for the parent, which must be the same one; flatten "
		  "takes all of the\n"
		  "parents' content into the image.",
	.least = 2,
	.most = 3,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

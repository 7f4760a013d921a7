/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parents come first, for a child notes who its parent is. Each layer is converted by itself: what
 * it lacks it lacks in the new format too.
 */
#include "cli/keep_chain.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/copy.h"
#include "disk/info.h"
#include "util/limits.h"
#include "util/text.h"

struct layer {
	struct vmimg_disk *disk;
	char *path;
};

struct chain {
	struct layer layers[VMIMG_MAX_DEPTH]; /* the top comes first */
	size_t count, made;                   /* made: from the end */
	uint64_t written;
};

/* The last component of a path, and how long it is without its suffix. */
static const char *stem_of(const char *path, int *len)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	const char *dot = strrchr(name, '.');

	*len = (int)(dot && dot > name ? (size_t)(dot - name) : strlen(name));
	return name;
}

static bool is_taken(const struct chain *chain, const char *path)
{
	for (size_t i = 0; i < chain->count; i++)
		if (!strcmp(chain->layers[i].path, path))
			return true;
	return false;
}

/* "old/base.qcow2" below "new/top.vmdk" becomes "new/base.vmdk", or base-1, base-2 … */
static char *name_layer(
	const struct chain *chain, const char *to, const char *source, struct vmimg_error *err)
{
	const char *slash = strrchr(to, '/'), *dot = strrchr(slash ? slash : to, '.');
	int folder = slash ? (int)(slash - to + 1) : 0, len;
	const char *stem = stem_of(source, &len);

	for (unsigned i = 0; i <= VMIMG_MAX_DEPTH; i++) {
		char number[16] = "", *path;

		if (i)
			snprintf(number, sizeof(number), "-%u", i);
		if (asprintf(&path, "%.*s%.*s%s%s", folder, to, len, stem, number, dot ? dot : "") <
			0)
			break;
		if (!is_taken(chain, path))
			return path;
		free(path);
	}
	vmimg_fail_nomem(err);
	return NULL;
}

static int plan(
	struct chain *chain, struct vmimg_disk *top, const char *to, struct vmimg_error *err)
{
	for (struct vmimg_disk *disk = top; disk; disk = disk->parent) {
		struct layer *layer = &chain->layers[chain->count];

		layer->disk = disk;
		layer->path = disk == top ? vmimg_strdup(to, err)
					  : name_layer(chain, to, vmimg_io_name(disk->io), err);
		if (!layer->path)
			return -1;
		chain->count++;
	}
	return 0;
}

static int make_layer(struct chain *chain, size_t i, const struct cli_files *files,
	const struct vmimg_format *format, const struct cli_target_args *target,
	const struct cli_common *common, struct vmimg_error *err)
{
	struct layer *layer = &chain->layers[i];
	struct cli_target_args args = *target;
	struct cli_copy copy = { .disk = layer->disk,
		.files = files,
		.path = layer->path,
		.format = format,
		.target = &args };
	struct vmimg_converted done;

	if (i + 1 < chain->count) {
		const char *below = chain->layers[i + 1].path, *slash = strrchr(below, '/');

		args.backing = slash ? slash + 1 : below;
		args.backing_format = format->name;
	}
	if (cli_copy_run(&copy, common, &done, err))
		return vmimg_within(err, "layer %s", vmimg_io_name(layer->disk->io));
	chain->made++;
	chain->written += done.bytes_written;
	return 0;
}

static int make_all(struct chain *chain, const struct cli_files *files,
	const struct vmimg_format *format, const struct cli_target_args *target,
	const struct cli_common *common, struct vmimg_error *err)
{
	for (size_t i = chain->count; i-- > 0;) {
		if (!make_layer(chain, i, files, format, target, common, err))
			continue;
		for (size_t made = i + 1; made < chain->count && !target->force; made++)
			unlink(chain->layers[made].path);
		return -1;
	}
	return 0;
}

static int report(const struct chain *chain, const char *from, const struct vmimg_format *format,
	const struct cli_common *common, struct vmimg_error *err)
{
	json_t *root, *list;

	if (!common->json)
		return 0;
	root = json_object();
	list = json_array();
	json_object_set_new(root, "schema", json_string("vmimg.convert/1"));
	vmimg_json_text(root, "source", from);
	vmimg_json_text(root, "format", format->name);
	for (size_t i = 0; i < chain->count; i++)
		json_array_append_new(list,
			vmimg_json_escaped(chain->layers[i].path, strlen(chain->layers[i].path)));
	json_object_set_new(root, "layers", list);
	vmimg_json_uint(root, "bytes-written", chain->written);
	return cli_print_json(stdout, root, err);
}

int cli_keep_chain(const char *from, const char *to, const struct vmimg_format *format,
	const struct cli_target_args *target, const struct cli_common *common,
	struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	VMIMG_AUTO(free) struct chain *chain = vmimg_new(struct chain, err);
	struct cli_open how = { .format = common->format, .refs = CLI_REFS_BESIDE };
	int failed;

	if (!chain || cli_image_open(&image, from, common, &how, err))
		return -1;
	failed = plan(chain, image.disk, to, err) ||
		make_all(chain, &image.files, format, target, common, err) ||
		report(chain, from, format, common, err);
	for (size_t i = 0; i < chain->count; i++)
		free(chain->layers[i].path);
	return failed ? -1 : CLI_OK;
}

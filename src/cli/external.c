/* SPDX-License-Identifier: Apache-2.0 */
/* Every step is one that rename(2) or the engines make whole; names are dropped last. */
#include "cli/external.h"
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/change.h"
#include "cli/commit.h"
#include "cli/copy.h"
#include "cli/rebase.h"
#include "engine/blank.h"
#include "io/file.h"
#include "util/limits.h"

/* "dir/disk.vhd" and "NAME": "dir/disk@NAME.vhd". To be freed. */
static char *layer_path(const char *path, const char *name, struct vmimg_error *err)
{
	const char *slash = strrchr(path, '/'), *dot = strrchr(slash ? slash : path, '.');
	size_t stem = dot ? (size_t)(dot - path) : strlen(path);
	char *joined;

	if (!*name || strchr(name, '/') || strlen(name) > 100) {
		vmimg_fail(err, VMIMG_EINVAL, "'%.40s' cannot be a part of a file's name", name);
		return NULL;
	}
	if (asprintf(&joined, "%.*s@%s%s", (int)stem, path, name, dot ? dot : "") >= 0)
		return joined;
	vmimg_fail_nomem(err);
	return NULL;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* ---- create and apply ---- */

/* An empty child of layer, in the place of path. The caller holds the locks. */
static int put_child(const char *path, const char *layer, const struct vmimg_disk *disk,
	const struct cli_common *common, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_target_close) struct cli_target target = { .format = disk->format };
	struct cli_common unlocked = *common;
	struct cli_target_args args = { .backing = base_name(layer),
		.backing_format = disk->format->name,
		.force = true,
		.unique = true };
	int failed;

	unlocked.share = true;
	failed = (disk->sector_size != 512 &&
			 vmimg_options_set(
				 &args.options.list, "logical_sector_size", "4096", err)) ||
		cli_target_open(&target, path, &args, &unlocked, err) ||
		cli_target_begin(&target, &args, &unlocked, disk->size, err) ||
		vmimg_blank_run(target.sink, err) || cli_target_publish(&target, err);
	vmimg_options_done(&args.options.list);
	return failed ? -1 : 0;
}

static int check_kind(const struct cli_image *image, struct vmimg_error *err)
{
	if (image->disk->format->identity || image->disk->format->snapshots)
		return 0;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"%s: format %s has no images that build on others: convert it first",
		vmimg_io_name(image->io), image->disk->format->name);
}

int cli_external_create(const char *path, const char *name, const struct cli_common *common,
	struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	VMIMG_AUTO(free) char *layer = layer_path(path, name, err);

	if (!layer || cli_change_open(&image, path, common, err) || check_kind(&image, err))
		return -1;
	if (link(path, layer))
		return errno == EEXIST
			? vmimg_fail(err, VMIMG_EEXIST, "there is a snapshot '%.60s' already", name)
			: vmimg_fail_sys(err, errno, "naming %.80s", layer);
	if (!vmimg_file_sync_folder(path, err) && !put_child(path, layer, image.disk, common, err))
		return CLI_OK;
	if (cli_is_at(path, image.io)) /* else this is its only name */
		unlink(layer);
	return -1;
}

int cli_external_apply(const char *path, const char *name, const struct cli_common *common,
	struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	VMIMG_AUTO(cli_image_close) struct cli_image snapshot = { 0 };
	VMIMG_AUTO(free) char *layer = layer_path(path, name, err);
	struct cli_open how = { .format = common->format, .refs = CLI_REFS_BESIDE };
	struct cli_common unlocked = *common;

	unlocked.share = true;
	if (!layer || cli_change_open(&image, path, common, err) ||
		cli_change_refuse_snapshots(image.disk, err))
		return -1;
	if (access(layer, F_OK))
		return vmimg_fail(
			err, VMIMG_EINVAL, "there is no snapshot '%.60s' (%.80s)", name, layer);
	if (cli_image_open(&snapshot, layer, &unlocked, &how, err) || check_kind(&snapshot, err))
		return -1;
	return put_child(path, layer, snapshot.disk, common, err) ? -1 : CLI_OK;
}

/* ---- delete ---- */

/* Of the active state's chain: the layer of that file, and the one above it. */
static struct vmimg_disk *find_layer(
	struct vmimg_disk *top, const char *layer, struct vmimg_disk **above)
{
	for (*above = top; (*above)->parent; *above = (*above)->parent)
		if (cli_is_at(layer, (*above)->parent->io))
			return (*above)->parent;
	return NULL;
}

static bool builds_on(
	const char *path, const struct vmimg_io *layer, const struct cli_common *common)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_common quiet = { .quiet = true, .share = true, .refs = common->refs };
	struct cli_open how = { .refs = CLI_REFS_BESIDE, .look = true };
	struct vmimg_error unused;

	return !cli_image_open(&image, path, &quiet, &how, &unused) && image.disk &&
		image.disk->parent && vmimg_io_same(image.disk->parent->io, layer);
}

/* Every other file beside it that has the same parent would be ruined. */
static int refuse_other_children(const char *path, const struct vmimg_disk *layer,
	const struct vmimg_disk *child, const struct cli_common *common, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *copy = vmimg_strdup(path, err);
	DIR *folder = copy ? opendir(dirname(copy)) : NULL;
	const char *dot = strrchr(base_name(path), '.');
	struct dirent *entry;
	int result = 0;

	if (!folder)
		return copy ? vmimg_fail_sys(err, errno, "the folder of %.80s", path) : -1;
	while (!result && (entry = readdir(folder))) {
		const char *end = strrchr(entry->d_name, '.');
		VMIMG_AUTO(free) char *other = NULL;
		struct stat st;

		if ((dot && (!end || strcmp(end, dot) != 0)) ||
			!(other = cli_path_beside(path, entry->d_name, err)) || stat(other, &st) ||
			!S_ISREG(st.st_mode) ||
			(child->io->id[0] == st.st_dev && child->io->id[1] == st.st_ino))
			continue;
		if (builds_on(other, layer->io, common))
			result = vmimg_fail(err, VMIMG_EREFUSED,
				"%.80s builds on it too: commit or rebase that first", other);
	}
	closedir(folder);
	return result;
}

/* What is to be done, found out while the chain is open; doing it opens files anew. */
struct merge {
	char *child, *parent; /* paths; parent "" where the snapshot is the bottom */
	const char *format;
	bool down;
};

static int plan_merge(const char *path, const char *layer, const struct cli_common *common,
	struct merge *merge, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct vmimg_disk *child, *found;
	uint64_t up, down;

	if (cli_change_open(&image, path, common, err))
		return -1;
	found = find_layer(image.disk, layer, &child);
	if (!found)
		return vmimg_fail(err, VMIMG_EINVAL, "%.80s is no layer of this disk", layer);
	/* one of the two files goes, and with it what it has inside */
	if (refuse_other_children(path, found, child, common, err) ||
		cli_change_refuse_snapshots(found, err) ||
		cli_change_refuse_snapshots(child, err) ||
		cli_count_data(found, &up, err) || cli_count_data(child, &down, err))
		return -1;
	merge->child = vmimg_strdup(vmimg_file_path(child->io), err);
	merge->parent = vmimg_strdup(
		found->parent ? base_name(vmimg_file_path(found->parent->io)) : "", err);
	merge->format = found->parent ? found->parent->format->name : NULL;
	/* nobody knows the active state's identity, so another may take its place */
	merge->down = down < up && child == image.disk && child->size == found->size;
	return merge->child && merge->parent ? 0 : -1;
}

static int merge_layer(const char *path, const char *layer, const struct merge *merge,
	const struct cli_common *common, struct vmimg_error *err)
{
	struct cli_rebase to = { .name = merge->parent, .format = merge->format };

	if (merge->down) {
		if (cli_commit_down(path, common, err))
			return -1;
		if (rename(layer, path))
			return vmimg_fail_sys(err, errno, "renaming %.80s", layer);
	} else if (cli_rebase_to(merge->child, &to, common, err)) {
		return -1;
	} else if (unlink(layer)) {
		return vmimg_fail_sys(err, errno, "removing %.80s", layer);
	}
	return vmimg_file_sync_folder(path, err);
}

int cli_external_delete(const char *path, const char *name, const struct cli_common *common,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *layer = layer_path(path, name, err);
	struct merge merge = { 0 };
	int failed = !layer || plan_merge(path, layer, common, &merge, err) ||
		merge_layer(path, layer, &merge, common, err);

	free(merge.child);
	free(merge.parent);
	return failed ? -1 : CLI_OK;
}

/* ---- list ---- */

/* NAME of "disk@NAME.ext" for the disk at path; NULL: it is no snapshot of that. To be freed. */
static char *snapshot_name(const char *path, const char *layer)
{
	const char *own = base_name(path), *dot = strrchr(own, '.');
	const char *name = base_name(layer), *end = strrchr(name, '.');
	size_t stem = dot ? (size_t)(dot - own) : strlen(own);

	if (strncmp(own, name, stem) != 0 || name[stem] != '@')
		return NULL;
	name += stem + 1;
	return strndup(name, dot && end && end > name ? (size_t)(end - name) : strlen(name));
}

/* The file's last change is when the snapshot was taken: since then it is only read. */
static json_t *describe(const struct vmimg_disk *layer, const char *name, unsigned id)
{
	json_t *item = json_object();
	struct stat st = { 0 };
	char number[16];

	if (vmimg_file_fd(layer->io) >= 0)
		(void)!fstat(vmimg_file_fd(layer->io), &st);
	snprintf(number, sizeof(number), "%u", id);
	vmimg_json_text(item, "id", number);
	vmimg_json_text(item, "name", name);
	vmimg_json_uint(item, "vm-state-size", 0);
	vmimg_json_uint(item, "date-sec", (uint64_t)st.st_mtim.tv_sec);
	vmimg_json_uint(item, "date-nsec", (uint64_t)st.st_mtim.tv_nsec);
	vmimg_json_uint(item, "vm-clock-sec", 0);
	vmimg_json_uint(item, "vm-clock-nsec", 0);
	vmimg_json_text(item, "filename", vmimg_io_name(layer->io));
	vmimg_json_uint(item, "actual-size", (uint64_t)st.st_blocks * 512);
	return item;
}

int cli_external_list(
	const char *path, const struct cli_common *common, json_t **list, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_open how = { .format = common->format, .refs = CLI_REFS_BESIDE, .look = true };
	const struct vmimg_disk *layers[VMIMG_MAX_DEPTH];
	size_t count = 0;
	unsigned id = 0;

	if (cli_image_open(&image, path, common, &how, err))
		return -1;
	for (const struct vmimg_disk *disk = image.disk->parent; disk; disk = disk->parent)
		layers[count++] = disk;
	*list = json_array();
	while (count-- > 0) { /* the oldest first */
		VMIMG_AUTO(free)
		char *name = snapshot_name(path, vmimg_io_name(layers[count]->io));

		if (name)
			json_array_append_new(*list, describe(layers[count], name, ++id));
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A file system that cannot be opened is no error as long as another one serves. */
#include "inspect/trees.h"
#include <stdio.h>
#include <string.h>
#include "util/num.h"

/* Takes over io. */
static int add_tree(struct vmimg_trees *trees, struct vmimg_io *io, const struct vmimg_part *part,
	struct vmimg_error *err)
{
	struct vmimg_error ignored;
	struct vmimg_tree *tree;

	if (vmimg_grow_array(&trees->list, &trees->cap, trees->count + 1, sizeof(*tree), err)) {
		vmimg_io_unref(io);
		return -1;
	}
	tree = &trees->list[trees->count++];
	memset(tree, 0, sizeof(*tree));
	tree->io = io;
	tree->part = part ? part->index : 0;
	tree->esp = part && vmimg_part_is_esp(part);
	if (trees->count > VMIMG_FS_MOST)
		return 0;
	if (vmimg_fs_recognise(io, &tree->info, err))
		return -1;
	if (tree->info.type)
		tree->fs = vmimg_fs_open_as(io, &tree->info, &ignored);
	return 0;
}

int vmimg_trees_open(struct vmimg_io *io, uint32_t sector_size, struct vmimg_trees *trees,
	struct vmimg_error *err)
{
	memset(trees, 0, sizeof(*trees));
	if (vmimg_parts_read(io, sector_size, &trees->parts, err))
		return -1;
	if (!trees->parts.count)
		return add_tree(trees, vmimg_io_ref(io), NULL, err);
	for (size_t i = 0; i < trees->parts.count; i++) {
		const struct vmimg_part *part = &trees->parts.list[i];
		struct vmimg_io *stretch;

		if (part->extended)
			continue;
		stretch = vmimg_part_open(io, part, err);
		if (!stretch || add_tree(trees, stretch, part, err))
			return -1;
	}
	return 0;
}

void vmimg_trees_bound(const struct vmimg_trees *trees, uint64_t bytes)
{
	for (size_t i = 0; i < trees->count; i++)
		if (trees->list[i].fs)
			vmimg_fs_bound(trees->list[i].fs,
				bytes == UINT64_MAX ? bytes : bytes / trees->count);
}

void vmimg_trees_close(struct vmimg_trees *trees)
{
	for (size_t i = 0; i < trees->count; i++) {
		vmimg_fs_close(trees->list[i].fs);
		vmimg_io_unref(trees->list[i].io);
	}
	free(trees->list);
	vmimg_parts_done(&trees->parts);
	memset(trees, 0, sizeof(*trees));
}

static bool has_file(const struct vmimg_tree *tree, const char *path)
{
	struct vmimg_error ignored;
	struct vmimg_node node;
	bool found;

	return tree->fs && !vmimg_fs_find(tree->fs, path, &node, &found, &ignored) && found;
}

static bool is_root(const struct vmimg_tree *tree)
{
	return !tree->esp &&
		(has_file(tree, "/etc/os-release") || has_file(tree, "/usr/lib/os-release") ||
			has_file(tree, "/etc/fstab") || has_file(tree, "/sbin/init"));
}

/* What hides a root file system from us. */
static const char *obstacle(const struct vmimg_tree *tree)
{
	const char *type = tree->info.type;

	if (type && !strcmp(type, "LVM2_member"))
		return "LVM";
	if (type && !strcmp(type, "crypto_LUKS"))
		return "LUKS (it is encrypted)";
	if (type && !strcmp(type, "linux_raid_member"))
		return "a software RAID";
	return NULL;
}

bool vmimg_type_may_be_root(const char *type)
{
	static const char *const types[] = { "xfs", "btrfs", "f2fs", "jfs", "reiserfs", "squashfs",
		"erofs", "ext2", "ext3", "ext4" };

	for (size_t i = 0; type && i < VMIMG_ARRAY_LEN(types); i++)
		if (!strcmp(type, types[i]))
			return true;
	return false;
}

/* The only file system that a root may be on and that cannot be looked into; NULL: none, several.
 */
static const struct vmimg_tree *only_unread(const struct vmimg_trees *trees)
{
	const struct vmimg_tree *only = NULL;

	for (size_t i = 0; i < trees->count; i++) {
		const struct vmimg_tree *tree = &trees->list[i];

		if (tree->fs || !vmimg_type_may_be_root(tree->info.type))
			continue;
		if (only)
			return NULL;
		only = tree;
	}
	return only;
}

static const struct vmimg_tree *find_root(const struct vmimg_trees *trees)
{
	size_t i = 0;

	vmimg_trees_bound(trees, VMIMG_FS_PATIENCE);
	while (i < trees->count && !is_root(&trees->list[i]))
		i++;
	vmimg_trees_bound(trees, UINT64_MAX);
	return i < trees->count ? &trees->list[i] : NULL;
}

const struct vmimg_tree *vmimg_trees_root(const struct vmimg_trees *trees, struct vmimg_error *err)
{
	const struct vmimg_tree *unread = only_unread(trees), *root = find_root(trees);

	if (root)
		return root;
	if (unread)
		return unread;
	for (size_t i = 0; i < trees->count; i++) {
		const char *what = obstacle(&trees->list[i]);

		if (!what)
			continue;
		vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the root file system lies inside %s in partition %u, which is not read "
			"here",
			what, trees->list[i].part);
		return NULL;
	}
	vmimg_fail(err, VMIMG_EFORMAT, "no root file system of Linux is on this disk");
	return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* All file systems of a disk, opened side by side: the root of the system that is on it, and those
 * that a boot loader reads. */
#pragma once
#include "inspect/fs.h"
#include "inspect/parts.h"

struct vmimg_tree {
	struct vmimg_io *io; /* the partition's bytes */
	unsigned part;       /* index of the partition; 0: the whole disk is the file system */
	bool esp;
	struct vmimg_fs_info info;
	struct vmimg_fs *fs; /* NULL: none that can be read here */
};

struct vmimg_trees {
	struct vmimg_parts parts;
	struct vmimg_tree *list;
	size_t count, cap;
};

/* The caller ends with vmimg_trees_close(), also after a failure. sector_size as vmimg_parts_read()
 * takes it. */
int vmimg_trees_open(struct vmimg_io *io, uint32_t sector_size, struct vmimg_trees *trees,
	struct vmimg_error *err) VMIMG_CHECKED;
/* All file systems together read about so many bytes from now on, UINT64_MAX any. */
void vmimg_trees_bound(const struct vmimg_trees *trees, uint64_t bytes);
void vmimg_trees_close(struct vmimg_trees *trees);
static inline void vmimg_trees_close_auto(struct vmimg_trees *trees)
{
	vmimg_trees_close(trees);
}
/* The tree with the system in it. One that cannot be read is taken when no other can be it.
 * VMIMG_EUNSUPPORTED names what stands in the way: LVM, LUKS …; NULL and VMIMG_EFORMAT: no root. */
const struct vmimg_tree *vmimg_trees_root(
	const struct vmimg_trees *trees, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether systems have their root on file systems of that type; NULL: no. */
bool vmimg_type_may_be_root(const char *type);

/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that read ext2, ext3 and ext4. */
#pragma once
#include "inspect/fs.h"

#define VMIMG_EXT_SUPER 1024 /* where the super block lies, and its length */

/* What the super block says of where things lie. */
struct vmimg_ext_shape {
	uint32_t block; /* bytes: 1024 to 65536 */
	uint64_t blocks;
	uint32_t first_block, inodes, inodes_per_group, blocks_per_group;
	uint32_t inode_size, desc_size;
	uint32_t meta_group; /* from this block of descriptors on they are spread out */
	bool spread;         /* meta block groups */
	bool sparse;         /* super blocks are not in all groups */
	bool sparse2;        /* they are in the first group and in two more: */
	uint32_t backups[2];
};
int vmimg_ext_parse(
	const uint8_t *super, struct vmimg_ext_shape *shape, struct vmimg_error *err) VMIMG_CHECKED;
bool vmimg_ext_has_super(const struct vmimg_ext_shape *shape, uint64_t group);
/* Where the descriptor of a group lies, in bytes. */
uint64_t vmimg_ext_desc_at(const struct vmimg_ext_shape *shape, uint64_t group);

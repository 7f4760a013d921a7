/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that read ext2, ext3 and ext4. */
#pragma once
#include "inspect/fs.h"
#include "io/table.h"

#define VMIMG_EXT_EXTENTS   0x00080000U /* flags of an inode */
#define VMIMG_EXT_INLINE    0x10000000U
#define VMIMG_EXT_ENCRYPTED 0x00000800U
#define VMIMG_EXT_MAP       60 /* bytes of the block map inside an inode */

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

struct vmimg_ext {
	struct vmimg_fs fs;
	struct vmimg_io *io;       /* shared */
	struct vmimg_table *table; /* over io */
	struct vmimg_ext_shape shape;
};

struct vmimg_ext_inode {
	uint32_t number, flags;
	uint8_t map[VMIMG_EXT_MAP];
};

/* Where the blocks of a file from block number at lie: *from on disk (0: a hole) and for how many
 * that holds (> 0). */
int vmimg_ext_map(struct vmimg_ext *ext, const struct vmimg_ext_inode *inode, uint64_t at,
	uint64_t *from, uint64_t *count, struct vmimg_error *err) VMIMG_CHECKED;

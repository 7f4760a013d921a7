/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that read XFS ("XFS Algorithms & Data Structures", 3rd edition). */
#pragma once
#include "inspect/fs.h"
#include "io/table.h"

#define VMIMG_XFS_LOCAL   1 /* how an inode keeps its content: in itself, */
#define VMIMG_XFS_EXTENTS 2 /* in a list of extents, */
#define VMIMG_XFS_BTREE   3 /* in a tree of them */

struct vmimg_xfs {
	struct vmimg_fs fs;
	struct vmimg_io *io;       /* shared */
	struct vmimg_table *table; /* over io */
	uint32_t block, inode_size, folder_block, group_blocks;
	uint64_t blocks;
	unsigned group_shift, inode_shift; /* bits of a block's and an inode's number in a group */
	bool v5, has_types, big_times, big_counts;
};

struct vmimg_xfs_inode {
	uint64_t number;
	uint8_t format;
	uint64_t extents;
	uint8_t *raw;        /* inode_size bytes, owned */
	const uint8_t *fork; /* where its content is told, inside raw */
	size_t fork_len;
};

/* Where block at of a file lies: *from on disk, in blocks (0: a hole, or not written), and for how
 * many that holds. */
int vmimg_xfs_map(struct vmimg_xfs *xfs, const struct vmimg_xfs_inode *inode, uint64_t at,
	uint64_t *from, uint64_t *count, struct vmimg_error *err) VMIMG_CHECKED;
/* inode->raw is the caller's to free, also when it fails. */
int vmimg_xfs_inode(struct vmimg_xfs *xfs, uint64_t number, struct vmimg_xfs_inode *inode,
	struct vmimg_node *node, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_xfs_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each,
	void *ctx, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_xfs_lookup(struct vmimg_fs *fs, const struct vmimg_node *dir, const char *name,
	size_t len, struct vmimg_node *node, bool *found, struct vmimg_error *err) VMIMG_CHECKED;

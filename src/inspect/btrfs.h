/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the files that read btrfs ("On-disk Format", btrfs.readthedocs.io). All trees have the
 * same nodes, and items in them under keys in ascending order; addresses are logical ones, which
 * chunks turn into places on the device.
 */
#pragma once
#include "codec/codec.h"
#include "inspect/fs.h"

#define VMIMG_BTRFS_LEVELS  8U
#define VMIMG_BTRFS_ROOTS   1U /* numbers of trees and of what is in the tree of roots */
#define VMIMG_BTRFS_FS_TREE 5U
#define VMIMG_BTRFS_DEFAULT 6U
#define VMIMG_BTRFS_FIRST   256U

enum { /* types of items */
	VMIMG_BTRFS_INODE = 1,
	VMIMG_BTRFS_DIR_ITEM = 84,
	VMIMG_BTRFS_DIR_INDEX = 96,
	VMIMG_BTRFS_EXTENT = 108,
	VMIMG_BTRFS_ROOT = 132,
	VMIMG_BTRFS_ROOT_REF = 156,
	VMIMG_BTRFS_CHUNK = 228,
};

struct vmimg_btrfs_key {
	uint64_t object;
	uint8_t type;
	uint64_t offset;
};

struct vmimg_btrfs_tree {
	uint64_t at; /* logical address of its root node */
	unsigned level;
};

struct vmimg_btrfs_chunk {
	uint64_t first, len;  /* logical */
	uint64_t at, copy;    /* on the device; copy VMIMG_UNKNOWN: there is no second one */
	const char *obstacle; /* why it cannot be read here; NULL: it can */
};

struct vmimg_btrfs_node {
	uint64_t at; /* 0: nothing is in it */
	uint8_t *bytes;
	unsigned count, level;
};

struct vmimg_btrfs {
	struct vmimg_fs fs;
	struct vmimg_io *io; /* shared */
	uint32_t node_size, sector;
	uint64_t device, roots_subvolume; /* this device's number; the default subvolume */
	uint8_t fsid[16];                 /* that nodes have */
	bool crc;                         /* checksums are CRC-32C, and verified */
	struct vmimg_btrfs_chunk *chunks; /* by logical address */
	size_t chunk_count, chunk_cap;
	struct vmimg_btrfs_node nodes[VMIMG_BTRFS_LEVELS]; /* read last, by level */
	struct vmimg_btrfs_tree roots;
	uint64_t subvolume; /* whose tree is known; 0: none */
	struct vmimg_btrfs_tree tree;
	struct vmimg_unpacker *unpackers[2]; /* zlib, zstd; NULL: not needed yet */
	uint8_t *packed, *unpacked;          /* the packed extent read last */
	uint64_t unpacked_at;                /* its address; 0: none */
	size_t unpacked_len;
};

/* An item: its bytes stay until the next is looked for. */
struct vmimg_btrfs_item {
	struct vmimg_btrfs_key key;
	const uint8_t *bytes;
	size_t len;
};

/* btrfs_tree.c */

/* Reads logical addresses. */
int vmimg_btrfs_pread(struct vmimg_btrfs *btrfs, void *buf, size_t len, uint64_t at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* One chunk, from its item or the super block; len bytes may be looked at, *used is set. */
int vmimg_btrfs_add_chunk(struct vmimg_btrfs *btrfs, uint64_t first, const uint8_t *raw, size_t len,
	size_t *used, struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_btrfs_key vmimg_btrfs_key(const uint8_t *raw);
int vmimg_btrfs_compare(const struct vmimg_btrfs_key *a, const struct vmimg_btrfs_key *b);
/* The first item at or after a key. */
int vmimg_btrfs_find(struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_tree *tree,
	const struct vmimg_btrfs_key *key, struct vmimg_btrfs_item *item, bool *found,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The last item at or before a key. */
int vmimg_btrfs_find_last(struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_tree *tree,
	const struct vmimg_btrfs_key *key, struct vmimg_btrfs_item *item, bool *found,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The next key; false: there is none. */
bool vmimg_btrfs_next(struct vmimg_btrfs_key *key);

/* btrfs_data.c */

/* [at, at + len) of a file in a tree. */
int vmimg_btrfs_content(struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_tree *tree,
	uint64_t inode, uint8_t *buf, size_t len, uint64_t at,
	struct vmimg_error *err) VMIMG_CHECKED;

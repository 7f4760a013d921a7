/* SPDX-License-Identifier: Apache-2.0 */
/* Folders of XFS: inside the inode, or in blocks of entries. The hashes and the lists of free space
 * beside them, which lie from 32 GiB on in a folder, are not needed to read. */
#include <inttypes.h>
#include <string.h>
#include "inspect/xfs.h"
#include "util/bytes.h"
#include "util/num.h"

#define DATA_END   (UINT64_C(32) << 30)  /* bytes: entries lie before it */
#define MAX_FOLDER (UINT64_C(256) << 20) /* bytes of entries that are read */
#define FREE_TAG   0xffffU

struct scan {
	struct vmimg_xfs *xfs;
	vmimg_fs_each *each; /* NULL: look for name */
	void *ctx;
	const char *name;
	size_t len;
	struct vmimg_node *node;
	bool found;
};

/* More than 0: enough. */
static int visit(struct scan *scan, uint64_t number, const uint8_t *name, size_t len,
	struct vmimg_error *err)
{
	struct vmimg_xfs_inode inode = { 0 };
	struct vmimg_node node;
	int failed;

	if (!scan->each) {
		if (len != scan->len || memcmp(name, scan->name, len))
			return 0;
		scan->found = true;
	} else if ((len == 1 && name[0] == '.') || (len == 2 && !memcmp(name, "..", 2))) {
		return 0;
	}
	failed = vmimg_xfs_inode(scan->xfs, number, &inode, &node, err);
	free(inode.raw);
	if (failed)
		return -1;
	if (scan->each)
		return !scan->each(scan->ctx, (const char *)name, len, &node);
	*scan->node = node;
	return 1;
}

static int scan_short(struct scan *scan, const struct vmimg_xfs_inode *inode, size_t size,
	struct vmimg_error *err)
{
	const uint8_t *fork = inode->fork;
	/* the second byte counts those that need eight bytes, and one of them makes all wide */
	size_t wide = fork[1] ? 8 : 4, at = 2 + wide;
	unsigned count = fork[0];

	size = vmimg_min(size, inode->fork_len);
	for (unsigned i = 0; i < count; i++) {
		size_t len = at + 3 <= size ? fork[at] : 0, number;
		int enough;

		number = at + 3 + len + scan->xfs->has_types;
		if (!len || number + wide > size)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"the folder in inode %" PRIu64 " is longer than it may be",
				inode->number);
		enough = visit(scan,
			wide == 8 ? vmimg_get_be64(fork + number) : vmimg_get_be32(fork + number),
			fork + at + 3, len, err);
		if (enough)
			return enough;
		at = number + wide;
	}
	return 0;
}

/* Where the entries of a block end: a folder of one block keeps its hashes behind them. */
static int find_end(const uint8_t *block, size_t size, size_t *end, struct vmimg_error *err)
{
	size_t count;

	*end = size;
	if (memcmp(block, "XD2B", 4) && memcmp(block, "XDB3", 4))
		return 0;
	count = vmimg_get_be32(block + size - 8);
	if (count > (size - 8) / 8)
		return vmimg_fail(err, VMIMG_ECORRUPT, "a folder's block has %zu hashes", count);
	*end = size - 8 - count * 8;
	return 0;
}

static int scan_block(struct scan *scan, const uint8_t *block, struct vmimg_error *err)
{
	size_t size = scan->xfs->folder_block, at = scan->xfs->v5 ? 64 : 16, end;

	if (memcmp(block, "XD2B", 4) && memcmp(block, "XDB3", 4) && memcmp(block, "XD2D", 4) &&
		memcmp(block, "XDD3", 4))
		return vmimg_fail(err, VMIMG_ECORRUPT, "a folder's block has no magic number");
	if (find_end(block, size, &end, err))
		return -1;
	while (at + 12 <= end) {
		size_t len;
		int enough;

		if (vmimg_get_be16(block + at) == FREE_TAG) {
			len = vmimg_get_be16(block + at + 2);
			if (len < 8 || len % 8)
				return vmimg_fail(err, VMIMG_ECORRUPT,
					"a folder has a gap of %zu bytes", len);
			at += len;
			continue;
		}
		len = block[at + 8];
		if (!len || at + 9 + len + scan->xfs->has_types + 2 > end)
			return vmimg_fail(
				err, VMIMG_ECORRUPT, "a folder's entry reaches past its end");
		enough = visit(scan, vmimg_get_be64(block + at), block + at + 9, len, err);
		if (enough)
			return enough;
		at += vmimg_align_up(9 + len + scan->xfs->has_types + 2, 8);
	}
	return 0;
}

static int scan_blocks(struct scan *scan, const struct vmimg_xfs_inode *inode, uint64_t size,
	struct vmimg_error *err)
{
	struct vmimg_xfs *xfs = scan->xfs;
	VMIMG_AUTO(free) uint8_t *block = vmimg_alloc_buffer(xfs->folder_block, err);
	uint64_t step = xfs->folder_block / xfs->block, from, count, budget = MAX_FOLDER;
	uint64_t end = vmimg_min(size, DATA_END) / xfs->block;

	if (!block)
		return -1;
	for (uint64_t at = 0; at < end;) {
		int enough = 0;

		if (vmimg_xfs_map(xfs, inode, at, &from, &count, err))
			return -1;
		if (!from) {
			at += vmimg_align_up(vmimg_min(count, end - at), step);
			continue;
		}
		if (budget < xfs->folder_block)
			return vmimg_fail(err, VMIMG_ELIMIT,
				"a folder of more than %" PRIu64 " MiB", MAX_FOLDER >> 20);
		budget -= xfs->folder_block;
		/* a folder's block of several blocks may lie in several places */
		for (uint64_t i = 0; i < step; i++)
			if (vmimg_xfs_map(xfs, inode, at + i, &from, &count, err) || !from ||
				vmimg_table_read(xfs->table, block + i * xfs->block, xfs->block,
					from * xfs->block, err))
				return from ? -1
					    : vmimg_fail(err, VMIMG_ECORRUPT,
						      "half of a folder's block is missing");
		enough = scan_block(scan, block, err);
		if (enough)
			return enough;
		at += step;
	}
	return 0;
}

static int scan_folder(struct scan *scan, const struct vmimg_node *dir, struct vmimg_error *err)
{
	struct vmimg_xfs_inode inode = { 0 };
	struct vmimg_node node;
	int result = vmimg_xfs_inode(scan->xfs, dir->id, &inode, &node, err);

	if (!result && inode.format == VMIMG_XFS_LOCAL)
		result =
			scan_short(scan, &inode, (size_t)vmimg_min(node.size, inode.fork_len), err);
	else if (!result)
		result = scan_blocks(scan, &inode, node.size, err);
	free(inode.raw);
	return result;
}

int vmimg_xfs_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each,
	void *ctx, struct vmimg_error *err)
{
	struct scan scan = { .xfs = (struct vmimg_xfs *)fs, .each = each, .ctx = ctx };

	return scan_folder(&scan, dir, err) < 0 ? -1 : 0;
}

int vmimg_xfs_lookup(struct vmimg_fs *fs, const struct vmimg_node *dir, const char *name,
	size_t len, struct vmimg_node *node, bool *found, struct vmimg_error *err)
{
	struct scan scan = {
		.xfs = (struct vmimg_xfs *)fs, .name = name, .len = len, .node = node
	};

	if (scan_folder(&scan, dir, err) < 0)
		return -1;
	*found = scan.found;
	return 0;
}

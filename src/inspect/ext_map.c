/* SPDX-License-Identifier: Apache-2.0 */
/* From a block of a file to a block of the disk: extent trees of ext4 and the indirect blocks of
 * ext2 and ext3 (Linux kernel documentation, "ext4 Data Structures and Algorithms"). */
#include <inttypes.h>
#include <string.h>
#include "inspect/ext.h"
#include "util/bytes.h"
#include "util/num.h"

#define EXTENT_MAGIC  0xf30a
#define EXTENT        12U
#define MAX_LEVELS    5
#define UNWRITTEN     32768U /* an extent longer than this reads as zeroes */
#define DIRECT_BLOCKS 12U
#define WINDOW        64U /* entries of an indirect block looked at together */

static int corrupt(const struct vmimg_ext_inode *inode, struct vmimg_error *err, const char *what)
{
	return vmimg_fail(err, VMIMG_ECORRUPT, "inode %u: %s", inode->number, what);
}

/* A node of the tree: the inode's own 60 bytes, or a block. */
struct node {
	const uint8_t *bytes;
	unsigned count, depth;
};

static int check_node(const struct vmimg_ext_inode *inode, const uint8_t *bytes, size_t size,
	struct node *node, struct vmimg_error *err)
{
	node->bytes = bytes;
	node->count = vmimg_get_le16(bytes + 2);
	node->depth = vmimg_get_le16(bytes + 6);
	if (vmimg_get_le16(bytes) != EXTENT_MAGIC)
		return corrupt(inode, err, "a node of its extent tree has no magic number");
	if ((node->count + 1) * EXTENT > size || node->depth > MAX_LEVELS)
		return corrupt(inode, err, "a node of its extent tree is too full or too deep");
	return 0;
}

static const uint8_t *entry_at(const struct node *node, unsigned i)
{
	return node->bytes + EXTENT * (i + 1);
}

/* The last entry that begins at or before block at; count when there is none. Narrows *end to where
 * the next entry begins. */
static unsigned find_entry(const struct node *node, uint64_t at, uint64_t *end)
{
	unsigned low = 0, high = node->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (vmimg_get_le32(entry_at(node, middle)) <= at)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < node->count)
		*end = vmimg_min(*end, vmimg_get_le32(entry_at(node, low)));
	return low ? low - 1 : node->count;
}

static void map_leaf(
	const struct node *node, uint64_t at, uint64_t end, uint64_t *from, uint64_t *count)
{
	unsigned i = find_entry(node, at, &end);
	const uint8_t *e = entry_at(node, i);
	uint64_t first, len, start;

	*from = 0;
	*count = end - at;
	if (i == node->count)
		return;
	first = vmimg_get_le32(e);
	len = vmimg_get_le16(e + 4);
	start = (uint64_t)vmimg_get_le16(e + 6) << 32 | vmimg_get_le32(e + 8);
	if (at >= first + (len > UNWRITTEN ? len - UNWRITTEN : len))
		return;
	if (len <= UNWRITTEN)
		*from = start + (at - first);
	else
		len -= UNWRITTEN;
	*count = vmimg_min(*count, first + len - at);
}

static int map_extents(struct vmimg_ext *ext, const struct vmimg_ext_inode *inode, uint64_t at,
	uint64_t *from, uint64_t *count, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *block = NULL;
	uint64_t end = (uint64_t)UINT32_MAX + 1;
	struct node node;

	if (at >= end)
		return corrupt(inode, err, "it is longer than an extent tree can be");
	if (check_node(inode, inode->map, VMIMG_EXT_MAP, &node, err))
		return -1;
	while (node.depth) {
		unsigned depth = node.depth, i = find_entry(&node, at, &end);
		const uint8_t *e = entry_at(&node, i);
		uint64_t child;

		if (i == node.count) {
			*from = 0;
			*count = end - at;
			return 0;
		}
		child = (uint64_t)vmimg_get_le16(e + 8) << 32 | vmimg_get_le32(e + 4);
		if (!block && !(block = vmimg_alloc_buffer(ext->shape.block, err)))
			return -1;
		if (child >= ext->shape.blocks)
			return corrupt(inode, err, "its extent tree points past the end");
		if (vmimg_table_read(
			    ext->table, block, ext->shape.block, child * ext->shape.block, err) ||
			check_node(inode, block, ext->shape.block, &node, err))
			return -1;
		if (node.depth != depth - 1)
			return corrupt(inode, err, "its extent tree is not of one depth");
	}
	map_leaf(&node, at, end, from, count);
	return 0;
}

/* Entries [i, i + have) of a list of block numbers, seen as one run. */
static void map_run(const uint8_t *entries, uint64_t have, uint64_t *from, uint64_t *count)
{
	uint32_t first = vmimg_get_le32(entries);
	uint64_t n = 1;

	while (n < have && vmimg_get_le32(entries + 4 * n) == (first ? first + n : 0))
		n++;
	*from = first;
	*count = n;
}

static int map_indirect(struct vmimg_ext *ext, const struct vmimg_ext_inode *inode, uint64_t at,
	uint64_t *from, uint64_t *count, struct vmimg_error *err)
{
	uint64_t fan = ext->shape.block / 4, span = 1, have;
	uint8_t entries[4 * WINDOW];
	unsigned level = 0;
	uint64_t table;

	if (at < DIRECT_BLOCKS) {
		map_run(inode->map + 4 * at, DIRECT_BLOCKS - at, from, count);
		return 0;
	}
	at -= DIRECT_BLOCKS;
	for (; level < 3 && at >= span * fan; level++) {
		at -= span * fan;
		span *= fan;
	}
	if (level == 3)
		return corrupt(inode, err, "it is longer than indirect blocks can reach");
	table = vmimg_get_le32(inode->map + 4 * (DIRECT_BLOCKS + level));
	for (;; span /= fan) {
		if (!table) {
			*from = 0;
			*count = span * fan - at % (span * fan);
			return 0;
		}
		if (table >= ext->shape.blocks)
			return corrupt(inode, err, "an indirect block lies past the end");
		if (span == 1)
			break;
		if (vmimg_table_read(ext->table, entries, 4,
			    table * ext->shape.block + at / span % fan * 4, err))
			return -1;
		table = vmimg_get_le32(entries);
	}
	have = vmimg_min(fan - at % fan, WINDOW);
	if (vmimg_table_read(
		    ext->table, entries, 4 * have, table * ext->shape.block + at % fan * 4, err))
		return -1;
	map_run(entries, have, from, count);
	return 0;
}

int vmimg_ext_map(struct vmimg_ext *ext, const struct vmimg_ext_inode *inode, uint64_t at,
	uint64_t *from, uint64_t *count, struct vmimg_error *err)
{
	int failed = inode->flags & VMIMG_EXT_EXTENTS
		? map_extents(ext, inode, at, from, count, err)
		: map_indirect(ext, inode, at, from, count, err);

	if (failed)
		return -1;
	if (*from && !vmimg_range_inside(*from, *count, ext->shape.blocks))
		return corrupt(inode, err, "its blocks lie past the end of the file system");
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* From a block of a file to a block of the disk: lists and B+trees of packed extents. */
#include <inttypes.h>
#include <string.h>
#include "inspect/xfs.h"
#include "util/bytes.h"
#include "util/num.h"

#define RECORD     16U
#define MAX_LEVELS 9

struct extent {
	uint64_t first, count, start; /* block of the file; blocks; block number */
	bool unwritten;
};

static int corrupt(const struct vmimg_xfs_inode *inode, struct vmimg_error *err, const char *what)
{
	return vmimg_fail(err, VMIMG_ECORRUPT, "inode %" PRIu64 ": %s", inode->number, what);
}

static struct extent unpack(const uint8_t *record)
{
	uint64_t high = vmimg_get_be64(record), low = vmimg_get_be64(record + 8);

	return (struct extent){ .unwritten = high >> 63,
		.first = (high & INT64_MAX) >> 9,
		.start = (high & 0x1ff) << 43 | low >> 21,
		.count = low & 0x1fffff };
}

/* Block numbers are a group's number and one in the group. False: there is no such block. */
static bool to_disk(const struct vmimg_xfs *xfs, uint64_t number, uint64_t *block)
{
	uint64_t group = number >> xfs->group_shift;
	uint64_t within = number & ((UINT64_C(1) << xfs->group_shift) - 1);

	return within < xfs->group_blocks && vmimg_mul(group, xfs->group_blocks, block) &&
		vmimg_add(*block, within, block) && *block < xfs->blocks;
}

static int find_record(struct vmimg_xfs *xfs, const struct vmimg_xfs_inode *inode,
	const uint8_t *records, uint64_t count, uint64_t at, uint64_t end, uint64_t *from,
	uint64_t *len, struct vmimg_error *err)
{
	uint64_t low = 0, high = count;
	struct extent e;

	while (low < high) {
		uint64_t middle = (low + high) / 2;

		if (unpack(records + middle * RECORD).first <= at)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < count)
		end = vmimg_min(end, unpack(records + low * RECORD).first);
	*from = 0;
	*len = end - at;
	if (!low)
		return 0;
	e = unpack(records + (low - 1) * RECORD);
	if (at - e.first >= e.count)
		return 0;
	*len = vmimg_min(*len, e.count - (at - e.first));
	if (e.unwritten)
		return 0;
	if (!to_disk(xfs, e.start, from) || !vmimg_range_inside(*from, e.count, xfs->blocks))
		return corrupt(inode, err, "an extent lies past the end of the file system");
	*from += at - e.first;
	return 0;
}

/* The child that covers block at: keys first, then as many pointers, of which most fit. */
static uint64_t child_of(
	const uint8_t *keys, uint64_t count, uint64_t most, uint64_t at, uint64_t *end)
{
	uint64_t i = 0;

	while (i + 1 < count && vmimg_get_be64(keys + 8 * (i + 1)) <= at)
		i++;
	if (i + 1 < count)
		*end = vmimg_min(*end, vmimg_get_be64(keys + 8 * (i + 1)));
	return vmimg_get_be64(keys + 8 * most + 8 * i);
}

static int map_tree(struct vmimg_xfs *xfs, const struct vmimg_xfs_inode *inode, uint64_t at,
	uint64_t *from, uint64_t *len, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *block = vmimg_alloc_buffer(xfs->block, err);
	size_t head = xfs->v5 ? 72 : 24, most;
	unsigned level = vmimg_get_be16(inode->fork), count = vmimg_get_be16(inode->fork + 2);
	uint64_t end = UINT64_C(1) << 54, where, disk;

	if (!block)
		return -1;
	if (inode->fork_len < 24)
		return corrupt(inode, err, "there is no room for its extent tree");
	most = (inode->fork_len - 4) / 16;
	if (!level || level > MAX_LEVELS || !count || count > most)
		return corrupt(inode, err, "the root of its extent tree makes no sense");
	where = child_of(inode->fork + 4, count, most, at, &end);
	for (;;) {
		if (!to_disk(xfs, where, &disk))
			return corrupt(inode, err, "its extent tree points past the end");
		if (vmimg_table_read(xfs->table, block, xfs->block, disk * xfs->block, err))
			return -1;
		count = vmimg_get_be16(block + 6);
		if (memcmp(block, xfs->v5 ? "BMA3" : "BMAP", 4) ||
			vmimg_get_be16(block + 4) != level - 1 ||
			count > (xfs->block - head) / RECORD)
			return corrupt(inode, err, "a block of its extent tree makes no sense");
		level--;
		if (!level)
			return find_record(
				xfs, inode, block + head, count, at, end, from, len, err);
		if (!count)
			return corrupt(inode, err, "a block of its extent tree is empty");
		where = child_of(block + head, count, (xfs->block - head) / 16, at, &end);
	}
}

int vmimg_xfs_map(struct vmimg_xfs *xfs, const struct vmimg_xfs_inode *inode, uint64_t at,
	uint64_t *from, uint64_t *count, struct vmimg_error *err)
{
	if (inode->format == VMIMG_XFS_BTREE)
		return map_tree(xfs, inode, at, from, count, err);
	if (inode->format != VMIMG_XFS_EXTENTS)
		return corrupt(inode, err, "it has no extents");
	if (inode->extents > inode->fork_len / RECORD)
		return corrupt(inode, err, "it has more extents than room for them");
	return find_record(
		xfs, inode, inode->fork, inode->extents, at, UINT64_C(1) << 54, from, count, err);
}

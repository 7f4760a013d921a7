/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XFS: the trees of free extents that are ordered by block, one in each allocation group ("XFS
 * Algorithms & Data Structures", 3rd edition). A log that holds anything but an unmount at its head
 * leaves the whole alone.
 */
#include <inttypes.h>
#include <string.h>
#include "inspect/unused.h"
#include "io/table.h"
#include "util/bytes.h"
#include "util/num.h"

#define NEEDS_REPAIR 0x10U /* incompatible features */
#define KNOWN        0xffU
#define KNOWN_RO     0x0fU /* those that writing must know of */
#define MAX_LEVELS   16U
#define SECTOR       512U /* of the log, whatever the disk has */
#define RECORD_MAGIC 0xfeedbabeU
#define UNMOUNT      0x20U  /* flag of an operation */
#define LOOK_BACK    1024U  /* sectors before the head that the last record may begin in */
#define RECORD_PER   32768U /* bytes of a record that one header sector serves */

struct groups {
	struct vmimg_io *io;
	struct vmimg_table *table;
	uint32_t block, sector, group_blocks, count;
	uint64_t blocks;
	uint64_t log_at, log_sectors;
	unsigned group_shift;
	bool v5;
	uint8_t *node; /* one block */
};

/* ---- the log ----------------------------------------------------------------------------- */

/* Every sector of the log begins with the number of the round it was written in, records' headers
 * with a magic number before that. */
static int round_of(struct groups *g, uint64_t sector, uint32_t *round, struct vmimg_error *err)
{
	uint8_t raw[8];

	if (vmimg_table_read(g->table, raw, sizeof(raw), g->log_at + sector * SECTOR, err))
		return -1;
	*round = vmimg_get_be32(raw);
	if (*round == RECORD_MAGIC)
		*round = vmimg_get_be32(raw + 4);
	return 0;
}

/* The first sector of the round before: what was written last lies before it. */
static int find_head(struct groups *g, uint64_t *head, struct vmimg_error *err)
{
	uint64_t low = 0, high = g->log_sectors - 1;
	uint32_t first, last, middle;

	if (round_of(g, 0, &first, err) || round_of(g, high, &last, err))
		return -1;
	while (first != last && high - low > 1) {
		if (round_of(g, (low + high) / 2, &middle, err))
			return -1;
		*(middle == last ? &high : &low) = (low + high) / 2;
	}
	*head = first == last ? g->log_sectors : high;
	return 0;
}

/* Whether the record at a sector is an unmount that ends at the head. */
static int is_unmount(struct groups *g, uint64_t sector, uint64_t head, const uint8_t *header,
	bool *clean, struct vmimg_error *err)
{
	uint32_t version = vmimg_get_be32(header + 8), len = vmimg_get_be32(header + 12);
	uint32_t size = vmimg_get_be32(header + 320);
	uint64_t heads = version == 2 && size > RECORD_PER ? vmimg_div_up(size, RECORD_PER) : 1;
	uint8_t operation[12];

	*clean = false;
	if (vmimg_get_be32(header + 40) != 1 || sector + heads + vmimg_div_up(len, SECTOR) != head)
		return 0;
	if (vmimg_table_read(g->table, operation, sizeof(operation),
		    g->log_at + (sector + heads) * SECTOR, err))
		return -1;
	*clean = (operation[9] & UNMOUNT) != 0;
	return 0;
}

static int judge_log(struct groups *g, struct vmimg_error *err)
{
	uint8_t header[324];
	bool clean = false;
	uint64_t head;

	if (find_head(g, &head, err))
		return -1;
	for (uint64_t back = 1; back <= LOOK_BACK && back <= head; back++) {
		if (vmimg_table_read(g->table, header, sizeof(header),
			    g->log_at + (head - back) * SECTOR, err))
			return -1;
		if (vmimg_get_be32(header) != RECORD_MAGIC)
			continue;
		if (is_unmount(g, head - back, head, header, &clean, err))
			return -1;
		break;
	}
	return clean ? 0
		     : vmimg_fail(err, VMIMG_EREFUSED,
			       "it was not unmounted: its log waits to be replayed");
}

/* ---- the super block --------------------------------------------------------------------- */

static int judge(const struct groups *g, const uint8_t *s, struct vmimg_error *err)
{
	unsigned version = vmimg_get_be16(s + 100) & 15;
	uint32_t incompat = g->v5 ? vmimg_get_be32(s + 216) : 0;
	uint32_t ro = g->v5 ? vmimg_get_be32(s + 212) : 0;
	uint64_t log = vmimg_get_be64(s + 48), group = log >> g->group_shift;

	if (version < 4 || version > 5 || incompat & ~KNOWN || ro & ~KNOWN_RO || !log)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"XFS version %u with features 0x%x, 0x%x%s is not known here", version,
			incompat, ro, log ? "" : " and its log elsewhere");
	if (s[126] || incompat & NEEDS_REPAIR)
		return vmimg_fail(err, VMIMG_EREFUSED, "it needs repair: xfs_repair");
	if (g->block < 512 || g->block > 65536 || !vmimg_is_pow2(g->block) || g->sector < 512 ||
		g->sector > 32768 || !vmimg_is_pow2(g->sector) || !g->group_blocks ||
		g->group_shift > 31 || g->group_blocks > UINT64_C(1) << g->group_shift ||
		g->group_blocks < 16 || !g->blocks ||
		g->count != vmimg_div_up(g->blocks, g->group_blocks) ||
		g->blocks > vmimg_io_size(g->io) / g->block)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the super block contradicts itself, or where the file system lies");
	log &= (UINT64_C(1) << g->group_shift) - 1;
	if (log >= g->group_blocks || group >= g->count || !g->log_sectors ||
		!vmimg_range_inside(group * g->group_blocks + log,
			g->log_sectors * SECTOR / g->block, g->blocks))
		return vmimg_fail(err, VMIMG_ECORRUPT, "the log lies outside the file system");
	return 0;
}

static int read_super(struct groups *g, struct vmimg_error *err)
{
	uint8_t s[512];
	uint64_t log;

	if (vmimg_io_pread(g->io, s, sizeof(s), 0, err))
		return -1;
	g->v5 = (vmimg_get_be16(s + 100) & 15) == 5;
	g->block = vmimg_get_be32(s + 4);
	g->blocks = vmimg_get_be64(s + 8);
	log = vmimg_get_be64(s + 48);
	g->group_blocks = vmimg_get_be32(s + 84);
	g->count = vmimg_get_be32(s + 88);
	g->log_sectors = (uint64_t)vmimg_get_be32(s + 96) * (g->block / SECTOR);
	g->sector = vmimg_get_be16(s + 102);
	g->group_shift = s[124];
	if (g->group_shift > 31)
		g->group_shift = 63; /* judged below */
	if (judge(g, s, err))
		return -1;
	log = (log >> g->group_shift) * g->group_blocks +
		(log & ((UINT64_C(1) << g->group_shift) - 1));
	g->log_at = log * g->block;
	return 0;
}

/* ---- one group --------------------------------------------------------------------------- */

struct group {
	uint64_t first; /* block of the file system */
	uint32_t number, blocks, root, levels, free;
};

static int corrupt(const struct group *group, const char *what, struct vmimg_error *err)
{
	return vmimg_fail(
		err, VMIMG_ECORRUPT, "allocation group %u: %s: xfs_repair", group->number, what);
}

static int read_group(
	struct groups *g, uint32_t number, struct group *group, struct vmimg_error *err)
{
	uint8_t raw[64];

	group->number = number;
	group->first = (uint64_t)number * g->group_blocks;
	group->blocks = (uint32_t)vmimg_min(g->group_blocks, g->blocks - group->first);
	if (vmimg_table_read(g->table, raw, sizeof(raw), group->first * g->block + g->sector, err))
		return -1;
	group->root = vmimg_get_be32(raw + 16);
	group->levels = vmimg_get_be32(raw + 28);
	group->free = vmimg_get_be32(raw + 52);
	if (memcmp(raw, "XAGF", 4) || vmimg_get_be32(raw + 8) != number ||
		vmimg_get_be32(raw + 12) != group->blocks)
		return corrupt(group, "its header is not its own", err);
	if (!group->levels || group->levels > MAX_LEVELS)
		return corrupt(group, "its tree of free space is too deep", err);
	return 0;
}

/* Reads a block of the tree; *count is how many records it has. */
static int read_node(struct groups *g, const struct group *group, uint32_t at, unsigned level,
	unsigned *count, struct vmimg_error *err)
{
	size_t head = g->v5 ? 56 : 16;

	if (!at || at >= group->blocks)
		return corrupt(group, "its tree of free space leads outside", err);
	if (vmimg_table_read(g->table, g->node, g->block, (group->first + at) * g->block, err))
		return -1;
	*count = vmimg_get_be16(g->node + 6);
	if (memcmp(g->node, g->v5 ? "AB3B" : "ABTB", 4) || vmimg_get_be16(g->node + 4) != level ||
		*count > (g->block - head) / (level ? 12 : 8))
		return corrupt(group, "a block of its tree of free space makes no sense", err);
	return 0;
}

/* The leaves from the left to the right. Each has something in it, and blocks ascend over all of
 * them: no loop can do that. */
static int add_group(
	struct groups *g, uint32_t number, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	size_t head = g->v5 ? 56 : 16, most = (g->block - head) / 12;
	uint64_t sum = 0, end = 0;
	unsigned count, level;
	struct group group;
	uint32_t at;

	if (read_group(g, number, &group, err))
		return -1;
	at = group.root;
	for (level = group.levels - 1; level; level--) {
		if (read_node(g, &group, at, level, &count, err))
			return -1;
		at = vmimg_get_be32(g->node + head + most * 8);
		if (!count)
			return corrupt(&group, "a block of its tree of free space is empty", err);
	}
	for (; at != UINT32_MAX; at = vmimg_get_be32(g->node + 12)) {
		if (read_node(g, &group, at, 0, &count, err))
			return -1;
		if (!count && group.levels > 1)
			return corrupt(&group, "a leaf of free space is empty", err);
		for (unsigned i = 0; i < count; i++) {
			uint32_t from = vmimg_get_be32(g->node + head + 8 * i);
			uint32_t len = vmimg_get_be32(g->node + head + 8 * i + 4);

			if (!len || from < end || !vmimg_range_inside(from, len, group.blocks))
				return corrupt(
					&group, "its free space overlaps or lies outside", err);
			if (vmimg_unused_add(sink, (group.first + from) * g->block,
				    (uint64_t)len * g->block, err))
				return -1;
			end = (uint64_t)from + len;
			sum += len;
		}
		if (!count)
			break;
	}
	return sum == group.free
		? 0
		: corrupt(&group, "its free blocks are not as many as it says", err);
}

int vmimg_unused_xfs(struct vmimg_io *io, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	struct groups g = { .io = io, .table = vmimg_table_new(io, err) };
	int failed = !g.table || read_super(&g, err) || judge_log(&g, err);

	if (!failed) {
		g.node = vmimg_alloc_buffer(g.block, err);
		failed = !g.node;
	}
	for (uint32_t i = 0; !failed && i < g.count; i++)
		failed = add_group(&g, i, sink, err);
	free(g.node);
	vmimg_table_free(g.table);
	return failed ? -1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext2, ext3 and ext4: the block bitmaps, group by group. Each must have as many clear bits as its
 * descriptor says. Of a group whose bitmap was never written it is worked out.
 */
#include <inttypes.h>
#include <string.h>
#include "inspect/ext.h"
#include "inspect/unused.h"
#include "io/table.h"
#include "util/bytes.h"
#include "util/num.h"

#define RECOVER       0x4U /* incompatible: the journal waits */
#define CLEAN         0x1U /* states */
#define STATES        0x7U
#define GROUP_SUMS    0x10U /* features that reading must know of: either makes flags count */
#define BIGALLOC      0x200U
#define METADATA_SUMS 0x400U
#define RO_KNOWN      0x1ff7fU /* all but snapshots, and what came later */
#define NO_BITMAP     0x2U     /* flag of a group: its bitmap was never written */

struct groups {
	struct vmimg_ext_shape shape;
	struct vmimg_table *table;
	uint64_t count;
	uint32_t cluster, per_group, reserved; /* bytes; clusters; blocks for more descriptors */
	bool wide, flags;
	uint8_t *bits; /* of one group: per_group of them */
};

struct group {
	uint64_t number, first, blocks; /* first block, and how many it has */
	uint64_t bitmap, inode_bitmap, inodes;
	uint32_t free;
	bool no_bitmap;
};

static int judge(const struct groups *g, const uint8_t *s, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_ext_shape *shape = &g->shape;
	uint32_t ro = vmimg_get_le32(s + 0x64);

	if (vmimg_get_le32(s + 0x60) & RECOVER)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"its journal waits to be replayed: mount it once, or e2fsck");
	if ((vmimg_get_le16(s + 0x3a) & STATES) != CLEAN)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"it was not unmounted, or is marked with errors: e2fsck it");
	if (ro & ~RO_KNOWN)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"it has features that are not known here (0x%x)", ro & ~RO_KNOWN);
	if (g->cluster < shape->block || g->cluster > UINT32_C(1) << 30 || !g->per_group ||
		g->per_group > shape->block * 8 ||
		(uint64_t)g->per_group * g->cluster !=
			(uint64_t)shape->blocks_per_group * shape->block ||
		shape->first_block > 1 || shape->blocks <= shape->first_block)
		return vmimg_fail(err, VMIMG_ECORRUPT, "its groups make no sense");
	if (shape->blocks > size / shape->block)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the file system (%" PRIu64 " blocks of %u) is larger than where it lies",
			shape->blocks, shape->block);
	return 0;
}

static int read_super(struct groups *g, struct vmimg_io *io, struct vmimg_error *err)
{
	uint8_t s[VMIMG_EXT_SUPER];
	uint32_t ro;

	if (vmimg_io_pread(io, s, sizeof(s), VMIMG_EXT_SUPER, err) ||
		vmimg_ext_parse(s, &g->shape, err))
		return -1;
	ro = vmimg_get_le32(s + 0x64);
	g->cluster = ro & BIGALLOC ? 1024U << (vmimg_get_le32(s + 0x1c) & 31) : g->shape.block;
	g->per_group = ro & BIGALLOC ? vmimg_get_le32(s + 0x24) : g->shape.blocks_per_group;
	g->reserved = vmimg_get_le16(s + 0xce);
	g->wide = g->shape.desc_size >= 64;
	g->flags = (ro & (GROUP_SUMS | METADATA_SUMS)) != 0;
	if (judge(g, s, vmimg_io_size(io), err))
		return -1;
	g->count = vmimg_div_up(g->shape.blocks - g->shape.first_block, g->shape.blocks_per_group);
	return 0;
}

static uint64_t get_pair(const struct groups *g, const uint8_t *desc, size_t low, size_t high)
{
	return vmimg_get_le32(desc + low) |
		(g->wide ? (uint64_t)vmimg_get_le32(desc + high) << 32 : 0);
}

static int read_group(
	struct groups *g, uint64_t number, struct group *group, struct vmimg_error *err)
{
	const struct vmimg_ext_shape *shape = &g->shape;
	uint8_t desc[64] = { 0 };

	if (vmimg_table_read(g->table, desc, vmimg_min(shape->desc_size, sizeof(desc)),
		    vmimg_ext_desc_at(shape, number), err))
		return -1;
	group->number = number;
	group->first = shape->first_block + number * shape->blocks_per_group;
	group->blocks = vmimg_min(shape->blocks_per_group, shape->blocks - group->first);
	group->bitmap = get_pair(g, desc, 0, 0x20);
	group->inode_bitmap = get_pair(g, desc, 4, 0x24);
	group->inodes = get_pair(g, desc, 8, 0x28);
	group->free = vmimg_get_le16(desc + 12) |
		(g->wide ? (uint32_t)vmimg_get_le16(desc + 0x2c) << 16 : 0);
	group->no_bitmap = g->flags && vmimg_get_le16(desc + 0x12) & NO_BITMAP;
	if (!group->bitmap || group->bitmap >= shape->blocks)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the bitmap of group %" PRIu64 " lies outside the file system", number);
	return 0;
}

/* Blocks from first on are in use, as far as they lie in the group. */
static void set(struct groups *g, const struct group *group, uint64_t first, uint64_t count)
{
	uint64_t ratio = g->cluster / g->shape.block, end;

	if (!vmimg_add(first, count, &end))
		return;
	first = vmimg_max(first, group->first);
	end = vmimg_min(end, group->first + group->blocks);
	if (first >= end)
		return;
	first = (first - group->first) / ratio;
	end = vmimg_div_up(end - group->first, ratio);
	for (uint64_t step = 1; first < end; first += step) {
		step = first % 8 || end - first < 8 ? 1 : vmimg_align_down(end - first, 8);
		if (step == 1)
			g->bits[first / 8] |= (uint8_t)(1U << first % 8);
		else
			memset(g->bits + first / 8, 0xff, (size_t)(step / 8));
	}
}

/* A group that nothing was put into has only copies of the super block and of descriptors, its own
 * bitmaps, and its inodes. */
static void work_out(struct groups *g, const struct group *group)
{
	const struct vmimg_ext_shape *shape = &g->shape;
	uint64_t per_block = shape->block / shape->desc_size, meta = group->number / per_block;
	uint64_t within = group->number % per_block;
	bool super = vmimg_ext_has_super(shape, group->number);
	uint64_t head = super;

	memset(g->bits, 0, shape->block);
	if (shape->spread && meta >= shape->meta_group)
		head += within < 2 || within == per_block - 1;
	else if (super)
		head += g->reserved +
			(shape->spread ? shape->meta_group : vmimg_div_up(g->count, per_block));
	if (!group->number && !shape->first_block && shape->block == 1024)
		head++; /* the super block is the second one */
	set(g, group, group->first, head);
	set(g, group, group->bitmap, 1);
	set(g, group, group->inode_bitmap, 1);
	set(g, group, group->inodes,
		vmimg_div_up((uint64_t)shape->inodes_per_group * shape->inode_size, shape->block));
}

static int add_group(
	struct groups *g, uint64_t number, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	uint64_t ratio = g->cluster / g->shape.block, clear = 0;
	struct group group;

	if (read_group(g, number, &group, err))
		return -1;
	if (group.no_bitmap)
		work_out(g, &group);
	else if (vmimg_table_read(
			 g->table, g->bits, g->shape.block, group.bitmap * g->shape.block, err))
		return -1;
	/* a cluster that the end of the file system cuts off is never free */
	if (vmimg_unused_add_bits(sink, g->bits, group.blocks / ratio, group.first * g->shape.block,
		    g->cluster, &clear, err))
		return -1;
	if (clear != group.free)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"group %" PRIu64 " has %u free, but its bitmap %" PRIu64 ": e2fsck it",
			number, group.free, clear);
	return 0;
}

int vmimg_unused_ext(struct vmimg_io *io, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	struct groups g = { .table = vmimg_table_new(io, err) };
	int failed = !g.table || read_super(&g, io, err);

	if (!failed) {
		g.bits = vmimg_alloc_buffer(g.shape.block, err);
		failed = !g.bits;
	}
	for (uint64_t i = 0; !failed && i < g.count; i++)
		failed = add_group(&g, i, sink, err);
	free(g.bits);
	vmimg_table_free(g.table);
	return failed ? -1 : 0;
}

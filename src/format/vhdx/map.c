/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From guest offsets to runs, by the BAT ([MS-VHDX] 2.5). A run goes on over as many blocks as are
 * alike, up to a limit, so that one call stays cheap; a hole of the file in the BAT is a stretch of
 * blocks that are not present, and is stepped over whole.
 */
#include <inttypes.h>
#include "format/vhdx/vhdx.h"
#include "util/num.h"

#define BATCH     256U  /* entries read at once */
#define WALK_MAX  4096U /* entries looked at in one call */
#define BIT_PIECE 512U  /* bytes of a sector bitmap read at once */

/* What one block is like. */
struct block {
	enum vmimg_run_kind kind;
	bool partial; /* kind DATA: only in part, by its sector bitmap */
	uint64_t at;
	uint64_t have; /* kind DATA: bytes that the file has; all of them, unless it was cut */
};

static int read_entries(struct vmimg_vhdx *vhdx, uint64_t index, uint32_t count, uint64_t *entries,
	struct vmimg_error *err)
{
	if (vmimg_table_read(vhdx->table, entries, count * 8, vhdx->bat.at + index * 8, err))
		return -1;
	for (uint32_t i = 0; i < count; i++)
		entries[i] = vmimg_get_le64(&entries[i]);
	return 0;
}

/* False: no such state, or not in a disk like this one. */
static bool judge(const struct vmimg_vhdx *vhdx, uint64_t entry, struct block *block)
{
	*block = (struct block){ .kind = VMIMG_RUN_ZERO, .at = VHDX_BAT_AT(entry) };
	switch (VHDX_BAT_STATE(entry)) {
	case VHDX_BLOCK_NOT_PRESENT:
		block->kind = VMIMG_RUN_ABSENT;
		return true;
	case VHDX_BLOCK_UNDEFINED:
	case VHDX_BLOCK_ZERO:
	case VHDX_BLOCK_UNMAPPED:
	case VHDX_BLOCK_UNMAPPED_OLD:
		return true;
	case VHDX_BLOCK_PARTIAL:
		block->partial = true;
		block->kind = VMIMG_RUN_DATA;
		return vhdx->params.has_parent;
	case VHDX_BLOCK_PRESENT:
		block->kind = VMIMG_RUN_DATA;
		return true;
	default:
		return false;
	}
}

/* For what is that far inside the block. */
static int read_block(struct vmimg_vhdx *vhdx, uint64_t b, uint64_t inside, struct block *block,
	struct vmimg_error *err)
{
	uint64_t index = vhdx_payload_index(&vhdx->geometry, b), entry;
	uint64_t need = vmimg_min(vhdx->params.block, vhdx->params.size - b * vhdx->params.block);
	uint64_t file = vmimg_io_size(vhdx->io);

	if (read_entries(vhdx, index, 1, &entry, err))
		return -1;
	if (!judge(vhdx, entry, block))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"BAT entry 0x%" PRIx64 " at 0x%" PRIx64 " has state %u, which %s", entry,
			vhdx->bat.at + index * 8, VHDX_BAT_STATE(entry),
			VHDX_BAT_STATE(entry) == VHDX_BLOCK_PARTIAL ? "only a differencing disk has"
								    : "does not exist");
	if (block->kind != VMIMG_RUN_DATA)
		return 0;
	block->have = block->at < VHDX_HEAD_END || block->at > file
		? 0
		: vmimg_min(need, vmimg_align_down(file - block->at, vhdx->params.logical));
	if (inside >= block->have)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"BAT entry 0x%" PRIx64 " at 0x%" PRIx64
			" points into the headers or past the end of the file (0x%" PRIx64 ")",
			entry, vhdx->bat.at + index * 8, file);
	return 0;
}

/* Whether the entry of block b goes on what block began, b being `step` blocks later. */
static bool goes_on(const struct vmimg_vhdx *vhdx, const struct block *block, uint64_t entry,
	uint64_t b, uint64_t step)
{
	uint64_t size = vhdx->params.block;
	uint64_t need = vmimg_min(size, vhdx->params.size - b * size);
	struct block next;

	if (!judge(vhdx, entry, &next) || next.kind != block->kind || next.partial)
		return false;
	return block->kind != VMIMG_RUN_DATA ||
		(next.at == block->at + step * size &&
			vmimg_range_inside(next.at, need, vmimg_io_size(vhdx->io)));
}

/* The first block from b on whose entry is not in a hole of the file; b when there is no hole. */
static int skip_hole(struct vmimg_vhdx *vhdx, uint64_t b, uint64_t *next, struct vmimg_error *err)
{
	const struct vhdx_geometry *g = &vhdx->geometry;
	uint64_t index = vhdx_payload_index(g, b), len;
	bool hole;

	*next = b;
	if (vmimg_io_extent(vhdx->io, vhdx->bat.at + index * 8, &hole, &len, err))
		return -1;
	if (!hole)
		return 0;
	index = vmimg_min(index + len / 8, g->entries);
	*next = index / (g->ratio + 1) * g->ratio + vmimg_min(index % (g->ratio + 1), g->ratio);
	*next = vmimg_min(vmimg_max(*next, b), g->blocks);
	return 0;
}

/* Sets *end to the first block, after b, that is not like block b. */
static int find_end(struct vmimg_vhdx *vhdx, uint64_t b, const struct block *block, uint64_t *end,
	struct vmimg_error *err)
{
	const struct vhdx_geometry *g = &vhdx->geometry;
	uint64_t next = b + 1, entries[BATCH];

	for (uint32_t walked = 0; next < g->blocks && walked < WALK_MAX;) {
		uint32_t count = (uint32_t)vmimg_min(
			BATCH, vmimg_min(g->ratio - next % g->ratio, g->blocks - next));
		uint32_t i = 0;

		if (read_entries(vhdx, vhdx_payload_index(g, next), count, entries, err))
			return -1;
		while (i < count && goes_on(vhdx, block, entries[i], next + i, next + i - b))
			i++;
		next += i;
		if (i < count)
			break;
		walked += count;
		if (block->kind == VMIMG_RUN_ABSENT && next < g->blocks && !(walked % 1024) &&
			skip_hole(vhdx, next, &next, err))
			return -1;
	}
	*end = next;
	return 0;
}

/* Where the sector bitmap of block b begins in the file. */
static int find_bitmap(struct vmimg_vhdx *vhdx, uint64_t b, uint64_t *at, struct vmimg_error *err)
{
	const struct vhdx_geometry *g = &vhdx->geometry;
	uint64_t index = vhdx_bitmap_index(g, b / g->ratio), entry;

	if (read_entries(vhdx, index, 1, &entry, err))
		return -1;
	if (VHDX_BAT_STATE(entry) != VHDX_BLOCK_PRESENT || VHDX_BAT_AT(entry) < VHDX_HEAD_END)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"block %" PRIu64 " is present in part, but BAT entry 0x%" PRIx64
			" at 0x%" PRIx64 " names no sector bitmap for it",
			b, entry, vhdx->bat.at + index * 8);
	*at = VHDX_BAT_AT(entry) + b % g->ratio * (vhdx->params.block / vhdx->params.logical / 8);
	return 0;
}

/* How many bits from `first` on, below `limit`, are like the first one, which *set tells. Lowest
 * bit of a byte first. */
static int count_bits(struct vmimg_vhdx *vhdx, uint64_t at, uint64_t first, uint64_t limit,
	bool *set, uint64_t *count, struct vmimg_error *err)
{
	uint8_t bytes[BIT_PIECE], alike = 0;
	uint64_t bit = first, start = first / 8, len = 0;

	for (; bit < limit; bit++) {
		uint64_t i = bit / 8 - start;

		if (i >= len) {
			start = bit / 8;
			len = vmimg_min(BIT_PIECE, vmimg_div_up(limit, 8) - start);
			if (vmimg_table_read(vhdx->table, bytes, (size_t)len, at + start, err))
				return -1;
			i = 0;
		}
		if (bit == first)
			alike = bytes[i] >> bit % 8 & 1 ? 0xff : 0;
		if ((bytes[i] >> bit % 8 & 1) != (alike & 1))
			break;
		if (bytes[i] == alike)
			bit |= 7;
	}
	*set = alike;
	*count = vmimg_min(bit, limit) - first;
	return 0;
}

/* Inside a block that is present in part: up to where the bitmap changes, or the block's end. */
static int map_partial(struct vmimg_vhdx *vhdx, uint64_t at, const struct block *block,
	struct vmimg_run *run, struct vmimg_error *err)
{
	uint64_t b = at / vhdx->params.block, inside = at % vhdx->params.block;
	uint32_t sector = vhdx->params.logical;
	uint64_t bitmap = 0, count = 0;
	bool set = false;

	if (find_bitmap(vhdx, b, &bitmap, err) ||
		count_bits(vhdx, bitmap, inside / sector, vhdx->params.block / sector, &set, &count,
			err))
		return -1;
	run->kind = set ? VMIMG_RUN_DATA : VMIMG_RUN_ABSENT;
	run->len = count * sector - inside % sector;
	if (set)
		run->len = vmimg_min(run->len, block->have - inside);
	run->io = vhdx->io;
	run->at = block->at + inside;
	return 0;
}

static bool is_cut(const struct vmimg_vhdx *vhdx, uint64_t b, const struct block *block)
{
	uint64_t size = vhdx->params.block;

	return block->kind == VMIMG_RUN_DATA &&
		block->have < vmimg_min(size, vhdx->params.size - b * size);
}

int vmimg_vhdx_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;
	uint64_t b = at / vhdx->params.block, end;
	struct block block;

	if (read_block(vhdx, b, at % vhdx->params.block, &block, err)) {
		run->len = vmimg_min(vhdx->params.size, (b + 1) * vhdx->params.block) - at;
		return -1;
	}
	if (block.partial)
		return map_partial(vhdx, at, &block, run, err);
	if (is_cut(vhdx, b, &block)) {
		*run = (struct vmimg_run){ .kind = VMIMG_RUN_DATA,
			.len = block.have - at % vhdx->params.block,
			.io = vhdx->io,
			.at = block.at + at % vhdx->params.block };
		return 0;
	}
	if (find_end(vhdx, b, &block, &end, err))
		return -1;
	run->kind = block.kind;
	run->len = end * vhdx->params.block - at;
	run->io = vhdx->io;
	run->at = block.at + at % vhdx->params.block;
	return 0;
}

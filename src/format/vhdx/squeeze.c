/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies at the end of the file moves into its gaps: first the BAT, which growing may have put
 * there, then the sector bitmaps, then the blocks. Copies are flushed before the first round leads
 * to them, and what a round has left is a hole.
 */
#include "disk/blocks.h"
#include "format/vhdx/change.h"
#include "util/num.h"

struct squeeze {
	struct vhdx_change change;
	struct vmimg_vhdx *vhdx;
	bool bitmaps;   /* they move now; else blocks do */
	uint64_t width; /* of what moves, in bytes */
};

/* ---- where everything is ---- */

static int add(struct vmimg_blocks *blocks, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	return vmimg_blocks_add(blocks, at / VHDX_MIB, len / VHDX_MIB, err);
}

static int add_region(void *ctx, const struct vhdx_region *region, struct vmimg_error *err)
{
	return add(ctx, region->at, region->length, err);
}

struct adding {
	struct squeeze *s;
	struct vmimg_blocks *blocks;
};

/* Other software may go back to the places that a fixed disk's blocks have kept. */
static int add_entry(void *ctx, uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	struct adding *adding = ctx;
	const struct vhdx_params *params = &adding->s->vhdx->params;
	uint64_t held = vmimg_vhdx_held(&adding->s->change, index, entry);

	if (!held && params->leave_allocated && VHDX_BAT_AT(entry))
		held = params->block;
	return held ? add(adding->blocks, VHDX_BAT_AT(entry), held, err) : 0;
}

static int find_room(struct squeeze *s, struct vmimg_blocks *blocks, struct vmimg_error *err)
{
	const struct vmimg_vhdx *vhdx = s->vhdx;
	struct adding adding = { s, blocks };

	vmimg_blocks_init(blocks, s->width / VHDX_MIB, 1, 0);
	if (add(blocks, 0, VHDX_HEAD_END, err) ||
		add(blocks, vhdx->head.log_range.at, vhdx->head.log_range.len, err) ||
		vmimg_vhdx_read_regions(
			s->change.io, vhdx->regions_index, add_region, blocks, err) ||
		vmimg_vhdx_walk(&s->change, 0, vhdx->geometry.entries, add_entry, &adding, err))
		return -1;
	vmimg_blocks_room(blocks, 0);
	return 0;
}

/* ---- moving ---- */

struct visiting {
	struct squeeze *s;
	vmimg_blocks_visit *visit;
	void *ctx;
};

static int visit_entry(void *ctx, uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	const struct visiting *v = ctx;
	const struct squeeze *s = v->s;

	if (!vmimg_vhdx_held(&s->change, index, entry) ||
		vhdx_is_bitmap_index(&s->vhdx->geometry, index) != s->bitmaps)
		return 0;
	return v->visit(v->ctx, index, (uint32_t)(VHDX_BAT_AT(entry) / VHDX_MIB), err);
}

static int walk(void *ctx, vmimg_blocks_visit *visit, void *visit_ctx, struct vmimg_error *err)
{
	struct squeeze *s = ctx;
	struct visiting visiting = { s, visit, visit_ctx };

	return vmimg_vhdx_walk(
		&s->change, 0, s->vhdx->geometry.entries, visit_entry, &visiting, err);
}

static int copy(void *ctx, struct vmimg_copier *copier, uint64_t index, uint64_t from, uint64_t to,
	struct vmimg_error *err)
{
	struct squeeze *s = ctx;
	uint64_t len = vmimg_min(s->width, vmimg_io_size(s->change.io) - from * VHDX_MIB);

	(void)index;
	return vmimg_copier_add(copier, from * VHDX_MIB, to * VHDX_MIB, len, err);
}

static int lead(void *ctx, uint64_t index, uint64_t to, struct vmimg_error *err)
{
	struct squeeze *s = ctx;
	struct vhdx_change *c = &s->change;
	uint64_t entry;

	vmimg_vhdx_space_mark(c, to * VHDX_MIB, s->width);
	if (vmimg_vhdx_change_room(c, err) || vmimg_vhdx_get_entry(c, index, &entry, err) ||
		vmimg_vhdx_space_free(c, VHDX_BAT_AT(entry), s->width, err))
		return -1;
	return vmimg_vhdx_set_entry(c, index, to * VHDX_MIB | VHDX_BAT_STATE(entry), err);
}

static int move(struct squeeze *s, bool bitmaps, struct vmimg_error *err)
{
	const struct vmimg_blocks_image image = { s->change.io, s, walk, copy, lead };
	struct vmimg_blocks blocks = { 0 };
	int result;

	s->bitmaps = bitmaps;
	s->width = bitmaps ? VHDX_MIB : s->vhdx->params.block;
	result = find_room(s, &blocks, err) || vmimg_blocks_squeeze(&blocks, &image, err) ||
		vmimg_vhdx_change_commit(&s->change, err);
	vmimg_blocks_done(&blocks);
	return result ? -1 : 0;
}

static int move_table(struct squeeze *s, struct vmimg_error *err)
{
	const struct vhdx_range bat = s->vhdx->bat;
	uint64_t at = 0;

	if (!vmimg_vhdx_space_gap(&s->change, bat.len, bat.at, &at))
		return 0;
	vmimg_vhdx_space_mark(&s->change, at, bat.len);
	return vmimg_vhdx_move_table(&s->change, at, bat.len, err);
}

/* ---- */

/* A block that was given up no longer says where it lay: that place is filled now. */
static int forget_place(void *ctx, uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	struct squeeze *s = ctx;

	if (!VHDX_BAT_AT(entry) || vmimg_vhdx_held(&s->change, index, entry) ||
		vhdx_is_bitmap_index(&s->vhdx->geometry, index))
		return 0;
	if (vmimg_vhdx_change_room(&s->change, err))
		return -1;
	return vmimg_vhdx_set_entry(&s->change, index, VHDX_BAT_STATE(entry), err);
}

static int forget_places(struct squeeze *s, struct vmimg_error *err)
{
	if (s->vhdx->params.leave_allocated)
		return 0;
	if (vmimg_vhdx_walk(&s->change, 0, s->vhdx->geometry.entries, forget_place, s, err) ||
		vmimg_vhdx_change_commit(&s->change, err))
		return -1;
	return vmimg_vhdx_space_load(&s->change, err);
}

static int squeeze(struct squeeze *s, struct vmimg_error *err)
{
	if (vmimg_vhdx_change_begin(&s->change, err) || forget_places(s, err) ||
		move_table(s, err) || (s->vhdx->params.has_parent && move(s, true, err)) ||
		move(s, false, err))
		return -1;
	return vmimg_vhdx_change_end(&s->change, err);
}

int vmimg_vhdx_squeeze(struct vmimg_disk *disk, uint64_t *saved, struct vmimg_error *err)
{
	struct squeeze s = { .vhdx = disk->state };
	uint64_t before = vmimg_io_size(disk->io), after;
	int result = vmimg_vhdx_change_open(&s.change, disk, err) || squeeze(&s, err);

	vmimg_vhdx_change_done(&s.change);
	after = vmimg_io_size(disk->io);
	*saved = before > after ? before - after : 0;
	return result ? -1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The BAT of a VHDX that is being changed: its entries, and its place. */
#include "disk/blocks.h"
#include "format/vhdx/change.h"
#include "util/num.h"

#define BATCH 4096U /* entries read at once */

/* ---- entries ---- */

static struct vmimg_io *table_io(struct vhdx_change *c)
{
	return c->stage ? c->stage : c->io;
}

int vmimg_vhdx_get_entry(
	struct vhdx_change *c, uint64_t index, uint64_t *entry, struct vmimg_error *err)
{
	uint8_t bytes[8];

	if (vmimg_io_pread(table_io(c), bytes, sizeof(bytes), c->vhdx->bat.at + 8 * index, err))
		return -1;
	*entry = vmimg_get_le64(bytes);
	return 0;
}

int vmimg_vhdx_set_entry(
	struct vhdx_change *c, uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	uint8_t bytes[8];

	vmimg_put_le64(bytes, entry);
	return vmimg_io_pwrite(c->stage, bytes, sizeof(bytes), c->vhdx->bat.at + 8 * index, err);
}

int vmimg_vhdx_walk(struct vhdx_change *c, uint64_t first, uint64_t end, vhdx_visit *visit,
	void *ctx, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_buffer(BATCH * 8, err);

	if (!bytes)
		return -1;
	for (uint64_t count; first < end; first += count) {
		uint64_t at = c->vhdx->bat.at + 8 * first, len = 0;
		bool hole = false;

		if (vmimg_io_extent(table_io(c), at, &hole, &len, err))
			return -1;
		hole &= len >= 8;
		count = vmimg_min(hole ? len / 8 : BATCH, end - first);
		if (hole)
			continue;
		if (vmimg_io_pread(table_io(c), bytes, (size_t)count * 8, at, err))
			return -1;
		for (uint64_t i = 0; i < count; i++) {
			uint64_t entry = vmimg_get_le64(bytes + 8 * i);

			if (entry && visit(ctx, first + i, entry, err))
				return -1;
		}
	}
	return 0;
}

/* ---- what they hold ---- */

uint64_t vmimg_vhdx_held(const struct vhdx_change *c, uint64_t index, uint64_t entry)
{
	const struct vhdx_geometry *g = &c->vhdx->geometry;
	const struct vhdx_params *params = &c->vhdx->params;

	if (vhdx_is_bitmap_index(g, index))
		return params->has_parent && VHDX_BAT_STATE(entry) == VHDX_BLOCK_PRESENT ? VHDX_MIB
											 : 0;
	return vhdx_holds_data(entry) && vhdx_block_of(g, index) < g->blocks ? params->block : 0;
}

static int free_entry(void *ctx, uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	struct vhdx_change *c = ctx;
	uint64_t len = vmimg_vhdx_held(c, index, entry);

	return len ? vmimg_vhdx_space_free(c, VHDX_BAT_AT(entry), len, err) : 0;
}

int vmimg_vhdx_free_entries(
	struct vhdx_change *c, uint64_t first, uint64_t end, struct vmimg_error *err)
{
	return vmimg_vhdx_walk(c, first, end, free_entry, c, err);
}

/* ---- its place ---- */

/* Both region tables, in the stage. */
static int lead_regions(struct vhdx_change *c, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_buffer(VHDX_REGIONS_SIZE, err);
	uint64_t table = VHDX_REGIONS_AT(c->vhdx->regions_index);
	struct vhdx_regions_head head;

	if (!bytes || vmimg_io_pread(c->stage, bytes, VHDX_REGIONS_SIZE, table, err))
		return -1;
	vhdx_regions_head_decode(&head, bytes);
	for (uint32_t i = 0; i < head.count; i++) {
		uint8_t *entry = bytes + 16 + 32 * (size_t)i;
		struct vhdx_region region;

		vhdx_region_decode(&region, entry);
		if (!vmimg_vhdx_is_guid(region.guid, VHDX_GUID_BAT))
			continue;
		region.at = at;
		region.length = (uint32_t)len;
		vhdx_region_encode(&region, entry);
	}
	head.checksum = vmimg_vhdx_checksum(bytes, VHDX_REGIONS_SIZE);
	vhdx_regions_head_encode(&head, bytes);
	for (unsigned i = 0; i < 2; i++)
		if (vmimg_io_pwrite(c->stage, bytes, VHDX_REGIONS_SIZE, VHDX_REGIONS_AT(i), err))
			return -1;
	return 0;
}

int vmimg_vhdx_move_table(struct vhdx_change *c, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	struct vhdx_range *bat = &c->vhdx->bat;
	uint64_t used = vmimg_min(c->vhdx->geometry.entries * 8, len);

	if (vmimg_vhdx_change_begin(c, err) || vmimg_vhdx_change_commit(c, err) ||
		vmimg_blocks_copy(c->io, bat->at, at, used, err) || lead_regions(c, at, len, err) ||
		vmimg_vhdx_space_free(c, bat->at, bat->len, err))
		return -1;
	*bat = (struct vhdx_range){ at, len };
	return vmimg_vhdx_change_commit(c, err);
}

int vmimg_vhdx_need_entries(struct vhdx_change *c, uint64_t entries, struct vmimg_error *err)
{
	uint64_t len = vmimg_align_up(entries * 8, VHDX_MIB), at = 0;

	if (len <= c->vhdx->bat.len)
		return 0;
	if (vmimg_vhdx_change_begin(c, err) || vmimg_vhdx_space_take(c, len, &at, err))
		return -1;
	return vmimg_vhdx_move_table(c, at, len, err);
}

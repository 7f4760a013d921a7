/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks given up, all at once, and blocks moved from the end of the file into its gaps. */
#include <string.h>
#include "format/vhd/change.h"
#include "util/num.h"

#define STRIDE 8192U /* entries of the BAT written in one go */

/* ---- emptying ---- */

/* Where a BAT and what follows it lie; map_at 0: there is no batmap. */
struct tables {
	uint64_t bat_at, batmap_at, map_at, end;
	uint32_t map_sectors;
};

static int unused_entries(
	struct vmimg_disk *disk, uint64_t bat_at, uint64_t count, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_array(STRIDE, 4, err);

	if (!bytes)
		return -1;
	memset(bytes, 0xff, (size_t)STRIDE * 4);
	for (uint64_t i = 0, step; i < count; i += step) {
		step = vmimg_min(STRIDE, count - i);
		if (vmimg_io_pwrite(disk->io, bytes, (size_t)step * 4, bat_at + 4 * i, err))
			return -1;
	}
	return 0;
}

/* Writes tables that know no block, and lets the header lead to them. */
static int lead_to_nothing(
	struct vmimg_disk *disk, const struct tables *tables, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	struct vmimg_vhd_header header = vhd->header;

	header.table_offset = tables->bat_at;
	if (unused_entries(disk, tables->bat_at, header.entries, err))
		return -1;
	if (tables->map_at &&
		(vmimg_io_zero(disk->io, tables->map_at,
			 (uint64_t)tables->map_sectors * VMIMG_VHD_SECTOR, err) ||
			vmimg_vhd_put_batmap(
				disk, tables->batmap_at, tables->map_at, tables->map_sectors, err)))
		return -1;
	if (vmimg_io_sync(disk->io, err) ||
		vmimg_vhd_put_header(disk, &header, vhd->footer.data_offset, VMIMG_VHD_SECTOR, err))
		return -1;
	return vmimg_io_sync(disk->io, err);
}

static int find_tables(struct vmimg_disk *disk, uint64_t free_at, struct tables *now,
	struct tables *aside, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	uint64_t len = vmimg_align_up(4 * (uint64_t)vhd->header.entries, VMIMG_VHD_SECTOR);
	struct vmimg_vhd_batmap batmap = { 0 };

	*now = (struct tables){ .bat_at = vhd->bat_at };
	*aside = (struct tables){ .bat_at = free_at, .end = free_at + len };
	if (!vhd->batmap_at)
		return 0;
	if (vmimg_vhd_read_batmap(vhd, &batmap, err))
		return -1;
	now->batmap_at = vhd->batmap_at;
	now->map_at = batmap.at;
	aside->batmap_at = free_at + len;
	aside->map_at = aside->batmap_at + VMIMG_VHD_BATMAP_SIZE;
	now->map_sectors = aside->map_sectors = batmap.sectors;
	aside->end = aside->map_at + (uint64_t)batmap.sectors * VMIMG_VHD_SECTOR;
	return 0;
}

/* Not entry by entry: the header's first sector leads to another BAT, and back to the old place. */
int vmimg_vhd_empty(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_blocks blocks = { 0 };
	struct tables now, aside;
	struct vmimg_vhd_end end;
	uint64_t free_at;

	if (vmimg_vhd_begin_blocks(disk, "emptying", err) ||
		vmimg_vhd_space(disk, &blocks, true, err))
		return -1;
	free_at = blocks.end * VMIMG_VHD_SECTOR;
	vmimg_blocks_done(&blocks);
	vmimg_vhd_end_init(&end, disk);
	if (find_tables(disk, free_at, &now, &aside, err) ||
		vmimg_vhd_end_extend(&end, free_at, aside.end - free_at, err) ||
		lead_to_nothing(disk, &aside, err) || lead_to_nothing(disk, &now, err) ||
		vmimg_vhd_space(disk, &blocks, false, err))
		return -1;
	free_at = blocks.end * VMIMG_VHD_SECTOR;
	vmimg_blocks_done(&blocks);
	return vmimg_vhd_end_cut(&end, free_at, err);
}

/* ---- squeezing ---- */

static int walk(void *ctx, vmimg_blocks_visit *visit, void *visit_ctx, struct vmimg_error *err)
{
	const struct vmimg_disk *disk = ctx;

	return vmimg_vhd_walk(disk->state, visit, visit_ctx, err);
}

/* The last block of a disk may be short in the file, and have the footer behind it. */
static int copy_block(void *ctx, struct vmimg_copier *copier, uint64_t i, uint64_t from,
	uint64_t to, struct vmimg_error *err)
{
	const struct vmimg_disk *disk = ctx;
	const struct vmimg_vhd *vhd = disk->state;
	uint64_t whole = (uint64_t)vmimg_vhd_block_sectors(disk) * VMIMG_VHD_SECTOR;
	uint64_t len = vhd->bitmap_bytes + vmimg_min(disk->block, disk->size - i * disk->block);

	from *= VMIMG_VHD_SECTOR;
	to *= VMIMG_VHD_SECTOR;
	return vmimg_copier_add(copier, from, to, len, err) ||
			(len < whole && vmimg_io_zero(disk->io, to + len, whole - len, err))
		? -1
		: 0;
}

static int lead(void *ctx, uint64_t i, uint64_t to, struct vmimg_error *err)
{
	const struct vmimg_disk *disk = ctx;
	const struct vmimg_vhd *vhd = disk->state;
	uint8_t bytes[4];

	vmimg_put_be32(bytes, (uint32_t)to);
	return vmimg_io_pwrite(disk->io, bytes, sizeof(bytes), vhd->bat_at + 4 * i, err);
}

/* Moves what can be moved. *end_at: past all that is in use then. */
static int move_all(struct vmimg_disk *disk, uint64_t *end_at, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	const struct vmimg_blocks_image image = { disk->io, disk, walk, copy_block, lead };
	struct vmimg_blocks blocks = { 0 };
	int result = vmimg_vhd_space(disk, &blocks, true, err) ||
		vmimg_blocks_squeeze(&blocks, &image, err);

	vmimg_blocks_done(&blocks);
	vmimg_table_forget(vhd->table);
	vmimg_table_forget(vhd->bitmaps);
	if (result || vmimg_vhd_space(disk, &blocks, true, err))
		return -1;
	*end_at = blocks.end * VMIMG_VHD_SECTOR;
	vmimg_blocks_done(&blocks);
	return 0;
}

int vmimg_vhd_squeeze(struct vmimg_disk *disk, uint64_t *saved, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	uint64_t before = vmimg_io_size(disk->io), end_at = 0;
	struct vmimg_vhd_end end;

	*saved = 0;
	if (vhd->footer.type == VMIMG_VHD_FIXED)
		return 0;
	if (vmimg_vhd_begin(disk, err) || move_all(disk, &end_at, err))
		return -1;
	vmimg_vhd_end_init(&end, disk);
	if (end_at < vhd->footer_at && vmimg_vhd_end_cut(&end, end_at, err))
		return -1;
	*saved = before - vmimg_io_size(disk->io);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resizing. The size is what the footer at the end says, in one sector; all that a larger disk
 * needs is brought about before that sector is written, all that a smaller one frees is freed
 * after. While the file's end moves there is a sound footer at it all the time. doc/formats/vhd.md
 * lists the steps.
 */
#include "format/vhd/change.h"
#include <inttypes.h>
#include <string.h>
#include "format/vhd/sink.h"
#include "util/num.h"

/* Entries of the BAT copied in one go. */
#define STRIDE 8192U

/* Creators whose images QEMU and Virtual PC size by geometry become "win ": the size is exact. */
static void name_creator(struct vmimg_vhd_footer *footer)
{
	if (vmimg_vhd_goes_by_geometry(footer))
		memcpy(footer->creator, "win ", 4);
}

/* The footer, of a disk of that size, durably to that place. */
static int put_footer(struct vmimg_disk *disk, uint64_t size, uint64_t at, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	struct vmimg_vhd_geometry geometry = vmimg_vhd_geometry_for(size / VMIMG_VHD_SECTOR);
	struct vmimg_vhd_footer footer = vhd->footer;

	name_creator(&footer);
	footer.current_size = size;
	footer.cylinders = geometry.cylinders;
	footer.heads = geometry.heads;
	footer.sectors = geometry.sectors;
	return vmimg_vhd_put_footer(disk, &footer, at, err);
}

/* The place and the size of the BAT: both are in the header's first sector, all that is written. */
static int put_header(
	struct vmimg_disk *disk, uint64_t bat_at, uint32_t entries, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	struct vmimg_vhd_header header = vhd->header;

	header.table_offset = bat_at;
	header.entries = entries;
	if (vmimg_vhd_put_header(disk, &header, vhd->footer.data_offset, VMIMG_VHD_SECTOR, err))
		return -1;
	return vmimg_io_sync(disk->io, err);
}

static int cut_file(struct vmimg_disk *disk, uint64_t size, uint64_t at, struct vmimg_error *err)
{
	if (put_footer(disk, size, at, err) ||
		vmimg_io_resize(disk->io, at + VMIMG_VHD_FOOTER_SIZE, err))
		return -1;
	return vmimg_io_sync(disk->io, err);
}

/* ---- fixed disks ---- */

/*
 * A fixed disk has one footer, and may have more bytes before it than it speaks of. So the file is
 * given the larger of both lengths first, with a footer that says the old size; then that footer
 * gets the new one; then the file is cut.
 */
static int resize_fixed(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	uint64_t old = vhd->footer_at, far = vmimg_max(size, old), end;

	if (far - old < VMIMG_VHD_SECTOR && far % VMIMG_VHD_SECTOR)
		far = vmimg_align_up(far, VMIMG_VHD_SECTOR) + VMIMG_VHD_SECTOR;
	end = vmimg_min(far, old + VMIMG_VHD_FOOTER_SIZE);
	if (far != old && put_footer(disk, disk->size, far, err))
		return -1;
	if (size > disk->size && end > disk->size &&
		(vmimg_io_zero(disk->io, disk->size, end - disk->size, err) ||
			vmimg_io_sync(disk->io, err)))
		return -1;
	if (put_footer(disk, size, far, err))
		return -1;
	return far > size ? cut_file(disk, size, size, err) : 0;
}

/* ---- dynamic disks ---- */

struct extent_of_blocks {
	const struct vmimg_disk *disk;
	uint64_t least, most; /* where the first begins, where the last ends; of the entries */
	uint64_t below;       /* before this one */
};

static int measure_block(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	struct extent_of_blocks *e = ctx;
	const struct vmimg_vhd *vhd = e->disk->state;
	uint64_t at = (uint64_t)sector * VMIMG_VHD_SECTOR;

	(void)err;
	if (i < e->below) {
		e->least = vmimg_min(e->least, at);
		e->most = vmimg_max(e->most, at + vhd->bitmap_bytes + e->disk->block);
	}
	return 0;
}

/* Where the room after the BAT ends: at the next structure, whatever it is. */
static uint64_t room_end(const struct vmimg_vhd *vhd, uint64_t first_block)
{
	uint64_t end = vmimg_min(vhd->footer_at, first_block);

	if (vhd->batmap_at)
		end = vmimg_min(end, vhd->batmap_at);
	if (vhd->footer.data_offset > vhd->bat_at)
		end = vmimg_min(end, vhd->footer.data_offset);
	for (unsigned i = 0; i < VMIMG_VHD_LOCATORS; i++) {
		struct vmimg_vhd_locator locator;

		vmimg_vhd_locator_decode(
			&locator, vhd->header.locators + i * VMIMG_VHD_LOCATOR_SIZE);
		if (locator.at > vhd->bat_at)
			end = vmimg_min(end, locator.at);
	}
	return end;
}

/* ---- growing ---- */

struct growth {
	struct vmimg_disk *disk;
	uint64_t size;    /* of the disk, as it shall be */
	uint32_t entries; /* of the BAT then */
	uint64_t bat_at;  /* where it is then */
	uint64_t end;     /* where the file ends then, but for the footer */
	/* New blocks of zeroes, in a row in the file, where the parent would show something. */
	uint64_t hide_to; /* byte of the disk, past the old end; 0: it shows nothing */
	uint64_t first, count;
	uint64_t blocks_at;
};

static uint64_t place_of(const struct growth *g, uint64_t block)
{
	const struct vmimg_vhd *vhd = g->disk->state;

	return g->blocks_at +
		(block - g->first) * vmimg_vhd_block_stride(g->disk->block, vhd->bitmap_bytes);
}

/* Which blocks those are: the one in which the disk ends is one of them if it is not there. They go
 * to the end of the file. */
static int plan_hiding(struct growth *g, struct vmimg_error *err)
{
	struct vmimg_disk *disk = g->disk;
	struct vmimg_vhd *vhd = disk->state;
	uint32_t sector = 0;

	g->first = vmimg_div_up(disk->size, disk->block);
	if (!disk->parent || disk->parent->size <= disk->size)
		return 0;
	g->hide_to = vmimg_min(g->size, disk->parent->size);
	if (disk->size % disk->block && vmimg_vhd_bat_entry(vhd, g->first - 1, &sector, err))
		return -1;
	g->first -= sector == VMIMG_VHD_UNUSED;
	g->count = vmimg_div_up(g->hide_to, disk->block) - g->first;
	g->blocks_at = vmimg_vhd_first_block(g->end, vhd->bitmap_bytes);
	g->end = vmimg_vhd_blocks_end(g->end, g->count, disk->block, vhd->bitmap_bytes);
	return g->end / VMIMG_VHD_SECTOR < VMIMG_VHD_UNUSED
		? 0
		: vmimg_fail(err, VMIMG_ELIMIT, "a dynamic VHD file ends at 2 TiB");
}

static void set_hiding(const struct growth *g, uint8_t *entries, uint64_t i, uint32_t count)
{
	uint64_t end = vmimg_min(g->first + g->count, i + count);

	for (uint64_t k = vmimg_max(g->first, i); k < end; k++)
		vmimg_put_be32(
			entries + 4 * (k - i), (uint32_t)(place_of(g, k) / VMIMG_VHD_SECTOR));
}

/* In the bitmap at `at` all sectors from `from` on are present; those before are as they were. */
static int put_present(
	const struct growth *g, uint64_t at, uint32_t from, bool is_new, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = g->disk->state;
	VMIMG_AUTO(free) uint8_t *bitmap = vmimg_alloc_array(vhd->bitmap_bytes, 1, err);

	if (!bitmap || (!is_new && vmimg_io_pread(g->disk->io, bitmap, vhd->bitmap_bytes, at, err)))
		return -1;
	for (uint32_t i = from; i < g->disk->block / VMIMG_VHD_SECTOR; i++)
		bitmap[i / 8] |= (uint8_t)(0x80 >> i % 8);
	return vmimg_io_pwrite(g->disk->io, bitmap, vhd->bitmap_bytes, at, err);
}

/* Sectors of zeroes past the disk's end. The data of the new blocks is the file's, past its end. */
static int hide_parent(const struct growth *g, struct vmimg_error *err)
{
	struct vmimg_disk *disk = g->disk;
	uint64_t last = disk->size / disk->block;
	uint32_t inside = (uint32_t)(disk->size % disk->block / VMIMG_VHD_SECTOR), sector;

	if (!g->hide_to)
		return 0;
	if (inside && g->first > last) {
		if (vmimg_vhd_bat_entry(disk->state, last, &sector, err) ||
			put_present(g, (uint64_t)sector * VMIMG_VHD_SECTOR, inside, false, err))
			return -1;
	}
	for (uint64_t b = g->first; b < g->first + g->count; b++)
		if (put_present(g, place_of(g, b), b == last ? inside : 0, true, err))
			return -1;
	return vmimg_io_sync(disk->io, err);
}

/* The BAT as it shall be, to a place of its own (or where it is, from the first new entry on). */
static int put_bat(const struct growth *g, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = g->disk->state;
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_array(STRIDE, 4, err);
	uint32_t first = g->bat_at == vhd->bat_at ? (uint32_t)vmimg_min(g->first, vhd->entries) : 0;

	if (!bytes)
		return -1;
	for (uint32_t i = first, count; i < g->entries; i += count) {
		uint32_t old = i < vhd->entries ? vhd->entries - i : 0;

		count = (uint32_t)vmimg_min(STRIDE, g->entries - i);
		old = (uint32_t)vmimg_min(old, count);
		if (vmimg_io_pread(g->disk->io, bytes, (size_t)old * 4,
			    vhd->bat_at + 4 * (uint64_t)i, err))
			return -1;
		memset(bytes + (size_t)old * 4, 0xff, (size_t)(count - old) * 4);
		set_hiding(g, bytes, i, count);
		if (vmimg_io_pwrite(g->disk->io, bytes, (size_t)count * 4,
			    g->bat_at + 4 * (uint64_t)i, err))
			return -1;
	}
	return 0;
}

/* Where what the last block has past the disk's end lies; *len 0: there is nothing. */
static int find_rest(struct vmimg_disk *disk, uint64_t *at, uint64_t *len, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	uint64_t inside = disk->size % disk->block;
	uint32_t sector = VMIMG_VHD_UNUSED;

	*len = 0;
	if (!inside)
		return 0;
	if (vmimg_vhd_bat_entry(vhd, disk->size / disk->block, &sector, err))
		return -1;
	if (sector == VMIMG_VHD_UNUSED)
		return 0;
	*at = (uint64_t)sector * VMIMG_VHD_SECTOR + vhd->bitmap_bytes + inside;
	*len = disk->block - inside;
	return 0;
}

/* Tables are not where it is, nor is the batmap; what locates the parent must not be, either. */
static int check_rest(struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	uint64_t at = 0, len;

	if (find_rest(disk, &at, &len, err))
		return -1;
	for (unsigned i = 0; len && i < VMIMG_VHD_LOCATORS; i++) {
		struct vmimg_vhd_locator locator;

		vmimg_vhd_locator_decode(
			&locator, vhd->header.locators + i * VMIMG_VHD_LOCATOR_SIZE);
		if (locator.len && locator.at < at + len &&
			at - vmimg_min(at, locator.at) < locator.len)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"the last block lies over a parent locator (0x%" PRIx64 ")",
				locator.at);
	}
	return 0;
}

/* It would be the guest's: it becomes zero. */
static int clear_rest(struct vmimg_disk *disk, struct vmimg_error *err)
{
	uint64_t at = 0, len;

	if (find_rest(disk, &at, &len, err))
		return -1;
	return len ? vmimg_io_zero(disk->io, at, len, err) : 0;
}

/* Of a batmap with one bit for each entry. */
static uint64_t map_sectors(uint32_t entries)
{
	return vmimg_div_up(entries, 8 * VMIMG_VHD_SECTOR);
}

/* Where the tables end: Xen's batmap is found behind the BAT, and grows with it. */
static uint64_t tables_end(const struct vmimg_vhd *vhd, uint64_t bat_at, uint32_t entries)
{
	uint64_t end = vmimg_align_up(bat_at + 4 * (uint64_t)entries, VMIMG_VHD_SECTOR);

	return vhd->batmap_at
		? end + VMIMG_VHD_BATMAP_SIZE + map_sectors(entries) * VMIMG_VHD_SECTOR
		: end;
}

static int put_batmap(
	struct vmimg_disk *disk, uint64_t bat_at, uint32_t entries, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	uint64_t at = vmimg_align_up(bat_at + 4 * (uint64_t)entries, VMIMG_VHD_SECTOR);
	uint64_t map_at = at + VMIMG_VHD_BATMAP_SIZE;

	if (!vhd->batmap_at)
		return 0;
	return vmimg_io_zero(disk->io, map_at, map_sectors(entries) * VMIMG_VHD_SECTOR, err) ||
			vmimg_vhd_put_batmap(disk, at, map_at, (uint32_t)map_sectors(entries), err)
		? -1
		: 0;
}

/* Where the BAT goes, and where the file ends. */
static int plan_growth(struct growth *g, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = g->disk->state;
	struct extent_of_blocks blocks = { g->disk, UINT64_MAX, 0, vhd->entries };

	if (vmimg_vhd_walk(vhd, measure_block, &blocks, err))
		return -1;
	g->bat_at = vhd->bat_at;
	g->end = vmimg_max(vhd->footer_at, vmimg_align_up(blocks.most, VMIMG_VHD_SECTOR));
	if (g->bat_at + 4 * (uint64_t)g->entries > room_end(vhd, blocks.least)) {
		g->bat_at = vmimg_align_up(g->end, VMIMG_VHD_SECTOR);
		g->end = vmimg_vhd_first_block(
			tables_end(vhd, g->bat_at, g->entries), vhd->bitmap_bytes);
		g->end = vmimg_max(g->end, g->bat_at + VMIMG_VHD_FOOTER_SIZE);
	}
	return plan_hiding(g, err);
}

static int grow_dynamic(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	struct growth g = {
		.disk = disk, .size = size, .entries = (uint32_t)vmimg_div_up(size, disk->block)
	};
	bool moves;

	if (plan_growth(&g, err) || check_rest(disk, err))
		return -1;
	moves = g.bat_at != vhd->bat_at;
	if (g.end != vhd->footer_at && put_footer(disk, disk->size, g.end, err))
		return -1;
	if (clear_rest(disk, err) || hide_parent(&g, err) || put_bat(&g, err) ||
		(moves && put_batmap(disk, g.bat_at, g.entries, err)) ||
		vmimg_io_sync(disk->io, err) ||
		put_header(disk, g.bat_at,
			moves ? g.entries : (uint32_t)vmimg_max(g.entries, vhd->header.entries),
			err))
		return -1;
	return put_footer(disk, size, g.end, err) || put_footer(disk, size, 0, err) ? -1 : 0;
}

/* Where the last table ends, the names of a parent included, or the last block that stays. */
static int find_end(
	struct vmimg_disk *disk, uint32_t entries, uint64_t *end, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	struct extent_of_blocks blocks = { disk, UINT64_MAX, 0, entries };
	struct vmimg_blocks tables = { 0 };
	int failed = vmimg_vhd_space(disk, &tables, false, err) ||
		vmimg_vhd_walk(vhd, measure_block, &blocks, err);

	*end = vmimg_vhd_first_block(
		vmimg_max(tables.end * VMIMG_VHD_SECTOR, blocks.most), vhd->bitmap_bytes);
	vmimg_blocks_done(&tables);
	return failed ? -1 : 0;
}

static int shrink_dynamic(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	uint32_t entries = (uint32_t)vmimg_div_up(size, disk->block);
	uint64_t end;

	if (find_end(disk, entries, &end, err) || put_footer(disk, size, vhd->footer_at, err) ||
		put_footer(disk, size, 0, err))
		return -1;
	if (vhd->batmap_at)
		return 0; /* Xen finds its batmap by the number of entries */
	if (put_header(disk, vhd->bat_at, entries, err))
		return -1;
	if (end + VMIMG_VHD_FOOTER_SIZE > vhd->footer_at)
		return 0;
	return cut_file(disk, size, end, err);
}

static int check_resize(const struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;

	if (size > VMIMG_VHD_MAX_SIZE)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a VHD holds at most 2040 GiB, not %" PRIu64 " bytes", size);
	if (vhd->footer.type == VMIMG_VHD_DIFFERENCING && size > disk->size && !disk->parent)
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a child that grows is needed");
	if (vhd->footer.type == VMIMG_VHD_FIXED)
		return 0;
	if (vmimg_div_up(size, disk->block) > VMIMG_VHD_MAX_ENTRIES)
		return vmimg_fail(err, VMIMG_EINVAL, "the blocks are too small for the disk");
	return 0;
}

static int vhd_resize(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;

	size = vmimg_align_up(size, VMIMG_VHD_SECTOR);
	if (size == disk->size)
		return 0;
	if (check_resize(disk, size, err) || vmimg_vhd_begin(disk, err))
		return -1;
	if (vhd->footer.type == VMIMG_VHD_FIXED)
		return resize_fixed(disk, size, err);
	return size > disk->size ? grow_dynamic(disk, size, err) : shrink_dynamic(disk, size, err);
}

const struct vmimg_edit_ops vmimg_vhd_edit = {
	.resize = vhd_resize,
	.update = vmimg_vhd_update,
	.empty = vmimg_vhd_empty,
	.set_parent = vmimg_vhd_change_parent,
	.squeeze = vmimg_vhd_squeeze,
	.set = vmimg_vhd_set,
	.settings = vmimg_vhd_settings,
};

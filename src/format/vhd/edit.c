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

/* The BAT, with entries past the disk's end unused, to a place of its own (or where it is). */
static int put_bat(
	struct vmimg_disk *disk, uint64_t bat_at, uint32_t entries, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_array(STRIDE, 4, err);
	uint32_t first = bat_at == vhd->bat_at ? vhd->entries : 0;

	if (!bytes)
		return -1;
	for (uint32_t i = first, count; i < entries; i += count) {
		uint32_t old = i < vhd->entries ? vhd->entries - i : 0;

		count = (uint32_t)vmimg_min(STRIDE, entries - i);
		old = (uint32_t)vmimg_min(old, count);
		if (vmimg_io_pread(
			    disk->io, bytes, (size_t)old * 4, vhd->bat_at + 4 * (uint64_t)i, err))
			return -1;
		memset(bytes + (size_t)old * 4, 0xff, (size_t)(count - old) * 4);
		if (vmimg_io_pwrite(
			    disk->io, bytes, (size_t)count * 4, bat_at + 4 * (uint64_t)i, err))
			return -1;
	}
	return 0;
}

/* What the last block holds past the disk's end would be the guest's: it becomes zero. */
static int clear_rest(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	uint64_t inside = disk->size % disk->block;
	uint32_t sector;

	if (!inside)
		return 0;
	if (vmimg_vhd_bat_entry(vhd, disk->size / disk->block, &sector, err))
		return -1;
	if (sector == VMIMG_VHD_UNUSED)
		return 0;
	return vmimg_io_zero(disk->io,
		(uint64_t)sector * VMIMG_VHD_SECTOR + vhd->bitmap_bytes + inside,
		disk->block - inside, err);
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

static int grow_dynamic(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	uint32_t entries = (uint32_t)vmimg_div_up(size, disk->block);
	struct extent_of_blocks blocks = { disk, UINT64_MAX, 0, vhd->entries };
	uint64_t bat_at = vhd->bat_at, end;

	if (vmimg_vhd_walk(vhd, measure_block, &blocks, err))
		return -1;
	end = vmimg_max(vhd->footer_at, vmimg_align_up(blocks.most, VMIMG_VHD_SECTOR));
	if (bat_at + 4 * (uint64_t)entries > room_end(vhd, blocks.least)) {
		bat_at = vmimg_align_up(end, VMIMG_VHD_SECTOR);
		end = vmimg_vhd_first_block(tables_end(vhd, bat_at, entries), vhd->bitmap_bytes);
		end = vmimg_max(end, bat_at + VMIMG_VHD_FOOTER_SIZE);
	}
	if (end != vhd->footer_at && put_footer(disk, disk->size, end, err))
		return -1;
	if (put_bat(disk, bat_at, entries, err) ||
		(bat_at != vhd->bat_at && put_batmap(disk, bat_at, entries, err)) ||
		clear_rest(disk, err) || vmimg_io_sync(disk->io, err) ||
		put_header(disk, bat_at,
			bat_at == vhd->bat_at ? (uint32_t)vmimg_max(entries, vhd->header.entries)
					      : entries,
			err))
		return -1;
	return put_footer(disk, size, end, err) || put_footer(disk, size, 0, err) ? -1 : 0;
}

static int shrink_dynamic(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	uint32_t entries = (uint32_t)vmimg_div_up(size, disk->block);
	struct extent_of_blocks blocks = { disk, UINT64_MAX, 0, entries };
	uint64_t end = vmimg_max(vhd->bat_at + 4 * (uint64_t)vhd->header.entries,
		vhd->footer.data_offset + VMIMG_VHD_HEADER_SIZE);

	if (vmimg_vhd_walk(vhd, measure_block, &blocks, err) ||
		put_footer(disk, size, vhd->footer_at, err) || put_footer(disk, size, 0, err))
		return -1;
	if (vhd->batmap_at)
		return 0; /* Xen finds its batmap by the number of entries */
	if (put_header(disk, vhd->bat_at, entries, err))
		return -1;
	end = vmimg_vhd_first_block(
		vmimg_max(vmimg_align_up(end, VMIMG_VHD_SECTOR), blocks.most), vhd->bitmap_bytes);
	if (end + VMIMG_VHD_FOOTER_SIZE > vhd->footer_at)
		return 0;
	return cut_file(disk, size, end, err);
}

/* A child may become larger than its parent; what is added is zero only if the parent ends before.
 */
static int check_parent(const struct vmimg_disk *disk, struct vmimg_error *err)
{
	if (!disk->parent)
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a child that grows is needed");
	return disk->parent->size <= disk->size
		? 0
		: vmimg_fail(err, VMIMG_EUNSUPPORTED,
			  "the parent is larger, and would show in what is added: flatten it first "
			  "(convert)");
}

static int check_resize(const struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;

	if (size > VMIMG_VHD_MAX_SIZE)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a VHD holds at most 2040 GiB, not %" PRIu64 " bytes", size);
	if (vhd->footer.type == VMIMG_VHD_DIFFERENCING && size > disk->size &&
		check_parent(disk, err))
		return -1;
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

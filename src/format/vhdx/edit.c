/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resizing. The disk's size is eight bytes of a metadata item, inside one sector, so that it
 * changes as a whole without the log; what a larger disk needs is there before, and a smaller one
 * frees after. Before anything else the header tells of a writer ([MS-VHDX] 2.2.2): new GUIDs, in
 * the header that is not in use.
 */
#include "disk/edit.h"
#include <inttypes.h>
#include <string.h>
#include "format/vhdx/change.h"
#include "util/num.h"

#define SECTOR 512U
#define BATCH  8192U /* entries of the BAT in one go */

struct resize {
	struct vhdx_change change;
	struct vmimg_disk *disk;
	struct vmimg_vhdx *vhdx;
	struct vmimg_io *io;
	uint64_t size;
	struct vhdx_geometry geometry; /* as it shall be */
	uint64_t size_at;              /* of the metadata item */
	uint8_t *buffer;               /* BATCH entries, and at least a region table */
};

/* ---- the size ---- */

static int find_size(struct resize *r, struct vmimg_error *err)
{
	const struct vhdx_range *metadata = &r->vhdx->metadata;
	struct vhdx_metadata_head head;
	struct vhdx_metadata_entry entry;
	uint8_t bytes[32];

	if (vmimg_io_pread(r->io, bytes, sizeof(bytes), metadata->at, err))
		return -1;
	vhdx_metadata_head_decode(&head, bytes);
	for (unsigned i = 0; i < head.count; i++) {
		if (vmimg_io_pread(r->io, bytes, sizeof(bytes), metadata->at + 32 * (i + 1U), err))
			return -1;
		vhdx_metadata_entry_decode(&entry, bytes);
		if (vmimg_vhdx_is_guid(entry.guid, VHDX_GUID_DISK_SIZE))
			r->size_at = metadata->at + entry.at;
	}
	if (!r->size_at || r->size_at % SECTOR > SECTOR - 8)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the disk's size, at 0x%" PRIx64 ", lies across two sectors: convert it",
			r->size_at);
	return 0;
}

static int put_size(const struct resize *r, struct vmimg_error *err)
{
	uint8_t bytes[8];

	vmimg_put_le64(bytes, r->size);
	if (vmimg_io_sync(r->io, err) ||
		vmimg_io_pwrite(r->io, bytes, sizeof(bytes), r->size_at, err))
		return -1;
	return vmimg_io_sync(r->io, err);
}

/* ---- the BAT ---- */

/* Leads region table i to the BAT's new place. Its head and entries are in one sector. */
static int put_region(
	struct resize *r, unsigned i, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint8_t *bytes = r->buffer;
	struct vhdx_regions_head head;

	if (vmimg_io_pread(
		    r->io, bytes, VHDX_REGIONS_SIZE, VHDX_REGIONS_AT(r->vhdx->regions_index), err))
		return -1;
	vhdx_regions_head_decode(&head, bytes);
	if (16 + 32 * (uint64_t)head.count > SECTOR)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"it has %" PRIu32 " regions, of which this cannot move one: convert it",
			head.count);
	for (uint32_t j = 0; j < head.count; j++) {
		uint8_t *entry = bytes + 16 + 32 * (size_t)j;
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
	if (vmimg_io_pwrite(r->io, bytes, SECTOR, VHDX_REGIONS_AT(i), err))
		return -1;
	return vmimg_io_sync(r->io, err);
}

/* A BAT without room gets a copy elsewhere, and the region tables lead there. */
static int move_bat(struct resize *r, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = r->vhdx;
	uint64_t old = vhdx->geometry.entries * 8, at = 0;
	uint64_t len = vmimg_align_up(r->geometry.entries * 8, VHDX_MIB), step;

	if (vmimg_vhdx_space_take(&r->change, len, &at, err))
		return -1;
	for (uint64_t done = 0; done < old; done += step) {
		step = vmimg_min(old - done, BATCH * 8);
		if (vmimg_io_pread(r->io, r->buffer, (size_t)step, vhdx->bat.at + done, err) ||
			vmimg_io_pwrite(r->io, r->buffer, (size_t)step, at + done, err))
			return -1;
	}
	if (vmimg_io_sync(r->io, err) || put_region(r, 0, at, len, err) ||
		put_region(r, 1, at, len, err))
		return -1;
	vhdx->bat = (struct vhdx_range){ at, len };
	return 0;
}

/* The entries that one disk has and the other has not: not present. Those of a smaller disk that
 * still has the chunk, but not the block, too. */
static int clear_entries(const struct resize *r, struct vmimg_error *err)
{
	const struct vhdx_geometry *old = &r->vhdx->geometry, *new = &r->geometry;
	uint64_t a = vhdx_payload_index(old, old->blocks), b = vhdx_payload_index(new, new->blocks);
	uint64_t from = vmimg_min(a, b), to = vmimg_max(old->entries, new->entries);
	uint64_t keep = vhdx_bitmap_index(new, from / (new->ratio + 1));

	if (from < keep && keep < to && r->vhdx->params.has_parent) {
		if (vmimg_io_zero(r->io, r->vhdx->bat.at + 8 * from, 8 * (keep - from), err))
			return -1;
		from = keep + 1;
	}
	return from >= to ? 0
			  : vmimg_io_zero(r->io, r->vhdx->bat.at + 8 * from, 8 * (to - from), err);
}

/* The new blocks of a fixed disk. */
static int add_blocks(struct resize *r, struct vmimg_error *err)
{
	for (uint64_t b = r->vhdx->geometry.blocks; b < r->geometry.blocks; b++) {
		uint8_t bytes[8];
		uint64_t at = 0;

		if (vmimg_vhdx_space_take(&r->change, r->vhdx->params.block, &at, err))
			return -1;
		vmimg_put_le64(bytes, at | VHDX_BLOCK_PRESENT);
		if (vmimg_io_pwrite(r->io, bytes, sizeof(bytes),
			    r->vhdx->bat.at + 8 * vhdx_payload_index(&r->geometry, b), err))
			return -1;
	}
	return 0;
}

/* What the last block holds past the disk's end would be the guest's: it becomes zero. */
static int clear_rest(const struct resize *r, struct vmimg_error *err)
{
	struct vmimg_disk *disk = r->disk;
	uint64_t inside = disk->size % disk->block, end;
	struct vmimg_run run;

	if (!inside)
		return 0;
	if (vmimg_disk_map(disk, disk->size - 1, &run, err))
		return -1;
	if (run.kind != VMIMG_RUN_DATA)
		return 0;
	end = vmimg_min(run.at + 1 + disk->block - inside, vmimg_io_size(r->io));
	return end > run.at + 1 ? vmimg_io_zero(r->io, run.at + 1, end - run.at - 1, err) : 0;
}

/* ---- both ways ---- */

static int grow(struct resize *r, struct vmimg_error *err)
{
	bool fixed = r->vhdx->params.leave_allocated;

	if (clear_rest(r, err))
		return -1;
	if (r->geometry.entries * 8 > r->vhdx->bat.len && move_bat(r, err))
		return -1;
	if (clear_entries(r, err) || (fixed && add_blocks(r, err)))
		return -1;
	return put_size(r, err);
}

/* The blocks past the new end are nobody's when the size is in place. */
static int free_blocks(struct resize *r, struct vmimg_error *err)
{
	const struct vhdx_geometry *old = &r->vhdx->geometry, *new = &r->geometry;
	uint64_t entry;

	for (uint64_t b = new->blocks; b < old->blocks; b++) {
		if (vmimg_vhdx_get_entry(&r->change, vhdx_payload_index(old, b), &entry, err))
			return -1;
		if (VHDX_BAT_AT(entry) &&
			vmimg_vhdx_space_free(
				&r->change, VHDX_BAT_AT(entry), r->vhdx->params.block, err))
			return -1;
	}
	for (uint64_t c = vmimg_div_up(new->blocks, new->ratio);
		r->vhdx->params.has_parent && c < vmimg_div_up(old->blocks, old->ratio); c++) {
		if (vmimg_vhdx_get_entry(&r->change, vhdx_bitmap_index(old, c), &entry, err))
			return -1;
		if (VHDX_BAT_AT(entry) &&
			vmimg_vhdx_space_free(&r->change, VHDX_BAT_AT(entry), VHDX_MIB, err))
			return -1;
	}
	return 0;
}

static int shrink(struct resize *r, struct vmimg_error *err)
{
	if (free_blocks(r, err) || put_size(r, err) || clear_entries(r, err) ||
		vmimg_io_sync(r->io, err))
		return -1;
	return vmimg_vhdx_space_settle(&r->change, err);
}

static int check_resize(const struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_vhdx *vhdx = disk->state;

	if (size > VHDX_DISK_MAX)
		return vmimg_fail(err, VMIMG_EINVAL,
			"%" PRIu64 " bytes are more than the 64 TiB that a VHDX can have", size);
	if (vhdx->params.has_parent)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a differencing disk is not resized: flatten it first (convert)");
	return 0;
}

static int resize(struct resize *r, struct vmimg_error *err)
{
	struct vmimg_guid data_write;

	if (find_size(r, err) || vmimg_vhdx_change_begin(&r->change, err) ||
		vmimg_vhdx_derive(
			&r->vhdx->head.data_write, r->size, "vhdx data write", &data_write, err))
		return -1;
	if (r->size > r->disk->size ? grow(r, err) : shrink(r, err))
		return -1;
	return vmimg_vhdx_change_end(&r->change, &data_write, err);
}

static int vhdx_resize(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;
	struct vhdx_params params = vhdx->params;
	struct resize r = { .disk = disk, .vhdx = vhdx, .io = disk->io };
	int result;

	params.size = r.size = vmimg_align_up(size, params.logical);
	r.geometry = vmimg_vhdx_geometry(&params);
	if (r.size == disk->size)
		return 0;
	if (check_resize(disk, r.size, err))
		return -1;
	r.buffer = vmimg_alloc_buffer(BATCH * 8, err);
	result = !r.buffer || vmimg_vhdx_change_open(&r.change, disk, err) || resize(&r, err);
	vmimg_vhdx_change_done(&r.change);
	free(r.buffer);
	return result ? -1 : 0;
}

const struct vmimg_edit_ops vmimg_vhdx_edit = {
	.resize = vhdx_resize,
	.update = vmimg_vhdx_update,
	.empty = vmimg_vhdx_empty,
};

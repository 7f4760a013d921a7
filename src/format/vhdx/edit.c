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
#include "format/vhdx/vhdx.h"
#include "util/num.h"

#define SECTOR 512U
#define BATCH  8192U /* entries of the BAT in one go */

struct resize {
	struct vmimg_disk *disk;
	struct vmimg_vhdx *vhdx;
	struct vmimg_io *io;
	uint64_t size;
	struct vhdx_geometry geometry; /* as it shall be */
	uint64_t size_at;              /* of the metadata item */
	uint8_t *buffer;               /* BATCH entries, and at least a region table */
};

/* ---- header ---- */

static int derive_guid(const struct vmimg_guid *old, uint64_t salt, const char *what,
	uint8_t on_disk[VMIMG_GUID_SIZE], struct vmimg_error *err)
{
	uint64_t seed = vmimg_get_le64(old->bytes) ^ vmimg_get_le64(old->bytes + 8) * 31 ^ salt;
	struct vmimg_guid guid;

	if (vmimg_guid_make(&guid, false, seed, what, err))
		return -1;
	vmimg_guid_put_mixed(&guid, on_disk);
	return 0;
}

static int put_header(const struct resize *r, struct vmimg_error *err)
{
	const struct vhdx_head *head = &r->vhdx->head;
	uint8_t bytes[VHDX_HEADER_SIZE] = { 0 };
	struct vhdx_header header = { .magic = VHDX_HEADER_MAGIC,
		.sequence = head->sequence + 1,
		.log_version = VHDX_LOG_VERSION,
		.version = VHDX_VERSION,
		.log_length = (uint32_t)head->log_range.len,
		.log_at = head->log_range.at };

	if (derive_guid(
		    &head->file_write, r->size, "vhdx file write", header.file_write_guid, err) ||
		derive_guid(
			&head->data_write, r->size, "vhdx data write", header.data_write_guid, err))
		return -1;
	vhdx_header_encode(&header, bytes);
	header.checksum = vmimg_vhdx_checksum(bytes, sizeof(bytes));
	vhdx_header_encode(&header, bytes);
	if (vmimg_io_pwrite(
		    r->io, bytes, sizeof(bytes), VHDX_HEADER_AT(1U - r->vhdx->head_index), err))
		return -1;
	return vmimg_io_sync(r->io, err);
}

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

/* A BAT without room gets a copy at the end of the file, and the region tables lead there. */
static int move_bat(struct resize *r, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = r->vhdx;
	uint64_t old = vhdx->geometry.entries * 8;
	uint64_t at = vmimg_align_up(vmimg_io_size(r->io), VHDX_MIB);
	uint64_t len = vmimg_align_up(r->geometry.entries * 8, VHDX_MIB), step;

	if (vmimg_io_resize(r->io, at + len, err))
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

/* The entries that one disk has and the other has not: not present. */
static int clear_entries(const struct resize *r, struct vmimg_error *err)
{
	uint64_t a = r->vhdx->geometry.entries, b = r->geometry.entries;
	uint64_t from = vmimg_min(a, b), to = vmimg_max(a, b);

	return from == to ? 0
			  : vmimg_io_zero(r->io, r->vhdx->bat.at + 8 * from, 8 * (to - from), err);
}

/* The new blocks of a fixed disk, at the end of the file. */
static int add_blocks(const struct resize *r, struct vmimg_error *err)
{
	const struct vhdx_params *params = &r->vhdx->params;
	uint64_t at = vmimg_align_up(vmimg_io_size(r->io), VHDX_MIB);
	uint64_t first = r->vhdx->geometry.blocks;

	if (vmimg_io_resize(r->io, at + (r->geometry.blocks - first) * params->block, err))
		return -1;
	for (uint64_t b = first; b < r->geometry.blocks; b++, at += params->block) {
		uint8_t bytes[8];

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

	if (put_header(r, err) || clear_rest(r, err))
		return -1;
	if (r->geometry.entries * 8 > r->vhdx->bat.len && move_bat(r, err))
		return -1;
	if (clear_entries(r, err) || (fixed && add_blocks(r, err)))
		return -1;
	return put_size(r, err);
}

static int measure_region(void *ctx, const struct vhdx_region *region, struct vmimg_error *err)
{
	uint64_t *end = ctx;

	(void)err;
	*end = vmimg_max(*end, region->at + region->length);
	return 0;
}

/* Where the file may end: after regions, log, and the blocks that stay. */
static int measure(const struct resize *r, uint64_t *end, struct vmimg_error *err)
{
	const struct vmimg_vhdx *vhdx = r->vhdx;

	*end = vmimg_max(VHDX_HEAD_END, vhdx->head.log_range.at + vhdx->head.log_range.len);
	if (vmimg_vhdx_read_regions(r->io, vhdx->regions_index, measure_region, end, err))
		return -1;
	for (uint64_t i = 0, count; i < r->geometry.entries; i += count) {
		count = vmimg_min(BATCH, r->geometry.entries - i);
		if (vmimg_io_pread(r->io, r->buffer, (size_t)count * 8, vhdx->bat.at + 8 * i, err))
			return -1;
		for (uint64_t k = 0; k < count; k++) {
			uint64_t at = VHDX_BAT_AT(vmimg_get_le64(r->buffer + 8 * k));

			if (at)
				*end = vmimg_max(*end, at + vhdx->params.block);
		}
	}
	return 0;
}

static int shrink(struct resize *r, struct vmimg_error *err)
{
	uint64_t end;

	if (measure(r, &end, err) || put_header(r, err) || put_size(r, err) ||
		clear_entries(r, err) || vmimg_io_sync(r->io, err))
		return -1;
	if (end >= vmimg_io_size(r->io))
		return 0;
	return vmimg_io_resize(r->io, end, err) || vmimg_io_sync(r->io, err) ? -1 : 0;
}

static int check_resize(const struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_vhdx *vhdx = disk->state;

	if (size > VHDX_DISK_MAX)
		return vmimg_fail(err, VMIMG_EINVAL,
			"%" PRIu64 " bytes are more than the 64 TiB that a VHDX can have", size);
	if (vhdx->log != VHDX_LOG_CLEAN || !vmimg_guid_is_nil(&vhdx->head.log))
		return vmimg_fail(err, VMIMG_EREFUSED,
			"its log holds changes that are not in place yet: convert it, or let "
			"Hyper-V "
			"open it");
	if (disk->io->is_device)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "it lies on a device");
	if (vhdx->params.has_parent)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a differencing disk is not resized: flatten it first (convert)");
	return 0;
}

/* Opening does not look at the whole BAT; what is changed has to be sound. */
static int check_sound(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_report report = { 0 };

	if (vmimg_vhdx_check(disk, &report, err))
		return -1;
	if (report.count[VMIMG_FINDING_CORRUPTION] || report.count[VMIMG_FINDING_ERROR])
		return vmimg_fail(err, VMIMG_EREFUSED,
			"the image is damaged (check tells how): it is not changed");
	return 0;
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
	if (check_resize(disk, r.size, err) || check_sound(disk, err) || find_size(&r, err))
		return -1;
	r.buffer = vmimg_alloc_buffer(BATCH * 8, err);
	if (!r.buffer)
		return -1;
	result = r.size > disk->size ? grow(&r, err) : shrink(&r, err);
	free(r.buffer);
	return result;
}

const struct vmimg_edit_ops vmimg_vhdx_edit = {
	.resize = vhdx_resize,
};

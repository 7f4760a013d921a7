/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resizing, and emptying. What makes an image larger or smaller is in the header's first sector:
 * the size, the number of blocks, where the block map and the first block lie. That sector is
 * written when the new state is complete, in places that the old one does not use.
 *
 * A map that outgrows its room takes the place of the first blocks, which go to the end of the file
 * before; as blocks are numbered from the first, all numbers become smaller with that same write.
 */
#include "format/vdi/change.h"
#include <inttypes.h>
#include "util/num.h"

#define SECTOR 512U
#define STRIDE 8192U /* entries of the map in one go */

struct resize {
	struct vmimg_disk *disk;
	const struct vmimg_vdi_header *header; /* as it was */
	uint64_t stride;                       /* from one block in the file to the next */
	uint32_t below;                        /* entries of the disk before this one count */
	uint64_t next;                         /* number of the next block in the file */
	uint32_t entries;                      /* of the map, as it shall be */
	uint64_t map_at;
	uint32_t dropped; /* numbers of blocks that make room for the map */
	bool empty;       /* the new map leads to no block */
	uint8_t *buffer;  /* STRIDE entries */
};

static uint64_t place(const struct resize *r, uint64_t number)
{
	return r->header->data_at + number * r->stride;
}

/* The header, of a disk of that size. */
static struct vmimg_vdi_header header_for(
	const struct resize *r, uint64_t size, uint32_t entries, uint64_t map_at, uint32_t dropped)
{
	struct vmimg_vdi_header header = *r->header;

	header.map_at = map_at;
	header.data_at = place(r, dropped);
	header.disk_size = size;
	header.blocks = entries;
	header.allocated = (uint32_t)(r->next - dropped);
	return header;
}

static int put_header(const struct resize *r, uint64_t size, uint32_t entries, uint64_t map_at,
	uint32_t dropped, struct vmimg_error *err)
{
	struct vmimg_vdi_header header = header_for(r, size, entries, map_at, dropped);

	return vmimg_vdi_put_header(r->disk, &header, err);
}

/* ---- blocks ---- */

static int count_block(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	struct resize *r = ctx;

	(void)err;
	if (i < r->below)
		r->next = vmimg_max(r->next, (uint64_t)entry + 1);
	return 0;
}

/* What the last block holds past the disk's end would be the guest's: it becomes zero. */
static int clear_rest(const struct resize *r, struct vmimg_error *err)
{
	struct vmimg_disk *disk = r->disk;
	const struct vmimg_vdi *vdi = disk->state;
	uint64_t inside = disk->size % disk->block, index = disk->size / disk->block;
	uint8_t entry[4];

	if (!inside)
		return 0;
	if (vmimg_io_pread(disk->io, entry, sizeof(entry), r->header->map_at + 4 * index, err))
		return -1;
	if (vmimg_get_le32(entry) >= VMIMG_VDI_ZERO)
		return 0;
	return vmimg_io_zero(disk->io, vmimg_vdi_block_at(vdi, vmimg_get_le32(entry)) + inside,
		disk->block - inside, err);
}

static int copy_block(struct resize *r, uint64_t from, uint64_t to, struct vmimg_error *err)
{
	uint64_t at = place(r, from);

	return vmimg_blocks_copy(r->disk->io, at, place(r, to),
		vmimg_min(r->stride, vmimg_io_size(r->disk->io) - at), err);
}

static int copy_if_dropped(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	struct resize *r = ctx;

	(void)i;
	return entry < r->dropped ? copy_block(r, entry, r->next++, err) : 0;
}

/* The entries follow the copies, in the same order. */
static int point_to_copy(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	struct resize *r = ctx;
	uint8_t bytes[4];

	if (entry >= r->dropped)
		return 0;
	vmimg_put_le32(bytes, (uint32_t)r->next++);
	return vmimg_io_pwrite(r->disk->io, bytes, sizeof(bytes), r->header->map_at + 4 * i, err);
}

static int grow_file(const struct resize *r, struct vmimg_error *err)
{
	struct vmimg_io *io = r->disk->io;
	uint64_t end = place(r, r->next);

	return vmimg_io_size(io) < end ? vmimg_io_resize(io, end, err) : 0;
}

/* Takes the first blocks, as many as the new map needs room for, to the end of the file: copies,
 * then the count of blocks, then the entries. The image is the same all the time. */
static int move_blocks(struct resize *r, struct vmimg_error *err)
{
	struct vmimg_vdi *vdi = r->disk->state;
	uint64_t first;

	r->next = first = vmimg_max(r->next, r->dropped);
	if (vmimg_vdi_walk(vdi, copy_if_dropped, r, err) || grow_file(r, err) ||
		put_header(r, r->disk->size, r->header->blocks, r->header->map_at, 0, err))
		return -1;
	r->next = first;
	if (vmimg_vdi_walk(vdi, point_to_copy, r, err))
		return -1;
	return vmimg_io_sync(r->disk->io, err);
}

/* ---- the map ---- */

/* What is added is zero; a parent that is larger would show. */
static uint32_t new_entry(struct resize *r)
{
	const struct vmimg_disk *parent = r->disk->parent;

	if (r->header->type == VMIMG_VDI_FIXED)
		return (uint32_t)(r->next++ - r->dropped);
	return parent && parent->size > r->disk->size ? VMIMG_VDI_ZERO : VMIMG_VDI_ABSENT;
}

static void convert_entries(struct resize *r, uint32_t at, uint32_t count, uint32_t old_count)
{
	for (uint32_t k = 0; k < count; k++) {
		uint8_t *bytes = r->buffer + 4 * (size_t)k;
		uint32_t entry = vmimg_get_le32(bytes);

		if (r->empty)
			entry = VMIMG_VDI_ABSENT;
		else if (at + k >= old_count)
			entry = new_entry(r);
		else if (entry < VMIMG_VDI_ZERO)
			entry -= r->dropped;
		vmimg_put_le32(bytes, entry);
	}
}

/* Writes the entries that are new, or differ: those past the disk's end, or all. */
static int put_map(struct resize *r, struct vmimg_error *err)
{
	const struct vmimg_vdi *vdi = r->disk->state;
	struct vmimg_io *io = r->disk->io;

	for (uint32_t i = r->dropped || r->empty ? 0 : vdi->entries, count; i < r->entries;
		i += count) {
		uint32_t old = i < vdi->entries ? vdi->entries - i : 0;

		count = (uint32_t)vmimg_min(STRIDE, r->entries - i);
		old = (uint32_t)vmimg_min(old, count);
		if (vmimg_io_pread(io, r->buffer, (size_t)old * 4,
			    r->header->map_at + 4 * (uint64_t)i, err))
			return -1;
		convert_entries(r, i, count, vdi->entries);
		if (vmimg_io_pwrite(
			    io, r->buffer, (size_t)count * 4, r->map_at + 4 * (uint64_t)i, err))
			return -1;
	}
	return 0;
}

/* ---- the operation ---- */

/* Whether the map stays where it is, and if not, how many blocks make room for it. */
static int plan_map(struct resize *r, struct vmimg_error *err)
{
	const struct vmimg_vdi_header *header = r->header;
	uint64_t len = vmimg_align_up(4 * (uint64_t)r->entries, SECTOR);

	r->map_at = header->map_at;
	if (r->next + r->entries >= VMIMG_VDI_ZERO)
		return vmimg_vdi_fail_full(err);
	if (header->map_at + 4 * (uint64_t)r->entries <= header->data_at && !r->empty)
		return 0;
	r->dropped = (uint32_t)vmimg_div_up(len, r->stride);
	r->map_at = header->data_at;
	if (place(r, r->dropped) > UINT32_MAX)
		return vmimg_fail(
			err, VMIMG_EUNSUPPORTED, "the block map would end past 4 GiB: convert it");
	return 0;
}

static int grow(struct resize *r, uint64_t size, struct vmimg_error *err)
{
	if (vmimg_vdi_walk(r->disk->state, count_block, r, err) || plan_map(r, err))
		return -1;
	if (r->dropped && move_blocks(r, err))
		return -1;
	if (clear_rest(r, err) || put_map(r, err) || grow_file(r, err))
		return -1;
	return put_header(r, size, r->entries, r->map_at, r->dropped, err);
}

/* What is cut off is out of the image with the header; then the gaps that it leaves are closed. */
static int shrink(struct resize *r, uint64_t size, struct vmimg_error *err)
{
	struct vmimg_vdi *vdi = r->disk->state;
	struct vmimg_vdi_header header;

	r->below = r->entries;
	if (vmimg_vdi_walk(vdi, count_block, r, err))
		return -1;
	header = header_for(r, size, r->entries, r->header->map_at, 0);
	if (vmimg_vdi_put_header(r->disk, &header, err))
		return -1;
	vdi->entries = r->entries;
	r->disk->size = size;
	return vmimg_vdi_close_gaps(r->disk, &header, err);
}

/* A child may become larger than its parent; where the parent is larger now, the rest of the last
 * block would have to hide it. */
static int check_parent(const struct vmimg_disk *disk, struct vmimg_error *err)
{
	if (!disk->parent)
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a child that grows is needed");
	if (disk->parent->size <= disk->size || !(disk->size % disk->block))
		return 0;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"the parent is larger, and would show in the last block: flatten it first "
		"(convert)");
}

static int check_resize(const struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_vdi *vdi = disk->state;

	if (vmimg_vdi_begin(disk, err))
		return -1;
	if (!vdi->header.major)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a VDI of version 0 has its tables at fixed places: convert it");
	if (vmimg_vdi_has_parent(&vdi->header) && size > disk->size && check_parent(disk, err))
		return -1;
	if (vmimg_div_up(size, disk->block) > VMIMG_VDI_MAX_BLOCKS)
		return vmimg_fail(err, VMIMG_EINVAL,
			"%" PRIu64 " bytes are more than %" PRIu32 " blocks of %" PRIu32, size,
			VMIMG_VDI_MAX_BLOCKS, disk->block);
	return 0;
}

static struct resize resize_of(struct vmimg_disk *disk, uint64_t size)
{
	const struct vmimg_vdi *vdi = disk->state;

	return (struct resize){ .disk = disk,
		.header = &vdi->header,
		.stride = vmimg_vdi_stride(&vdi->header),
		.below = vdi->entries,
		.entries = (uint32_t)vmimg_div_up(size, disk->block) };
}

static int vdi_resize(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	struct resize r;
	int result;

	size = vmimg_align_up(size, SECTOR);
	if (size == disk->size)
		return 0;
	if (check_resize(disk, size, err))
		return -1;
	r = resize_of(disk, size);
	r.buffer = vmimg_alloc_buffer(STRIDE * 4, err);
	if (!r.buffer)
		return -1;
	result = size > disk->size ? grow(&r, size, err) : shrink(&r, size, err);
	free(r.buffer);
	return result;
}

/* ---- emptying ---- */

/* A map that leads to no block, in the place of the first ones, is made the map; then one in the
 * old place; then the file is cut. */
static int empty(struct resize *r, struct vmimg_error *err)
{
	struct vmimg_disk *disk = r->disk;
	struct vmimg_io *io = disk->io;

	r->empty = true;
	if (vmimg_vdi_walk(disk->state, count_block, r, err) || plan_map(r, err) ||
		move_blocks(r, err) || put_map(r, err))
		return -1;
	r->next = r->dropped;
	if (put_header(r, disk->size, r->header->blocks, r->map_at, r->dropped, err))
		return -1;
	r->map_at = r->header->map_at;
	r->next = 0;
	if (put_map(r, err) || put_header(r, disk->size, r->header->blocks, r->map_at, 0, err))
		return -1;
	return vmimg_io_resize(io, r->header->data_at, err) || vmimg_io_sync(io, err) ? -1 : 0;
}

static int vdi_empty(struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_vdi *vdi = disk->state;
	struct resize r = resize_of(disk, disk->size);
	int result;

	if (vdi->header.type == VMIMG_VDI_FIXED)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a fixed VDI has all its blocks: emptying has no meaning");
	if (check_resize(disk, disk->size, err))
		return -1;
	r.entries = vdi->header.blocks; /* spare ones, too */
	r.buffer = vmimg_alloc_buffer(STRIDE * 4, err);
	if (!r.buffer)
		return -1;
	result = empty(&r, err);
	free(r.buffer);
	return result;
}

const struct vmimg_edit_ops vmimg_vdi_edit = {
	.resize = vdi_resize,
	.update = vmimg_vdi_update,
	.empty = vdi_empty,
	.set_parent = vmimg_vdi_change_parent,
	.squeeze = vmimg_vdi_squeeze,
	.set = vmimg_vdi_set,
	.settings = vmimg_vdi_settings,
};

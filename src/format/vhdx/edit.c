/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resizing. The disk's size is a metadata item that one round changes; what a larger disk needs is
 * there before, where nobody looks yet, and what a smaller one leaves is freed after.
 */
#include <inttypes.h>
#include <string.h>
#include "format/vhdx/change.h"
#include "util/num.h"

struct resize {
	struct vhdx_change change;
	struct vmimg_disk *disk;
	struct vmimg_vhdx *vhdx;
	struct vhdx_params params;     /* as they shall be */
	struct vhdx_geometry geometry; /* the same */
};

/* From this round on the disk has the new size. */
static int put_size(struct resize *r, struct vmimg_error *err)
{
	struct vmimg_guid data_write;
	uint8_t bytes[8];

	if (vmimg_vhdx_derive(
		    &r->vhdx->head.data_write, r->params.size, "vhdx data write", &data_write, err))
		return -1;
	vmimg_vhdx_change_rename(&r->change, &data_write);
	vmimg_put_le64(bytes, r->params.size);
	if (vmimg_vhdx_put_item(r->change.stage, &r->vhdx->metadata, VHDX_GUID_DISK_SIZE, 0, bytes,
		    sizeof(bytes), err))
		return -1;
	return vmimg_vhdx_change_commit(&r->change, err);
}

/* The entries that one disk has and the other has not: not present. Those of a smaller disk that
 * still has the chunk, but not the block, too. */
static int clear_entries(const struct resize *r, const struct vhdx_geometry *old,
	const struct vhdx_geometry *new, struct vmimg_error *err)
{
	uint64_t a = vhdx_payload_index(old, old->blocks), b = vhdx_payload_index(new, new->blocks);
	uint64_t from = vmimg_min(a, b), to = vmimg_max(old->entries, new->entries);
	uint64_t keep = vhdx_bitmap_index(new, from / (new->ratio + 1)), at = r->vhdx->bat.at;

	if (from < keep && keep < to && r->vhdx->params.has_parent) {
		if (vmimg_io_zero(r->change.io, at + 8 * from, 8 * (keep - from), err))
			return -1;
		from = keep + 1;
	}
	return from >= to ? 0 : vmimg_io_zero(r->change.io, at + 8 * from, 8 * (to - from), err);
}

/* The new blocks of a fixed disk. */
static int add_blocks(struct resize *r, struct vmimg_error *err)
{
	uint64_t old = vmimg_div_up(r->disk->size, r->params.block), at = 0;

	for (uint64_t b = old; r->params.leave_allocated && b < r->geometry.blocks; b++)
		if (vmimg_vhdx_change_room(&r->change, err) ||
			vmimg_vhdx_space_take(&r->change, r->params.block, &at, err) ||
			vmimg_vhdx_set_entry(&r->change, vhdx_payload_index(&r->geometry, b),
				at | VHDX_BLOCK_PRESENT, err))
			return -1;
	return 0;
}

/* Whether the parent has anything past the child's end, which would show. */
static bool parent_is_longer(const struct resize *r)
{
	return r->params.has_parent && r->disk->parent->size > r->disk->size;
}

/* What the last block has past the disk's end is the guest's now: it becomes zero. */
static int clear_rest(struct resize *r, struct vmimg_error *err)
{
	uint64_t size = r->disk->size, inside = size % r->params.block, entry;

	if (!inside)
		return 0;
	if (vmimg_vhdx_get_entry(&r->change,
		    vhdx_payload_index(&r->geometry, size / r->params.block), &entry, err))
		return -1;
	return vhdx_holds_data(entry) || parent_is_longer(r)
		? vmimg_vhdx_zero_part(&r->change, size, r->params.block - inside, err)
		: 0;
}

static int hide_parent(struct resize *r, struct vmimg_error *err)
{
	uint64_t end, b = vmimg_div_up(r->disk->size, r->params.block);

	if (!parent_is_longer(r))
		return 0;
	end = vmimg_div_up(vmimg_min(r->disk->parent->size, r->params.size), r->params.block);
	for (; b < end; b++)
		if (vmimg_vhdx_change_room(&r->change, err) ||
			vmimg_vhdx_zero_block(&r->change, b, err))
			return -1;
	return 0;
}

static int grow(struct resize *r, struct vmimg_error *err)
{
	struct vhdx_geometry old = r->vhdx->geometry;

	if (vmimg_vhdx_space_fill(&r->change, err) ||
		vmimg_vhdx_need_entries(&r->change, r->geometry.entries, err) ||
		clear_entries(r, &old, &r->geometry, err))
		return -1;
	r->vhdx->params = r->params; /* what is prepared is past the end that the file tells of */
	r->vhdx->geometry = r->geometry;
	if (add_blocks(r, err) || clear_rest(r, err) || hide_parent(r, err))
		return -1;
	return put_size(r, err);
}

static int shrink(struct resize *r, struct vmimg_error *err)
{
	struct vhdx_geometry old = r->vhdx->geometry;
	const struct vhdx_geometry *new = &r->geometry;
	uint64_t chunk = vmimg_div_up(new->blocks, new->ratio);

	/* the last chunk that stays keeps its bitmap */
	if (vmimg_vhdx_free_entries(&r->change, vhdx_payload_index(new, new->blocks),
		    vmimg_min(chunk * (new->ratio + 1) - (chunk > 0), old.entries), err) ||
		vmimg_vhdx_free_entries(&r->change, chunk * (new->ratio + 1), old.entries, err) ||
		put_size(r, err))
		return -1;
	return clear_entries(r, &old, new, err);
}

static int check_resize(const struct resize *r, struct vmimg_error *err)
{
	if (r->params.size > VHDX_DISK_MAX)
		return vmimg_fail(err, VMIMG_EINVAL,
			"%" PRIu64 " bytes are more than the 64 TiB that a VHDX can have",
			r->params.size);
	if (r->params.has_parent && !r->disk->parent && r->params.size > r->disk->size)
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a child that grows is needed");
	return 0;
}

static int resize(struct resize *r, struct vmimg_error *err)
{
	if (vmimg_vhdx_change_open(&r->change, r->disk, err) ||
		vmimg_vhdx_change_begin(&r->change, err))
		return -1;
	if (r->params.size > r->disk->size ? grow(r, err) : shrink(r, err))
		return -1;
	return vmimg_vhdx_change_end(&r->change, err);
}

int vmimg_vhdx_resize(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;
	struct resize r = { .disk = disk, .vhdx = vhdx, .params = vhdx->params };
	int result;

	r.params.size = vmimg_align_up(size, r.params.logical);
	if (r.params.size == disk->size)
		return 0;
	if (check_resize(&r, err))
		return -1;
	r.geometry = vmimg_vhdx_geometry(&r.params);
	result = resize(&r, err);
	vmimg_vhdx_change_done(&r.change);
	return result ? -1 : 0;
}

const struct vmimg_edit_ops vmimg_vhdx_edit = {
	.resize = vmimg_vhdx_resize,
	.update = vmimg_vhdx_update,
	.empty = vmimg_vhdx_empty,
	.set_parent = vmimg_vhdx_change_parent,
	.squeeze = vmimg_vhdx_squeeze,
	.set = vmimg_vhdx_set,
	.settings = vmimg_vhdx_settings,
};

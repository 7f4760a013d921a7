/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another parent, or none. The parent locator, its entry and the flag are changed by one round. An
 * image that loses its parent first has its blocks made whole: what they lack becomes zero, as it
 * is without a parent, and then no bitmap is needed any more.
 */
#include <string.h>
#include "format/vhdx/change.h"
#include "util/num.h"

struct relation {
	struct vhdx_change change;
	struct vmimg_vhdx *vhdx;
	uint8_t *locator; /* the new one; owned */
	size_t locator_len;
};

/* ---- the metadata ---- */

static int set_flag(struct relation *r, bool has_parent, struct vmimg_error *err)
{
	struct vmimg_io *stage = r->change.stage;
	const struct vhdx_range *metadata = &r->vhdx->metadata;
	struct vhdx_item item;
	uint8_t bytes[8];
	uint32_t flags;
	bool found;

	if (vmimg_vhdx_find_item(stage, metadata, VHDX_GUID_FILE_PARAMETERS, &item, &found, err) ||
		vmimg_io_pread(stage, bytes, sizeof(bytes), metadata->at + item.entry.at, err))
		return -1;
	flags = vmimg_get_le32(bytes + 4) & ~VHDX_HAS_PARENT;
	vmimg_put_le32(bytes + 4, flags | (has_parent ? VHDX_HAS_PARENT : 0));
	return vmimg_vhdx_put_item(
		stage, metadata, VHDX_GUID_FILE_PARAMETERS, 0, bytes, sizeof(bytes), err);
}

/* ---- no parent ---- */

static int fill_block(struct relation *r, uint64_t block, uint64_t entry, struct vmimg_error *err)
{
	const struct vhdx_geometry *g = &r->vhdx->geometry;
	const struct vhdx_params *params = &r->vhdx->params;
	uint64_t bits;

	if (VHDX_BAT_STATE(entry) != VHDX_BLOCK_PARTIAL)
		return 0;
	if (vmimg_vhdx_get_entry(&r->change, vhdx_bitmap_index(g, block / g->ratio), &bits, err))
		return -1;
	bits = VHDX_BAT_AT(bits) + block % g->ratio * (params->block / params->logical / 8);
	if (vmimg_vhdx_zero_gaps(&r->change, VHDX_BAT_AT(entry), bits, err))
		return -1;
	return vmimg_vhdx_fill_block(&r->change, block, err);
}

/* A chunk's bitmap comes after its blocks, and is nobody's then. */
static int fill_entry(void *ctx, uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	struct relation *r = ctx;
	const struct vhdx_geometry *g = &r->vhdx->geometry;
	uint64_t held = vmimg_vhdx_held(&r->change, index, entry);

	if (vmimg_vhdx_change_room(&r->change, err))
		return -1;
	if (!vhdx_is_bitmap_index(g, index))
		return vhdx_block_of(g, index) < g->blocks
			? fill_block(r, vhdx_block_of(g, index), entry, err)
			: 0;
	if (held && vmimg_vhdx_space_free(&r->change, VHDX_BAT_AT(entry), held, err))
		return -1;
	return vmimg_vhdx_set_entry(&r->change, index, 0, err);
}

static int drop_parent(struct relation *r, struct vmimg_error *err)
{
	struct vhdx_change *c = &r->change;

	if (vmimg_vhdx_change_begin(c, err) ||
		vmimg_vhdx_walk(c, 0, r->vhdx->geometry.entries, fill_entry, r, err) ||
		set_flag(r, false, err))
		return -1;
	return vmimg_vhdx_drop_item(c->stage, &r->vhdx->metadata, VHDX_GUID_PARENT_LOCATOR, err);
}

/* ---- another parent ---- */

/* Without a parent nobody reads the entries of bitmaps, and QEMU has left traces there. */
static int clear_bitmap(void *ctx, uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	struct relation *r = ctx;

	(void)entry;
	if (!vhdx_is_bitmap_index(&r->vhdx->geometry, index))
		return 0;
	return vmimg_vhdx_change_room(&r->change, err) ||
			vmimg_vhdx_set_entry(&r->change, index, 0, err)
		? -1
		: 0;
}

/* Room for the last chunk's bitmap, which a disk without a parent lacks. */
static int add_bitmaps(struct relation *r, struct vmimg_error *err)
{
	struct vhdx_params params = r->vhdx->params;
	uint64_t entries;

	params.has_parent = true;
	entries = vmimg_vhdx_geometry(&params).entries;
	return vmimg_vhdx_need_entries(&r->change, entries, err) ||
			vmimg_vhdx_walk(&r->change, 0, entries, clear_bitmap, r, err)
		? -1
		: 0;
}

static int put_parent(struct relation *r, struct vmimg_error *err)
{
	if (vmimg_vhdx_change_begin(&r->change, err) ||
		(!r->vhdx->params.has_parent && add_bitmaps(r, err)) || set_flag(r, true, err))
		return -1;
	return vmimg_vhdx_put_item(r->change.stage, &r->vhdx->metadata, VHDX_GUID_PARENT_LOCATOR,
		VHDX_METADATA_REQUIRED, r->locator, r->locator_len, err);
}

static int make_locator(
	struct relation *r, const struct vmimg_parent *parent, struct vmimg_error *err)
{
	const struct vmimg_disk *disk = parent->disk;
	const struct vmimg_vhdx *other = disk ? disk->state : NULL;

	if (!disk && !r->vhdx->params.has_parent)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a differencing VHDX notes its parent's data write GUID, so the parent has "
			"to be opened");
	if (disk && disk->format != &vmimg_vhdx)
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a VHDX is a VHDX, not %s",
			disk->format->title);
	if (disk && disk->sector_size != r->vhdx->params.logical)
		return vmimg_fail(err, VMIMG_EINVAL,
			"the parent has sectors of %u bytes, this image of %u", disk->sector_size,
			r->vhdx->params.logical);
	r->locator = vmimg_vhdx_make_locator(&r->vhdx->locator,
		other ? &other->head.data_write : NULL, parent->name, &r->locator_len, err);
	return r->locator ? 0 : -1;
}

static int relate(struct relation *r, struct vmimg_disk *disk, const struct vmimg_parent *parent,
	struct vmimg_error *err)
{
	if (r->vhdx->params.leave_allocated)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a fixed VHDX has all its blocks, so no parent can show through");
	if ((parent && make_locator(r, parent, err)) ||
		vmimg_vhdx_change_open(&r->change, disk, err))
		return -1;
	if (parent ? put_parent(r, err) : drop_parent(r, err))
		return -1;
	return vmimg_vhdx_change_end(&r->change, err);
}

int vmimg_vhdx_change_parent(
	struct vmimg_disk *disk, const struct vmimg_parent *parent, struct vmimg_error *err)
{
	struct relation r = { .vhdx = disk->state };
	int result;

	if (!parent && !r.vhdx->params.has_parent)
		return 0;
	result = relate(&r, disk, parent, err);
	vmimg_vhdx_change_done(&r.change);
	free(r.locator);
	return result ? -1 : 0;
}

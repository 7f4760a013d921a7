/* SPDX-License-Identifier: Apache-2.0 */
/* The metadata table and its items ([MS-VHDX] 2.6): what the disk is like. */
#include <inttypes.h>
#include <string.h>
#include "format/vhdx/vhdx.h"
#include "util/num.h"

/* An item's bytes, where it has been found. */
struct item {
	bool there;
	struct vhdx_metadata_entry entry;
};

enum item_kind {
	FILE_PARAMETERS,
	DISK_SIZE,
	DISK_ID,
	LOGICAL_SECTOR,
	PHYSICAL_SECTOR,
	PARENT_LOCATOR,
	ITEM_KINDS
};

static const struct {
	const char *guid, *name;
	uint32_t length; /* 0: any */
} kinds[ITEM_KINDS] = {
	[FILE_PARAMETERS] = { VHDX_GUID_FILE_PARAMETERS, "file parameters", 8 },
	[DISK_SIZE] = { VHDX_GUID_DISK_SIZE, "virtual disk size", 8 },
	[DISK_ID] = { VHDX_GUID_DISK_ID, "virtual disk id", 16 },
	[LOGICAL_SECTOR] = { VHDX_GUID_LOGICAL_SECTOR, "logical sector size", 4 },
	[PHYSICAL_SECTOR] = { VHDX_GUID_PHYSICAL_SECTOR, "physical sector size", 4 },
	[PARENT_LOCATOR] = { VHDX_GUID_PARENT_LOCATOR, "parent locator", 0 },
};

static int find_kind(const struct vhdx_metadata_entry *entry)
{
	if (entry->flags & VHDX_METADATA_USER)
		return -1;
	for (int kind = 0; kind < ITEM_KINDS; kind++)
		if (vmimg_vhdx_is_guid(entry->guid, kinds[kind].guid))
			return kind;
	return -1;
}

/* An item lies behind the table, inside the region; an empty one is nowhere. */
static int check_place(const struct vmimg_vhdx *vhdx, const struct vhdx_metadata_entry *entry,
	struct vmimg_error *err)
{
	if (!entry->length && !entry->at)
		return 0;
	if (!entry->length || entry->length > VHDX_METADATA_ITEM_MAX ||
		entry->at < VHDX_METADATA_TABLE_SIZE ||
		!vmimg_range_inside(entry->at, entry->length, vhdx->metadata.len))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"an item at 0x%" PRIx32 ", length 0x%" PRIx32
			", is not inside the metadata region behind its table",
			entry->at, entry->length);
	return 0;
}

static int take_known(struct item *item, int kind, const struct vhdx_metadata_entry *entry,
	struct vmimg_error *err)
{
	if (item->there)
		return vmimg_fail(err, VMIMG_ECORRUPT, "a second %s", kinds[kind].name);
	if (!entry->length || (kinds[kind].length && entry->length != kinds[kind].length))
		return vmimg_fail(err, VMIMG_ECORRUPT, "the %s is %" PRIu32 " bytes long",
			kinds[kind].name, entry->length);
	item->there = true;
	item->entry = *entry;
	return 0;
}

/* A change of one would be a change of the other. */
static int check_apart(const struct item *items, struct vmimg_error *err)
{
	for (int a = 1; a < ITEM_KINDS; a++)
		for (int b = 0; b < a; b++) {
			const struct vhdx_metadata_entry *x = &items[a].entry, *y = &items[b].entry;

			if (items[a].there && items[b].there && x->at < y->at + y->length &&
				y->at < x->at + x->length)
				return vmimg_fail(err, VMIMG_ECORRUPT,
					"the %s and the %s overlap in the metadata, at 0x%" PRIx32,
					kinds[b].name, kinds[a].name, x->at);
		}
	return 0;
}

static int take_entry(const struct vmimg_vhdx *vhdx, struct item *items,
	const struct vhdx_metadata_entry *entry, struct vmimg_error *err)
{
	int kind = find_kind(entry);
	char text[VMIMG_GUID_TEXT];
	struct vmimg_guid guid;

	if (check_place(vhdx, entry, err))
		return -1;
	if (kind >= 0)
		return take_known(&items[kind], kind, entry, err);
	vmimg_guid_get_mixed(&guid, entry->guid);
	if (entry->flags & VHDX_METADATA_REQUIRED)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"item %s is not known, and required to be", vmimg_guid_format(text, &guid));
	return 0;
}

static int read_table(struct vmimg_vhdx *vhdx, struct item *items, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_buffer(VHDX_METADATA_TABLE_SIZE, err);
	struct vhdx_metadata_head head;

	if (!bytes ||
		vmimg_io_pread(vhdx->io, bytes, VHDX_METADATA_TABLE_SIZE, vhdx->metadata.at, err))
		return -1;
	vhdx_metadata_head_decode(&head, bytes);
	if (head.magic != VHDX_METADATA_MAGIC || head.count > VHDX_METADATA_MAX)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the metadata table at 0x%" PRIx64
			" has the wrong signature or too many entries (%u)",
			vhdx->metadata.at, head.count);
	for (unsigned i = 0; i < head.count; i++) {
		struct vhdx_metadata_entry entry;

		vhdx_metadata_entry_decode(&entry, bytes + 32 + 32 * (size_t)i);
		if (take_entry(vhdx, items, &entry, err))
			return vmimg_within(err, "metadata table, entry %u", i);
	}
	return check_apart(items, err);
}

/* A small item; its length was checked. */
static int read_item(const struct vmimg_vhdx *vhdx, const struct item *items, enum item_kind kind,
	uint8_t *bytes, struct vmimg_error *err)
{
	if (!items[kind].there)
		return vmimg_fail(err, VMIMG_ECORRUPT, "the metadata has no %s", kinds[kind].name);
	return vmimg_io_pread(
		vhdx->io, bytes, kinds[kind].length, vhdx->metadata.at + items[kind].entry.at, err);
}

static int read_params(struct vmimg_vhdx *vhdx, const struct item *items, struct vmimg_error *err)
{
	struct vhdx_params *params = &vhdx->params;
	uint8_t bytes[16];
	uint32_t flags;

	if (read_item(vhdx, items, FILE_PARAMETERS, bytes, err))
		return -1;
	params->block = vmimg_get_le32(bytes);
	flags = vmimg_get_le32(bytes + 4);
	params->leave_allocated = flags & VHDX_LEAVE_ALLOCATED;
	params->has_parent = flags & VHDX_HAS_PARENT;
	if (read_item(vhdx, items, DISK_SIZE, bytes, err))
		return -1;
	params->size = vmimg_get_le64(bytes);
	if (read_item(vhdx, items, LOGICAL_SECTOR, bytes, err))
		return -1;
	params->logical = vmimg_get_le32(bytes);
	return 0;
}

/* What the content does not depend on. */
static int read_physical(struct vmimg_vhdx *vhdx, const struct item *items, struct vmimg_error *err)
{
	uint8_t bytes[4];
	uint32_t size;

	if (read_item(vhdx, items, PHYSICAL_SECTOR, bytes, err))
		return -1;
	size = vmimg_get_le32(bytes);
	if (size != 512 && size != 4096)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a physical sector size of %" PRIu32 " is neither 512 nor 4096", size);
	vhdx->params.physical = size;
	return 0;
}

static int read_disk_id(struct vmimg_vhdx *vhdx, const struct item *items, struct vmimg_error *err)
{
	uint8_t bytes[16];

	if (read_item(vhdx, items, DISK_ID, bytes, err))
		return -1;
	vmimg_guid_get_mixed(&vhdx->params.disk_id, bytes);
	return 0;
}

static int read_rest(
	struct vmimg_disk *disk, const struct item *items, bool lenient, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;
	struct vhdx_params *params = &vhdx->params;

	if (read_physical(vhdx, items, err)) {
		if (!lenient || err->status != VMIMG_ECORRUPT)
			return -1;
		vmimg_disk_warn(disk, "%s", err->text);
		params->physical = 4096;
		params->made_up |= VHDX_MADE_UP_PHYSICAL;
	}
	if (read_disk_id(vhdx, items, err)) {
		if (!lenient || err->status != VMIMG_ECORRUPT)
			return -1;
		vmimg_disk_warn(disk, "%s", err->text);
		params->made_up |= VHDX_MADE_UP_DISK_ID;
		return vmimg_guid_make(&params->disk_id, false,
			vmimg_get_le64(vhdx->head.data_write.bytes), "vhdx disk", err);
	}
	return 0;
}

static int validate(const struct vhdx_params *params, struct vmimg_error *err)
{
	if (!vmimg_is_pow2(params->block) || params->block < VHDX_BLOCK_MIN ||
		params->block > VHDX_BLOCK_MAX)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a block size of %" PRIu32 " bytes is not a power of two from 1 to 256 MiB",
			params->block);
	if (params->logical != 512 && params->logical != 4096)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a logical sector size of %" PRIu32 " is neither 512 nor 4096",
			params->logical);
	if (params->size > VHDX_DISK_MAX || params->size % params->logical)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a virtual disk size of %" PRIu64
			" bytes is more than 64 TiB or not whole sectors of %" PRIu32,
			params->size, params->logical);
	return 0;
}

static int set_geometry(struct vmimg_vhdx *vhdx, struct vmimg_error *err)
{
	vhdx->geometry = vmimg_vhdx_geometry(&vhdx->params);
	if (vhdx->geometry.entries * 8 > vhdx->bat.len)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the BAT region has 0x%" PRIx64 " bytes, too few for %" PRIu64 " entries",
			vhdx->bat.len, vhdx->geometry.entries);
	return 0;
}

static int read_parent(struct vmimg_vhdx *vhdx, const struct item *item, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = NULL;

	if (!item->there)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the disk has a parent, but the metadata has no parent locator");
	bytes = vmimg_alloc_array(item->entry.length, 1, err);
	if (!bytes ||
		vmimg_io_pread(vhdx->io, bytes, item->entry.length,
			vhdx->metadata.at + item->entry.at, err))
		return -1;
	return vmimg_vhdx_read_locator(&vhdx->locator, bytes, item->entry.length, err);
}

struct vhdx_geometry vmimg_vhdx_geometry(const struct vhdx_params *params)
{
	struct vhdx_geometry g = {
		.blocks = vmimg_div_up(params->size, params->block),
		.ratio = VHDX_CHUNK_SECTORS * params->logical / params->block,
	};

	if (params->has_parent)
		g.entries = vmimg_div_up(g.blocks, g.ratio) * (g.ratio + 1);
	else if (g.blocks)
		g.entries = g.blocks + (g.blocks - 1) / g.ratio;
	return g;
}

int vmimg_vhdx_read_metadata(struct vmimg_disk *disk, bool lenient, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;
	struct item items[ITEM_KINDS] = { 0 };

	if (read_table(vhdx, items, err) || read_params(vhdx, items, err) ||
		validate(&vhdx->params, err) || set_geometry(vhdx, err) ||
		read_rest(disk, items, lenient, err))
		return -1;
	return vhdx->params.has_parent ? read_parent(vhdx, &items[PARENT_LOCATOR], err) : 0;
}

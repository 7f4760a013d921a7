/* SPDX-License-Identifier: Apache-2.0 */
/* The small structures of a new file: metadata, region tables, headers, identifier, in that order,
 * so that a file which is not complete is not taken for a VHDX. */
#include <string.h>
#include "disk/sink.h"
#include "format/vhdx/vhdx.h"
#include "util/utf16.h"

#define CREATOR "vmimg " VMIMG_VERSION

/* A metadata table being filled, and its items behind it. */
struct metadata {
	uint8_t *bytes;
	struct vhdx_metadata_head head;
	uint32_t at; /* of the next item */
};

static void add_item(
	struct metadata *metadata, const char *guid, uint32_t flags, const void *item, size_t len)
{
	struct vhdx_metadata_entry entry = {
		.at = metadata->at, .length = (uint32_t)len, .flags = flags
	};

	vmimg_vhdx_put_guid(entry.guid, guid);
	vhdx_metadata_entry_encode(
		&entry, metadata->bytes + 32 * (1 + (size_t)metadata->head.count));
	memcpy(metadata->bytes + metadata->at, item, len);
	metadata->at += (uint32_t)(len + 7) & ~7U;
	metadata->head.count++;
}

static void add_items(struct metadata *metadata, const struct vhdx_plan *plan)
{
	const uint32_t required = VHDX_METADATA_REQUIRED;
	const uint32_t of_disk = VHDX_METADATA_REQUIRED | VHDX_METADATA_VIRTUAL;
	const struct vhdx_params *params = &plan->params;
	uint8_t bytes[16];

	vmimg_put_le32(bytes, params->block);
	vmimg_put_le32(bytes + 4,
		(params->leave_allocated ? VHDX_LEAVE_ALLOCATED : 0) |
			(params->has_parent ? VHDX_HAS_PARENT : 0));
	add_item(metadata, VHDX_GUID_FILE_PARAMETERS, required, bytes, 8);
	vmimg_put_le64(bytes, params->size);
	add_item(metadata, VHDX_GUID_DISK_SIZE, of_disk, bytes, 8);
	vmimg_guid_put_mixed(&params->disk_id, bytes);
	add_item(metadata, VHDX_GUID_DISK_ID, of_disk, bytes, 16);
	vmimg_put_le32(bytes, params->logical);
	add_item(metadata, VHDX_GUID_LOGICAL_SECTOR, of_disk, bytes, 4);
	vmimg_put_le32(bytes, params->physical);
	add_item(metadata, VHDX_GUID_PHYSICAL_SECTOR, of_disk, bytes, 4);
	if (plan->locator)
		add_item(metadata, VHDX_GUID_PARENT_LOCATOR, required, plan->locator,
			plan->locator_len);
}

static int write_metadata(
	struct vmimg_io *io, const struct vhdx_plan *plan, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_array(plan->metadata.len, 1, err);
	struct metadata metadata = { bytes, { .magic = VHDX_METADATA_MAGIC },
		VHDX_METADATA_TABLE_SIZE };

	if (!bytes)
		return -1;
	add_items(&metadata, plan);
	vhdx_metadata_head_encode(&metadata.head, bytes);
	return vmimg_io_pwrite(io, bytes, metadata.at, plan->metadata.at, err);
}

static int write_regions(struct vmimg_io *io, const struct vhdx_plan *plan, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_array(VHDX_REGIONS_SIZE, 1, err);
	struct vhdx_regions_head head = { .magic = VHDX_REGIONS_MAGIC, .count = 2 };
	struct vhdx_region bat = {
		.at = plan->bat.at, .length = (uint32_t)plan->bat.len, .flags = VHDX_REGION_REQUIRED
	};
	struct vhdx_region metadata = { .at = plan->metadata.at,
		.length = (uint32_t)plan->metadata.len,
		.flags = VHDX_REGION_REQUIRED };

	if (!bytes)
		return -1;
	vmimg_vhdx_put_guid(bat.guid, VHDX_GUID_BAT);
	vmimg_vhdx_put_guid(metadata.guid, VHDX_GUID_METADATA);
	vhdx_regions_head_encode(&head, bytes);
	vhdx_region_encode(&bat, bytes + 16);
	vhdx_region_encode(&metadata, bytes + 48);
	head.checksum = vmimg_vhdx_checksum(bytes, VHDX_REGIONS_SIZE);
	vhdx_regions_head_encode(&head, bytes);
	if (vmimg_io_pwrite(io, bytes, VHDX_REGIONS_SIZE, VHDX_REGIONS_AT(0), err))
		return -1;
	return vmimg_io_pwrite(io, bytes, VHDX_REGIONS_SIZE, VHDX_REGIONS_AT(1), err);
}

static int write_identifier(struct vmimg_io *io, struct vmimg_error *err)
{
	uint8_t bytes[VHDX_CREATOR_AT + VHDX_CREATOR_SIZE] = VHDX_FILE_ID;
	VMIMG_AUTO(free) uint8_t *creator = NULL;
	size_t len;

	creator = vmimg_utf16_encode(CREATOR, false, &len, err);
	if (!creator)
		return -1;
	memcpy(bytes + VHDX_CREATOR_AT, creator, len);
	return vmimg_io_pwrite(io, bytes, sizeof(bytes), 0, err);
}

int vmimg_vhdx_write_head(struct vmimg_io *io, const struct vhdx_plan *plan,
	const struct vmimg_guid *file_write, const struct vmimg_guid *data_write,
	struct vmimg_error *err)
{
	struct vhdx_head head = {
		.file_write = *file_write, .data_write = *data_write, .log_range = plan->log
	};

	if (write_metadata(io, plan, err) || write_regions(io, plan, err) ||
		vmimg_vhdx_put_header(io, 0, &head, err))
		return -1;
	head.sequence = 1;
	if (vmimg_vhdx_put_header(io, 1, &head, err))
		return -1;
	if (vmimg_sink_barrier(io, err))
		return -1;
	return write_identifier(io, err);
}

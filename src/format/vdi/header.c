/* SPDX-License-Identifier: Apache-2.0 */
/* The header, of every version, into one structure. */
#include <inttypes.h>
#include <string.h>
#include "format/vdi/vdi.h"
#include "util/limits.h"
#include "util/num.h"

static void take_version0(struct vmimg_vdi_header *to, const uint8_t *bytes)
{
	struct vmimg_vdi_header0 from;

	vmimg_vdi_header0_decode(&from, bytes);
	to->type = from.type;
	to->flags = from.flags;
	memcpy(to->comment, from.comment, sizeof(from.comment));
	to->map_at = VMIMG_VDI_HEADER0_SIZE;
	to->data_at = to->map_at + 4 * (uint64_t)from.blocks;
	to->cylinders = from.cylinders;
	to->heads = from.heads;
	to->sectors = from.sectors;
	to->sector_size = from.sector_size;
	to->disk_size = from.disk_size;
	to->block_size = from.block_size;
	to->blocks = from.blocks;
	to->allocated = from.allocated;
	vmimg_guid_get_mixed(&to->uuid, from.uuid);
	vmimg_guid_get_mixed(&to->modified, from.modified);
	vmimg_guid_get_mixed(&to->link, from.link);
}

static int take_version1(struct vmimg_vdi_header *to, const uint8_t *bytes, struct vmimg_error *err)
{
	struct vmimg_vdi_header1 from;

	vmimg_vdi_header1_decode(&from, bytes);
	if (from.header_size < VMIMG_VDI_HEADER1_LEAST)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a header size of %" PRIu32 " (offset 72), less than %d", from.header_size,
			VMIMG_VDI_HEADER1_LEAST);
	if (from.map_at < (uint64_t)VMIMG_VDI_PRE_SIZE + from.header_size)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the block map at 0x%" PRIx32 " lies inside the header", from.map_at);
	to->type = from.type;
	to->flags = from.flags;
	memcpy(to->comment, from.comment, sizeof(from.comment));
	to->map_at = from.map_at;
	to->data_at = from.data_at;
	to->cylinders = from.cylinders;
	to->heads = from.heads;
	to->sectors = from.sectors;
	to->sector_size = from.sector_size;
	to->disk_size = from.disk_size;
	to->block_size = from.block_size;
	to->block_extra = from.block_extra;
	to->blocks = from.blocks;
	to->allocated = from.allocated;
	vmimg_guid_get_mixed(&to->uuid, from.uuid);
	vmimg_guid_get_mixed(&to->modified, from.modified);
	vmimg_guid_get_mixed(&to->link, from.link);
	vmimg_guid_get_mixed(&to->parent_modified, from.parent_modified);
	return 0;
}

static int validate(
	const struct vmimg_vdi_header *header, uint64_t file_size, struct vmimg_error *err)
{
	if (header->type < VMIMG_VDI_DYNAMIC || header->type > VMIMG_VDI_DIFFERENCING)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"image type %" PRIu32 " is none of dynamic, fixed, undo, differencing",
			header->type);
	if (!header->block_size || header->block_size % 512 ||
		header->block_size > VMIMG_VDI_MAX_BLOCK)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a block size of %" PRIu32 " bytes is no number of sectors up to 256 MiB",
			header->block_size);
	if (header->block_extra > VMIMG_VDI_MAX_BLOCK)
		return vmimg_fail(err, VMIMG_ECORRUPT, "%" PRIu32 " bytes of extra data a block",
			header->block_extra);
	if (!vmimg_range_inside(header->map_at, 4 * (uint64_t)header->blocks, file_size))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the block map (%" PRIu32 " entries at 0x%" PRIx64
			") reaches past the end of the file (0x%" PRIx64 ")",
			header->blocks, header->map_at, file_size);
	if (header->disk_size > VMIMG_MAX_DISK ||
		vmimg_div_up(header->disk_size, header->block_size) > header->blocks)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a disk of %" PRIu64 " bytes in %" PRIu32 " blocks of %" PRIu32 " bytes",
			header->disk_size, header->blocks, header->block_size);
	return 0;
}

int vmimg_vdi_read_header(
	struct vmimg_io *io, struct vmimg_vdi_header *header, struct vmimg_error *err)
{
	struct vmimg_vdi_header read = { 0 };
	uint8_t bytes[VMIMG_VDI_HEADER1_SIZE] = { 0 };
	uint64_t size = vmimg_io_size(io);
	struct vmimg_vdi_pre pre;
	size_t need;

	if (vmimg_io_pread(io, bytes, (size_t)vmimg_min(sizeof(bytes), size), 0, err))
		return -1;
	vmimg_vdi_pre_decode(&pre, bytes);
	if (pre.magic != VMIMG_VDI_MAGIC)
		return vmimg_fail(err, VMIMG_EFORMAT, "it has no VDI signature at offset 64");
	if (pre.major > 1)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "VDI version %u.%u, not 0.x or 1.x",
			pre.major, pre.minor);
	need = pre.major ? VMIMG_VDI_PRE_SIZE + VMIMG_VDI_HEADER1_LEAST : VMIMG_VDI_HEADER0_SIZE;
	if (size < need)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"%" PRIu64 " bytes, less than a header (%zu)", size, need);
	memcpy(read.text, pre.text, sizeof(pre.text));
	read.major = pre.major;
	read.minor = pre.minor;
	if (!pre.major)
		take_version0(&read, bytes);
	else if (take_version1(&read, bytes, err))
		return -1;
	if (validate(&read, size, err))
		return -1;
	*header = read;
	return 0;
}

bool vmimg_vdi_has_parent(const struct vmimg_vdi_header *header)
{
	return header->type == VMIMG_VDI_UNDO || header->type == VMIMG_VDI_DIFFERENCING;
}

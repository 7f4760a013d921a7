/* SPDX-License-Identifier: Apache-2.0 */
/* The header written back, and the blocks that are in use, for changes in place. */
#include "format/vdi/change.h"
#include <inttypes.h>
#include <string.h>
#include "util/num.h"

#define SECTOR 512U

int vmimg_vdi_begin(const struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_vdi *vdi = disk->state;
	const struct vmimg_vdi_header *header = &vdi->header;

	if (disk->io->is_device)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "it lies on a device");
	/* a gap among the blocks would be the header, or the map */
	if (header->map_at + 4 * (uint64_t)header->blocks > header->data_at)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the blocks do not begin after the block map: convert it");
	return 0;
}

int vmimg_vdi_fail_full(struct vmimg_error *err)
{
	return vmimg_fail(
		err, VMIMG_ELIMIT, "its blocks are as many as a block map can number: convert it");
}

/* Fields that both versions have. */
#define COPY_FIELDS(to, from)                                           \
	do {                                                            \
		(to).type = (from)->type;                               \
		(to).cylinders = (from)->cylinders;                     \
		(to).heads = (from)->heads;                             \
		(to).sectors = (from)->sectors;                         \
		(to).disk_size = (from)->disk_size;                     \
		(to).blocks = (from)->blocks;                           \
		(to).allocated = (from)->allocated;                     \
		vmimg_guid_put_mixed(&(from)->uuid, (to).uuid);         \
		vmimg_guid_put_mixed(&(from)->modified, (to).modified); \
		vmimg_guid_put_mixed(&(from)->link, (to).link);         \
	} while (0)

/* What was read goes back as it was, but for the fields. Returns how much of it is the header. */
static size_t encode_version0(const struct vmimg_vdi_header *header, uint8_t bytes[SECTOR])
{
	struct vmimg_vdi_header0 to;

	vmimg_vdi_header0_decode(&to, bytes);
	COPY_FIELDS(to, header);
	vmimg_vdi_header0_encode(&to, bytes);
	return VMIMG_VDI_HEADER0_SIZE;
}

static size_t encode_version1(const struct vmimg_vdi_header *header, uint8_t bytes[SECTOR])
{
	struct vmimg_vdi_header1 to;
	bool longer;

	vmimg_vdi_header1_decode(&to, bytes);
	longer = to.header_size >= VMIMG_VDI_HEADER1_SIZE - VMIMG_VDI_PRE_SIZE;
	COPY_FIELDS(to, header);
	to.map_at = (uint32_t)header->map_at;
	to.data_at = (uint32_t)header->data_at;
	vmimg_guid_put_mixed(&header->parent_modified, to.parent_modified);
	vmimg_vdi_header1_encode(&to, bytes);
	return longer ? VMIMG_VDI_HEADER1_SIZE : VMIMG_VDI_PRE_SIZE + VMIMG_VDI_HEADER1_LEAST;
}

int vmimg_vdi_put_header(
	struct vmimg_disk *disk, const struct vmimg_vdi_header *header, struct vmimg_error *err)
{
	struct vmimg_io *io = disk->io;
	uint8_t bytes[SECTOR] = { 0 };
	size_t len = (size_t)vmimg_min(sizeof(bytes), vmimg_io_size(io));

	if (vmimg_io_sync(io, err) || vmimg_io_pread(io, bytes, len, 0, err))
		return -1;
	len = header->major ? encode_version1(header, bytes) : encode_version0(header, bytes);
	if (vmimg_io_pwrite(io, bytes, len, 0, err))
		return -1;
	return vmimg_io_sync(io, err);
}

struct adding {
	const struct vmimg_disk *disk;
	struct vmimg_blocks *blocks;
};

static int add_block(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	struct adding *adding = ctx;
	const char *wrong = vmimg_vdi_judge_entry(adding->disk, i, entry, NULL);

	if (wrong)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"block map entry %" PRIu64 " is 0x%08" PRIx32 ": %s (repair it first)", i,
			entry, wrong);
	return vmimg_blocks_add(adding->blocks, entry, 1, err);
}

int vmimg_vdi_space(struct vmimg_disk *disk, struct vmimg_blocks *blocks, struct vmimg_error *err)
{
	struct adding adding = { disk, blocks };

	vmimg_blocks_init(blocks, 1, 1, 0);
	if (vmimg_vdi_walk(disk->state, add_block, &adding, err))
		return -1;
	vmimg_blocks_room(blocks, 0);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks moved from the end of the file into its gaps. VirtualBox keeps none: it puts a new block
 * where the header's count says that they end. */
#include "format/vdi/change.h"
#include "util/num.h"

struct moving {
	struct vmimg_disk *disk;
	const struct vmimg_vdi_header *header;
};

static uint64_t place_of(const struct moving *m, uint64_t number)
{
	return m->header->data_at + number * vmimg_vdi_stride(m->header);
}

static int walk(void *ctx, vmimg_blocks_visit *visit, void *visit_ctx, struct vmimg_error *err)
{
	const struct moving *m = ctx;

	return vmimg_vdi_walk(m->disk->state, visit, visit_ctx, err);
}

static int copy_block(void *ctx, struct vmimg_copier *copier, uint64_t i, uint64_t from,
	uint64_t to, struct vmimg_error *err)
{
	const struct moving *m = ctx;
	uint64_t at = place_of(m, from);

	(void)i;
	return vmimg_copier_add(copier, at, place_of(m, to),
		vmimg_min(vmimg_vdi_stride(m->header), vmimg_io_size(m->disk->io) - at), err);
}

static int lead(void *ctx, uint64_t i, uint64_t to, struct vmimg_error *err)
{
	const struct moving *m = ctx;
	uint8_t bytes[4];

	vmimg_put_le32(bytes, (uint32_t)to);
	return vmimg_io_pwrite(m->disk->io, bytes, sizeof(bytes), m->header->map_at + 4 * i, err);
}

int vmimg_vdi_close_gaps(
	struct vmimg_disk *disk, struct vmimg_vdi_header *header, struct vmimg_error *err)
{
	struct vmimg_vdi *vdi = disk->state;
	struct moving moving = { disk, header };
	const struct vmimg_blocks_image image = { disk->io, &moving, walk, copy_block, lead };
	struct vmimg_blocks blocks = { 0 };
	struct vmimg_io *io = disk->io;
	uint64_t end;
	int result;

	vmimg_table_forget(vdi->table);
	result = vmimg_vdi_space(disk, &blocks, err) || vmimg_blocks_squeeze(&blocks, &image, err);
	/* what stays ends where the limit is, or before */
	header->allocated = (uint32_t)vmimg_min(blocks.limit, blocks.used_end);
	vmimg_blocks_done(&blocks);
	vmimg_table_forget(vdi->table);
	if (result || vmimg_vdi_put_header(disk, header, err))
		return -1;
	end = place_of(&moving, header->allocated);
	if (vmimg_io_size(io) <= end)
		return 0;
	return vmimg_io_resize(io, end, err) || vmimg_io_sync(io, err) ? -1 : 0;
}

int vmimg_vdi_squeeze(struct vmimg_disk *disk, uint64_t *saved, struct vmimg_error *err)
{
	const struct vmimg_vdi *vdi = disk->state;
	struct vmimg_vdi_header header = vdi->header;
	uint64_t before = vmimg_io_size(disk->io);

	if (vmimg_vdi_begin(disk, err) || vmimg_vdi_close_gaps(disk, &header, err))
		return -1;
	*saved = before - vmimg_io_size(disk->io);
	return 0;
}

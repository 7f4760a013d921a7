/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks moved from the end of the file into its gaps. VirtualBox keeps none: it puts a new block
 * where the header's count says that they end. All copies are flushed before the first entry of the
 * map is led to one; whatever a crash picks, each entry leads to one of two equal blocks.
 */
#include "format/vdi/change.h"
#include "util/num.h"

struct squeeze {
	struct vmimg_disk *disk;
	const struct vmimg_vdi_header *header;
	struct vmimg_blocks blocks;
	uint64_t limit, found; /* count_from */
	bool in_file;          /* data is copied; else entries change */
};

static uint64_t place_of(const struct squeeze *s, uint64_t number)
{
	return s->header->data_at + number * vmimg_vdi_stride(s->header);
}

static int count_one(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	struct squeeze *s = ctx;

	(void)i;
	(void)err;
	s->found += entry >= s->limit;
	return 0;
}

static int count_from(void *ctx, uint64_t limit, uint64_t *count, struct vmimg_error *err)
{
	struct squeeze *s = ctx;

	s->limit = limit;
	s->found = 0;
	if (vmimg_vdi_walk(s->disk->state, count_one, s, err))
		return -1;
	*count = s->found;
	return 0;
}

/* The same places, in the same order, whether data is copied or entries change. */
static int move(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	struct squeeze *s = ctx;
	struct vmimg_io *io = s->disk->io;
	uint64_t to, from = place_of(s, entry);
	uint8_t bytes[4];

	if (!vmimg_blocks_moves(&s->blocks, entry))
		return 0;
	to = vmimg_blocks_take(&s->blocks);
	if (s->in_file)
		return vmimg_blocks_copy(io, from, place_of(s, to),
			vmimg_min(vmimg_vdi_stride(s->header), vmimg_io_size(io) - from), err);
	vmimg_put_le32(bytes, (uint32_t)to);
	return vmimg_io_pwrite(io, bytes, sizeof(bytes), s->header->map_at + 4 * i, err);
}

static int move_all(struct squeeze *s, struct vmimg_error *err)
{
	struct vmimg_vdi *vdi = s->disk->state;
	uint64_t moves;

	if (vmimg_blocks_plan(&s->blocks, count_from, s, &moves, err))
		return -1;
	if (!moves)
		return 0;
	s->in_file = true;
	if (vmimg_vdi_walk(vdi, move, s, err) || vmimg_io_sync(s->disk->io, err))
		return -1;
	s->in_file = false;
	vmimg_blocks_rewind(&s->blocks);
	return vmimg_vdi_walk(vdi, move, s, err);
}

int vmimg_vdi_close_gaps(
	struct vmimg_disk *disk, struct vmimg_vdi_header *header, struct vmimg_error *err)
{
	struct vmimg_vdi *vdi = disk->state;
	struct squeeze s = { .disk = disk, .header = header };
	struct vmimg_io *io = disk->io;
	uint64_t end;
	int result;

	vmimg_table_forget(vdi->table);
	result = vmimg_vdi_space(disk, &s.blocks, err) || move_all(&s, err) ? -1 : 0;
	/* what stays ends where the limit is, or before */
	header->allocated = (uint32_t)vmimg_min(s.blocks.limit, s.blocks.used_end);
	vmimg_blocks_done(&s.blocks);
	vmimg_table_forget(vdi->table);
	if (result || vmimg_vdi_put_header(disk, header, err))
		return -1;
	end = place_of(&s, header->allocated);
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placing the blocks of dynamic and differencing disks, in guest order. A block gets its place with
 * its first data; its bitmap has a bit for every sector that was written, and what was not is a
 * hole, so that readers that ignore the bitmap see the same. In memory are one bitmap and a window
 * of the block table.
 */
#include <string.h>
#include "format/vhd/sink.h"
#include "util/num.h"

static struct vmimg_vhd_sink *sink_of(struct vmimg_sink *sink)
{
	return (struct vmimg_vhd_sink *)sink;
}

uint64_t vmimg_vhd_first_block(uint64_t tables_end, uint32_t bitmap_bytes)
{
	return vmimg_align_up(tables_end + bitmap_bytes, VMIMG_VHD_ALIGN) - bitmap_bytes;
}

uint64_t vmimg_vhd_block_stride(uint32_t block_size, uint32_t bitmap_bytes)
{
	return vmimg_align_up((uint64_t)block_size + bitmap_bytes, VMIMG_VHD_ALIGN);
}

uint64_t vmimg_vhd_blocks_end(
	uint64_t tables_end, uint64_t count, uint32_t block_size, uint32_t bitmap_bytes)
{
	if (!count)
		return tables_end;
	return vmimg_vhd_first_block(tables_end, bitmap_bytes) +
		(count - 1) * vmimg_vhd_block_stride(block_size, bitmap_bytes) + bitmap_bytes +
		block_size;
}

void vmimg_vhd_fold(struct vmimg_vhd_sink *s, const struct vmimg_chunk *chunk)
{
	s->content += chunk->digest;
}

/* ---- block table ---- */

static int write_window(struct vmimg_vhd_sink *s, uint32_t count, struct vmimg_error *err)
{
	if (vmimg_io_pwrite(s->io, s->bat, (size_t)count * 4, s->bat_at + 4 * s->window, err))
		return -1;
	memset(s->bat, 0xff, (size_t)count * 4);
	s->window += count;
	return 0;
}

static int set_entry(struct vmimg_vhd_sink *s, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	while (i - s->window >= VMIMG_VHD_WINDOW)
		if (write_window(s, VMIMG_VHD_WINDOW, err))
			return -1;
	vmimg_put_be32(s->bat + 4 * (i - s->window), sector);
	return 0;
}

/* Up to the end of the table's last sector. */
static int write_rest(struct vmimg_vhd_sink *s, struct vmimg_error *err)
{
	uint64_t end = vmimg_align_up(s->entries, VMIMG_VHD_SECTOR / 4);

	while (s->window < end)
		if (write_window(s, (uint32_t)vmimg_min(end - s->window, VMIMG_VHD_WINDOW), err))
			return -1;
	return 0;
}

/* ---- blocks ---- */

static int leave_block(struct vmimg_vhd_sink *s, struct vmimg_error *err)
{
	if (!s->block_at)
		return 0;
	if (vmimg_io_pwrite(s->io, s->bitmap, s->bitmap_bytes, s->block_at, err))
		return -1;
	memset(s->bitmap, 0, s->bitmap_bytes);
	s->block_at = 0;
	return 0;
}

/* Makes the block of that guest offset the one being filled. */
static int enter_block(struct vmimg_vhd_sink *s, uint64_t guest, struct vmimg_error *err)
{
	uint64_t block = guest / s->block_size;

	if (s->block_at && block == s->block)
		return 0;
	if (leave_block(s, err))
		return -1;
	if (s->end / VMIMG_VHD_SECTOR >= VMIMG_VHD_UNUSED)
		return vmimg_fail(err, VMIMG_ELIMIT, "a dynamic VHD file ends at 2 TiB");
	s->block = block;
	s->block_at = s->end;
	s->end += vmimg_vhd_block_stride(s->block_size, s->bitmap_bytes);
	if (s->io->is_device && vmimg_io_zero(s->io, s->block_at, s->end - s->block_at, err))
		return -1;
	return set_entry(s, block, (uint32_t)(s->block_at / VMIMG_VHD_SECTOR), err);
}

/* Marks [guest, guest + len), which lies in the block being filled, as present. */
static void set_bits(struct vmimg_vhd_sink *s, uint64_t guest, uint64_t len)
{
	uint64_t first = guest % s->block_size / VMIMG_VHD_SECTOR;
	uint64_t end = first + len / VMIMG_VHD_SECTOR;

	for (uint64_t i = first; i < end; i++) {
		if (!(i % 8) && end - i >= 8) {
			s->bitmap[i / 8] = 0xff;
			i += 7;
		} else {
			s->bitmap[i / 8] = (uint8_t)(s->bitmap[i / 8] | 0x80 >> i % 8);
		}
	}
}

/* Zeroes that hide what the parent has: sectors that are present, and holes. */
static int place_zeroes(
	struct vmimg_vhd_sink *s, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	while (len) {
		uint64_t step = vmimg_min(len, s->block_size - guest % s->block_size);

		if (enter_block(s, guest, err))
			return -1;
		set_bits(s, guest, step);
		guest += step;
		len -= step;
	}
	return 0;
}

static int place_data(struct vmimg_vhd_sink *s, struct vmimg_chunk *chunk, uint64_t guest,
	const struct vmimg_piece *piece, struct vmimg_error *err)
{
	uint64_t at;

	if (enter_block(s, guest, err))
		return -1;
	set_bits(s, guest, piece->size);
	at = s->block_at + s->bitmap_bytes + guest % s->block_size;
	if (chunk->guest / s->block_size == (chunk->guest + chunk->len - 1) / s->block_size &&
		guest == chunk->guest)
		chunk->clone = (struct vmimg_store){ s->io, at, NULL, (size_t)chunk->len };
	vmimg_chunk_store(chunk, s->io, at, piece->bytes, piece->size);
	return 0;
}

static int dynamic_place(
	struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct vmimg_vhd_sink *s = sink_of(sink);
	bool hides = s->type == VMIMG_VHD_DIFFERENCING;
	uint64_t guest = chunk->guest;

	vmimg_vhd_fold(s, chunk);
	if (chunk->kind != VMIMG_PIECE_DATA)
		return hides && chunk->kind == VMIMG_PIECE_ZERO
			? place_zeroes(s, guest, chunk->len, err)
			: 0;
	for (size_t i = 0; i < chunk->piece_count; i++) {
		const struct vmimg_piece *piece = &chunk->pieces[i];

		if (piece->kind == VMIMG_PIECE_DATA) {
			if (place_data(s, chunk, guest, piece, err))
				return -1;
		} else if (hides && place_zeroes(s, guest, piece->size, err)) {
			return -1;
		}
		guest += piece->size;
	}
	return 0;
}

/* The footers come last, at the start and at the end of the file, or of the device: without them
 * this is no VHD. The one at the start is enough for all readers, and so comes first. */
static int dynamic_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct vmimg_vhd_sink *s = sink_of(sink);
	uint8_t footer[VMIMG_VHD_FOOTER_SIZE];
	uint64_t first = vmimg_vhd_first_block(s->tables_end, s->bitmap_bytes);
	uint64_t blocks =
		(s->end - first) / vmimg_vhd_block_stride(s->block_size, s->bitmap_bytes);
	uint64_t end =
		vmimg_vhd_blocks_end(s->tables_end, blocks, s->block_size, s->bitmap_bytes);

	if (s->io->is_device && vmimg_io_size(s->io) >= end + sizeof(footer))
		end = vmimg_io_size(s->io) - sizeof(footer);
	if (leave_block(s, err) || write_rest(s, err) || vmimg_vhd_make_footer(s, footer, err) ||
		vmimg_vhd_write_header(s, err) || vmimg_sink_barrier(s->io, err))
		return -1;
	if (vmimg_io_pwrite(s->io, footer, sizeof(footer), 0, err) ||
		vmimg_sink_barrier(s->io, err))
		return -1;
	return vmimg_io_pwrite(s->io, footer, sizeof(footer), end, err);
}

void vmimg_vhd_sink_close(struct vmimg_sink *sink)
{
	struct vmimg_vhd_sink *s = sink_of(sink);

	vmimg_io_unref(s->io);
	free(s->parent_name);
	free(s->bitmap);
	free(s->bat);
	free(s);
}

const struct vmimg_sink_ops vmimg_vhd_dynamic_ops = {
	.place = dynamic_place,
	.finish = dynamic_finish,
	.close = vmimg_vhd_sink_close,
};

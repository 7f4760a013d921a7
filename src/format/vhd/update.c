/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New content in place. Data goes where its sector is, or into a new block, which nobody knows of;
 * all is flushed; then the bitmaps of old blocks and the entries of the BAT are written, each of
 * which makes visible what lies there already. So a sector reads as before until it reads as given.
 *
 * One block is in hand at a time, in guest order. What waits for the flush is kept in memory; for
 * images with so many blocks that this would be too much, chunks are stored in order, so that there
 * can be a flush now and then.
 */
#include <inttypes.h>
#include <string.h>
#include "disk/entries.h"
#include "disk/sink.h"
#include "format/vhd/change.h"
#include "util/num.h"

#define CHUNK (256U << 10)
/* Bytes of bitmaps and of entries that wait, after which there is a flush. */
#define MOST_WAITING (UINT64_C(16) << 20)

struct update {
	struct vmimg_sink sink;
	struct vmimg_disk *disk;
	struct vmimg_vhd *vhd;
	struct vmimg_io *io;
	struct vmimg_chunk *chunk; /* being placed */
	bool hides; /* there is a parent, or will be: zeroes are sectors that are present */
	struct vmimg_blocks blocks;
	struct vmimg_vhd_end end;
	/* the block in hand */
	bool in_hand, is_new, dirty;
	uint64_t block;
	uint32_t sector; /* VMIMG_VHD_UNUSED: it is not in the file */
	uint8_t *bitmap;
	/* what waits for the flush */
	uint8_t *bitmaps; /* of 8 bytes, where it belongs, and the bitmap */
	size_t bitmap_count, bitmap_cap;
	struct vmimg_entries entries;
};

static struct update *update_of(struct vmimg_sink *sink)
{
	return (struct update *)sink;
}

/* ---- what waits ---- */

static size_t record_size(const struct update *u)
{
	return 8 + (size_t)u->vhd->bitmap_bytes;
}

static int write_bitmaps(struct update *u, struct vmimg_error *err)
{
	for (size_t i = 0; i < u->bitmap_count; i++) {
		const uint8_t *record = u->bitmaps + i * record_size(u);

		if (vmimg_io_pwrite(
			    u->io, record + 8, u->vhd->bitmap_bytes, vmimg_get_be64(record), err))
			return -1;
	}
	u->bitmap_count = 0;
	return 0;
}

static int flush(struct update *u, struct vmimg_error *err)
{
	if (!u->bitmap_count && !u->entries.count)
		return vmimg_io_sync(u->io, err);
	if (vmimg_vhd_clear_batmap(u->disk, &u->blocks, &u->end, err) ||
		vmimg_io_sync(u->io, err) || write_bitmaps(u, err) ||
		vmimg_entries_write(&u->entries, u->io, u->vhd->bat_at, vmimg_put_be32, err))
		return -1;
	return vmimg_io_sync(u->io, err);
}

/* All that was placed before has been stored when chunks are stored in order, and this one has no
 * stores yet. */
static int flush_some(struct update *u, struct vmimg_error *err)
{
	uint64_t waiting =
		u->bitmap_count * record_size(u) + u->entries.count * sizeof(struct vmimg_entry);

	return u->sink.in_order && !u->chunk->store_count && waiting >= MOST_WAITING ? flush(u, err)
										     : 0;
}

static int keep_bitmap(struct update *u, struct vmimg_error *err)
{
	uint8_t *record;

	if (vmimg_grow_array(&u->bitmaps, &u->bitmap_cap, u->bitmap_count + 1, record_size(u), err))
		return -1;
	record = u->bitmaps + u->bitmap_count++ * record_size(u);
	vmimg_put_be64(record, (uint64_t)u->sector * VMIMG_VHD_SECTOR);
	memcpy(record + 8, u->bitmap, u->vhd->bitmap_bytes);
	return 0;
}

/* ---- the block in hand ---- */

static uint64_t block_start(const struct update *u)
{
	return (uint64_t)u->sector * VMIMG_VHD_SECTOR;
}

static uint32_t sectors_of(const struct update *u)
{
	uint64_t left = u->disk->size - u->block * u->disk->block;

	return (uint32_t)(vmimg_min(left, u->disk->block) / VMIMG_VHD_SECTOR);
}

static void set_bits(struct update *u, uint64_t guest, uint64_t len, bool present)
{
	uint32_t first = (uint32_t)(guest % u->disk->block / VMIMG_VHD_SECTOR);
	uint32_t end = first + (uint32_t)(len / VMIMG_VHD_SECTOR);

	for (uint32_t i = first; i < end; i++) {
		uint8_t bit = (uint8_t)(0x80 >> i % 8), old = u->bitmap[i / 8];

		u->bitmap[i / 8] = present ? old | bit : old & (uint8_t)~bit;
		u->dirty |= u->bitmap[i / 8] != old;
	}
}

static bool is_empty(const struct update *u)
{
	for (uint32_t i = 0; i < sectors_of(u); i++)
		if (u->bitmap[i / 8] >> (7 - i % 8) & 1)
			return false;
	return true;
}

/* A block that has no sector any more is given up; all its data is zero by now. */
static int leave(struct update *u, struct vmimg_error *err)
{
	if (!u->in_hand)
		return 0;
	u->in_hand = false;
	if (u->sector == VMIMG_VHD_UNUSED || !(u->dirty || u->is_new))
		return 0;
	if (!u->is_new && !u->hides && is_empty(u))
		return vmimg_entries_keep(&u->entries, u->block, VMIMG_VHD_UNUSED, err);
	if (!u->is_new)
		return keep_bitmap(u, err);
	if (vmimg_io_pwrite(u->io, u->bitmap, u->vhd->bitmap_bytes, block_start(u), err))
		return -1;
	return vmimg_entries_keep(&u->entries, u->block, u->sector, err);
}

static int enter(struct update *u, uint64_t guest, struct vmimg_error *err)
{
	uint64_t block = guest / u->disk->block;

	if (u->in_hand && block == u->block)
		return 0;
	if (leave(u, err) || flush_some(u, err) ||
		vmimg_vhd_bat_entry(u->vhd, block, &u->sector, err))
		return -1;
	u->block = block;
	u->in_hand = true;
	u->is_new = u->dirty = false;
	if (u->sector == VMIMG_VHD_UNUSED)
		return 0;
	return vmimg_io_pread(u->io, u->bitmap, u->vhd->bitmap_bytes, block_start(u), err);
}

/* Gives the block in hand a place, if it has none. */
static int allocate(struct update *u, struct vmimg_error *err)
{
	uint64_t place;

	if (u->sector != VMIMG_VHD_UNUSED)
		return 0;
	place = vmimg_blocks_take(&u->blocks);
	if (place + u->blocks.width >= VMIMG_VHD_UNUSED)
		return vmimg_fail(err, VMIMG_ELIMIT, "a dynamic VHD file ends at 2 TiB");
	if (vmimg_vhd_end_extend(
		    &u->end, place * VMIMG_VHD_SECTOR, u->blocks.width * VMIMG_VHD_SECTOR, err))
		return -1;
	u->sector = (uint32_t)place;
	u->is_new = true;
	memset(u->bitmap, 0, u->vhd->bitmap_bytes);
	return 0;
}

/* ---- pieces ---- */

static uint64_t place_of(const struct update *u, uint64_t guest)
{
	return block_start(u) + u->vhd->bitmap_bytes + guest % u->disk->block;
}

static int place_data(void *ctx, struct vmimg_chunk *chunk, uint64_t guest,
	const struct vmimg_piece *piece, struct vmimg_error *err)
{
	struct update *u = ctx;

	if (enter(u, guest, err) || allocate(u, err))
		return -1;
	set_bits(u, guest, piece->size, true);
	vmimg_chunk_store_block(chunk, u->io, place_of(u, guest), guest, piece, u->disk->block);
	return 0;
}

/* Zeroes inside one block. */
static int zero_some(void *ctx, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	struct update *u = ctx;

	if (enter(u, guest, err) || (u->hides && allocate(u, err)))
		return -1;
	if (u->sector == VMIMG_VHD_UNUSED)
		return 0;
	if (!u->is_new && vmimg_io_zero(u->io, place_of(u, guest), len, err))
		return -1;
	set_bits(u, guest, len, u->hides);
	return 0;
}

static int update_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct update *u = update_of(sink);
	struct vmimg_chunk_visitor visitor = { place_data, zero_some, u->disk->block };

	u->chunk = chunk;
	return vmimg_chunk_visit(chunk, &visitor, u, err);
}

static int update_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct update *u = update_of(sink);

	if (leave(u, err) || flush(u, err))
		return -1;
	if (u->end.footer_at == u->vhd->footer_at)
		return 0;
	return vmimg_vhd_end_cut(&u->end, u->blocks.end * VMIMG_VHD_SECTOR, err);
}

static void update_close(struct vmimg_sink *sink)
{
	struct update *u = update_of(sink);

	vmimg_blocks_done(&u->blocks);
	vmimg_io_unref(u->io);
	free(u->bitmap);
	free(u->bitmaps);
	vmimg_entries_done(&u->entries);
	free(u);
}

static const struct vmimg_sink_ops update_ops = {
	.place = update_place,
	.finish = update_finish,
	.close = update_close,
};

/* ---- fixed disks: the bytes are where they are ---- */

static int fixed_data(void *ctx, struct vmimg_chunk *chunk, uint64_t guest,
	const struct vmimg_piece *piece, struct vmimg_error *err)
{
	struct update *u = ctx;

	(void)err;
	vmimg_chunk_store(chunk, u->io, guest, piece->bytes, piece->size);
	return 0;
}

static int fixed_zeroes(void *ctx, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	struct update *u = ctx;

	return vmimg_io_zero(u->io, guest, len, err);
}

static int fixed_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	static const struct vmimg_chunk_visitor visitor = { fixed_data, fixed_zeroes, 0 };
	struct update *u = update_of(sink);

	if (chunk->kind == VMIMG_PIECE_DATA)
		chunk->clone =
			(struct vmimg_store){ u->io, chunk->guest, NULL, (size_t)chunk->len };
	return vmimg_chunk_visit(chunk, &visitor, u, err);
}

static int fixed_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	return vmimg_io_sync(update_of(sink)->io, err);
}

static const struct vmimg_sink_ops fixed_ops = {
	.place = fixed_place,
	.finish = fixed_finish,
	.close = update_close,
};

/* ---- making it ---- */

static int fill(struct update *u, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = u->vhd;
	uint64_t blocks = vmimg_vhd_most_blocks(u->disk);

	if (vhd->encrypted)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"its data is encrypted, and would be written as it is");
	u->hides |= vhd->footer.type == VMIMG_VHD_DIFFERENCING;
	u->sink.in_order = vmimg_min(blocks, vhd->entries) * record_size(u) > MOST_WAITING ||
		vhd->entries * sizeof(struct vmimg_entry) > MOST_WAITING;
	vmimg_vhd_end_init(&u->end, u->disk);
	u->bitmap = vmimg_alloc_array(vhd->bitmap_bytes, 1, err);
	return u->bitmap ? vmimg_vhd_space(u->disk, &u->blocks, true, err) : -1;
}

struct vmimg_sink *vmimg_vhd_update(
	struct vmimg_disk *disk, const struct vmimg_update *update, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	bool fixed = vhd->footer.type == VMIMG_VHD_FIXED;
	struct update *u;

	/* there is no identity that content changes */
	if (vmimg_vhd_begin(disk, err) || !(u = vmimg_new(struct update, err)))
		return NULL;
	u->disk = disk;
	u->vhd = vhd;
	u->io = vmimg_io_ref(disk->io);
	u->hides = update && update->new_parent;
	u->sink = (struct vmimg_sink){ .ops = fixed ? &fixed_ops : &update_ops,
		.size = disk->size,
		.granule = VMIMG_VHD_SECTOR,
		.chunk = CHUNK,
		.unit = disk->block,
		.keeps_absent = true,
		.splits_zeroes = true,
		.clone_io = disk->io };
	if (!fixed && fill(u, err)) {
		update_close(&u->sink);
		return NULL;
	}
	return &u->sink;
}

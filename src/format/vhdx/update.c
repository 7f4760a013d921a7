/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New content for an image as it is: a sink over it. Guest data goes to its place at once, over
 * what is there or into a new block; the BAT and the sector bitmaps follow in rounds (change.c).
 * Stores are done in guest order, so that whenever a round ends, all that its tables name is in the
 * file.
 *
 * Zeroes from a block's beginning on wait: when they reach its end, the block is given back.
 */
#include <string.h>
#include "format/vhdx/change.h"
#include "util/num.h"

#define CHUNK   (1U << 20)
#define GRANULE 4096U
/* Pages a round may have before a chunk, or before a block of a stretch, begins: either adds at
 * most two pages of the BAT and 17 of a bitmap for each of two blocks. */
#define ROUND 80U

struct update {
	struct vmimg_sink sink;
	struct vhdx_change change;
	bool same_content;
	uint64_t content; /* hash of the data so far */

	uint64_t waiting; /* block whose zeroes wait … */
	uint64_t zeroes;  /* … bytes of them; 0: none */
	uint64_t given;   /* bytes of the block at hand that were given, none left out */
};

static struct update *update_of(struct vmimg_sink *sink)
{
	return (struct update *)sink;
}

static bool has_parent(const struct update *u)
{
	return u->change.vhdx->params.has_parent;
}

static bool holds_data(uint64_t entry)
{
	return VHDX_BAT_STATE(entry) == VHDX_BLOCK_PRESENT ||
		VHDX_BAT_STATE(entry) == VHDX_BLOCK_PARTIAL;
}

static uint64_t index_of(const struct update *u, uint64_t block)
{
	return vhdx_payload_index(&u->change.vhdx->geometry, block);
}

/* ---- sector bitmaps ---- */

/* Where the bits of a block are; without a bitmap it gets one. */
static int find_bits(struct update *u, uint64_t block, uint64_t *at, struct vmimg_error *err)
{
	struct vhdx_change *c = &u->change;
	const struct vhdx_geometry *g = &c->vhdx->geometry;
	const struct vhdx_params *params = &c->vhdx->params;
	uint64_t index = vhdx_bitmap_index(g, block / g->ratio), entry;

	if (vmimg_vhdx_get_entry(c, index, &entry, err))
		return -1;
	if (VHDX_BAT_STATE(entry) != VHDX_BLOCK_PRESENT) {
		if (vmimg_vhdx_space_take(c, VHDX_MIB, at, err))
			return -1;
		entry = *at | VHDX_BLOCK_PRESENT;
		if (vmimg_vhdx_set_entry(c, index, entry, err))
			return -1;
	}
	*at = VHDX_BAT_AT(entry) + block % g->ratio * (params->block / params->logical / 8);
	return 0;
}

/* Sets the bits [first, end), counted from `at`, in the stage. Nothing is written that is set. */
static int fill_bits(
	struct update *u, uint64_t at, uint64_t first, uint64_t end, struct vmimg_error *err)
{
	uint8_t bytes[4096], was[4096];

	while (first < end) {
		uint64_t start = first / 8, stop = vmimg_min(end, (start + sizeof(bytes)) * 8);
		size_t len = (size_t)(vmimg_div_up(stop, 8) - start);

		if (vmimg_io_pread(u->change.stage, bytes, len, at + start, err))
			return -1;
		memcpy(was, bytes, len);
		for (; first < stop; first++)
			bytes[first / 8 - start] |= (uint8_t)(1U << first % 8);
		if (memcmp(was, bytes, len) &&
			vmimg_io_pwrite(u->change.stage, bytes, len, at + start, err))
			return -1;
	}
	return 0;
}

/* A block that becomes present in part begins with no bit set, whatever an earlier one left. */
static int clear_bits(struct update *u, uint64_t block, struct vmimg_error *err)
{
	const struct vhdx_params *params = &u->change.vhdx->params;
	uint64_t left = params->block / params->logical / 8, at = 0;
	uint8_t bytes[4096], zero[4096] = { 0 };

	if (find_bits(u, block, &at, err))
		return -1;
	for (; left; left -= vmimg_min(left, sizeof(bytes)), at += sizeof(bytes)) {
		size_t len = (size_t)vmimg_min(left, sizeof(bytes));

		if (vmimg_io_pread(u->change.stage, bytes, len, at, err))
			return -1;
		if (memcmp(bytes, zero, len) &&
			vmimg_io_pwrite(u->change.stage, zero, len, at, err))
			return -1;
	}
	return 0;
}

/* [at, at + len) of the guest, inside one block that is present in part, is here. */
static int note_present(struct update *u, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	const struct vhdx_params *params = &u->change.vhdx->params;
	uint64_t inside = at % params->block / params->logical, bits = 0;

	if (find_bits(u, at / params->block, &bits, err))
		return -1;
	return fill_bits(u, bits, inside, inside + len / params->logical, err);
}

/* ---- blocks ---- */

/* The block's entry; one without a place gets one, which is zero. */
static int need_block(struct update *u, uint64_t block, uint64_t *entry, struct vmimg_error *err)
{
	struct vhdx_change *c = &u->change;
	unsigned state;
	uint64_t at = 0;

	if (vmimg_vhdx_get_entry(c, index_of(u, block), entry, err))
		return -1;
	if (holds_data(*entry))
		return 0;
	state = has_parent(u) && VHDX_BAT_STATE(*entry) == VHDX_BLOCK_NOT_PRESENT
		? VHDX_BLOCK_PARTIAL
		: VHDX_BLOCK_PRESENT;
	if (state == VHDX_BLOCK_PARTIAL && clear_bits(u, block, err))
		return -1;
	if (vmimg_vhdx_space_take(c, c->vhdx->params.block, &at, err))
		return -1;
	*entry = at | state;
	return vmimg_vhdx_set_entry(c, index_of(u, block), *entry, err);
}

/* Where [at, at + len), inside one block, is to be written. */
static int place_piece(
	struct update *u, uint64_t at, uint64_t len, uint64_t *to, struct vmimg_error *err)
{
	uint32_t size = u->change.vhdx->params.block;
	uint64_t entry = 0;

	if (need_block(u, at / size, &entry, err))
		return -1;
	*to = VHDX_BAT_AT(entry) + at % size;
	return VHDX_BAT_STATE(entry) == VHDX_BLOCK_PARTIAL ? note_present(u, at, len, err) : 0;
}

/* [at, at + len), part of one block, shall read as zeroes. */
static int zero_part(struct update *u, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	struct vhdx_change *c = &u->change;
	uint64_t entry, to = 0, size;

	if (vmimg_vhdx_get_entry(c, index_of(u, at / c->vhdx->params.block), &entry, err))
		return -1;
	if (!holds_data(entry) &&
		(!has_parent(u) || VHDX_BAT_STATE(entry) != VHDX_BLOCK_NOT_PRESENT))
		return 0;
	if (place_piece(u, at, len, &to, err))
		return -1;
	size = vmimg_io_size(c->io); /* a last block may be cut behind the disk's end */
	return to < size ? vmimg_io_zero(c->io, to, vmimg_min(len, size - to), err) : 0;
}

/* The whole block reads as zeroes, and gives its place back; in a fixed disk it keeps it. */
static int zero_block(struct update *u, uint64_t block, struct vmimg_error *err)
{
	struct vhdx_change *c = &u->change;
	uint32_t size = c->vhdx->params.block;
	uint64_t entry;

	if (vmimg_vhdx_get_entry(c, index_of(u, block), &entry, err))
		return -1;
	if (c->vhdx->params.leave_allocated && VHDX_BAT_STATE(entry) == VHDX_BLOCK_PRESENT)
		return zero_part(
			u, block * size, vmimg_min(size, u->sink.size - block * size), err);
	if (!holds_data(entry) &&
		(!has_parent(u) || VHDX_BAT_STATE(entry) != VHDX_BLOCK_NOT_PRESENT))
		return 0;
	if (holds_data(entry) && vmimg_vhdx_space_free(c, VHDX_BAT_AT(entry), size, err))
		return -1;
	return vmimg_vhdx_set_entry(c, index_of(u, block), VHDX_BLOCK_ZERO, err);
}

/* ---- what comes ---- */

static uint64_t bytes_in(const struct update *u, uint64_t block)
{
	uint32_t size = u->change.vhdx->params.block;

	return vmimg_min(size, u->sink.size - block * size);
}

/* Zeroes that wait are put down: they do not reach the end of their block. */
static int settle_zeroes(struct update *u, struct vmimg_error *err)
{
	uint64_t len = u->zeroes;

	u->zeroes = 0;
	return len ? zero_part(u, u->waiting * u->change.vhdx->params.block, len, err) : 0;
}

/* [at, at + len), inside one block, is zero. */
static int pass_zero(struct update *u, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint32_t size = u->change.vhdx->params.block;
	uint64_t block = at / size;

	if (vmimg_vhdx_change_begin(&u->change, err))
		return -1;
	if (at % size != (u->waiting == block ? u->zeroes : 0))
		return zero_part(u, at, len, err);
	u->waiting = block;
	u->zeroes = at % size + len;
	if (u->zeroes < bytes_in(u, block))
		return 0;
	u->zeroes = 0;
	return zero_block(u, block, err);
}

/* A block that was given from its beginning to its end no longer needs its bits. */
static int note_given(struct update *u, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint32_t size = u->change.vhdx->params.block;
	uint64_t index = index_of(u, at / size), entry;

	if (at % size != (at % size ? u->given : 0)) {
		u->given = size + 1ULL; /* something was left out */
		return 0;
	}
	u->given = at % size + len;
	if (!has_parent(u) || u->given < bytes_in(u, at / size))
		return 0;
	if (vmimg_vhdx_get_entry(&u->change, index, &entry, err))
		return -1;
	if (VHDX_BAT_STATE(entry) != VHDX_BLOCK_PARTIAL)
		return 0;
	return vmimg_vhdx_set_entry(
		&u->change, index, VHDX_BAT_AT(entry) | VHDX_BLOCK_PRESENT, err);
}

static int make_room(struct update *u, struct vmimg_error *err)
{
	return vmimg_vhdx_change_pages(&u->change) > ROUND
		? vmimg_vhdx_change_commit(&u->change, err)
		: 0;
}

/* A stretch of nothing, of any length. */
static int place_stretch(struct update *u, const struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	uint32_t size = u->change.vhdx->params.block;
	uint64_t at = chunk->guest, end = at + chunk->len, step;

	if (chunk->kind == VMIMG_PIECE_ABSENT)
		return settle_zeroes(u, err);
	for (; at < end; at += step) {
		step = vmimg_min(end - at, size - at % size);
		if (make_room(u, err) || pass_zero(u, at, step, err) ||
			note_given(u, at, step, err))
			return -1;
	}
	return 0;
}

static int place_data(struct update *u, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	uint64_t at = chunk->guest, to = 0;

	u->content += chunk->digest;
	if (vmimg_vhdx_change_begin(&u->change, err))
		return -1;
	for (size_t i = 0; i < chunk->piece_count; at += chunk->pieces[i++].size) {
		const struct vmimg_piece *piece = &chunk->pieces[i];
		uint64_t len = vmimg_align_up(piece->size, u->change.vhdx->params.logical);

		if (piece->kind == VMIMG_PIECE_ZERO ? pass_zero(u, at, len, err)
						    : settle_zeroes(u, err))
			return -1;
		if (piece->kind == VMIMG_PIECE_ABSENT)
			continue;
		if (piece->kind == VMIMG_PIECE_DATA) {
			if (place_piece(u, at, len, &to, err))
				return -1;
			vmimg_chunk_store(chunk, u->change.io, to, piece->bytes, piece->size);
		}
		if (note_given(u, at, len, err))
			return -1;
	}
	if (chunk->store_count == 1 && chunk->stores[0].len == chunk->len)
		chunk->clone = (struct vmimg_store){ u->change.io, chunk->stores[0].at, NULL,
			(size_t)chunk->len };
	return 0;
}

static int place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct update *u = update_of(sink);

	if (make_room(u, err))
		return -1;
	return chunk->kind == VMIMG_PIECE_DATA ? place_data(u, chunk, err)
					       : place_stretch(u, chunk, err);
}

static int finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct update *u = update_of(sink);
	struct vmimg_guid data_write;

	if (!u->change.stage)
		return 0;
	if (u->same_content)
		return vmimg_vhdx_change_end(&u->change, NULL, err);
	if (vmimg_vhdx_derive(
		    &u->change.head.data_write, u->content, "vhdx data write", &data_write, err))
		return -1;
	return vmimg_vhdx_change_end(&u->change, &data_write, err);
}

static void close_sink(struct vmimg_sink *sink)
{
	struct update *u = update_of(sink);

	vmimg_vhdx_change_done(&u->change);
	free(u);
}

static const struct vmimg_sink_ops sink_ops = {
	.place = place,
	.finish = finish,
	.close = close_sink,
};

struct vmimg_sink *vmimg_vhdx_update(
	struct vmimg_disk *disk, const struct vmimg_update *how, struct vmimg_error *err)
{
	struct update *u = vmimg_new(struct update, err);

	if (!u)
		return NULL;
	if (vmimg_vhdx_change_open(&u->change, disk, err)) {
		close_sink(&u->sink);
		return NULL;
	}
	u->same_content = how->same_content;
	u->waiting = UINT64_MAX;
	u->sink = (struct vmimg_sink){ .ops = &sink_ops,
		.size = disk->size,
		.granule = GRANULE,
		.chunk = CHUNK,
		.unit = disk->block,
		.in_order = true,
		.keeps_absent = true,
		.wants_digest = !how->same_content,
		.splits_zeroes = true,
		.clone_io = disk->io };
	return &u->sink;
}

/* One zero descriptor makes the whole BAT "not present", and so the change happens at once. */
static int empty(struct vhdx_change *c, struct vmimg_error *err)
{
	const struct vmimg_vhdx *vhdx = c->vhdx;
	uint64_t entry, size = vmimg_align_up(vhdx->geometry.entries * 8, VHDX_LOG_SECTOR);

	for (uint64_t i = 0; i < vhdx->geometry.entries; i++) {
		bool bitmap = i % (vhdx->geometry.ratio + 1) == vhdx->geometry.ratio;

		if (vmimg_vhdx_get_entry(c, i, &entry, err))
			return -1;
		if (VHDX_BAT_AT(entry) &&
			vmimg_vhdx_space_free(
				c, VHDX_BAT_AT(entry), bitmap ? VHDX_MIB : vhdx->params.block, err))
			return -1;
	}
	return vmimg_vhdx_change_zero(c, vhdx->bat.at, size, err);
}

/* Over a parent the guest's content is what commit has put below: children go on knowing the image.
 */
int vmimg_vhdx_empty(struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_vhdx *vhdx = disk->state;
	struct vhdx_change change = { 0 };
	struct vmimg_guid data_write;
	int result;

	if (vhdx->params.leave_allocated)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a fixed disk keeps its blocks: it is not emptied");
	result = vmimg_vhdx_change_open(&change, disk, err) || empty(&change, err) ||
		vmimg_vhdx_derive(
			&change.head.data_write, 0, "vhdx data write", &data_write, err) ||
		vmimg_vhdx_change_end(&change, vhdx->params.has_parent ? NULL : &data_write, err);
	vmimg_vhdx_change_done(&change);
	return result ? -1 : 0;
}

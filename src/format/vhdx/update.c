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

struct update {
	struct vmimg_sink sink;
	struct vhdx_change change;
	bool same_content;
	bool stretch;     /* the chunk at hand has no stores: a round may end inside it */
	uint64_t content; /* hash of the data so far */

	uint64_t waiting; /* block whose zeroes wait … */
	uint64_t zeroes;  /* … bytes of them, from its beginning on; 0: none */
	uint64_t given;   /* bytes of the block at hand that were given, none left out */
};

static struct update *update_of(struct vmimg_sink *sink)
{
	return (struct update *)sink;
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
	return len ? vmimg_vhdx_zero_part(
			     &u->change, u->waiting * u->change.vhdx->params.block, len, err)
		   : 0;
}

/* [at, at + len), inside one block, is zero. */
static int pass_zero(struct update *u, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint32_t size = u->change.vhdx->params.block;
	uint64_t block = at / size;

	if (u->zeroes && at != u->waiting * size + u->zeroes && settle_zeroes(u, err))
		return -1;
	if (at % size != u->zeroes)
		return vmimg_vhdx_zero_part(&u->change, at, len, err);
	u->waiting = block;
	u->zeroes += len;
	if (u->zeroes < bytes_in(u, block))
		return 0;
	u->zeroes = 0;
	return vmimg_vhdx_zero_block(&u->change, block, err);
}

/* A block that was given from its beginning to its end no longer needs its bits. */
static int note_given(struct update *u, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint32_t size = u->change.vhdx->params.block;

	if (at % size != (at % size ? u->given : 0)) {
		u->given = size + 1ULL; /* something was left out */
		return 0;
	}
	u->given = at % size + len;
	if (!u->change.vhdx->params.has_parent || u->given < bytes_in(u, at / size))
		return 0;
	return vmimg_vhdx_fill_block(&u->change, at / size, err);
}

/* The disk's last piece may end inside a logical sector. */
static uint64_t whole_sectors(const struct update *u, uint64_t len)
{
	return vmimg_align_up(len, u->change.vhdx->params.logical);
}

static int place_data(void *ctx, struct vmimg_chunk *chunk, uint64_t at,
	const struct vmimg_piece *piece, struct vmimg_error *err)
{
	struct update *u = ctx;
	uint64_t len = whole_sectors(u, piece->size), to = 0;

	if (vmimg_vhdx_change_begin(&u->change, err) || settle_zeroes(u, err) ||
		vmimg_vhdx_place(&u->change, at, len, &to, err))
		return -1;
	vmimg_chunk_store(chunk, u->change.io, to, piece->bytes, piece->size);
	return note_given(u, at, len, err);
}

static int place_zeroes(void *ctx, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	struct update *u = ctx;

	len = whole_sectors(u, len);
	if (u->stretch && vmimg_vhdx_change_room(&u->change, err))
		return -1;
	return vmimg_vhdx_change_begin(&u->change, err) || pass_zero(u, at, len, err) ||
			note_given(u, at, len, err)
		? -1
		: 0;
}

static int place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct update *u = update_of(sink);
	struct vmimg_chunk_visitor visitor = { place_data, place_zeroes,
		u->change.vhdx->params.block };

	u->content += chunk->digest;
	u->stretch = chunk->kind == VMIMG_PIECE_ZERO;
	if (vmimg_vhdx_change_room(&u->change, err) || vmimg_chunk_visit(chunk, &visitor, u, err))
		return -1;
	if (chunk->store_count == 1 && chunk->stores[0].len == chunk->len)
		chunk->clone = (struct vmimg_store){ u->change.io, chunk->stores[0].at, NULL,
			(size_t)chunk->len };
	return 0;
}

static int finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct update *u = update_of(sink);
	struct vmimg_guid data_write;

	if (settle_zeroes(u, err))
		return -1;
	if (!u->change.stage || u->same_content)
		return vmimg_vhdx_change_end(&u->change, err);
	if (vmimg_vhdx_derive(&u->change.vhdx->head.data_write, u->content, "vhdx data write",
		    &data_write, err))
		return -1;
	vmimg_vhdx_change_rename(&u->change, &data_write);
	return vmimg_vhdx_change_end(&u->change, err);
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

/* While the content is neither the old one nor the new, it is nobody's that a child could know
 * ([MS-VHDX] 2.2.2: before the first change). */
static int disown(struct update *u, struct vmimg_error *err)
{
	struct vmimg_guid data_write;

	if (u->same_content)
		return 0;
	if (vmimg_guid_make(&data_write, true, 0, "vhdx data write", err))
		return -1;
	vmimg_vhdx_change_rename(&u->change, &data_write);
	return 0;
}

struct vmimg_sink *vmimg_vhdx_update(
	struct vmimg_disk *disk, const struct vmimg_update *how, struct vmimg_error *err)
{
	struct update *u = vmimg_new(struct update, err);

	if (!u)
		return NULL;
	u->same_content = how->same_content;
	if (vmimg_vhdx_change_open(&u->change, disk, err) || disown(u, err)) {
		close_sink(&u->sink);
		return NULL;
	}
	u->change.hides |= how->new_parent;
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
	uint64_t size = vmimg_align_up(vhdx->geometry.entries * 8, VHDX_LOG_SECTOR);

	if (vmimg_vhdx_free_entries(c, 0, vhdx->geometry.entries, err) ||
		vmimg_vhdx_change_zero(c, vhdx->bat.at, size, err))
		return -1;
	return vmimg_vhdx_change_end(c, err);
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
	if (vmimg_vhdx_derive(&vhdx->head.data_write, 0, "vhdx data write", &data_write, err))
		return -1;
	result =
		vmimg_vhdx_change_open(&change, disk, err) || vmimg_vhdx_change_begin(&change, err);
	if (!result && !vhdx->params.has_parent)
		vmimg_vhdx_change_rename(&change, &data_write);
	result = result || empty(&change, err);
	vmimg_vhdx_change_done(&change);
	return result ? -1 : 0;
}

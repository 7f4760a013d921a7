/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a new VHDX in guest order. A block gets its place when its first data comes, at the end
 * of the file; what it is to be in the BAT is known when the guest offset has passed it. One window
 * of the BAT and, for a child, the sector bitmap of one chunk are in memory, whatever the disk's
 * size.
 */
#include <string.h>
#include "format/vhdx/vhdx.h"
#include "util/num.h"

#define CHUNK         (256U << 10) /* with its copy, stays in a processor's cache */
#define GRANULE       (64U << 10)
#define CHILD_GRANULE 4096U
#define WINDOW        8192U /* BAT entries */

struct vhdx_sink {
	struct vmimg_sink sink;
	struct vmimg_io *io;
	struct vhdx_plan plan;
	bool unique;
	uint64_t content; /* hash of the data so far */
	uint64_t tail;    /* where the next block goes */

	/* The block that is being passed. */
	uint64_t block;
	uint64_t block_at; /* 0: it has no place */
	uint64_t bytes[3]; /* of it so far: absent, zero, data */

	uint64_t window_first; /* BAT index of window[0] */
	bool window_used;
	uint8_t *window;

	uint64_t bitmap_chunk;
	bool bitmap_used; /* a block of the chunk is present in part */
	uint8_t *bitmap;  /* NULL: no child */
};

static struct vhdx_sink *sink_of(struct vmimg_sink *sink)
{
	return (struct vhdx_sink *)sink;
}

/* ---- the BAT ------------------------------------------------------------------------------ */

static int flush_window(struct vhdx_sink *vhdx, struct vmimg_error *err)
{
	uint64_t left = vhdx->plan.geometry.entries - vhdx->window_first;
	size_t len = (size_t)vmimg_min(WINDOW, left) * 8;

	if (!vhdx->window_used)
		return 0;
	if (vmimg_io_pwrite(
		    vhdx->io, vhdx->window, len, vhdx->plan.bat.at + vhdx->window_first * 8, err))
		return -1;
	memset(vhdx->window, 0, len);
	vhdx->window_used = false;
	return 0;
}

/* Indexes only grow. */
static int put_entry(struct vhdx_sink *vhdx, uint64_t index, uint64_t at, unsigned state,
	struct vmimg_error *err)
{
	if (index >= vhdx->window_first + WINDOW) {
		if (flush_window(vhdx, err))
			return -1;
		vhdx->window_first = vmimg_align_down(index, WINDOW);
	}
	vmimg_put_le64(vhdx->window + (index - vhdx->window_first) * 8, at | state);
	vhdx->window_used = true;
	return 0;
}

/* ---- places ------------------------------------------------------------------------------- */

/* A new file is zero where it is not written; a device is not. */
static int allocate(struct vhdx_sink *vhdx, uint64_t len, uint64_t *at, struct vmimg_error *err)
{
	if (vhdx->io->is_device && vmimg_io_zero(vhdx->io, vhdx->tail, len, err))
		return -1;
	*at = vhdx->tail;
	vhdx->tail += len;
	return 0;
}

/* An adopted disk's blocks are where they shall be. */
static int place_block(struct vhdx_sink *vhdx, uint64_t guest, struct vmimg_error *err)
{
	uint32_t size = vhdx->plan.params.block;

	if (!vhdx->sink.moved || guest < vhdx->sink.moved)
		return allocate(vhdx, size, &vhdx->block_at, err);
	vhdx->block_at = vmimg_align_down(guest, size);
	return 0;
}

static int flush_bitmap(struct vhdx_sink *vhdx, struct vmimg_error *err)
{
	uint64_t at;

	if (!vhdx->bitmap_used)
		return 0;
	if (allocate(vhdx, VHDX_MIB, &at, err) ||
		vmimg_io_pwrite(vhdx->io, vhdx->bitmap, VHDX_MIB, at, err) ||
		put_entry(vhdx, vhdx_bitmap_index(&vhdx->plan.geometry, vhdx->bitmap_chunk), at,
			VHDX_BLOCK_PRESENT, err))
		return -1;
	vhdx->bitmap_used = false;
	return 0;
}

/* Readies the bitmap for the chunk that block belongs to. */
static int enter_chunk(struct vhdx_sink *vhdx, uint64_t block, struct vmimg_error *err)
{
	uint64_t chunk = block / vhdx->plan.geometry.ratio;

	if (!vhdx->bitmap || chunk == vhdx->bitmap_chunk)
		return 0;
	if (flush_bitmap(vhdx, err))
		return -1;
	memset(vhdx->bitmap, 0, VHDX_MIB);
	vhdx->bitmap_chunk = chunk;
	return 0;
}

/* Marks [at, at + len) of the guest as present here; whole sectors, inside the current chunk. */
static void set_bits(struct vhdx_sink *vhdx, uint64_t at, uint64_t len)
{
	uint32_t sector = vhdx->plan.params.logical;
	uint64_t first = at / sector % VHDX_CHUNK_SECTORS, end = first + len / sector;

	while (first < end && first % 8) {
		vhdx->bitmap[first / 8] |= (uint8_t)(1U << first % 8);
		first++;
	}
	memset(vhdx->bitmap + first / 8, 0xff, (size_t)((end - first) / 8));
	for (first += (end - first) / 8 * 8; first < end; first++)
		vhdx->bitmap[first / 8] |= (uint8_t)(1U << first % 8);
}

/* ---- blocks ------------------------------------------------------------------------------- */

/* The state of a block that was passed, by what came for it. *place: it needs one. */
static unsigned choose_state(const struct vhdx_sink *vhdx, bool *place)
{
	uint64_t absent = vhdx->bytes[VMIMG_PIECE_ABSENT], zero = vhdx->bytes[VMIMG_PIECE_ZERO];

	*place = vhdx->block_at || vhdx->plan.params.leave_allocated ||
		(vhdx->bitmap && absent && zero);
	if (*place)
		return vhdx->bitmap && absent ? VHDX_BLOCK_PARTIAL : VHDX_BLOCK_PRESENT;
	if (vhdx->bitmap ? !zero : !vhdx->plan.zero_state)
		return VHDX_BLOCK_NOT_PRESENT;
	return VHDX_BLOCK_ZERO;
}

static int end_block(struct vhdx_sink *vhdx, struct vmimg_error *err)
{
	bool place;
	unsigned state = choose_state(vhdx, &place);

	if (place && !vhdx->block_at &&
		allocate(vhdx, vhdx->plan.params.block, &vhdx->block_at, err))
		return -1;
	if (state == VHDX_BLOCK_PARTIAL)
		vhdx->bitmap_used = true;
	if (state != VHDX_BLOCK_NOT_PRESENT &&
		put_entry(vhdx, vhdx_payload_index(&vhdx->plan.geometry, vhdx->block),
			vhdx->block_at, state, err))
		return -1;
	vhdx->block++;
	vhdx->block_at = 0;
	memset(vhdx->bytes, 0, sizeof(vhdx->bytes));
	return 0;
}

/* [at, at + len) lies in one block. Sets *to to its place when it is data. */
static int pass(struct vhdx_sink *vhdx, enum vmimg_piece_kind kind, uint64_t at, uint64_t len,
	uint64_t *to, struct vmimg_error *err)
{
	uint32_t size = vhdx->plan.params.block;

	if (!(at % size) && enter_chunk(vhdx, at / size, err))
		return -1;
	if (kind == VMIMG_PIECE_DATA && !vhdx->block_at && place_block(vhdx, at, err))
		return -1;
	*to = vhdx->block_at + at % size;
	if (vhdx->bitmap && kind != VMIMG_PIECE_ABSENT)
		set_bits(vhdx, at, len);
	vhdx->bytes[kind] += len;
	at += len;
	return at % size && at < vhdx->sink.size ? 0 : end_block(vhdx, err);
}

/* Whether a whole block of this kind leaves no trace in the file. */
static bool leaves_nothing(const struct vhdx_sink *vhdx, enum vmimg_piece_kind kind)
{
	if (vhdx->bitmap)
		return kind == VMIMG_PIECE_ABSENT;
	return !vhdx->plan.params.leave_allocated && !vhdx->plan.zero_state;
}

/* A stretch of nothing, of any length. */
static int pass_stretch(struct vhdx_sink *vhdx, enum vmimg_piece_kind kind, uint64_t at,
	uint64_t len, struct vmimg_error *err)
{
	uint32_t size = vhdx->plan.params.block;
	uint64_t to;

	while (len) {
		uint64_t step = vmimg_min(len, size - at % size);

		if (step == size && leaves_nothing(vhdx, kind)) {
			step = vmimg_align_down(len, size);
			vhdx->block += step / size;
		} else if (pass(vhdx, kind, at, step, &to, err)) {
			return -1;
		}
		at += step;
		len -= step;
	}
	return 0;
}

static int place_data(struct vhdx_sink *vhdx, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	uint64_t at = chunk->guest, to;

	vhdx->content += chunk->digest;
	for (size_t i = 0; i < chunk->piece_count; i++) {
		const struct vmimg_piece *piece = &chunk->pieces[i];

		if (pass(vhdx, piece->kind, at, piece->size, &to, err))
			return -1;
		if (piece->kind == VMIMG_PIECE_DATA && piece->bytes)
			vmimg_chunk_store(chunk, vhdx->io, to, piece->bytes, piece->size);
		at += piece->size;
	}
	if (chunk->store_count == 1 && chunk->stores[0].len == chunk->len)
		chunk->clone = (struct vmimg_store){ vhdx->io, chunk->stores[0].at, NULL,
			(size_t)chunk->len };
	return 0;
}

/* A device has old bytes where the head of the file will be. */
static int start(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct vhdx_sink *vhdx = sink_of(sink);

	return vhdx->io->is_device ? vmimg_io_zero(vhdx->io, 0, vhdx->plan.data_at, err) : 0;
}

static int place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct vhdx_sink *vhdx = sink_of(sink);

	return chunk->kind == VMIMG_PIECE_DATA
		? place_data(vhdx, chunk, err)
		: pass_stretch(vhdx, chunk->kind, chunk->guest, chunk->len, err);
}

/* ---- the end ------------------------------------------------------------------------------ */

/* Identities: of the content and what it lies on, so that the same content is the same disk. */
static int write_head(struct vhdx_sink *vhdx, struct vmimg_error *err)
{
	struct vhdx_params *params = &vhdx->plan.params;
	uint64_t parent = vmimg_get_le64(vhdx->plan.linkage.bytes);
	uint64_t content = vhdx->content ^ params->size ^ parent;
	struct vmimg_guid file_write, data_write;

	if (vmimg_guid_make(&file_write, vhdx->unique, content, "vhdx file write", err) ||
		vmimg_guid_make(&data_write, vhdx->unique, content, "vhdx data write", err))
		return -1;
	if (!params->has_parent &&
		vmimg_guid_make(&params->disk_id, vhdx->unique, content, "vhdx disk", err))
		return -1;
	if (vhdx->sink.moved && vmimg_io_zero(vhdx->io, 0, VHDX_HEAD_END, err))
		return -1;
	return vmimg_vhdx_write_head(vhdx->io, &vhdx->plan, &file_write, &data_write, err);
}

static int finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct vhdx_sink *vhdx = sink_of(sink);

	if (flush_bitmap(vhdx, err) || flush_window(vhdx, err))
		return -1;
	if (!vhdx->io->is_device && vmimg_io_resize(vhdx->io, vhdx->tail, err))
		return -1;
	return write_head(vhdx, err);
}

static void close_sink(struct vmimg_sink *sink)
{
	struct vhdx_sink *vhdx = sink_of(sink);

	vmimg_vhdx_plan_done(&vhdx->plan);
	vmimg_io_unref(vhdx->io);
	free(vhdx->window);
	free(vhdx->bitmap);
	free(vhdx);
}

static const struct vmimg_sink_ops sink_ops = {
	.start = start,
	.place = place,
	.finish = finish,
	.close = close_sink,
};

/* Everything up to the first block is zero until it is written; space is set aside if it is to be.
 */
static int prepare(struct vhdx_sink *vhdx, struct vmimg_error *err)
{
	const struct vhdx_plan *plan = &vhdx->plan;

	vhdx->tail = plan->data_at;
	vhdx->window = vmimg_alloc_array(WINDOW, 8, err);
	if (plan->params.has_parent)
		vhdx->bitmap = vmimg_alloc_array(VHDX_MIB, 1, err);
	if (!vhdx->window || (plan->params.has_parent && !vhdx->bitmap))
		return -1;
	return plan->reserve
		? vmimg_io_reserve(vhdx->io, 0,
			  plan->data_at + plan->geometry.blocks * plan->params.block, err)
		: 0;
}

struct vmimg_sink *vmimg_vhdx_create(
	struct vmimg_io *io, const struct vmimg_create *create, struct vmimg_error *err)
{
	struct vhdx_sink *vhdx;

	if (io->in_order) {
		vmimg_fail(err, VMIMG_EINVAL,
			"a VHDX cannot be written to a pipe: its headers come last");
		return NULL;
	}
	vhdx = vmimg_new(struct vhdx_sink, err);
	if (!vhdx)
		return NULL;
	vhdx->io = vmimg_io_ref(io);
	vhdx->unique = create->unique;
	if (vmimg_vhdx_plan(&vhdx->plan, create, err) || prepare(vhdx, err)) {
		close_sink(&vhdx->sink);
		return NULL;
	}
	vhdx->sink = (struct vmimg_sink){ .ops = &sink_ops,
		.size = vhdx->plan.params.size,
		.granule = vhdx->bitmap ? CHILD_GRANULE : GRANULE,
		.chunk = CHUNK,
		.unit = vhdx->plan.params.block,
		.keeps_absent = vhdx->bitmap,
		.wants_digest = !create->unique,
		.splits_zeroes = true,
		.clone_io = io,
		.moved = create->adopt ? vhdx->plan.params.block : 0,
		.overlaid = create->adopt ? VHDX_HEAD_END : 0 };
	return &vhdx->sink;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New content in place. Data goes over the block that has it, or into a new one that no entry of
 * the map leads to; all is flushed; the header's count is raised; then the entries change. Blocks
 * that were given up leave gaps, which are closed at the end, for the format knows none.
 *
 * A block is in an image whole: where a parent shows through, whole blocks are what can be written
 * without reading it.
 */
#include <inttypes.h>
#include <string.h>
#include "disk/entries.h"
#include "disk/sink.h"
#include "format/vdi/change.h"
#include "util/num.h"

#define CHUNK   (256U << 10)
#define GRANULE 4096U
/* The largest block of a child that workers hold in memory. */
#define MOST_BLOCK (UINT32_C(16) << 20)
/* Entries that wait, after which there is a flush: 16 MiB. */
#define MOST_WAITING (UINT32_C(1) << 21)

struct update {
	struct vmimg_sink sink;
	struct vmimg_disk *disk;
	struct vmimg_vdi *vdi;
	struct vmimg_io *io;
	struct vmimg_chunk *chunk;      /* being placed */
	struct vmimg_vdi_header header; /* as it is in the file */
	bool hides;                     /* there is a parent, or will be */
	bool same_content;
	bool freed;       /* blocks were given up */
	uint64_t content; /* folded digests */
	uint64_t old_end; /* of the file; past it all is new and zero */
	struct vmimg_blocks blocks;
	/* the block in hand */
	bool in_hand, changed; /* its entry is another one */
	uint64_t block;
	uint32_t number;
	uint64_t zeroed; /* bytes of it that were given as zeroes */
	/* what waits for the flush */
	struct vmimg_entries entries;
};

static struct update *update_of(struct vmimg_sink *sink)
{
	return (struct update *)sink;
}

static uint64_t place_of(const struct update *u, uint64_t number)
{
	return u->header.data_at + number * vmimg_vdi_stride(&u->header);
}

/* ---- what waits ---- */

/* The header first: a block that it does not count is not to be relied on. */
static int flush(struct update *u, struct vmimg_error *err)
{
	uint64_t end = place_of(u, u->blocks.end);

	if (vmimg_io_size(u->io) < end && vmimg_io_resize(u->io, end, err))
		return -1;
	if (u->header.allocated < u->blocks.end || !u->same_content) {
		u->header.allocated = (uint32_t)vmimg_max(u->header.allocated, u->blocks.end);
		if (vmimg_vdi_put_header(u->disk, &u->header, err))
			return -1;
	} else if (vmimg_io_sync(u->io, err)) {
		return -1;
	}
	return vmimg_entries_write(&u->entries, u->io, u->header.map_at, vmimg_put_le32, err) ||
			vmimg_io_sync(u->io, err)
		? -1
		: 0;
}

static int flush_some(struct update *u, struct vmimg_error *err)
{
	return u->sink.in_order && !u->chunk->store_count && u->entries.count >= MOST_WAITING
		? flush(u, err)
		: 0;
}

/* ---- the block in hand ---- */

static uint64_t block_len(const struct update *u)
{
	return vmimg_min(u->disk->block, u->disk->size - u->block * u->disk->block);
}

static void lead_to(struct update *u, uint32_t number)
{
	u->freed |= u->number < VMIMG_VDI_ZERO;
	u->changed |= u->number != number;
	u->number = number;
}

static int leave(struct update *u, struct vmimg_error *err)
{
	if (!u->in_hand)
		return 0;
	u->in_hand = false;
	if (u->number < VMIMG_VDI_ZERO && u->zeroed == block_len(u) &&
		u->header.type != VMIMG_VDI_FIXED)
		lead_to(u, u->hides ? VMIMG_VDI_ZERO : VMIMG_VDI_ABSENT);
	return u->changed ? vmimg_entries_keep(&u->entries, u->block, u->number, err) : 0;
}

static int enter(struct update *u, uint64_t guest, struct vmimg_error *err)
{
	uint64_t block = guest / u->disk->block;
	uint8_t bytes[4];

	if (u->in_hand && block == u->block)
		return 0;
	if (leave(u, err) || flush_some(u, err) ||
		vmimg_table_read(
			u->vdi->table, bytes, sizeof(bytes), u->header.map_at + 4 * block, err))
		return -1;
	u->block = block;
	u->number = vmimg_get_le32(bytes);
	u->in_hand = true;
	u->changed = false;
	u->zeroed = 0;
	return 0;
}

/* Gives the block in hand a place in the file, if it has none. */
static int allocate(struct update *u, struct vmimg_error *err)
{
	uint64_t number, at;

	if (u->number < VMIMG_VDI_ZERO)
		return 0;
	number = vmimg_blocks_take(&u->blocks);
	if (number >= VMIMG_VDI_ZERO)
		return vmimg_vdi_fail_full(err);
	at = place_of(u, number);
	lead_to(u, (uint32_t)number);
	if (at >= u->old_end)
		return 0;
	return vmimg_io_zero(
		u->io, at, vmimg_min(vmimg_vdi_stride(&u->header), u->old_end - at), err);
}

/* ---- pieces ---- */

static int place_data(void *ctx, struct vmimg_chunk *chunk, uint64_t guest,
	const struct vmimg_piece *piece, struct vmimg_error *err)
{
	struct update *u = ctx;
	uint64_t inside = guest % u->disk->block;

	if (enter(u, guest, err) || allocate(u, err))
		return -1;
	vmimg_chunk_store_block(chunk, u->io, vmimg_vdi_block_at(u->vdi, u->number) + inside, guest,
		piece, u->disk->block);
	return 0;
}

/* Zeroes inside one block; with a parent, all of it. */
static int zero_some(void *ctx, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	struct update *u = ctx;

	if (enter(u, guest, err))
		return -1;
	u->zeroed += len;
	if (u->number >= VMIMG_VDI_ZERO) {
		if (u->hides)
			lead_to(u, VMIMG_VDI_ZERO);
		return 0;
	}
	return vmimg_io_zero(
		u->io, vmimg_vdi_block_at(u->vdi, u->number) + guest % u->disk->block, len, err);
}

static int update_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct update *u = update_of(sink);
	struct vmimg_chunk_visitor visitor = { place_data, zero_some, u->disk->block };

	u->chunk = chunk;
	u->content += vmimg_chunk_fold(chunk);
	return vmimg_chunk_visit(chunk, &visitor, u, err);
}

static int choose_modified(struct update *u, struct vmimg_error *err)
{
	const uint8_t *old = u->header.modified.bytes;

	if (u->same_content)
		return 0;
	return vmimg_guid_make(&u->header.modified, false,
		u->content ^ vmimg_get_be64(old) ^ vmimg_get_be64(old + 8), "vdi modification",
		err);
}

static int update_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct update *u = update_of(sink);

	if (leave(u, err) || choose_modified(u, err) || flush(u, err))
		return -1;
	return u->freed ? vmimg_vdi_close_gaps(u->disk, &u->header, err) : 0;
}

static void update_close(struct vmimg_sink *sink)
{
	struct update *u = update_of(sink);

	vmimg_blocks_done(&u->blocks);
	vmimg_io_unref(u->io);
	vmimg_entries_done(&u->entries);
	free(u);
}

static const struct vmimg_sink_ops update_ops = {
	.place = update_place,
	.finish = update_finish,
	.close = update_close,
};

/* ---- making it ---- */

static void set_sink(struct update *u)
{
	struct vmimg_disk *disk = u->disk;
	uint32_t granule = u->hides ? disk->block : disk->block % GRANULE ? 512 : GRANULE;

	u->sink = (struct vmimg_sink){ .ops = &update_ops,
		.size = disk->size,
		.granule = granule,
		.chunk = (uint32_t)vmimg_align_up(CHUNK, granule),
		.unit = disk->block,
		.in_order = u->vdi->entries > MOST_WAITING,
		.keeps_absent = true,
		.wants_digest = !u->same_content,
		.splits_zeroes = true,
		.clone_io = disk->io };
}

struct vmimg_sink *vmimg_vdi_update(
	struct vmimg_disk *disk, const struct vmimg_update *update, struct vmimg_error *err)
{
	struct vmimg_vdi *vdi = disk->state;
	bool hides = vmimg_vdi_has_parent(&vdi->header) || (update && update->new_parent);
	struct update *u;

	if (vmimg_vdi_begin(disk, err))
		return NULL;
	if (hides && disk->block > MOST_BLOCK) {
		vmimg_fail(err, VMIMG_ELIMIT,
			"a child is written by whole blocks, and one of %" PRIu32
			" bytes is more than 16 MiB",
			disk->block);
		return NULL;
	}
	u = vmimg_new(struct update, err);
	if (!u)
		return NULL;
	u->disk = disk;
	u->vdi = vdi;
	u->io = vmimg_io_ref(disk->io);
	u->header = vdi->header;
	u->hides = hides;
	u->same_content = update && update->same_content;
	u->old_end = vmimg_io_size(disk->io);
	set_sink(u);
	if (vmimg_vdi_space(disk, &u->blocks, err)) {
		update_close(&u->sink);
		return NULL;
	}
	return &u->sink;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a VDI: options, the placing of blocks in guest order, and the header at the end. In a
 * dynamic image a block gets the next place in the file with its first data; what is zero in it is
 * a hole. A block of a child is in it as a whole, so a child is placed by whole blocks, and zeroes
 * that hide the parent are an entry of the map and no bytes at all.
 */
#include <inttypes.h>
#include <string.h>
#include "disk/sink.h"
#include "format/vdi/vdi.h"
#include "util/num.h"

#define CHUNK   (256U << 10)
#define GRANULE 4096U
#define BLOCK   (1U << 20)
/* Where the block map begins, as in images of VirtualBox and QEMU. */
#define MAP_AT 512U
/* Blocks begin at a multiple of this, so that file systems can share them. */
#define ALIGN 4096U
/* Entries of the map in memory; the ones before have been written, the ones after are absent. */
#define WINDOW 16384U

struct vdi_sink {
	struct vmimg_sink sink;
	struct vmimg_io *io;
	uint32_t type, block_size, entries, allocated;
	uint64_t data_at;
	bool unique, has_uuid;
	struct vmimg_guid uuid; /* given, when has_uuid */
	struct vmimg_identity parent;
	uint64_t kept;    /* adopted: where the disk's blocks that stay end in the file; else 0 */
	uint64_t content; /* folded digests */
	uint64_t block;   /* being filled */
	uint32_t number;  /* its number in the file; VMIMG_VDI_ABSENT: none is being filled */
	uint64_t window;  /* entry that map begins with */
	uint8_t *map;
};

/* Options, understood. */
struct wish {
	uint32_t type, block_size;
	uint64_t size, data_at, kept;
};

static struct vdi_sink *sink_of(struct vmimg_sink *sink)
{
	return (struct vdi_sink *)sink;
}

/* ---- block map ---- */

static int write_window(struct vdi_sink *s, uint32_t count, struct vmimg_error *err)
{
	if (vmimg_io_pwrite(s->io, s->map, (size_t)count * 4, MAP_AT + 4 * s->window, err))
		return -1;
	memset(s->map, 0xff, (size_t)count * 4);
	s->window += count;
	return 0;
}

static int set_entry(struct vdi_sink *s, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	while (i - s->window >= WINDOW)
		if (write_window(s, WINDOW, err))
			return -1;
	vmimg_put_le32(s->map + 4 * (i - s->window), entry);
	return 0;
}

static int write_rest(struct vdi_sink *s, struct vmimg_error *err)
{
	while (s->window < s->entries)
		if (write_window(s, (uint32_t)vmimg_min(s->entries - s->window, WINDOW), err))
			return -1;
	return 0;
}

/* ---- blocks ---- */

static uint64_t place_of(const struct vdi_sink *s, uint32_t number)
{
	return s->data_at + (uint64_t)number * s->block_size;
}

static int take_block(struct vdi_sink *s, uint64_t block, struct vmimg_error *err)
{
	s->block = block;
	s->number = s->allocated++;
	if (s->io->is_device && vmimg_io_zero(s->io, place_of(s, s->number), s->block_size, err))
		return -1;
	return set_entry(s, block, s->number, err);
}

/* A fixed image has all its blocks, in order: those before `end` that were passed over. */
static int fill_up(struct vdi_sink *s, uint64_t end, struct vmimg_error *err)
{
	while (s->type == VMIMG_VDI_FIXED && s->allocated < end)
		if (take_block(s, s->allocated, err))
			return -1;
	return 0;
}

/* Makes the block of that guest offset the one being filled. */
static int enter_block(struct vdi_sink *s, uint64_t guest, struct vmimg_error *err)
{
	uint64_t block = guest / s->block_size;

	if (s->number != VMIMG_VDI_ABSENT && block == s->block)
		return 0;
	return fill_up(s, block, err) || take_block(s, block, err) ? -1 : 0;
}

static int place_zeroes(struct vdi_sink *s, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	for (uint64_t end = guest + len; guest < end; guest += s->block_size)
		if (set_entry(s, guest / s->block_size, VMIMG_VDI_ZERO, err))
			return -1;
	return 0;
}

static int place_data(struct vdi_sink *s, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	uint64_t guest = chunk->guest;
	bool one_block = guest / s->block_size == (guest + chunk->len - 1) / s->block_size;

	for (size_t i = 0; i < chunk->piece_count; i++) {
		const struct vmimg_piece *piece = &chunk->pieces[i];
		uint64_t at;

		if (piece->kind == VMIMG_PIECE_DATA) {
			if (enter_block(s, guest, err))
				return -1;
			at = place_of(s, s->number) + guest % s->block_size;
			if (guest == chunk->guest && one_block)
				chunk->clone =
					(struct vmimg_store){ s->io, at, NULL, (size_t)chunk->len };
			vmimg_chunk_store(chunk, s->io, at, piece->bytes, piece->size);
		} else if (s->type == VMIMG_VDI_DIFFERENCING &&
			place_zeroes(s, guest, piece->size, err)) {
			return -1;
		}
		guest += piece->size;
	}
	return 0;
}

/*
 * Of an adopted disk every block that is in the file is the block of that number in the image, but
 * for those that header and map lie over: holes as well, for a place in the file that no block has
 * would be a wrong count.
 */
static int keep_blocks(
	struct vdi_sink *s, const struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	uint64_t lost = s->data_at / s->block_size;
	uint64_t i = vmimg_max(chunk->guest, s->data_at) / s->block_size;
	uint64_t end = vmimg_min(chunk->guest + chunk->len, s->kept);

	for (end = vmimg_div_up(end, s->block_size); i < end; i++)
		if (set_entry(s, i, (uint32_t)(i - lost), err))
			return -1;
	return 0;
}

static int vdi_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct vdi_sink *s = sink_of(sink);

	s->content += chunk->digest;
	if (s->kept && keep_blocks(s, chunk, err))
		return -1;
	if (s->kept && chunk->guest >= s->data_at)
		return 0;
	if (chunk->kind == VMIMG_PIECE_DATA)
		return place_data(s, chunk, err);
	if (s->type == VMIMG_VDI_DIFFERENCING && chunk->kind == VMIMG_PIECE_ZERO)
		return place_zeroes(s, chunk->guest, chunk->len, err);
	return 0;
}

/* ---- header ---- */

static int set_uuids(
	const struct vdi_sink *s, struct vmimg_vdi_header1 *header, struct vmimg_error *err)
{
	struct vmimg_guid uuid = s->uuid, modified;

	if (!s->has_uuid && vmimg_guid_make(&uuid, s->unique, s->content, "vdi", err))
		return -1;
	if (vmimg_guid_make(&modified, s->unique, s->content, "vdi modification", err))
		return -1;
	vmimg_guid_put_mixed(&uuid, header->uuid);
	vmimg_guid_put_mixed(&modified, header->modified);
	vmimg_guid_put_mixed(&s->parent.uuid, header->link);
	vmimg_guid_put_mixed(&s->parent.modified, header->parent_modified);
	return 0;
}

static int write_header(struct vdi_sink *s, struct vmimg_error *err)
{
	uint8_t bytes[MAP_AT] = { 0 };
	struct vmimg_vdi_pre pre = {
		.text = "<<< vmimg Virtual Disk Image >>>\n",
		.magic = VMIMG_VDI_MAGIC,
		.major = 1,
		.minor = 1,
	};
	struct vmimg_vdi_header1 header = {
		.header_size = VMIMG_VDI_HEADER1_SIZE - VMIMG_VDI_PRE_SIZE,
		.type = s->type,
		.map_at = MAP_AT,
		.data_at = (uint32_t)s->data_at,
		.sector_size = 512,
		.disk_size = s->sink.size,
		.block_size = s->block_size,
		.blocks = s->entries,
		.allocated = s->allocated,
		.logical_sector_size = 512,
	};

	if (set_uuids(s, &header, err))
		return -1;
	vmimg_vdi_pre_encode(&pre, bytes);
	vmimg_vdi_header1_encode(&header, bytes);
	return vmimg_io_pwrite(s->io, bytes, sizeof(bytes), 0, err);
}

static int vdi_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct vdi_sink *s = sink_of(sink);

	uint64_t map_end = MAP_AT + UINT64_C(4) * s->entries;

	if (fill_up(s, s->entries, err) || write_rest(s, err))
		return -1;
	if (s->kept && vmimg_io_zero(s->io, map_end, s->data_at - map_end, err))
		return -1;
	if (!s->io->is_device && vmimg_io_resize(s->io, place_of(s, s->allocated), err))
		return -1;
	if (vmimg_sink_barrier(s->io, err))
		return -1;
	return write_header(s, err);
}

static void vdi_sink_close(struct vmimg_sink *sink)
{
	struct vdi_sink *s = sink_of(sink);

	vmimg_io_unref(s->io);
	free(s->map);
	free(s);
}

static const struct vmimg_sink_ops vdi_sink_ops = {
	.place = vdi_place,
	.finish = vdi_finish,
	.close = vdi_sink_close,
};

/* ---- options ---- */

static int choose_type(const struct vmimg_create *create, uint32_t *type, struct vmimg_error *err)
{
	bool child = create->parent_name != NULL;
	bool fixed = vmimg_options_bool(create->options, "static", false);
	const char *name = vmimg_options_text(create->options, "subformat",
		fixed           ? "fixed"
			: child ? "differencing"
				: "dynamic");

	*type = !strcmp(name, "fixed")     ? VMIMG_VDI_FIXED
		: !strcmp(name, "dynamic") ? VMIMG_VDI_DYNAMIC
					   : VMIMG_VDI_DIFFERENCING;
	if (fixed && *type != VMIMG_VDI_FIXED)
		return vmimg_fail(
			err, VMIMG_EINVAL, "static=on and subformat=%s exclude each other", name);
	if (child != (*type == VMIMG_VDI_DIFFERENCING))
		return vmimg_fail(err, VMIMG_EINVAL,
			child ? "a %s VDI has no parent (subformat=differencing has)"
			      : "a %s VDI needs a parent, named with -b",
			name);
	if (create->adopt && *type != VMIMG_VDI_DYNAMIC)
		return vmimg_fail(err, VMIMG_EINVAL,
			"data that stays where it is becomes a dynamic VDI without a parent");
	if (create->compress)
		return vmimg_fail(err, VMIMG_EINVAL, "a VDI cannot be compressed");
	return 0;
}

static int read_wish(const struct vmimg_create *create, struct wish *wish, struct vmimg_error *err)
{
	uint64_t block = vmimg_options_size(create->options, "block_size", BLOCK), entries;

	if (choose_type(create, &wish->type, err))
		return -1;
	if (!vmimg_is_pow2(block) || block < GRANULE || block > VMIMG_VDI_MAX_BLOCK)
		return vmimg_fail(err, VMIMG_EINVAL,
			"block_size is a power of two from 4 KiB to 256 MiB, not %" PRIu64, block);
	wish->block_size = (uint32_t)block;
	wish->size = vmimg_align_up(create->size, 512);
	entries = vmimg_div_up(wish->size, block);
	if (entries > VMIMG_VDI_MAX_BLOCKS)
		return vmimg_fail(err, VMIMG_EINVAL,
			"%" PRIu64 " bytes are more than %" PRIu32 " blocks of %" PRIu64
			" (a larger block_size would do)",
			create->size, VMIMG_VDI_MAX_BLOCKS, block);
	wish->data_at = vmimg_align_up(MAP_AT + 4 * entries, create->adopt ? block : ALIGN);
	wish->kept = create->adopt
		? vmimg_max(vmimg_align_up(create->adopt, block), wish->data_at)
		: 0;
	return 0;
}

static int set_parent(
	struct vdi_sink *s, const struct vmimg_create *create, struct vmimg_error *err)
{
	const struct vmimg_disk *parent = create->parent;

	if (!parent)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a differencing VDI notes its parent's UUIDs, so the parent has to be "
			"opened");
	if (strcmp(parent->format->name, "vdi"))
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a VDI is a VDI, not %s",
			parent->format->title);
	parent->format->identity(parent, &s->parent);
	if (vmimg_guid_is_nil(&s->parent.uuid))
		return vmimg_fail(err, VMIMG_EINVAL, "the parent has no UUID to be known by");
	s->content ^=
		vmimg_get_be64(s->parent.uuid.bytes) ^ vmimg_get_be64(s->parent.uuid.bytes + 8);
	return 0;
}

static int set_identity(
	struct vdi_sink *s, const struct vmimg_create *create, struct vmimg_error *err)
{
	const char *uuid = vmimg_options_text(create->options, "uuid", NULL);

	s->unique = create->unique;
	s->has_uuid = uuid != NULL;
	s->content = s->sink.size;
	s->sink.wants_digest = !s->unique;
	if (uuid && !vmimg_guid_parse(&s->uuid, uuid, strlen(uuid)))
		return vmimg_fail(err, VMIMG_EINVAL, "uuid is 8-4-4-4-12 hexadecimal digits");
	return s->type == VMIMG_VDI_DIFFERENCING ? set_parent(s, create, err) : 0;
}

static int set_sink(
	struct vdi_sink *s, struct vmimg_io *io, const struct wish *wish, struct vmimg_error *err)
{
	bool child = wish->type == VMIMG_VDI_DIFFERENCING, whole = child || wish->kept;

	s->io = vmimg_io_ref(io);
	s->type = wish->type;
	s->block_size = wish->block_size;
	s->entries = (uint32_t)vmimg_div_up(wish->size, wish->block_size);
	s->data_at = wish->data_at;
	s->kept = wish->kept;
	s->allocated = wish->kept ? (uint32_t)((wish->kept - wish->data_at) / wish->block_size) : 0;
	s->number = VMIMG_VDI_ABSENT;
	s->sink = (struct vmimg_sink){ .ops = &vdi_sink_ops,
		.size = wish->size,
		.granule = whole ? wish->block_size : GRANULE,
		.chunk = (uint32_t)vmimg_max(CHUNK, whole ? wish->block_size : 0),
		.unit = wish->block_size,
		.keeps_absent = child,
		.splits_zeroes = true,
		.clone_io = io,
		.moved = wish->kept ? wish->data_at : 0,
		.overlaid = wish->kept ? wish->data_at : 0 };
	s->map = vmimg_alloc_buffer((size_t)WINDOW * 4, err);
	if (!s->map)
		return -1;
	memset(s->map, 0xff, (size_t)WINDOW * 4);
	return 0;
}

struct vmimg_sink *vmimg_vdi_create(
	struct vmimg_io *io, const struct vmimg_create *create, struct vmimg_error *err)
{
	struct vdi_sink *s;
	struct wish wish;

	if (read_wish(create, &wish, err))
		return NULL;
	if (io->in_order) {
		vmimg_fail(err, VMIMG_EUNSUPPORTED, "a VDI cannot be written to a pipe");
		return NULL;
	}
	s = vmimg_new(struct vdi_sink, err);
	if (!s)
		return NULL;
	if (set_sink(s, io, &wish, err) || set_identity(s, create, err)) {
		vdi_sink_close(&s->sink);
		return NULL;
	}
	return &s->sink;
}

int vmimg_vdi_measure(
	const struct vmimg_create *create, uint64_t data, uint64_t *bytes, struct vmimg_error *err)
{
	uint64_t blocks, all;
	struct wish wish;

	if (read_wish(create, &wish, err))
		return -1;
	all = vmimg_div_up(wish.size, wish.block_size);
	blocks = wish.type == VMIMG_VDI_FIXED ? all : vmimg_div_up(data, wish.block_size);
	*bytes = wish.data_at + vmimg_min(blocks, all) * wish.block_size;
	return 0;
}

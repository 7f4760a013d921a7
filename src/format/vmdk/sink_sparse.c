/* SPDX-License-Identifier: Apache-2.0 */
/* monolithicSparse and twoGbMaxExtentSparse, also on top of a parent. */
#include <stdlib.h>
#include <string.h>
#include "format/vmdk/write.h"
#include "util/num.h"

struct sparse_sink {
	struct vmdk_writer w;
	struct vmdk_tables *extents; /* w.count of them */
	bool split;                  /* they are files of their own */
};

static struct sparse_sink *sparse_of(struct vmimg_sink *sink)
{
	return (struct sparse_sink *)sink;
}

/* The extent that a guest offset falls into, and the number of its grain there. */
static struct vmdk_tables *extent_of(struct sparse_sink *s, uint64_t guest, uint64_t *grain)
{
	uint64_t each = VMDK_SPLIT_SECTORS * VMDK_SECTOR, index = s->split ? guest / each : 0;

	*grain = (guest - index * each) / VMDK_GRAIN;
	return &s->extents[index];
}

/* Zeroes that a parent would otherwise show through: marked, or given grains that stay holes. */
static int place_zeroes(
	struct sparse_sink *s, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	for (uint64_t at = guest; at < guest + len; at += VMDK_GRAIN) {
		uint64_t grain, place;
		struct vmdk_tables *t = extent_of(s, at, &grain);

		if (s->w.settings.zeroed) {
			if (vmimg_vmdk_tables_zero(t, grain, err))
				return -1;
		} else if (vmimg_vmdk_tables_add(t, grain, &place, err) ||
			(t->io->is_device && vmimg_io_zero(t->io, place, VMDK_GRAIN, err))) {
			return -1;
		}
	}
	return 0;
}

static int place_pieces(struct sparse_sink *s, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	uint64_t guest = chunk->guest;

	for (size_t i = 0; i < chunk->piece_count; i++, guest += VMDK_GRAIN) {
		const struct vmimg_piece *piece = &chunk->pieces[i];
		struct vmdk_tables *t;
		uint64_t grain, at;

		if (piece->kind == VMIMG_PIECE_DATA) {
			t = extent_of(s, guest, &grain);
			if (vmimg_vmdk_tables_add(t, grain, &at, err))
				return -1;
			vmimg_chunk_store(chunk, t->io, at, piece->bytes, piece->size);
		} else if (s->w.sink.keeps_absent && piece->kind == VMIMG_PIECE_ZERO &&
			place_zeroes(s, guest, piece->size, err)) {
			return -1;
		}
	}
	return 0;
}

static int sparse_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct sparse_sink *s = sparse_of(sink);

	if (chunk->kind == VMIMG_PIECE_DATA) {
		s->w.content += chunk->digest;
		return place_pieces(s, chunk, err);
	}
	if (chunk->kind == VMIMG_PIECE_ZERO && sink->keeps_absent)
		return place_zeroes(s, chunk->guest, chunk->len, err);
	return 0;
}

static int sparse_start(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct sparse_sink *s = sparse_of(sink);

	for (size_t i = 0; i < s->w.count; i++)
		if (vmimg_vmdk_tables_start(&s->extents[i], err))
			return -1;
	return 0;
}

static int sparse_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct sparse_sink *s = sparse_of(sink);

	if (vmimg_vmdk_identify(&s->w.settings, s->w.content, err))
		return -1;
	for (size_t i = 0; i < s->w.count; i++)
		if (vmimg_vmdk_tables_finish(&s->extents[i], err))
			return -1;
	if (!s->split && vmimg_vmdk_embed_text(s->w.io, &s->w.settings, s->w.lines, err))
		return -1;
	if (vmimg_sink_barrier(s->w.io, err))
		return -1;
	for (size_t i = 0; i < s->w.count; i++)
		if (vmimg_vmdk_tables_header(&s->extents[i], &s->w.settings, !s->split, err))
			return -1;
	return s->split
		? vmimg_vmdk_write_text(s->w.io, &s->w.settings, s->w.lines, s->w.count, err)
		: 0;
}

static void sparse_close(struct vmimg_sink *sink)
{
	struct sparse_sink *s = sparse_of(sink);

	for (size_t i = 0; s->extents && i < s->w.count; i++)
		vmimg_vmdk_tables_done(&s->extents[i]);
	free(s->extents);
	vmimg_vmdk_writer_done(&s->w);
	free(s);
}

static const struct vmimg_sink_ops sparse_ops = {
	.start = sparse_start,
	.place = sparse_place,
	.finish = sparse_finish,
	.close = sparse_close,
};

static int make_single(
	struct sparse_sink *s, const struct vmimg_create *create, struct vmimg_error *err)
{
	const char *name = create->siblings ? create->siblings->main_name : "disk.vmdk";

	if (strpbrk(name, "\"\r\n"))
		name = "disk.vmdk"; /* readers go by what the file holds, not by this */
	s->w.count = 1;
	s->w.lines = vmimg_alloc_array(1, sizeof(*s->w.lines), err);
	s->extents = vmimg_alloc_array(1, sizeof(*s->extents), err);
	if (!s->w.lines || !s->extents)
		return -1;
	s->w.lines[0] = (struct vmdk_line){ .word = "SPARSE", .sectors = s->w.settings.sectors };
	s->w.lines[0].name = vmimg_strdup(name, err);
	if (!s->w.lines[0].name)
		return -1;
	return vmimg_vmdk_tables_init(s->extents, s->w.io, s->w.settings.sectors, true, err);
}

static int make_split(
	struct sparse_sink *s, const struct vmimg_create *create, struct vmimg_error *err)
{
	s->split = true;
	if (vmimg_vmdk_writer_plan(&s->w, create, err))
		return -1;
	s->extents = vmimg_alloc_array(s->w.count, sizeof(*s->extents), err);
	if (!s->extents)
		return -1;
	for (size_t i = 0; i < s->w.count; i++) {
		VMIMG_AUTO(vmimg_io_unref)
		struct vmimg_io *io = vmimg_vmdk_writer_file(&s->w, create, i, err);

		if (!io ||
			vmimg_vmdk_tables_init(
				&s->extents[i], io, s->w.lines[i].sectors, false, err))
			return -1;
	}
	return 0;
}

static int make(struct vmdk_writer *w, const struct vmimg_create *create, struct vmimg_error *err)
{
	struct sparse_sink *s = sparse_of(&w->sink);

	w->sink.keeps_absent = w->settings.parent_hint != NULL;
	return w->settings.subformat == VMDK_SPLIT_SPARSE ? make_split(s, create, err)
							  : make_single(s, create, err);
}

const struct vmdk_writer_kind vmimg_vmdk_sparse = { sizeof(struct sparse_sink), &sparse_ops,
	VMDK_GRAIN, VMDK_CHUNK, make };

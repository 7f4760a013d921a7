/* SPDX-License-Identifier: Apache-2.0 */
/* monolithicFlat, twoGbMaxExtentFlat and vmfs: a descriptor and plain files, with holes where the
 * guest has zeroes. */
#include <stdlib.h>
#include "format/vmdk/write.h"
#include "util/num.h"

#define GRANULE 4096U
#define CHUNK   (256U << 10)

struct flat_sink {
	struct vmdk_writer w;
	struct vmimg_io **extents; /* w.count of them */
	uint64_t each;             /* bytes of every extent but the last */
};

static struct flat_sink *flat_of(struct vmimg_sink *sink)
{
	return (struct flat_sink *)sink;
}

static int flat_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct flat_sink *s = flat_of(sink);
	uint64_t guest = chunk->guest;

	(void)err;
	if (chunk->kind != VMIMG_PIECE_DATA)
		return 0;
	s->w.content += chunk->digest;
	for (size_t i = 0; i < chunk->piece_count; i++) {
		const struct vmimg_piece *piece = &chunk->pieces[i];

		if (piece->kind == VMIMG_PIECE_DATA)
			vmimg_chunk_store(chunk, s->extents[guest / s->each], guest % s->each,
				piece->bytes, piece->size);
		guest += piece->size;
	}
	if (chunk->guest / s->each == (chunk->guest + chunk->len - 1) / s->each)
		chunk->clone = (struct vmimg_store){ s->extents[chunk->guest / s->each],
			chunk->guest % s->each, NULL, (size_t)chunk->len };
	return 0;
}

static int flat_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct flat_sink *s = flat_of(sink);

	if (vmimg_vmdk_identify(&s->w.settings, s->w.content, err))
		return -1;
	for (size_t i = 0; i < s->w.count; i++)
		if (vmimg_io_resize(s->extents[i], s->w.lines[i].sectors * VMDK_SECTOR, err))
			return -1;
	return vmimg_vmdk_write_text(s->w.io, &s->w.settings, s->w.lines, s->w.count, err);
}

static void flat_close(struct vmimg_sink *sink)
{
	struct flat_sink *s = flat_of(sink);

	for (size_t i = 0; s->extents && i < s->w.count; i++)
		vmimg_io_unref(s->extents[i]);
	free(s->extents);
	vmimg_vmdk_writer_done(&s->w);
	free(s);
}

static const struct vmimg_sink_ops flat_ops = {
	.place = flat_place,
	.finish = flat_finish,
	.close = flat_close,
};

static int make_files(
	struct vmdk_writer *w, const struct vmimg_create *create, struct vmimg_error *err)
{
	struct flat_sink *s = flat_of(&w->sink);

	if (vmimg_vmdk_writer_plan(&s->w, create, err))
		return -1;
	s->extents = vmimg_alloc_array(s->w.count, sizeof(*s->extents), err);
	if (!s->extents)
		return -1;
	for (size_t i = 0; i < s->w.count; i++) {
		s->extents[i] = vmimg_vmdk_writer_file(&s->w, create, i, err);
		if (!s->extents[i])
			return -1;
	}
	s->each = vmimg_max(s->w.lines[0].sectors, 1) * VMDK_SECTOR;
	s->w.sink.clone_io = s->extents[0];
	return 0;
}

const struct vmdk_writer_kind vmimg_vmdk_flat = { sizeof(struct flat_sink), &flat_ops, GRANULE,
	CHUNK, make_files };

/* SPDX-License-Identifier: Apache-2.0 */
/* monolithicFlat, twoGbMaxExtentFlat and vmfs: a descriptor and plain files, with holes where the
 * guest has zeroes. */
#include <stdlib.h>
#include "format/vmdk/write.h"
#include "util/num.h"

#define GRANULE 4096U
#define CHUNK   (256U << 10)

struct flat_sink {
	struct vmimg_sink sink;
	struct vmdk_settings settings;
	struct vmimg_io *io; /* of the descriptor */
	struct vmdk_line *lines;
	struct vmimg_io **extents;
	size_t count;  /* of both */
	uint64_t each; /* bytes of every extent but the last */
	uint64_t content;
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
	s->content += chunk->digest;
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

	if (vmimg_vmdk_identify(&s->settings, s->content, err))
		return -1;
	for (size_t i = 0; i < s->count; i++)
		if (vmimg_io_resize(s->extents[i], s->lines[i].sectors * VMDK_SECTOR, err))
			return -1;
	return vmimg_vmdk_write_text(s->io, &s->settings, s->lines, s->count, err);
}

static void flat_close(struct vmimg_sink *sink)
{
	struct flat_sink *s = flat_of(sink);

	for (size_t i = 0; s->extents && i < s->count; i++)
		vmimg_io_unref(s->extents[i]);
	free(s->extents);
	vmimg_vmdk_lines_free(s->lines, s->count);
	vmimg_io_unref(s->io);
	free(s);
}

static const struct vmimg_sink_ops flat_ops = {
	.place = flat_place,
	.finish = flat_finish,
	.close = flat_close,
};

static int make_files(
	struct flat_sink *s, const struct vmimg_create *create, struct vmimg_error *err)
{
	if (!create->siblings)
		return vmimg_fail(err, VMIMG_EINVAL, "subformat %s takes several files",
			s->settings.create_type);
	s->lines = vmimg_vmdk_plan(&s->settings, create->siblings->main_name, &s->count, err);
	if (!s->lines)
		return -1;
	s->extents = vmimg_alloc_array(s->count, sizeof(*s->extents), err);
	if (!s->extents)
		return -1;
	for (size_t i = 0; i < s->count; i++) {
		s->extents[i] = create->siblings->create(create->siblings, s->lines[i].name, err);
		if (!s->extents[i])
			return -1;
	}
	s->each = vmimg_max(s->lines[0].sectors, 1) * VMDK_SECTOR;
	return 0;
}

struct vmimg_sink *vmimg_vmdk_flat_sink(struct vmimg_io *io, const struct vmimg_create *create,
	const struct vmdk_settings *settings, struct vmimg_error *err)
{
	struct flat_sink *s = vmimg_new(struct flat_sink, err);

	if (!s)
		return NULL;
	s->settings = *settings;
	s->io = vmimg_io_ref(io);
	s->content = settings->sectors;
	s->sink = (struct vmimg_sink){ .ops = &flat_ops,
		.size = settings->sectors * VMDK_SECTOR,
		.granule = GRANULE,
		.chunk = CHUNK,
		.wants_digest = vmimg_vmdk_wants_digest(settings),
		.splits_zeroes = true };
	if (make_files(s, create, err)) {
		flat_close(&s->sink);
		return NULL;
	}
	s->sink.clone_io = s->extents[0];
	return &s->sink;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Raw: the file is the disk. Holes of the file are zeroes of the guest, in and out. A last sector
 * that is cut short is kept as it is: the size is exact.
 */
#include <string.h>
#include "disk/edit.h"
#include "disk/info.h"
#include "disk/sink.h"
#include "util/num.h"

#define CHUNK   (256U << 10)
#define GRANULE 4096U

struct raw_sink {
	struct vmimg_sink sink;
	struct vmimg_io *io;
	bool reserve; /* preallocation=falloc */
	bool fill;    /* preallocation=full: zeroes are written */
};

static int raw_probe(const struct vmimg_probe *probe)
{
	(void)probe;
	return 1;
}

static int raw_open(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	(void)options, (void)err;
	disk->size = vmimg_io_size(disk->io);
	return 0;
}

static void raw_close(struct vmimg_disk *disk)
{
	(void)disk;
}

static int raw_describe(struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err)
{
	(void)disk, (void)info, (void)err;
	return 0;
}

static int raw_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct raw_sink *raw = (struct raw_sink *)sink;
	uint64_t at = chunk->guest;

	if (chunk->kind != VMIMG_PIECE_DATA && raw->fill)
		return vmimg_io_write_zeroes(raw->io, at, chunk->len, err);
	if (chunk->kind != VMIMG_PIECE_DATA)
		return raw->io->in_order || raw->io->is_device
			? vmimg_io_zero(raw->io, at, chunk->len, err)
			: 0;
	for (size_t i = 0; i < chunk->piece_count; i++) {
		struct vmimg_piece *piece = &chunk->pieces[i];

		if (piece->kind == VMIMG_PIECE_DATA || raw->fill)
			vmimg_chunk_store(chunk, raw->io, at, piece->bytes, piece->size);
		else if (raw->io->is_device && vmimg_io_zero(raw->io, at, piece->size, err))
			return -1;
		at += piece->size;
	}
	chunk->clone = (struct vmimg_store){ raw->io, chunk->guest, NULL, (size_t)chunk->len };
	return 0;
}

static int raw_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct raw_sink *raw = (struct raw_sink *)sink;

	return raw->io->is_device ? 0 : vmimg_io_resize(raw->io, sink->size, err);
}

static void raw_sink_close(struct vmimg_sink *sink)
{
	vmimg_io_unref(((struct raw_sink *)sink)->io);
	free(sink);
}

static const struct vmimg_sink_ops raw_sink_ops = {
	.place = raw_place,
	.finish = raw_finish,
	.close = raw_sink_close,
};

/* Makes the whole file writeable in one go where space is to be set aside. */
static int prepare(struct raw_sink *raw, struct vmimg_error *err)
{
	if (raw->io->in_order)
		return 0;
	if (raw->io->is_device)
		return vmimg_io_resize(raw->io, raw->sink.size, err);
	if (vmimg_io_resize(raw->io, raw->sink.size, err))
		return -1;
	return raw->reserve ? vmimg_io_reserve(raw->io, 0, raw->sink.size, err) : 0;
}

static struct vmimg_sink *raw_create(
	struct vmimg_io *io, const struct vmimg_create *create, struct vmimg_error *err)
{
	const char *space = vmimg_options_text(create->options, "preallocation", "off");
	struct raw_sink *raw;

	if (create->parent_name || create->compress) {
		vmimg_fail(err, VMIMG_EINVAL, "a raw image cannot %s",
			create->compress ? "be compressed" : "have a backing file");
		return NULL;
	}
	raw = vmimg_new(struct raw_sink, err);
	if (!raw)
		return NULL;
	raw->sink = (struct vmimg_sink){ .ops = &raw_sink_ops,
		.size = create->size,
		.granule = GRANULE,
		.chunk = CHUNK,
		.in_order = io->in_order,
		.clone_io = io };
	raw->io = vmimg_io_ref(io);
	raw->reserve = !strcmp(space, "falloc") || !strcmp(space, "full");
	raw->fill = !strcmp(space, "full");
	raw->sink.splits_zeroes = !io->in_order && !raw->fill;
	if (prepare(raw, err)) {
		raw_sink_close(&raw->sink);
		return NULL;
	}
	return &raw->sink;
}

static int raw_measure(
	const struct vmimg_create *create, uint64_t data, uint64_t *bytes, struct vmimg_error *err)
{
	(void)data, (void)err;
	*bytes = create->size;
	return 0;
}

/* The file's size is the disk's: one system call, all or nothing. */
static int raw_resize(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	return vmimg_io_resize(disk->io, size, err) ? -1 : vmimg_io_sync(disk->io, err);
}

/* ---- new content in place: the same offsets ---- */

/* Neighbours become one hole. */
static int punch(struct raw_sink *raw, const struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	uint64_t at = chunk->guest, len = 0;

	for (size_t i = 0; i <= chunk->piece_count; i++) {
		const struct vmimg_piece *piece = &chunk->pieces[i];

		if (i < chunk->piece_count && piece->kind == VMIMG_PIECE_ZERO) {
			len += piece->size;
			continue;
		}
		if (len && vmimg_io_zero(raw->io, at, len, err))
			return -1;
		at += len + (i < chunk->piece_count ? piece->size : 0);
		len = 0;
	}
	return 0;
}

static int update_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct raw_sink *raw = (struct raw_sink *)sink;
	uint64_t at = chunk->guest;

	if (chunk->kind == VMIMG_PIECE_ZERO)
		return vmimg_io_zero(raw->io, at, chunk->len, err);
	if (chunk->kind == VMIMG_PIECE_ABSENT)
		return 0;
	for (size_t i = 0; i < chunk->piece_count; at += chunk->pieces[i++].size)
		if (chunk->pieces[i].kind == VMIMG_PIECE_DATA)
			vmimg_chunk_store(
				chunk, raw->io, at, chunk->pieces[i].bytes, chunk->pieces[i].size);
	if (chunk->source.kind == VMIMG_RUN_DATA)
		chunk->clone =
			(struct vmimg_store){ raw->io, chunk->guest, NULL, (size_t)chunk->len };
	return punch(raw, chunk, err);
}

static int update_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	return vmimg_io_sync(((struct raw_sink *)sink)->io, err);
}

static const struct vmimg_sink_ops update_ops = {
	.place = update_place,
	.finish = update_finish,
	.close = raw_sink_close,
};

static struct vmimg_sink *raw_update(
	struct vmimg_disk *disk, const struct vmimg_update *update, struct vmimg_error *err)
{
	struct raw_sink *raw = vmimg_new(struct raw_sink, err);

	(void)update;
	if (!raw)
		return NULL;
	raw->sink = (struct vmimg_sink){ .ops = &update_ops,
		.size = disk->size,
		.granule = GRANULE,
		.chunk = CHUNK,
		.keeps_absent = true,
		.splits_zeroes = true,
		.clone_io = disk->io };
	raw->io = vmimg_io_ref(disk->io);
	return &raw->sink;
}

static const struct vmimg_edit_ops raw_edit = {
	.resize = raw_resize,
	.update = raw_update,
};

static const struct vmimg_option_spec raw_options[] = {
	{ "preallocation", VMIMG_OPTION_CHOICE, "off|falloc|full",
		"set space aside (off): falloc reserves it, full writes zeroes" },
	{ 0 },
};

const struct vmimg_format vmimg_raw = {
	.name = "raw",
	.title = "a raw disk",
	.suffixes = "raw img dd bin",
	.probe = raw_probe,
	.open = raw_open,
	.close = raw_close,
	.map = vmimg_disk_map_file,
	.describe = raw_describe,
	.create = raw_create,
	.measure = raw_measure,
	.edit = &raw_edit,
	.options = raw_options,
};

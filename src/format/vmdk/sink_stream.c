/* SPDX-License-Identifier: Apache-2.0 */
/*
 * streamOptimized, as VMware's products write it: compressed grains behind markers, in guest order;
 * each grain table behind the grains it names, with a marker; at the end the directory, the footer
 * and the end of the stream. The header says that the directory is at the end, so nothing is ever
 * gone back to, and a pipe will do.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "format/vmdk/write.h"
#include "util/num.h"

#define OVERHEAD   128U                                   /* sectors before the first grain */
#define TABLE_LEN  (VMDK_SECTOR + VMDK_TABLE_ENTRIES * 4) /* with its marker */
#define MAX_TABLES (UINT64_C(1) << 23) /* 256 TiB of guest; 32 MiB of directory in memory */

struct stream_sink {
	struct vmimg_sink sink;
	struct vmdk_settings settings;
	struct vmimg_io *io;
	uint64_t next;  /* bytes written, or about to be */
	uint64_t table; /* the one in hand */
	bool used;      /* it has grains */
	uint32_t entry[VMDK_TABLE_ENTRIES];
	uint32_t *directory;
	uint64_t tables;
	uint64_t directory_at;     /* sector, when it is written */
	uint8_t out[2][TABLE_LEN]; /* tables being stored: a chunk may end two of them */
	unsigned out_next;
};

static struct stream_sink *stream_of(struct vmimg_sink *sink)
{
	return (struct stream_sink *)sink;
}

static void put_marker(uint8_t *to, uint64_t value, uint32_t size, uint32_t type)
{
	struct vmdk_marker marker = { .value = value, .size = size, .type = type };

	vmdk_marker_encode(&marker, to);
}

/* Gives the sector where len bytes go, which is a number of 32 bits in all tables. */
static int take_place(struct stream_sink *s, uint64_t len, uint64_t *at, struct vmimg_error *err)
{
	if ((s->next + len) / VMDK_SECTOR > UINT32_MAX)
		return vmimg_fail(err, VMIMG_ELIMIT, "a streamOptimized file holds 2 TiB at most");
	*at = s->next;
	s->next += len;
	return 0;
}

/* Ends the table in hand. Through a pipe it takes its turn among the chunk's stores; chunk is NULL
 * at the end, when nothing is pending. */
static int end_table(struct stream_sink *s, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	uint8_t *out = s->out[s->out_next];
	uint64_t at = 0;

	if (!s->used)
		return 0;
	if (take_place(s, TABLE_LEN, &at, err))
		return -1;
	memset(out, 0, VMDK_SECTOR);
	put_marker(out, VMDK_TABLE_SECTORS, 0, VMDK_MARKER_GT);
	for (unsigned i = 0; i < VMDK_TABLE_ENTRIES; i++)
		vmimg_put_le32(out + VMDK_SECTOR + i * 4, s->entry[i]);
	s->directory[s->table] = (uint32_t)(at / VMDK_SECTOR + 1);
	memset(s->entry, 0, sizeof(s->entry));
	s->used = false;
	if (!chunk || !s->sink.in_order)
		return vmimg_io_pwrite(s->io, out, TABLE_LEN, at, err);
	s->out_next ^= 1;
	vmimg_chunk_store(chunk, s->io, at, out, TABLE_LEN);
	return 0;
}

/* A grain that was packed here has room for its marker before it; one that came packed from the
 * source is alone in its chunk and gets marker and padding of its own. */
static void store_grain(struct stream_sink *s, struct vmimg_chunk *chunk,
	const struct vmimg_piece *piece, uint64_t sector, uint64_t at)
{
	static const uint8_t zeroes[VMDK_SECTOR];
	uint64_t len = VMDK_GRAIN_HEAD + piece->size, end = vmimg_align_up(len, VMDK_SECTOR);
	bool ours =
		piece->bytes >= chunk->packed && piece->bytes < chunk->packed + s->sink.pack_room;
	uint8_t *head = ours ? chunk->packed + (piece->bytes - chunk->packed) - VMDK_GRAIN_HEAD
			     : chunk->packed;
	uint8_t marker[16] = { 0 };

	put_marker(marker, sector, piece->size, 0);
	memcpy(head, marker, VMDK_GRAIN_HEAD);
	if (ours) {
		vmimg_chunk_store(chunk, s->io, at, head, (size_t)end);
		return;
	}
	vmimg_chunk_store(chunk, s->io, at, head, VMDK_GRAIN_HEAD);
	vmimg_chunk_store(chunk, s->io, at + VMDK_GRAIN_HEAD, piece->bytes, piece->size);
	if (end > len)
		vmimg_chunk_store(chunk, s->io, at + len, zeroes, (size_t)(end - len));
}

static int stream_pack(struct vmimg_sink *sink, struct vmimg_chunk *chunk,
	struct vmimg_packer *packer, struct vmimg_error *err)
{
	(void)sink;
	return vmimg_chunk_pack(chunk, packer, VMDK_GRAIN, VMDK_GRAIN_HEAD, VMDK_SECTOR, true, err);
}

static int stream_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct stream_sink *s = stream_of(sink);
	uint64_t grain = chunk->guest / VMDK_GRAIN;

	for (size_t i = 0; i < chunk->piece_count; i++, grain++) {
		const struct vmimg_piece *piece = &chunk->pieces[i];
		uint64_t at = 0;

		if (piece->kind != VMIMG_PIECE_PACKED)
			continue;
		if (grain / VMDK_TABLE_ENTRIES != s->table && end_table(s, chunk, err))
			return -1;
		if (take_place(s, vmimg_align_up(VMDK_GRAIN_HEAD + piece->size, VMDK_SECTOR), &at,
			    err))
			return -1;
		s->table = grain / VMDK_TABLE_ENTRIES;
		s->entry[grain % VMDK_TABLE_ENTRIES] = (uint32_t)(at / VMDK_SECTOR);
		s->used = true;
		store_grain(s, chunk, piece, grain * VMDK_GRAIN_SECTORS, at);
	}
	return 0;
}

static void encode_header(const struct stream_sink *s, uint64_t gd_offset, uint8_t bytes[512])
{
	struct vmdk_header h = { .magic = VMDK_MAGIC,
		.version = 3,
		.flags = VMDK_FLAG_NEWLINE | VMDK_FLAG_PACKED | VMDK_FLAG_MARKERS,
		.capacity = s->settings.sectors,
		.grain_size = VMDK_GRAIN_SECTORS,
		.descriptor_offset = 1,
		.descriptor_size = VMDK_DESCRIPTOR_SECTORS,
		.entries_per_table = VMDK_TABLE_ENTRIES,
		.gd_offset = gd_offset,
		.overhead = OVERHEAD,
		.compress_algorithm = VMDK_COMPRESS_ZLIB };

	memset(bytes, 0, 512);
	memcpy(h.line_ends, VMDK_LINE_ENDS, 4);
	vmdk_header_encode(&h, bytes);
}

/* Header and descriptor, up to the first grain. */
static int write_front(struct stream_sink *s, struct vmimg_error *err)
{
	struct vmdk_line line = { .access = VMDK_RDONLY,
		.word = "SPARSE",
		.sectors = s->settings.sectors,
		.name = (char[]){ "generated-stream.vmdk" } };
	uint64_t end = VMDK_SECTOR * (1 + VMDK_DESCRIPTOR_SECTORS);
	uint8_t header[512];

	/* readers look for the footer at the end of a file; that of a device is elsewhere */
	encode_header(s, s->io->is_device ? s->directory_at : VMDK_GD_AT_END, header);
	if (s->io->in_order && vmimg_io_pwrite(s->io, header, sizeof(header), 0, err))
		return -1;
	if (vmimg_vmdk_embed_text(s->io, &s->settings, &line, err) ||
		vmimg_io_write_zeroes(s->io, end, OVERHEAD * VMDK_SECTOR - end, err))
		return -1;
	if (s->io->in_order)
		return 0;
	return vmimg_sink_barrier(s->io, err)
		? -1
		: vmimg_io_pwrite(s->io, header, sizeof(header), 0, err);
}

/* The directory in windows, padded to a sector. */
static int write_directory(struct stream_sink *s, uint64_t at, struct vmimg_error *err)
{
	uint64_t end = vmimg_max(vmimg_align_up(s->tables * 4, VMDK_SECTOR), VMDK_SECTOR);
	uint8_t window[4096];

	for (uint64_t done = 0; done < end;) {
		size_t len = (size_t)vmimg_min(sizeof(window), end - done);

		for (size_t i = 0; i < len; i += 4) {
			uint64_t table = (done + i) / 4;

			vmimg_put_le32(window + i, table < s->tables ? s->directory[table] : 0);
		}
		if (vmimg_io_pwrite(s->io, window, len, at + done, err))
			return -1;
		done += len;
	}
	return 0;
}

static int write_tail(struct stream_sink *s, struct vmimg_error *err)
{
	uint64_t directory = vmimg_max(vmimg_div_up(s->tables * 4, VMDK_SECTOR), 1), at = 0;
	uint8_t sectors[3][512] = { 0 };

	if (take_place(s, (1 + directory + 3) * VMDK_SECTOR, &at, err))
		return -1;
	put_marker(sectors[0], directory, 0, VMDK_MARKER_GD);
	if (vmimg_io_pwrite(s->io, sectors[0], VMDK_SECTOR, at, err) ||
		write_directory(s, at + VMDK_SECTOR, err))
		return -1;
	memset(sectors[0], 0, VMDK_SECTOR);
	put_marker(sectors[0], 1, 0, VMDK_MARKER_FOOTER);
	s->directory_at = at / VMDK_SECTOR + 1;
	encode_header(s, s->directory_at, sectors[1]);
	put_marker(sectors[2], 0, 0, VMDK_MARKER_EOS);
	return vmimg_io_pwrite(
		s->io, sectors, sizeof(sectors), at + (1 + directory) * VMDK_SECTOR, err);
}

static int stream_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct stream_sink *s = stream_of(sink);

	if (end_table(s, NULL, err) || write_tail(s, err))
		return -1;
	return s->io->in_order ? 0 : write_front(s, err);
}

static void stream_close(struct vmimg_sink *sink)
{
	struct stream_sink *s = stream_of(sink);

	free(s->directory);
	vmimg_io_unref(s->io);
	free(s);
}

static const struct vmimg_sink_ops stream_ops = {
	.pack = stream_pack,
	.place = stream_place,
	.finish = stream_finish,
	.close = stream_close,
};

/* The descriptor comes before the content, so the identities are derived from what is known by
 * then: the size and the options. */
static uint64_t seed(const struct vmdk_settings *s)
{
	const char *const texts[] = { s->adapter, s->hw_version, s->tools_version };
	uint64_t hash = vmimg_vmdk_fold(UINT64_C(0x73747265616d), s->sectors);

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(texts); i++)
		for (const char *p = texts[i]; *p; p++)
			hash = vmimg_vmdk_fold(hash, (unsigned char)*p);
	return hash;
}

static int start(struct stream_sink *s, struct vmimg_error *err)
{
	s->tables = vmimg_div_up(s->sink.size, VMDK_TABLE_SPAN);
	if (s->tables > MAX_TABLES)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"a streamOptimized disk of more than 256 TiB is not written");
	s->directory = vmimg_alloc_array((size_t)s->tables, sizeof(*s->directory), err);
	if (!s->directory || vmimg_vmdk_identify(&s->settings, seed(&s->settings), err))
		return -1;
	return s->io->in_order ? write_front(s, err) : 0;
}

struct vmimg_sink *vmimg_vmdk_stream_sink(struct vmimg_io *io, const struct vmimg_create *create,
	const struct vmdk_settings *settings, struct vmimg_error *err)
{
	struct stream_sink *s = vmimg_new(struct stream_sink, err);

	if (!s)
		return NULL;
	s->settings = *settings;
	s->io = vmimg_io_ref(io);
	s->next = OVERHEAD * VMDK_SECTOR;
	s->sink = (struct vmimg_sink){ .ops = &stream_ops,
		.size = settings->sectors * VMDK_SECTOR,
		.granule = VMDK_GRAIN,
		.chunk = VMDK_CHUNK,
		.pack_room = (size_t)(VMDK_CHUNK / VMDK_GRAIN) *
			(VMDK_GRAIN_HEAD + 2 * VMDK_GRAIN + VMDK_SECTOR),
		.more_stores = 5,
		.in_order = io->in_order,
		.splits_zeroes = true,
		.codec = &vmimg_codec_zlib,
		.level = create->level };
	if (start(s, err)) {
		stream_close(&s->sink);
		return NULL;
	}
	return &s->sink;
}

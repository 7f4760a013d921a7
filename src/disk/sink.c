/* SPDX-License-Identifier: Apache-2.0 */
/* What sinks share: making one, collecting stores, packing the pieces of a chunk. */
#include "disk/sink.h"
#include <string.h>
#include "util/num.h"

static int zero_and_sync(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	return vmimg_io_write_zeroes(io, at, len, err) || vmimg_io_sync(io, err) ? -1 : 0;
}

/*
 * Takes from a device what makes it an image now, before anything of it is overwritten: the last
 * sector first, whose footer alone makes a fixed VHD; then the first; then the rest of what
 * detection looks at. Single sectors, for these are written whole or not at all.
 */
static int disown(struct vmimg_io *io, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);
	uint64_t sector = vmimg_min(size, 512);
	uint64_t head = vmimg_min(size, VMIMG_PROBE_HEAD);

	if (zero_and_sync(io, size - sector, sector, err) || zero_and_sync(io, 0, sector, err))
		return -1;
	return zero_and_sync(io, sector, head - sector, err);
}

int vmimg_sink_barrier(struct vmimg_io *io, struct vmimg_error *err)
{
	return io->is_device ? vmimg_io_sync(io, err) : 0;
}

struct vmimg_sink *vmimg_sink_create(const struct vmimg_format *format, struct vmimg_io *io,
	const struct vmimg_create *create, struct vmimg_error *err)
{
	static const struct vmimg_options none;
	struct vmimg_sink *sink;

	if (!format->create) {
		vmimg_fail(err, VMIMG_EUNSUPPORTED, "format %s can be read, not written",
			format->name);
		return NULL;
	}
	if (vmimg_options_verify(
		    create->options ? create->options : &none, format->options, format->name, err))
		return NULL;
	sink = format->create(io, create, err);
	if (!sink)
		return NULL;
	if ((io->is_device && disown(io, err)) ||
		(sink->ops->start && sink->ops->start(sink, err))) {
		vmimg_sink_close(sink);
		return NULL;
	}
	return sink;
}

void vmimg_sink_close(struct vmimg_sink *sink)
{
	if (sink)
		sink->ops->close(sink);
}

void vmimg_chunk_store(struct vmimg_chunk *chunk, struct vmimg_io *io, uint64_t at,
	const uint8_t *bytes, size_t len)
{
	vmimg_chunk_store_sealed(chunk, &(struct vmimg_store){ io, at, bytes, len, NULL, 0 });
}

void vmimg_chunk_store_sealed(struct vmimg_chunk *chunk, const struct vmimg_store *store)
{
	struct vmimg_store *last =
		chunk->store_count ? &chunk->stores[chunk->store_count - 1] : NULL;

	if (last && last->io == store->io && last->at + last->len == store->at &&
		last->bytes + last->len == store->bytes && last->cipher == store->cipher &&
		(!last->cipher || last->cipher_at + last->len == store->cipher_at))
		last->len += store->len;
	else
		chunk->stores[chunk->store_count++] = *store;
}

void vmimg_chunk_store_block(struct vmimg_chunk *chunk, struct vmimg_io *io, uint64_t at,
	uint64_t guest, const struct vmimg_piece *piece, uint64_t block)
{
	if (guest == chunk->guest && !(at % 4096) &&
		guest / block == (chunk->guest + chunk->len - 1) / block)
		chunk->clone = (struct vmimg_store){ io, at, NULL, (size_t)chunk->len };
	vmimg_chunk_store(chunk, io, at, piece->bytes, piece->size);
}

static int visit_zeroes(const struct vmimg_chunk_visitor *visitor, void *ctx, uint64_t guest,
	uint64_t len, struct vmimg_error *err)
{
	for (uint64_t step; len; guest += step, len -= step) {
		step = visitor->unit ? vmimg_min(len, visitor->unit - guest % visitor->unit) : len;
		if (visitor->zeroes(ctx, guest, step, err))
			return -1;
	}
	return 0;
}

/* Bytes of zeroes from piece *i on, which becomes the last of them. */
static uint64_t zeroes_from(const struct vmimg_chunk *chunk, size_t *i)
{
	uint64_t len = chunk->pieces[*i].size;

	while (*i + 1 < chunk->piece_count && chunk->pieces[*i + 1].kind == VMIMG_PIECE_ZERO)
		len += chunk->pieces[++*i].size;
	return len;
}

int vmimg_chunk_visit(struct vmimg_chunk *chunk, const struct vmimg_chunk_visitor *visitor,
	void *ctx, struct vmimg_error *err)
{
	uint64_t guest = chunk->guest;

	if (chunk->kind == VMIMG_PIECE_ZERO)
		return visit_zeroes(visitor, ctx, guest, chunk->len, err);
	for (size_t i = 0; i < chunk->piece_count; i++) {
		const struct vmimg_piece *piece = &chunk->pieces[i];
		uint64_t len = piece->size;

		if (piece->kind == VMIMG_PIECE_DATA && visitor->data(ctx, chunk, guest, piece, err))
			return -1;
		if (piece->kind == VMIMG_PIECE_ZERO) {
			len = zeroes_from(chunk, &i);
			if (visit_zeroes(visitor, ctx, guest, len, err))
				return -1;
		}
		guest += len;
	}
	return 0;
}

static uint64_t fold_zeroes(uint64_t guest, uint64_t len)
{
	uint64_t first = guest / 512, count = vmimg_div_up(len, 512);

	return (2 * first + count) * count * UINT64_C(0x9e3779b97f4a7c15);
}

uint64_t vmimg_chunk_fold(const struct vmimg_chunk *chunk)
{
	uint64_t guest = chunk->guest, content = chunk->digest;

	if (chunk->kind == VMIMG_PIECE_ZERO)
		return content + fold_zeroes(guest, chunk->len);
	for (size_t i = 0; i < chunk->piece_count; i++) {
		if (chunk->pieces[i].kind == VMIMG_PIECE_ZERO)
			content += fold_zeroes(guest, chunk->pieces[i].size);
		guest += chunk->pieces[i].size;
	}
	return content;
}

int vmimg_chunk_pack(struct vmimg_chunk *chunk, struct vmimg_packer *packer, uint32_t granule,
	size_t head, size_t align, bool always, struct vmimg_error *err)
{
	uint8_t *to = chunk->packed;

	for (size_t i = 0; i < chunk->piece_count; i++) {
		struct vmimg_piece *piece = &chunk->pieces[i];
		size_t room = always ? (size_t)granule * 2 : granule - 1, size, padded;

		if (piece->kind != VMIMG_PIECE_DATA)
			continue;
		size = packer->pack(packer, piece->bytes, granule, to + head, room);
		if (!size && always)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED, "a block could not be packed");
		if (!size)
			continue;
		piece->kind = VMIMG_PIECE_PACKED;
		piece->bytes = to + head;
		piece->size = (uint32_t)size;
		padded = vmimg_align_up(head + size, align);
		memset(to + head + size, 0, padded - head - size);
		to += padded;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Fixed disks: the guest's bytes as they are, then the footer. The one kind that fits a pipe. */
#include "format/vhd/sink.h"
#include "util/num.h"

static int place_nothing(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	return io->in_order || io->is_device ? vmimg_io_zero(io, at, len, err) : 0;
}

static int fixed_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct vmimg_vhd_sink *s = (struct vmimg_vhd_sink *)sink;
	uint64_t at = chunk->guest;

	vmimg_vhd_fold(s, chunk);
	if (chunk->kind != VMIMG_PIECE_DATA)
		return place_nothing(s->io, at, chunk->len, err);
	for (size_t i = 0; i < chunk->piece_count; i++) {
		const struct vmimg_piece *piece = &chunk->pieces[i];

		if (piece->kind == VMIMG_PIECE_DATA)
			vmimg_chunk_store(chunk, s->io, at, piece->bytes, piece->size);
		else if (place_nothing(s->io, at, piece->size, err))
			return -1;
		at += piece->size;
	}
	chunk->clone = (struct vmimg_store){ s->io, chunk->guest, NULL, (size_t)chunk->len };
	return 0;
}

static int fixed_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct vmimg_vhd_sink *s = (struct vmimg_vhd_sink *)sink;
	uint8_t footer[VMIMG_VHD_FOOTER_SIZE];

	if (vmimg_vhd_make_footer(s, footer, err) || vmimg_sink_barrier(s->io, err))
		return -1;
	return vmimg_io_pwrite(s->io, footer, sizeof(footer), sink->size, err);
}

const struct vmimg_sink_ops vmimg_vhd_fixed_ops = {
	.place = fixed_place,
	.finish = fixed_finish,
	.close = vmimg_vhd_sink_close,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deflate at the fast level, by ISA-L's level 1: more than twice as fast as libdeflate's fastest,
 * for an output some 3 % larger.
 *
 * The same block has to give the same bytes on every run, and ISA-L 2.30 handed a whole block does
 * not: where its body begins a stream, it puts the third byte of the block into its table of
 * matches under a hash that it computes from a register never loaded with data, which still holds
 * the address of the stream's state. (isal_deflate_icf_body_hash_hist, "write_first_byte".) About
 * one block in ten thousand then has other matches than it had at another address. The routine that
 * ends a block begins a stream as it should; so the first bytes go in by themselves, few enough for
 * the body to leave them to that routine, and are flushed. That costs about ten bytes a block.
 */
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include "codec/deflate_fast.h"

/* The body leaves this many bytes, and fewer, to the routine that ends a block. */
#define HEAD 16u

struct fast_packer {
	struct vmimg_packer base;
	struct isal_zstream stream;
	uint16_t gzip_flag;
	/* Tables that vector code reaches into. */
	_Alignas(64) uint8_t tables[ISAL_DEF_LVL1_DEFAULT];
};

/* One call of the library: true when it has taken all of in[len]. */
static bool feed(
	struct isal_zstream *stream, const uint8_t *in, size_t len, uint16_t flush, bool last)
{
	stream->next_in = (uint8_t *)(uintptr_t)in;
	stream->avail_in = (uint32_t)len;
	stream->flush = flush;
	stream->end_of_stream = last;
	return isal_deflate(stream) == COMP_OK && !stream->avail_in;
}

static size_t pack(struct vmimg_packer *packer, const void *in, size_t len, void *out, size_t cap)
{
	struct fast_packer *p = (struct fast_packer *)packer;
	size_t head = len > HEAD ? HEAD : 0;

	isal_deflate_init(&p->stream);
	p->stream.level = 1;
	p->stream.level_buf = p->tables;
	p->stream.level_buf_size = sizeof p->tables;
	p->stream.gzip_flag = p->gzip_flag;
	p->stream.next_out = out;
	p->stream.avail_out = (uint32_t)cap;
	if ((head && !feed(&p->stream, in, head, SYNC_FLUSH, false)) ||
		!feed(&p->stream, (const uint8_t *)in + head, len - head, NO_FLUSH, true) ||
		p->stream.internal_state.state != ZSTATE_END)
		return 0;
	return p->stream.total_out;
}

static void packer_free(struct vmimg_packer *packer)
{
	free(packer);
}

struct vmimg_packer *vmimg_deflate_fast_packer_new(bool zlib, struct vmimg_error *err)
{
	struct fast_packer *p = aligned_alloc(_Alignof(struct fast_packer), sizeof *p);

	if (!p) {
		vmimg_fail_nomem(err);
		return NULL;
	}
	p->base = (struct vmimg_packer){ pack, packer_free };
	p->gzip_flag = zlib ? IGZIP_ZLIB : IGZIP_DEFLATE;
	return &p->base;
}

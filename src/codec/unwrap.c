/* SPDX-License-Identifier: Apache-2.0 */
/* gzip by ISA-L, which is twice as fast as zlib; the others by their own libraries. */
#include "codec/unwrap.h"
#include <bzlib.h>
#include <isa-l/igzip_lib.h>
#include <lzma.h>
#include <string.h>
#include <zstd.h>
#include "util/library.h"
#include "util/num.h"

/* What an xz file may ask for: its own most costly preset takes 65 MiB. */
#define XZ_MEMORY (UINT64_C(192) << 20)
/* zstd's window, as a power of two: what the zstd program takes without being told to. */
#define ZSTD_WINDOW 27

static int fail_data(struct vmimg_error *err, const char *name)
{
	return vmimg_fail(err, VMIMG_ECORRUPT, "the %s-compressed data is damaged", name);
}

/* ---- gzip ---- */

struct gzip {
	struct vmimg_unwrapper base;
	struct inflate_state state;
};

static void gzip_reset(struct gzip *g)
{
	isal_inflate_reset(&g->state);
	g->state.crc_flag = ISAL_GZIP;
}

static int gzip_step(struct vmimg_unwrapper *u, const uint8_t **in, size_t *len, uint8_t *out,
	size_t cap, size_t *got, bool *ended, struct vmimg_error *err)
{
	struct gzip *g = (struct gzip *)u;
	uint32_t given = (uint32_t)vmimg_min(*len, UINT32_MAX);
	uint32_t room = (uint32_t)vmimg_min(cap, UINT32_MAX);

	g->state.next_in = (uint8_t *)(uintptr_t)*in;
	g->state.avail_in = given;
	g->state.next_out = out;
	g->state.avail_out = room;
	if (isal_inflate(&g->state) < 0)
		return fail_data(err, "gzip");
	*in += given - g->state.avail_in;
	*len -= given - g->state.avail_in;
	*got = room - g->state.avail_out;
	*ended = g->state.block_state == ISAL_BLOCK_FINISH;
	if (*ended)
		gzip_reset(g);
	return 0;
}

static void gzip_free(struct vmimg_unwrapper *u)
{
	free(u);
}

static struct vmimg_unwrapper *gzip_new(struct vmimg_error *err)
{
	struct gzip *g = vmimg_new(struct gzip, err);

	if (!g)
		return NULL;
	g->base = (struct vmimg_unwrapper){ gzip_step, gzip_free };
	isal_inflate_init(&g->state);
	gzip_reset(g);
	return &g->base;
}

/* ---- zstd ---- */

struct zstd {
	struct vmimg_unwrapper base;
	ZSTD_DCtx *ctx;
};

static int zstd_step(struct vmimg_unwrapper *u, const uint8_t **in, size_t *len, uint8_t *out,
	size_t cap, size_t *got, bool *ended, struct vmimg_error *err)
{
	ZSTD_inBuffer from = { *in, *len, 0 };
	ZSTD_outBuffer to = { out, cap, 0 };
	size_t left = ZSTD_decompressStream(((struct zstd *)u)->ctx, &to, &from);

	if (ZSTD_isError(left))
		return vmimg_fail(err, VMIMG_ECORRUPT, "the zstd-compressed data is damaged: %s",
			ZSTD_getErrorName(left));
	*in += from.pos;
	*len -= from.pos;
	*got = to.pos;
	*ended = left == 0;
	return 0;
}

static void zstd_free(struct vmimg_unwrapper *u)
{
	ZSTD_freeDCtx(((struct zstd *)u)->ctx);
	free(u);
}

static struct vmimg_unwrapper *zstd_new(struct vmimg_error *err)
{
	struct zstd *z = vmimg_new(struct zstd, err);

	if (!z)
		return NULL;
	z->base = (struct vmimg_unwrapper){ zstd_step, zstd_free };
	z->ctx = ZSTD_createDCtx();
	if (z->ctx &&
		!ZSTD_isError(ZSTD_DCtx_setParameter(z->ctx, ZSTD_d_windowLogMax, ZSTD_WINDOW)))
		return &z->base;
	zstd_free(&z->base);
	vmimg_fail_nomem(err);
	return NULL;
}

/* ---- libraries that are loaded on first use, and stay ---- */

static void *load(const char *file, struct vmimg_error *err)
{
	void *library = vmimg_library_open((const char *const[]){ file, NULL });

	if (!library)
		vmimg_fail(err, VMIMG_EUNSUPPORTED, "unpacking it needs %s, which cannot be loaded",
			file);
	return library;
}

/* ---- xz ---- */

struct xz {
	struct vmimg_unwrapper base;
	lzma_stream stream;
	bool begun;
	lzma_ret (*lzma_stream_decoder)(lzma_stream *, uint64_t, uint32_t);
	lzma_ret (*lzma_code)(lzma_stream *, lzma_action);
	void (*lzma_end)(lzma_stream *);
};

static int xz_step(struct vmimg_unwrapper *u, const uint8_t **in, size_t *len, uint8_t *out,
	size_t cap, size_t *got, bool *ended, struct vmimg_error *err)
{
	struct xz *x = (struct xz *)u;
	lzma_ret ret = LZMA_OK;

	if (!x->begun)
		ret = x->lzma_stream_decoder(&x->stream, XZ_MEMORY, 0);
	x->begun = true;
	x->stream.next_in = *in;
	x->stream.avail_in = *len;
	x->stream.next_out = out;
	x->stream.avail_out = cap;
	if (ret == LZMA_OK)
		ret = x->lzma_code(&x->stream, LZMA_RUN);
	if (ret == LZMA_MEM_ERROR)
		return vmimg_fail_nomem(err);
	if (ret == LZMA_MEMLIMIT_ERROR)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"the xz-compressed data asks for more than %u MiB to be unpacked",
			(unsigned)(XZ_MEMORY >> 20));
	if (ret != LZMA_OK && ret != LZMA_STREAM_END && ret != LZMA_BUF_ERROR)
		return fail_data(err, "xz");
	*in = x->stream.next_in;
	*len = x->stream.avail_in;
	*got = cap - x->stream.avail_out;
	*ended = ret == LZMA_STREAM_END;
	x->begun = !*ended;
	return 0;
}

static void xz_free(struct vmimg_unwrapper *u)
{
	struct xz *x = (struct xz *)u;

	x->lzma_end(&x->stream);
	free(x);
}

static struct vmimg_unwrapper *xz_new(struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct xz *x = vmimg_new(struct xz, err);
	void *library = x ? load("liblzma.so.5", err) : NULL;

	if (!library)
		return NULL;
	x->base = (struct vmimg_unwrapper){ xz_step, xz_free };
	if (vmimg_library_find(library, "lzma_stream_decoder", &x->lzma_stream_decoder) &&
		vmimg_library_find(library, "lzma_code", &x->lzma_code) &&
		vmimg_library_find(library, "lzma_end", &x->lzma_end))
		return &vmimg_take(x)->base;
	vmimg_fail(err, VMIMG_EUNSUPPORTED, "liblzma.so.5 is not what it should be");
	return NULL;
}

/* ---- bzip2 ---- */

struct bzip2 {
	struct vmimg_unwrapper base;
	bz_stream stream;
	bool begun;
	int (*BZ2_bzDecompressInit)(bz_stream *, int, int);
	int (*BZ2_bzDecompress)(bz_stream *);
	int (*BZ2_bzDecompressEnd)(bz_stream *);
};

static int bzip2_step(struct vmimg_unwrapper *u, const uint8_t **in, size_t *len, uint8_t *out,
	size_t cap, size_t *got, bool *ended, struct vmimg_error *err)
{
	struct bzip2 *b = (struct bzip2 *)u;
	unsigned given = (unsigned)vmimg_min(*len, UINT32_MAX);
	unsigned room = (unsigned)vmimg_min(cap, UINT32_MAX);
	int ret;

	if (!b->begun && b->BZ2_bzDecompressInit(&b->stream, 0, 0) != BZ_OK)
		return vmimg_fail_nomem(err);
	b->begun = true;
	b->stream.next_in = (char *)(uintptr_t)*in;
	b->stream.avail_in = given;
	b->stream.next_out = (char *)out;
	b->stream.avail_out = room;
	ret = b->BZ2_bzDecompress(&b->stream);
	if (ret == BZ_MEM_ERROR)
		return vmimg_fail_nomem(err);
	if (ret != BZ_OK && ret != BZ_STREAM_END)
		return fail_data(err, "bzip2");
	*in += given - b->stream.avail_in;
	*len -= given - b->stream.avail_in;
	*got = room - b->stream.avail_out;
	*ended = ret == BZ_STREAM_END;
	if (*ended)
		b->BZ2_bzDecompressEnd(&b->stream);
	b->begun = !*ended;
	return 0;
}

static void bzip2_free(struct vmimg_unwrapper *u)
{
	struct bzip2 *b = (struct bzip2 *)u;

	if (b->begun)
		b->BZ2_bzDecompressEnd(&b->stream);
	free(b);
}

static struct vmimg_unwrapper *bzip2_new(struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct bzip2 *b = vmimg_new(struct bzip2, err);
	void *library = b ? load("libbz2.so.1", err) : NULL;

	if (!library)
		return NULL;
	b->base = (struct vmimg_unwrapper){ bzip2_step, bzip2_free };
	if (vmimg_library_find(library, "BZ2_bzDecompressInit", &b->BZ2_bzDecompressInit) &&
		vmimg_library_find(library, "BZ2_bzDecompress", &b->BZ2_bzDecompress) &&
		vmimg_library_find(library, "BZ2_bzDecompressEnd", &b->BZ2_bzDecompressEnd))
		return &vmimg_take(b)->base;
	vmimg_fail(err, VMIMG_EUNSUPPORTED, "libbz2.so.1 is not what it should be");
	return NULL;
}

static const struct vmimg_wrapping wrappings[] = {
	{ "gzip", "\x1f\x8b\x08", 3, gzip_new },
	{ "xz",
		"\xfd"
		"7zXZ\0",
		6, xz_new },
	{ "zstd", "\x28\xb5\x2f\xfd", 4, zstd_new },
	{ "bzip2", "BZh", 3, bzip2_new },
};

const struct vmimg_wrapping *vmimg_wrapping_find(const uint8_t *head, size_t len)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(wrappings); i++)
		if (len >= wrappings[i].magic_len &&
			!memcmp(head, wrappings[i].magic, wrappings[i].magic_len))
			return &wrappings[i];
	return NULL;
}

void vmimg_unwrapper_free(struct vmimg_unwrapper *unwrapper)
{
	if (unwrapper)
		unwrapper->free(unwrapper);
}

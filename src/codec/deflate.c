/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deflate, bare and in a zlib wrapper. libdeflate packs and unpacks: it is the fastest for whole
 * blocks, but for the fast level, which is ISA-L's. zlib unpacks what libdeflate will not: a stream
 * that would go on past the block's end, which QEMU accepts too.
 */
#include <libdeflate.h>
#include <string.h>
#include <zlib.h>
#include "codec/codec.h"
#include "codec/deflate_fast.h"

/* libdeflate's levels. The default of each packs at least as well as what QEMU's writer of the same
 * format makes (zlib level 6, with a window of 4 KiB for qcow2 and of 32 KiB for VMDK), as fast as
 * that allows. */
#define BARE_DEFAULT 2
#define ZLIB_DEFAULT 5
#define LEVEL_BEST   9

/* ---- packing ---- */

struct deflate_packer {
	struct vmimg_packer base;
	struct libdeflate_compressor *compressor;
};

static size_t pack_bare(
	struct vmimg_packer *packer, const void *in, size_t len, void *out, size_t cap)
{
	struct deflate_packer *p = (struct deflate_packer *)packer;

	return libdeflate_deflate_compress(p->compressor, in, len, out, cap);
}

static size_t pack_zlib(
	struct vmimg_packer *packer, const void *in, size_t len, void *out, size_t cap)
{
	struct deflate_packer *p = (struct deflate_packer *)packer;

	return libdeflate_zlib_compress(p->compressor, in, len, out, cap);
}

static void packer_free(struct vmimg_packer *packer)
{
	libdeflate_free_compressor(((struct deflate_packer *)packer)->compressor);
	free(packer);
}

static struct vmimg_packer *packer_new(
	__typeof__(pack_bare) *pack, int level, struct vmimg_error *err)
{
	struct deflate_packer *p = vmimg_new(struct deflate_packer, err);

	if (!p)
		return NULL;
	p->base = (struct vmimg_packer){ pack, packer_free };
	p->compressor = libdeflate_alloc_compressor(level);
	if (!p->compressor) {
		free(p);
		vmimg_fail_nomem(err);
		return NULL;
	}
	return &p->base;
}

static struct vmimg_packer *bare_packer_new(enum vmimg_level level, struct vmimg_error *err)
{
	if (level == VMIMG_LEVEL_FAST)
		return vmimg_deflate_fast_packer_new(false, err);
	return packer_new(pack_bare, level == VMIMG_LEVEL_BEST ? LEVEL_BEST : BARE_DEFAULT, err);
}

static struct vmimg_packer *zlib_packer_new(enum vmimg_level level, struct vmimg_error *err)
{
	if (level == VMIMG_LEVEL_FAST)
		return vmimg_deflate_fast_packer_new(true, err);
	return packer_new(pack_zlib, level == VMIMG_LEVEL_BEST ? LEVEL_BEST : ZLIB_DEFAULT, err);
}

/* ---- unpacking ---- */

struct deflate_unpacker {
	struct vmimg_unpacker base;
	struct libdeflate_decompressor *decompressor;
	bool zlib;
};

/* The slow way, which can stop when the block is full. */
static int unpack_until_full(bool zlib, const void *in, size_t len, void *out, size_t out_len,
	size_t *used, size_t *got, struct vmimg_error *err)
{
	z_stream stream = { .next_in = (z_const Bytef *)(uintptr_t)in,
		.avail_in = (uInt)len,
		.next_out = out,
		.avail_out = (uInt)out_len };
	int result;

	if (inflateInit2(&stream, zlib ? 15 : -15) != Z_OK)
		return vmimg_fail_nomem(err);
	result = inflate(&stream, Z_FINISH);
	inflateEnd(&stream);
	if (result != Z_STREAM_END && (result != Z_BUF_ERROR || stream.avail_out))
		return vmimg_fail(err, VMIMG_ECORRUPT, "it is not deflate data");
	*used = len - stream.avail_in;
	*got = out_len - stream.avail_out;
	return 0;
}

static int unpack(struct vmimg_unpacker *unpacker, const void *in, size_t len, void *out,
	size_t out_len, size_t *used, size_t *got, struct vmimg_error *err)
{
	struct deflate_unpacker *u = (struct deflate_unpacker *)unpacker;
	enum libdeflate_result result = u->zlib
		? libdeflate_zlib_decompress_ex(u->decompressor, in, len, out, out_len, used, got)
		: libdeflate_deflate_decompress_ex(
			  u->decompressor, in, len, out, out_len, used, got);

	if (result == LIBDEFLATE_INSUFFICIENT_SPACE)
		return unpack_until_full(u->zlib, in, len, out, out_len, used, got, err);
	if (result != LIBDEFLATE_SUCCESS)
		return vmimg_fail(err, VMIMG_ECORRUPT, "it is not deflate data, or cut short");
	return 0;
}

static void unpacker_free(struct vmimg_unpacker *unpacker)
{
	libdeflate_free_decompressor(((struct deflate_unpacker *)unpacker)->decompressor);
	free(unpacker);
}

static struct vmimg_unpacker *unpacker_new(bool zlib, struct vmimg_error *err)
{
	struct deflate_unpacker *u = vmimg_new(struct deflate_unpacker, err);

	if (!u)
		return NULL;
	u->base = (struct vmimg_unpacker){ unpack, unpacker_free };
	u->zlib = zlib;
	u->decompressor = libdeflate_alloc_decompressor();
	if (!u->decompressor) {
		free(u);
		vmimg_fail_nomem(err);
		return NULL;
	}
	return &u->base;
}

static struct vmimg_unpacker *bare_unpacker_new(struct vmimg_error *err)
{
	return unpacker_new(false, err);
}

static struct vmimg_unpacker *zlib_unpacker_new(struct vmimg_error *err)
{
	return unpacker_new(true, err);
}

const struct vmimg_codec vmimg_codec_deflate = { "zlib", bare_packer_new, bare_unpacker_new };
const struct vmimg_codec vmimg_codec_zlib = { "zlib", zlib_packer_new, zlib_unpacker_new };

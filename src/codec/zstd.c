/* SPDX-License-Identifier: Apache-2.0 */
/* Zstandard, one frame a block; reading accepts several frames that make one block together. */
#include <stdbool.h>
#include <string.h>
#include <zstd.h>
#include "codec/codec.h"
#include "util/bytes.h"

struct zstd_packer {
	struct vmimg_packer base;
	ZSTD_CCtx *context;
};

static size_t zstd_pack(
	struct vmimg_packer *packer, const void *in, size_t len, void *out, size_t cap)
{
	size_t size = ZSTD_compress2(((struct zstd_packer *)packer)->context, out, cap, in, len);

	return ZSTD_isError(size) ? 0 : size;
}

static void zstd_packer_free(struct vmimg_packer *packer)
{
	ZSTD_freeCCtx(((struct zstd_packer *)packer)->context);
	free(packer);
}

static struct vmimg_packer *zstd_packer_new(enum vmimg_level level, struct vmimg_error *err)
{
	static const int levels[] = {
		[VMIMG_LEVEL_FAST] = 1, [VMIMG_LEVEL_DEFAULT] = 3, [VMIMG_LEVEL_BEST] = 12
	};
	struct zstd_packer *p = vmimg_new(struct zstd_packer, err);

	if (!p)
		return NULL;
	p->base = (struct vmimg_packer){ zstd_pack, zstd_packer_free };
	p->context = ZSTD_createCCtx();
	if (!p->context ||
		ZSTD_isError(ZSTD_CCtx_setParameter(
			p->context, ZSTD_c_compressionLevel, levels[level]))) {
		zstd_packer_free(&p->base);
		vmimg_fail_nomem(err);
		return NULL;
	}
	return &p->base;
}

struct zstd_unpacker {
	struct vmimg_unpacker base;
	ZSTD_DCtx *context;
};

/* A frame of data, or one to be skipped. */
static bool is_frame(const char *in, size_t len)
{
	uint32_t magic = len >= 4 ? vmimg_get_le32(in) : 0;

	return magic == ZSTD_MAGICNUMBER ||
		(magic & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

static int zstd_unpack(struct vmimg_unpacker *unpacker, const void *in, size_t len, void *out,
	size_t out_len, size_t *used, size_t *got, struct vmimg_error *err)
{
	ZSTD_DCtx *context = ((struct zstd_unpacker *)unpacker)->context;
	const char *from = in;
	size_t made = 0;

	/* what comes after is another frame, or has nothing to do with it */
	while (made < out_len && (!made || is_frame(from, len))) {
		size_t frame = ZSTD_findFrameCompressedSize(from, len), size;

		if (ZSTD_isError(frame))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"it is not zstd data, or cut short (%s)", ZSTD_getErrorName(frame));
		size = ZSTD_decompressDCtx(
			context, (char *)out + made, out_len - made, from, frame);
		if (ZSTD_isError(size))
			return vmimg_fail(err, VMIMG_ECORRUPT, "it is not sound zstd data (%s)",
				ZSTD_getErrorName(size));
		made += size;
		from += frame;
		len -= frame;
		if (!size)
			break;
	}
	*used = (size_t)(from - (const char *)in);
	*got = made;
	return 0;
}

static void zstd_unpacker_free(struct vmimg_unpacker *unpacker)
{
	ZSTD_freeDCtx(((struct zstd_unpacker *)unpacker)->context);
	free(unpacker);
}

static struct vmimg_unpacker *zstd_unpacker_new(struct vmimg_error *err)
{
	struct zstd_unpacker *u = vmimg_new(struct zstd_unpacker, err);

	if (!u)
		return NULL;
	u->base = (struct vmimg_unpacker){ zstd_unpack, zstd_unpacker_free };
	u->context = ZSTD_createDCtx();
	if (!u->context) {
		free(u);
		vmimg_fail_nomem(err);
		return NULL;
	}
	return &u->base;
}

const struct vmimg_codec vmimg_codec_zstd = { "zstd", zstd_packer_new, zstd_unpacker_new };

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compression of one block at a time, behind one interface: a codec is a constant, a packer or an
 * unpacker is the state that one thread reuses for block after block.
 */
#pragma once
#include "util/auto.h"
#include "util/error.h"

struct vmimg_packer;
struct vmimg_unpacker;

struct vmimg_codec {
	const char *name;
	struct vmimg_packer *(*packer_new)(enum vmimg_level, struct vmimg_error *);
	struct vmimg_unpacker *(*unpacker_new)(struct vmimg_error *);
};

struct vmimg_packer {
	/* Packs in[len] into out; returns its size, or 0 when it does not fit into cap bytes. */
	size_t (*pack)(struct vmimg_packer *, const void *in, size_t len, void *out, size_t cap);
	void (*free)(struct vmimg_packer *);
};

struct vmimg_unpacker {
	/* Unpacks into out and sets *got, at most out_len, and *used, how much of in that took: in
	 * may have bytes after the packed data, which are not looked at. Never writes past out_len,
	 * whatever in holds. VMIMG_ECORRUPT when in is not what the codec makes, or ends early. */
	int (*unpack)(struct vmimg_unpacker *, const void *in, size_t len, void *out,
		size_t out_len, size_t *used, size_t *got, struct vmimg_error *);
	void (*free)(struct vmimg_unpacker *);
};

/* Both accept NULL. */
void vmimg_packer_free(struct vmimg_packer *packer);
void vmimg_unpacker_free(struct vmimg_unpacker *unpacker);

/* Deflate without a header (RFC 1951), as in qcow2. */
extern const struct vmimg_codec vmimg_codec_deflate;
/* Deflate with a zlib header and checksum (RFC 1950), as in VMDK. */
extern const struct vmimg_codec vmimg_codec_zlib;
/* Zstandard frames (RFC 8878). */
extern const struct vmimg_codec vmimg_codec_zstd;

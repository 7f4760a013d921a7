/* SPDX-License-Identifier: Apache-2.0 */
/* A chunk's header tells its length and whether it is packed; packed ones are groups of a byte of
 * flags and eight literals or references, whose division into offset and length moves on with the
 * place in the chunk. */
#include "codec/lznt1.h"
#include <string.h>
#include "util/bytes.h"
#include "util/num.h"

#define CHUNK 4096U

static int fail(struct vmimg_error *err, const char *what)
{
	return vmimg_fail(err, VMIMG_ECORRUPT, "compressed data: %s", what);
}

/* Bits of a reference that tell the length, when done bytes of the chunk are there. */
static unsigned length_bits(size_t done)
{
	unsigned bits = 12;

	for (size_t reach = 16; reach < done; reach *= 2)
		bits--;
	return bits;
}

/* One reference; *done moves on. */
static int copy_back(
	unsigned token, uint8_t *out, size_t cap, size_t *done, struct vmimg_error *err)
{
	unsigned bits = length_bits(*done);
	size_t back = (token >> bits) + 1U, len = (token & ((1U << bits) - 1)) + 3;

	if (back > *done)
		return fail(err, "a reference to before its chunk");
	if (len > cap - *done)
		return fail(err, "a chunk of more than it may hold");
	for (size_t i = 0; i < len; i++, ++*done)
		out[*done] = out[*done - back];
	return 0;
}

static int unpack_chunk(
	const uint8_t *in, size_t in_len, uint8_t *out, size_t cap, struct vmimg_error *err)
{
	size_t at = 0, done = 0;

	while (at < in_len && done < cap) {
		unsigned flags = in[at++];

		for (unsigned i = 0; i < 8 && at < in_len && done < cap; i++, flags >>= 1) {
			if (!(flags & 1)) {
				out[done++] = in[at++];
				continue;
			}
			if (at + 2 > in_len)
				return fail(err, "half of a reference");
			if (copy_back(vmimg_get_le16(in + at), out, cap, &done, err))
				return -1;
			at += 2;
		}
	}
	return 0;
}

int vmimg_lznt1_unpack(
	const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len, struct vmimg_error *err)
{
	memset(out, 0, out_len);
	for (size_t done = 0; done < out_len && in_len >= 2; done += CHUNK) {
		unsigned head = vmimg_get_le16(in);
		size_t len = (head & 0xfff) + 1U, cap = vmimg_min(CHUNK, out_len - done);

		if (!head)
			return 0;
		if (len > in_len - 2)
			return fail(err, "a chunk that reaches past the end");
		if (!(head & 0x8000))
			memcpy(out + done, in + 2, vmimg_min(len, cap));
		else if (unpack_chunk(in + 2, len, out + done, cap, err))
			return -1;
		in += 2 + len;
		in_len -= 2 + len;
	}
	return 0;
}

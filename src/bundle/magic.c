/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures, but for lzma, which has none: its header is held against what packers write. */
#include "bundle/magic.h"
#include <stdbool.h>
#include <string.h>
#include "util/bytes.h"
#include "util/num.h"

static const struct {
	const char *name;
	size_t len;
	const char *bytes;
} magics[] = {
	{ "gzip", 3, "\x1f\x8b\x08" },
	{ "xz", 6, "\xfd\x37\x7a\x58\x5a\x00" },
	{ "zstd", 4, "\x28\xb5\x2f\xfd" },
	{ "lz4", 4, "\x02\x21\x4c\x18" }, /* the legacy frame, the one that kernels take */
	{ "bzip2", 3, "BZh" },
	{ "lzo", 9, "\x89LZO\x00\x0d\x0a\x1a\x0a" },
};

/* Properties 0x5d, a dictionary of 2^n or 3·2^n bytes, and a size that is unknown or sensible. */
static bool is_lzma(const uint8_t *head, size_t len)
{
	uint32_t dictionary;
	uint64_t size;

	if (len < 13 || head[0] != 0x5d)
		return false;
	dictionary = vmimg_get_le32(head + 1);
	size = vmimg_get_le64(head + 5);
	return dictionary >= 4096 &&
		(vmimg_is_pow2(dictionary) ||
			(dictionary % 3 == 0 && vmimg_is_pow2(dictionary / 3))) &&
		(size == UINT64_MAX || size < (UINT64_C(1) << 38));
}

const char *vmimg_packed_name(const uint8_t *head, size_t len)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(magics); i++)
		if (len >= magics[i].len && !memcmp(head, magics[i].bytes, magics[i].len))
			return magics[i].name;
	return is_lzma(head, len) ? "lzma" : NULL;
}

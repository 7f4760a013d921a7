/* SPDX-License-Identifier: Apache-2.0 */
#include "sums.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "packed.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/sum.h"

#define MOST (1U << 20) /* bytes under one checksum */

/* The sum of a structure whose own field counts as zero; block may be changed. */
typedef uint32_t sum_of(uint8_t *block, size_t len);

static uint32_t ones_complement(uint8_t *block, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += block[i];
	return __builtin_bswap32(~sum);
}

static uint32_t castagnoli(uint8_t *block, size_t len)
{
	return vmimg_crc32c(0, block, len);
}

static uint32_t gpt(uint8_t *block, size_t len)
{
	return (uint32_t)crc32(0, block, (unsigned)len);
}

/* What has a checksum, by its magic word. */
static const struct summed {
	const char *magic;
	uint32_t len; /* 0: le32 at 8 */
	uint32_t field_at;
	sum_of *sum;
} list[] = {
	{ "conectix", 512, 64, ones_complement },
	{ "cxsparse", 1024, 36, ones_complement },
	{ "head", 4096, 4, castagnoli },
	{ "regi", 65536, 4, castagnoli },
	{ "loge", 0, 4, castagnoli },
	{ "EFI PART", 92, 16, gpt },
};

static void fix(uint8_t *input, size_t len, uint64_t at, const struct summed *summed)
{
	uint8_t number[4];
	uint32_t size = summed->len;
	uint8_t *block;

	if (!size) {
		packed_read(input, len, at + 8, number, 4);
		size = vmimg_get_le32(number);
	}
	if (size < summed->field_at + 4 || size > MOST || !(block = malloc(size)))
		return;
	packed_read(input, len, at, block, size);
	vmimg_put_le32(block + summed->field_at, 0);
	vmimg_put_le32(number, summed->sum(block, size));
	packed_write(input, len, at + summed->field_at, number, 4);
	free(block);
}

/* The entries of a GPT are summed before its header. */
static void fix_gpt_entries(uint8_t *input, size_t len, uint64_t at)
{
	uint8_t head[92], sum[4];
	uint64_t from, size;
	uint8_t *block;

	packed_read(input, len, at, head, sizeof(head));
	size = (uint64_t)vmimg_get_le32(head + 80) * vmimg_get_le32(head + 84);
	from = vmimg_get_le64(head + 72);
	if (!size || size > MOST || from > PACKED_MAX / 512 || !(block = malloc((size_t)size)))
		return;
	packed_read(input, len, from * 512, block, (size_t)size);
	vmimg_put_le32(sum, (uint32_t)crc32(0, block, (unsigned)size));
	packed_write(input, len, at + 88, sum, sizeof(sum));
	free(block);
}

static unsigned fix_at(uint8_t *input, size_t len, uint64_t at, const uint8_t *bytes, size_t there)
{
	unsigned fixed = 0;

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(list); i++) {
		size_t magic = strlen(list[i].magic);

		if (there < magic || memcmp(bytes, list[i].magic, magic))
			continue;
		if (list[i].sum == gpt)
			fix_gpt_entries(input, len, at);
		fix(input, len, at, &list[i]);
		fixed++;
	}
	return fixed;
}

unsigned sums_fix(uint8_t *input, size_t len)
{
	struct sums_volumes volumes;
	struct packed_part part;
	size_t next = PACKED_HEAD;
	unsigned fixed = 0;

	sums_volumes_find(&volumes, input, len);
	while (packed_next(input, len, &next, &part)) {
		uint32_t first = (uint32_t)(-part.at % 512);

		if (part.at > PACKED_MAX)
			continue;
		for (uint32_t at = first; at < part.len; at += 512)
			fixed += fix_at(input, len, part.at + at, part.bytes + at, part.len - at) +
				sums_fix_volume(&volumes, input, len, part.at + at, part.bytes + at,
					part.len - at);
	}
	return fixed;
}

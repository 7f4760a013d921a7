/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sums that the readers of btrfs, LVM, NTFS, exFAT and El Torito insist on. XFS and ext are read without
 * looking at theirs, and so are the labels of LVM, the boot sectors of exFAT and the headers of LUKS.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "packed.h"
#include "sums.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/sum.h"

#define MOST (1U << 20) /* bytes under one sum */

/* ---- btrfs: the super block and the nodes of trees ---- */

#define SUPER 4096U

static void find_btrfs(struct sums_volumes *volumes, uint8_t *input, size_t len, uint64_t at)
{
	uint8_t s[SUPER];

	packed_read(input, len, at, s, sizeof(s));
	memcpy(volumes->btrfs, s + 32, sizeof(volumes->btrfs));
	volumes->node = vmimg_get_le32(s + 148);
	if (volumes->node < 512 || volumes->node > MOST)
		volumes->node = 0;
}

static unsigned fix_btrfs(uint8_t *input, size_t len, uint64_t at, size_t size)
{
	uint8_t *block = malloc(size), sum[4];

	if (!block)
		return 0;
	packed_read(input, len, at, block, size);
	vmimg_put_le32(sum, vmimg_crc32c(0, block + 32, size - 32));
	packed_write(input, len, at, sum, sizeof(sum));
	free(block);
	return 1;
}

/* ---- LVM: the text in a ring of which a header tells ---- */

static unsigned fix_lvm(uint8_t *input, size_t len, uint64_t at)
{
	uint8_t head[512], sum[4], *text;
	uint64_t ring, from, size, first;

	packed_read(input, len, at, head, sizeof(head));
	ring = vmimg_get_le64(head + 32);
	from = vmimg_get_le64(head + 40);
	size = vmimg_get_le64(head + 48);
	if (!size || size > MOST || ring > PACKED_MAX || from >= ring || !(text = malloc((size_t)size)))
		return 0;
	first = vmimg_min(size, ring - from);
	packed_read(input, len, at + from, text, (size_t)first);
	packed_read(input, len, at + sizeof(head), text + first, (size_t)(size - first));
	vmimg_put_le32(sum, ~(uint32_t)crc32(~0xf597a6cfU, text, (unsigned)size));
	packed_write(input, len, at + 56, sum, sizeof(sum));
	free(text);
	return 1;
}

/* ---- NTFS: the end of each sector of a record is the same number ---- */

static unsigned fix_ntfs(uint8_t *input, size_t len, uint64_t at, const uint8_t *bytes)
{
	unsigned from = vmimg_get_le16(bytes + 4), count = vmimg_get_le16(bytes + 6);
	uint8_t number[2];

	if (!count || count > 129 || from > 510)
		return 0;
	packed_read(input, len, at + from, number, sizeof(number));
	for (unsigned i = 1; i < count; i++)
		packed_write(input, len, at + 512 * i - 2, number, sizeof(number));
	return 1;
}

/* ---- exFAT: each set of entries for a file ---- */

static unsigned fix_exfat(uint8_t *input, size_t len, uint64_t at, const uint8_t *entry)
{
	size_t size = 32 * (1 + (size_t)entry[1]);
	uint8_t set[32 * 20], sum[2];
	uint16_t total = 0;

	if (entry[0] != 0x85 || size < 96 || size > sizeof(set))
		return 0;
	packed_read(input, len, at, set, size);
	if (set[32] != 0xc0)
		return 0;
	for (size_t i = 0; i < size; i++)
		if (i != 2 && i != 3)
			total = (uint16_t)((total << 15 | total >> 1) + set[i]);
	vmimg_put_le16(sum, total);
	packed_write(input, len, at + 2, sum, sizeof(sum));
	return 1;
}

/* ---- El Torito: the first entry of a catalogue adds up to nothing ---- */

static unsigned fix_catalogue(uint8_t *input, size_t len, uint64_t at, const uint8_t *bytes)
{
	uint16_t total = 0;
	uint8_t sum[2];

	if (bytes[0] != 1 || bytes[30] != 0x55 || bytes[31] != 0xaa)
		return 0;
	for (unsigned i = 0; i < 32; i += 2)
		total = (uint16_t)(total + (i == 28 ? 0 : vmimg_get_le16(bytes + i)));
	vmimg_put_le16(sum, (uint16_t)-total);
	packed_write(input, len, at + 28, sum, sizeof(sum));
	return 1;
}

/* ---- all ---- */

void sums_volumes_find(struct sums_volumes *volumes, uint8_t *input, size_t len)
{
	struct packed_part part;
	size_t next = PACKED_HEAD;

	memset(volumes, 0, sizeof(*volumes));
	while (packed_next(input, len, &next, &part)) {
		uint32_t first = (uint32_t)(-part.at % 512);

		for (uint32_t at = first; at < part.len && part.len - at >= 72; at += 512) {
			if (!memcmp(part.bytes + at + 64, "_BHRfS_M", 8))
				find_btrfs(volumes, input, len, part.at + at);
			volumes->exfat |= !memcmp(part.bytes + at + 3, "EXFAT   ", 8);
		}
	}
}

unsigned sums_fix_volume(const struct sums_volumes *volumes, uint8_t *input, size_t len, uint64_t at,
	const uint8_t *bytes, size_t there)
{
	unsigned fixed = 0;

	if (there < 72)
		return 0;
	if (!memcmp(bytes + 64, "_BHRfS_M", 8))
		return fix_btrfs(input, len, at, SUPER);
	if (volumes->node && !memcmp(bytes + 32, volumes->btrfs, sizeof(volumes->btrfs)))
		return fix_btrfs(input, len, at, volumes->node);
	if (!memcmp(bytes + 4, " LVM2 x[5A%r0N*>", 16))
		return fix_lvm(input, len, at);
	if (!memcmp(bytes, "FILE", 4) || !memcmp(bytes, "INDX", 4))
		return fix_ntfs(input, len, at, bytes);
	for (size_t i = 0; volumes->exfat && i < 512 && there - i >= 32; i += 32)
		fixed += fix_exfat(input, len, at + i, bytes + i);
	return fixed + fix_catalogue(input, len, at, bytes);
}

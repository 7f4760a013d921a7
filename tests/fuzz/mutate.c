/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How libFuzzer changes an image: mostly a few bytes where headers and tables lie, in place, for a
 * change of length moves all that follows and leaves only what was tried before. Then checksums are
 * set right, most of the time: with a wrong one every change ends at the same line of the parser.
 */
#include <string.h>
#include <zlib.h>
#include "util/bytes.h"
#include "util/num.h"
#include "util/sum.h"

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t len, size_t cap);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t cap, unsigned seed);

/* Where the structures of the formats begin, in files as writers make them. */
static const uint32_t places[] = { 0, 0, 64, 104, 440, 512, 1024, 1536, 4096, 0x10000, 0x20000,
	0x30000, 0x30010, 0x40000, 0x50000, 0x100000, 0x101000, 0x110000, 0x200000, 0x210000,
	0x300000 };

/* ---- checksums ---- */

static bool is_at(const uint8_t *bytes, size_t len, size_t at, size_t need, const char *magic)
{
	return vmimg_range_inside(at, need, len) && !memcmp(bytes + at, magic, strlen(magic));
}

static void fix_vhd(uint8_t *block, size_t len, size_t sum_at)
{
	uint32_t sum = 0;

	vmimg_put_be32(block + sum_at, 0);
	for (size_t i = 0; i < len; i++)
		sum += block[i];
	vmimg_put_be32(block + sum_at, ~sum);
}

static void fix_vhdx(uint8_t *block, size_t len)
{
	vmimg_put_le32(block + 4, 0);
	vmimg_put_le32(block + 4, vmimg_crc32c(0, block, len));
}

static void fix_gpt(uint8_t *block)
{
	vmimg_put_le32(block + 16, 0);
	vmimg_put_le32(block + 16, (uint32_t)crc32(0, block, 92));
}

static void fix_all(uint8_t *bytes, size_t len)
{
	const size_t vhd[] = { 0, len >= 512 ? len - 512 : 0 };

	for (size_t i = 0; i < 2; i++)
		if (is_at(bytes, len, vhd[i], 512, "conectix"))
			fix_vhd(bytes + vhd[i], 512, 64);
	if (is_at(bytes, len, 512, 1024, "cxsparse"))
		fix_vhd(bytes + 512, 1024, 36);
	if (is_at(bytes, len, 512, 512, "EFI PART"))
		fix_gpt(bytes + 512);
	for (size_t at = 0x10000; at <= 0x20000; at += 0x10000)
		if (is_at(bytes, len, at, 4096, "head"))
			fix_vhdx(bytes + at, 4096);
	for (size_t at = 0x30000; at <= 0x40000; at += 0x10000)
		if (is_at(bytes, len, at, 0x10000, "regi"))
			fix_vhdx(bytes + at, 0x10000);
	for (size_t at = 0x100000; at + 4096 <= len && at < 0x200000; at += 4096) {
		size_t entry =
			is_at(bytes, len, at, 4096, "loge") ? vmimg_get_le32(bytes + at + 8) : 0;

		if (entry >= 4096 && vmimg_range_inside(at, entry, len))
			fix_vhdx(bytes + at, entry);
	}
}

/* ---- changes ---- */

/* A number that limits are made of, in either order of bytes. */
static void put_number(uint8_t *at, unsigned seed)
{
	static const uint64_t numbers[] = { 0, 1, 2, 7, 511, 512, 4096, 0x10000, 0x100000,
		UINT32_MAX, INT32_MAX, UINT64_MAX, INT64_MAX, UINT64_C(1) << 40,
		UINT64_C(1) << 62 };
	uint64_t value = numbers[seed % VMIMG_ARRAY_LEN(numbers)];

	switch (seed / 64 % 4) {
	case 0:
		vmimg_put_le32(at, (uint32_t)value);
		break;
	case 1:
		vmimg_put_be32(at, (uint32_t)value);
		break;
	case 2:
		vmimg_put_le64(at, value);
		break;
	default:
		vmimg_put_be64(at, value);
	}
}

static void change_in_place(uint8_t *bytes, size_t len, unsigned seed)
{
	size_t at = places[seed % VMIMG_ARRAY_LEN(places)], window = 16U << (seed >> 8 & 3);

	if (seed >> 10 & 1 && len > 512)
		at = len - 512;
	at += seed >> 12 & 0x7c;
	if (!vmimg_range_inside(at, window, len))
		at = (seed >> 8) % (len - window);
	if (seed >> 11 & 1)
		put_number(bytes + at, seed >> 16);
	else
		(void)LLVMFuzzerMutate(bytes + at, window, window);
}

size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t len, size_t cap, unsigned seed)
{
	/* libFuzzer's seeds differ in few bits */
	seed = seed * 2654435761U ^ seed >> 13;
	if (len > 256 && seed & 7)
		change_in_place(bytes, len, seed >> 3);
	else
		len = LLVMFuzzerMutate(bytes, len, cap);
	if (seed >> 28)
		fix_all(bytes, len);
	return len;
}

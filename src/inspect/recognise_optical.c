/* SPDX-License-Identifier: Apache-2.0 */
/* ISO 9660 and UDF: the volume recognition sequence from 32 KiB on, in sectors of 2048 bytes. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "inspect/look.h"
#include "util/bytes.h"
#include "util/num.h"

#define SECTOR     2048U
#define FIRST      16U
#define UDF_ANCHOR 256U

/* Tags of UDF's descriptors (ECMA-167, parts 3 and 4). */
enum { UDF_PRIMARY = 1, UDF_LOGICAL = 6, UDF_INTEGRITY = 9 };

struct udf_extent {
	uint32_t first, count; /* sectors */
};

/* Not more of a long one than its descriptors need. */
static struct udf_extent udf_extent(const uint8_t *s, uint32_t sector)
{
	return (struct udf_extent){ vmimg_get_le32(s + 4),
		(uint32_t)vmimg_min(vmimg_get_le32(s) / sector, 64) };
}

static bool has_mark(const struct vmimg_look *look, const char *mark)
{
	for (unsigned i = FIRST; (i + 1) * SECTOR <= VMIMG_LOOK_HEAD; i++)
		if (!memcmp(look->head + i * SECTOR + 1, mark, 5))
			return true;
	return false;
}

/* Times of a volume are 16 digits, down to hundredths, and a zone. blkid makes an identity of it.
 */
static void iso_uuid(struct vmimg_fs_info *info, const char *time)
{
	for (unsigned i = 0; i < 16; i++)
		if (time[i] < '0' || time[i] > '9')
			return;
	snprintf(info->uuid, sizeof(info->uuid), "%.4s-%.2s-%.2s-%.2s-%.2s-%.2s-%.2s", time,
		time + 4, time + 6, time + 8, time + 10, time + 12, time + 14);
}

static bool is_zero_time(const char *time)
{
	return !strncmp(time, "0000000000000000", 16);
}

static void iso_info(const struct vmimg_look *look, struct vmimg_fs_info *info)
{
	const uint8_t *s = look->head + FIRST * SECTOR;
	const char *created = (const char *)s + 813, *modified = created + 17;

	info->type = "iso9660";
	info->variant = has_mark(look, "NSR02") || has_mark(look, "NSR03") ? "with UDF" : NULL;
	vmimg_info_label(info, s + 40, 32);
	if (!is_zero_time(modified))
		iso_uuid(info, modified);
	else if (!is_zero_time(created))
		iso_uuid(info, created);
	info->block = vmimg_get_le16(s + 128);
	info->size = (uint64_t)vmimg_get_le32(s + 80) * info->block;
	info->used = info->size;
}

/* A "dstring": its last byte is the length used; the first says 8 or 16 bits a character. */
static int udf_label(
	struct vmimg_fs_info *info, const uint8_t *text, size_t len, struct vmimg_error *err)
{
	size_t used = text[len - 1];

	if (used < 2 || used >= len)
		return 0;
	if (text[0] == 16)
		return vmimg_info_label16(info, text + 1, used - 1, true, err);
	vmimg_info_label(info, text + 1, used - 1);
	return 0;
}

/* The descriptor that points to the others lies in sector 256, of whatever size sectors are. */
static int find_anchor(
	const struct vmimg_look *look, uint8_t *s, uint32_t *sector, struct vmimg_error *err)
{
	static const uint32_t sizes[] = { 2048, 512, 4096, 1024 };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(sizes); i++) {
		uint64_t at = (uint64_t)UDF_ANCHOR * sizes[i];

		if (at + 512 > look->size)
			continue;
		if (vmimg_io_pread(look->io, s, 512, at, err))
			return -1;
		if (vmimg_get_le16(s) == 2 && vmimg_get_le32(s + 12) == UDF_ANCHOR) {
			*sector = sizes[i];
			return 1;
		}
	}
	return 0;
}

/* What makes a volume set unlike others begins its name, a dstring: 16 digits. blkid makes an
 * identity of them. */
static void udf_uuid(struct vmimg_fs_info *info, const uint8_t *text)
{
	enum { DIGITS = 16 };
	unsigned width = text[0] / 8;
	char digits[DIGITS + 1] = { 0 };

	if (width != 1 && width != 2)
		return;
	for (unsigned i = 0; i < DIGITS; i++) {
		const uint8_t *c = text + 1 + (size_t)i * width;

		if ((width == 2 && c[0]) || !isxdigit(c[width - 1]))
			return;
		digits[i] = (char)tolower(c[width - 1]);
	}
	memcpy(info->uuid, digits, sizeof(digits));
}

/* Each partition's free blocks, then each one's size; all ones: not known. */
static void udf_space(struct vmimg_fs_info *info, const uint8_t *s)
{
	uint64_t blocks = 0, free_blocks = 0;
	uint32_t count = vmimg_get_le32(s + 72);

	if (count > 16)
		return;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t size = vmimg_get_le32(s + 80 + 4 * (count + i));
		uint32_t left = vmimg_get_le32(s + 80 + 4 * i);

		if (size == UINT32_MAX || left == UINT32_MAX)
			continue;
		blocks += size;
		free_blocks += left;
	}
	if (blocks)
		vmimg_info_size(info, blocks, free_blocks, info->block);
}

static int udf_descriptor(struct vmimg_fs_info *info, const uint8_t *s,
	struct udf_extent *integrity, struct vmimg_error *err)
{
	switch (vmimg_get_le16(s)) {
	case UDF_PRIMARY:
		udf_uuid(info, s + 72);
		return 0;
	case UDF_LOGICAL:
		*integrity = udf_extent(s + 432, info->block);
		return udf_label(info, s + 84, 128, err);
	case UDF_INTEGRITY:
		udf_space(info, s);
		return 0;
	default:
		return 0;
	}
}

/* The descriptors of an extent, where a later one of a kind is the newer one. */
static int udf_descriptors(const struct vmimg_look *look, struct vmimg_fs_info *info,
	struct udf_extent extent, struct udf_extent *integrity, struct vmimg_error *err)
{
	uint8_t s[512];

	for (uint64_t i = 0; i < extent.count; i++) {
		uint64_t at = (extent.first + i) * info->block;

		if (!vmimg_range_inside(at, sizeof(s), look->size))
			return 0;
		if (vmimg_io_pread(look->io, s, sizeof(s), at, err) ||
			udf_descriptor(info, s, integrity, err))
			return -1;
	}
	return 0;
}

static int udf_info(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	struct udf_extent integrity = { 0, 0 };
	uint32_t sector = SECTOR;
	uint8_t s[512];
	int found = find_anchor(look, s, &sector, err);

	info->type = "udf";
	info->block = sector;
	if (found <= 0)
		return found;
	if (udf_descriptors(look, info, udf_extent(s + 16, sector), &integrity, err))
		return -1;
	return udf_descriptors(look, info, integrity, &integrity, err);
}

int vmimg_recognise_optical(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	const uint8_t *s = look->head + FIRST * SECTOR;

	if (s[0] == 1 && !memcmp(s + 1, "CD001", 5)) {
		iso_info(look, info);
		return 1;
	}
	if (!has_mark(look, "NSR02") && !has_mark(look, "NSR03"))
		return 0;
	return udf_info(look, info, err) ? -1 : 1;
}

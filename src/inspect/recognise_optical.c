/* SPDX-License-Identifier: Apache-2.0 */
/* ISO 9660 and UDF: the volume recognition sequence from 32 KiB on, in sectors of 2048 bytes. */
#include <stdio.h>
#include <string.h>
#include "inspect/look.h"
#include "util/bytes.h"
#include "util/num.h"

#define SECTOR     2048U
#define FIRST      16U
#define UDF_ANCHOR 256U

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
	iso_uuid(info, is_zero_time(modified) ? created : modified);
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

static int udf_info(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	uint32_t sector = SECTOR;
	uint64_t first, count;
	uint8_t s[512];
	int found = find_anchor(look, s, &sector, err);

	info->type = "udf";
	info->block = sector;
	if (found <= 0)
		return found;
	count = vmimg_min(vmimg_get_le32(s + 16) / sector, 64);
	first = vmimg_get_le32(s + 20);
	for (uint64_t i = first; i < first + count; i++) {
		if (i * sector + sizeof(s) > look->size)
			return 0;
		if (vmimg_io_pread(look->io, s, sizeof(s), i * sector, err))
			return -1;
		if (vmimg_get_le16(s) == 6)
			return udf_label(info, s + 84, 128, err);
	}
	return 0;
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

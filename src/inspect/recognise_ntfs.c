/* SPDX-License-Identifier: Apache-2.0 */
/* Boot sectors and labels of NTFS and exFAT. */
#include <stdio.h>
#include <string.h>
#include "inspect/look.h"
#include "inspect/ntfs.h"
#include "util/bytes.h"
#include "util/num.h"

#define NTFS_VOLUME_RECORD 3

static int read_volume(
	const uint8_t *record, size_t size, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	struct vmimg_ntfs_attribute a;
	struct vmimg_error ignored;
	size_t at = 0;

	while (vmimg_ntfs_next(record, size, &at, &a, &ignored) > 0) {
		if (a.type == VMIMG_NTFS_INFO && a.value && a.value_len >= 12)
			info->dirty = vmimg_get_le16(a.value + 10) & 1;
		if (a.type == VMIMG_NTFS_NAME && a.value &&
			vmimg_info_label16(info, a.value, a.value_len, false, err))
			return -1;
	}
	return 0;
}

/* Label and state lie in the fourth record of the master file table; what cannot be read has none.
 */
static int look_at_volume(const struct vmimg_look *look, uint64_t at, uint32_t record_size,
	struct vmimg_fs_info *info, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *record = NULL;

	if (record_size < 512 || record_size > 65536 || record_size % 512 ||
		!vmimg_range_inside(at, (uint64_t)record_size * 4, look->size))
		return 0;
	record = vmimg_alloc_buffer(record_size, err);
	if (!record ||
		vmimg_io_pread(look->io, record, record_size,
			at + (uint64_t)record_size * NTFS_VOLUME_RECORD, err))
		return -1;
	return vmimg_ntfs_fixup(record, record_size, "FILE")
		? read_volume(record, record_size, info, err)
		: 0;
}

int vmimg_recognise_ntfs(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	const uint8_t *s = look->head;
	uint32_t sector = vmimg_get_le16(s + 11), cluster = vmimg_ntfs_size(s[13], sector);
	uint64_t mft;

	if (memcmp(s + 3, "NTFS    ", 8) || sector < 256 || sector > 4096 || !cluster)
		return 0;
	info->type = "ntfs";
	snprintf(info->uuid, sizeof(info->uuid), "%016llX",
		(unsigned long long)vmimg_get_le64(s + 72));
	vmimg_info_size(info, vmimg_get_le64(s + 40), VMIMG_UNKNOWN, sector);
	info->block = cluster;
	if (!vmimg_mul(vmimg_get_le64(s + 48), cluster, &mft))
		return 1;
	return look_at_volume(look, mft, vmimg_ntfs_size(s[64], cluster), info, err) ? -1 : 1;
}

/* The label is an entry of the root folder, whose first cluster is looked at. */
static int exfat_label(const struct vmimg_look *look, uint64_t root, size_t cluster,
	struct vmimg_fs_info *info, struct vmimg_error *err)
{
	uint8_t entries[4096];
	size_t len = cluster < sizeof(entries) ? cluster : sizeof(entries);

	if (!vmimg_range_inside(root, len, look->size))
		return 0;
	if (vmimg_io_pread(look->io, entries, len, root, err))
		return -1;
	for (size_t at = 0; at + 32 <= len && entries[at]; at += 32)
		if (entries[at] == 0x83 && entries[at + 1] <= 11)
			return vmimg_info_label16(
				info, entries + at + 2, entries[at + 1] * 2U, false, err);
	return 0;
}

int vmimg_recognise_exfat(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	const uint8_t *s = look->head;
	unsigned sector = s[108], cluster = s[109];
	uint64_t root = vmimg_get_le32(s + 96), heap = vmimg_get_le32(s + 88);
	uint32_t serial = vmimg_get_le32(s + 100);

	if (memcmp(s + 3, "EXFAT   ", 8) || sector < 9 || sector > 12 || cluster > 25 - sector)
		return 0;
	info->type = "exfat";
	snprintf(info->uuid, sizeof(info->uuid), "%04X-%04X", serial >> 16, serial & 0xffff);
	vmimg_info_size(info, vmimg_get_le64(s + 72), VMIMG_UNKNOWN, 1U << sector);
	info->block = UINT32_C(1) << (sector + cluster);
	info->dirty = (vmimg_get_le16(s + 106) & 2) != 0;
	if (root < 2)
		return 1;
	root = (heap << sector) + ((root - 2) << (sector + cluster));
	return exfat_label(look, root, info->block, info, err) ? -1 : 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What is no file system, but has one inside or beside: swap, LVM, LUKS, RAID, bcache, ZFS. */
#include <stdio.h>
#include <string.h>
#include "inspect/look.h"
#include "util/bytes.h"
#include "util/num.h"

/* A machine sleeps in it: the kernel's own way, or uswsusp's two. */
static bool is_suspended(const uint8_t *mark)
{
	return !memcmp(mark, "S1SUSPEND", 9) || !memcmp(mark, "S2SUSPEND", 9) ||
		!memcmp(mark, "ULSUSPEND", 9);
}

int vmimg_recognise_swap(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	const uint8_t *s = look->head;

	(void)err;
	for (uint32_t page = 4096; page <= 65536; page *= 2) {
		bool used = !memcmp(s + page - 10, "SWAPSPACE2", 10);
		bool suspended = is_suspended(s + page - 10);

		if (!used && !suspended)
			continue;
		info->type = suspended ? "swsuspend" : "swap";
		vmimg_info_uuid(info, s + 1036);
		vmimg_info_label(info, s + 1052, 16);
		info->block = page;
		info->size = ((uint64_t)vmimg_get_le32(s + 1028) + 1) * page;
		return 1;
	}
	return 0;
}

int vmimg_recognise_lvm(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	(void)err;
	for (unsigned sector = 0; sector < 4; sector++) {
		const uint8_t *s = look->head + 512 * sector;
		uint32_t at = vmimg_get_le32(s + 20);
		const char *id = (const char *)s + at;

		if (memcmp(s, "LABELONE", 8) || memcmp(s + 24, "LVM2 001", 8) || at > 512 - 40)
			continue;
		info->type = "LVM2_member";
		snprintf(info->uuid, sizeof(info->uuid), "%.6s-%.4s-%.4s-%.4s-%.4s-%.4s-%.6s", id,
			id + 6, id + 10, id + 14, id + 18, id + 22, id + 26);
		info->size = vmimg_get_le64(s + at + 32);
		return 1;
	}
	return 0;
}

int vmimg_recognise_luks(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	const uint8_t *s = look->head;
	uint16_t version = vmimg_get_be16(s + 6);

	(void)err;
	if (memcmp(s, "LUKS\xba\xbe", 6))
		return 0;
	info->type = "crypto_LUKS";
	info->variant = version == 1 ? "LUKS1" : version == 2 ? "LUKS2" : NULL;
	snprintf(info->uuid, sizeof(info->uuid), "%.39s", (const char *)s + 168);
	if (version == 2)
		vmimg_info_label(info, s + 24, 48);
	return 1;
}

int vmimg_recognise_bcache(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	static const uint8_t magic[16] = { 0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82,
		0x65, 0xf5, 0x7f, 0x48, 0xba, 0x6d, 0x81 };
	const uint8_t *s = look->head + 4096;

	(void)err;
	if (memcmp(s + 24, magic, sizeof(magic)))
		return 0;
	info->type = "bcache";
	vmimg_info_uuid(info, s + 40);
	vmimg_info_label(info, s + 72, 32);
	return 1;
}

#define RAID_MAGIC 0xa92b4efc

/* The oldest version: near the end, in the byte order of its machine. The identity lies in four
 * pieces. */
static int raid_0_90(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	enum { AREA = 65536 };
	uint8_t s[64], uuid[16];
	bool big;

	if (look->size < 2 * AREA)
		return 0;
	if (vmimg_io_pread(look->io, s, sizeof(s), vmimg_align_down(look->size, AREA) - AREA, err))
		return -1;
	big = vmimg_get_be32(s) == RAID_MAGIC;
	if (!big && (vmimg_get_le32(s) != RAID_MAGIC || vmimg_get_le32(s + 4)))
		return 0;
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *piece = i ? s + 48 + (size_t)i * 4 : s + 20;

		vmimg_put_be32(
			uuid + (size_t)i * 4, big ? vmimg_get_be32(piece) : vmimg_get_le32(piece));
	}
	info->type = "linux_raid_member";
	info->variant = "0.90";
	vmimg_info_uuid(info, uuid);
	return 1;
}

/* Super blocks of versions 1.1 and 1.2 at the start, of 1.0 near the end. */
int vmimg_recognise_raid(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	uint8_t tail[64] = { 0 };
	const uint8_t *s = NULL;

	if (look->size >= 131072 &&
		vmimg_io_pread(look->io, tail, sizeof(tail),
			vmimg_align_down(look->size - 8192, 4096), err))
		return -1;
	if (vmimg_get_le32(look->head) == RAID_MAGIC)
		s = look->head;
	else if (vmimg_get_le32(look->head + 4096) == RAID_MAGIC)
		s = look->head + 4096;
	else if (vmimg_get_le32(tail) == RAID_MAGIC)
		s = tail;
	if (!s || vmimg_get_le32(s + 4) != 1)
		return raid_0_90(look, info, err);
	info->type = "linux_raid_member";
	vmimg_info_uuid(info, s + 16);
	vmimg_info_label(info, s + 32, 32);
	return 1;
}

/* Uberblocks fill the second half of each of a member's labels, 256 KiB long. */
int vmimg_recognise_zfs(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	enum { AT = 131072, LEN = 131072, STEP = 1024 };
	VMIMG_AUTO(free) uint8_t *ring = NULL;
	uint64_t len;
	bool hole;

	if (look->size < AT + LEN)
		return 0;
	if (vmimg_io_extent(look->io, AT, &hole, &len, err))
		return -1;
	if (hole && len >= LEN)
		return 0;
	ring = vmimg_alloc_buffer(LEN, err);
	if (!ring || vmimg_io_pread(look->io, ring, LEN, AT, err))
		return -1;
	for (size_t at = 0; at < LEN; at += STEP) {
		if (vmimg_get_le64(ring + at) != 0x00bab10c &&
			vmimg_get_be64(ring + at) != 0x00bab10c)
			continue;
		info->type = "zfs_member";
		return 1;
	}
	return 0;
}

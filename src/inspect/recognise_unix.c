/* SPDX-License-Identifier: Apache-2.0 */
/* Super blocks of the file systems that Linux roots lie on: ext2 to ext4, XFS, btrfs, squashfs. */
#include <string.h>
#include "inspect/look.h"
#include "util/bytes.h"
#include "util/num.h"

#define EXT_SUPER       1024
#define EXT_MAGIC       0xef53
#define EXT_JOURNAL     0x4U /* compatible */
#define EXT_RECOVER     0x4U /* incompatible, as the next */
#define EXT_JOURNAL_DEV 0x8U
#define EXT_64BIT       0x80U
#define EXT2_INCOMPAT   0x12U /* file types, meta block groups */
#define EXT3_INCOMPAT   (EXT2_INCOMPAT | EXT_RECOVER)
#define EXT2_RO         0x7U /* sparse super blocks, large files, trees in folders */

static const char *ext_type(uint32_t compat, uint32_t incompat, uint32_t ro)
{
	if (incompat & EXT_JOURNAL_DEV)
		return "jbd";
	if (ro & ~EXT2_RO || incompat & ~EXT3_INCOMPAT)
		return "ext4";
	if (compat & EXT_JOURNAL)
		return "ext3";
	return incompat & ~EXT2_INCOMPAT ? "ext4" : "ext2";
}

int vmimg_recognise_ext(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	const uint8_t *s = look->head + EXT_SUPER;
	uint32_t incompat = vmimg_get_le32(s + 0x60), shift = vmimg_get_le32(s + 0x18);
	uint64_t blocks = vmimg_get_le32(s + 4), left = vmimg_get_le32(s + 12);

	(void)err;
	if (vmimg_get_le16(s + 0x38) != EXT_MAGIC || shift > 6 || !blocks)
		return 0;
	if (incompat & EXT_64BIT) {
		blocks |= (uint64_t)vmimg_get_le32(s + 0x150) << 32;
		left |= (uint64_t)vmimg_get_le32(s + 0x158) << 32;
	}
	info->type = ext_type(vmimg_get_le32(s + 0x5c), incompat, vmimg_get_le32(s + 0x64));
	info->dirty = (incompat & EXT_RECOVER) || !(vmimg_get_le16(s + 0x3a) & 1);
	vmimg_info_uuid(info, s + 0x68);
	vmimg_info_label(info, s + 0x78, 16);
	vmimg_info_size(info, blocks, left, 1024U << shift);
	return 1;
}

int vmimg_recognise_xfs(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	const uint8_t *s = look->head;
	uint32_t block = vmimg_get_be32(s + 4);

	(void)err;
	if (memcmp(s, "XFSB", 4) || block < 512 || block > 65536 || !vmimg_is_pow2(block))
		return 0;
	info->type = "xfs";
	info->variant = (vmimg_get_be16(s + 100) & 15) == 5 ? "v5" : "v4";
	vmimg_info_uuid(info, s + 32);
	vmimg_info_label(info, s + 108, 12);
	vmimg_info_size(info, vmimg_get_be64(s + 8), vmimg_get_be64(s + 144), block);
	return 1;
}

int vmimg_recognise_btrfs(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	const uint8_t *s = look->head + 65536;

	(void)err;
	if (memcmp(s + 64, "_BHRfS_M", 8))
		return 0;
	info->type = "btrfs";
	info->variant = vmimg_get_le64(s + 136) > 1 ? "one of several devices" : NULL;
	info->size = vmimg_get_le64(s + 112);
	info->used = vmimg_get_le64(s + 120);
	info->block = vmimg_get_le32(s + 144);
	info->dirty = vmimg_get_le64(s + 96) != 0; /* a log tree waits to be replayed */
	vmimg_info_uuid(info, s + 32);
	vmimg_info_label(info, s + 299, 256);
	return 1;
}

int vmimg_recognise_squashfs(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	const uint8_t *s = look->head;

	(void)err;
	if (memcmp(s, "hsqs", 4) || vmimg_get_le16(s + 28) != 4)
		return 0;
	info->type = "squashfs";
	info->size = info->used = vmimg_get_le64(s + 40);
	info->block = vmimg_get_le32(s + 12);
	return 1;
}

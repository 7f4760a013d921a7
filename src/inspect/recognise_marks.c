/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is recognised by a mark at a fixed place, and of which little more than the name is told:
 * file systems whose files are not read here, and volumes that hold something else.
 */
#include <string.h>
#include "inspect/look.h"
#include "util/bytes.h"
#include "util/num.h"

#define NONE     0
#define BYTES(s) (s), sizeof(s) - 1

struct mark {
	const char *type, *variant;
	uint32_t at; /* as the next two: bytes from the start of the volume */
	const char *bytes;
	size_t len;
	uint32_t uuid, label; /* NONE: not told */
	uint16_t label_len;
	bool utf16; /* little-endian */
};

static const struct mark marks[] = {
	{ "f2fs", NULL, 1024, BYTES("\x10\x20\xf5\xf2"), 1132, 1148, 1024, true },
	{ "erofs", NULL, 1024, BYTES("\xe2\xe1\xf5\xe0"), 1072, 1088, 16, false },
	{ "nilfs2", NULL, 1024, BYTES("\2\0\0\0\0\0\x34\x34"), 1176, 1192, 80, false },
	{ "jfs", NULL, 32768, BYTES("JFS1"), 32904, 32920, 16, false },
	{ "reiserfs", "3.5", 8244, BYTES("ReIsErFs"), NONE, NONE, 0, false },
	{ "reiserfs", "3.5", 65588, BYTES("ReIsErFs"), 65620, 65636, 16, false },
	{ "reiserfs", "3.6", 65588, BYTES("ReIsEr2Fs"), 65620, 65636, 16, false },
	{ "reiserfs", "other journal", 65588, BYTES("ReIsEr3Fs"), 65620, 65636, 16, false },
	{ "reiser4", NULL, 65536, BYTES("ReIsEr4"), 65556, 65572, 16, false },
	{ "ocfs2", NULL, 1024, BYTES("OCFSV2"), 1360, 1296, 64, false },
	{ "ocfs2", NULL, 2048, BYTES("OCFSV2"), 2384, 2320, 64, false },
	{ "ocfs2", NULL, 4096, BYTES("OCFSV2"), 4432, 4368, 64, false },
	{ "ocfs2", NULL, 8192, BYTES("OCFSV2"), 8528, 8464, 64, false },
	{ "gfs2", NULL, 65536, BYTES("\x01\x16\x19\x70\0\0\0\1"), 65792, 65696, 64, false },
	{ "ufs", "UFS2", 66908, BYTES("\x19\x01\x54\x19"), NONE, 66216, 32, false },
	{ "ufs", "UFS1", 9564, BYTES("\x54\x19\x01\0"), NONE, NONE, 0, false },
	{ "apfs", NULL, 32, BYTES("NXSB"), 72, NONE, 0, false },
	{ "befs", NULL, 544, BYTES("1SFB"), NONE, 512, 32, false },
	{ "cramfs", NULL, 16, BYTES("Compressed ROMFS"), NONE, 48, 16, false },
	{ "romfs", NULL, 0, BYTES("-rom1fs-"), NONE, 16, 128, false },
	{ "vdo", NULL, 0, BYTES("dmvdo001"), NONE, NONE, 0, false },
	{ "ReFS", NULL, 3, BYTES("ReFS"), NONE, NONE, 0, false },
};

static bool is_mark(const struct vmimg_look *look, size_t at, const void *bytes, size_t len)
{
	return !memcmp(look->head + at, bytes, len);
}

static int tell(const struct vmimg_look *look, const struct mark *mark, struct vmimg_fs_info *info,
	struct vmimg_error *err)
{
	info->type = mark->type;
	info->variant = mark->variant;
	if (mark->uuid)
		vmimg_info_uuid(info, look->head + mark->uuid);
	if (!mark->label)
		return 1;
	if (mark->utf16)
		return vmimg_info_label16(
			       info, look->head + mark->label, mark->label_len, false, err)
			? -1
			: 1;
	vmimg_info_label(info, look->head + mark->label, mark->label_len);
	return 1;
}

/* Apple's older and newer one; the newer may lie in a wrapper of the older. */
static int recognise_hfs(const struct vmimg_look *look, struct vmimg_fs_info *info)
{
	const uint8_t *s = look->head + 1024;
	uint32_t block = vmimg_get_be32(s + 20);

	if (is_mark(look, 1024, "H+\0\4", 4) || is_mark(look, 1024, "HX\0\5", 4)) {
		info->type = "hfsplus";
		vmimg_info_size(info, vmimg_get_be32(s + 44), vmimg_get_be32(s + 48),
			vmimg_get_be32(s + 40));
		return 1;
	}
	if (!is_mark(look, 1024, "BD", 2) || !block || block % 512 || !s[36] || s[36] > 27)
		return 0;
	info->type = is_mark(look, 1148, "H+", 2) ? "hfsplus" : "hfs";
	vmimg_info_label(info, s + 37, s[36]);
	vmimg_info_size(info, vmimg_get_be16(s + 18), vmimg_get_be16(s + 34), block);
	return 1;
}

int vmimg_recognise_others(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(marks); i++)
		if (is_mark(look, marks[i].at, marks[i].bytes, marks[i].len))
			return tell(look, &marks[i], info, err);
	return recognise_hfs(look, info);
}

/* On a removable drive, a FAT of programs that unlock it lies before the encrypted volume, and in
 * the same place: what that FAT calls unused is not. */
int vmimg_recognise_bitlocker(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	static const uint8_t guid[] = { 0x3b, 0xd6, 0x67, 0x49, 0x29, 0x2e, 0xd8, 0x4a, 0x83, 0x99,
		0xf6, 0xa3, 0x39, 0xe3, 0xd0, 0x01 };
	enum { GUID_TO_GO = 424 };

	(void)err;
	if (is_mark(look, GUID_TO_GO, guid, sizeof(guid)))
		info->variant = "To Go";
	else if (!is_mark(look, 3, "-FVE-FS-", 8))
		return 0;
	info->type = "BitLocker";
	return 1;
}

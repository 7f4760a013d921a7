/* SPDX-License-Identifier: Apache-2.0 */
/* Asks each kind of file system in turn, the ones with the clearest marks first. */
#include <string.h>
#include "inspect/look.h"
#include "util/num.h"
#include "util/utf16.h"

/* Members of something larger first: what they hold may look like a file system too. */
static vmimg_recognise *const all[] = {
	vmimg_recognise_luks,
	vmimg_recognise_lvm,
	vmimg_recognise_raid,
	vmimg_recognise_bcache,
	vmimg_recognise_bitlocker,
	vmimg_recognise_ext,
	vmimg_recognise_xfs,
	vmimg_recognise_btrfs,
	vmimg_recognise_ntfs,
	vmimg_recognise_exfat,
	vmimg_recognise_squashfs,
	vmimg_recognise_swap,
	vmimg_recognise_optical,
	vmimg_recognise_fat,
	vmimg_recognise_others,
	vmimg_recognise_zfs,
};

void vmimg_info_label(struct vmimg_fs_info *info, const uint8_t *text, size_t len)
{
	len = strnlen(
		(const char *)text, len < sizeof(info->label) ? len : sizeof(info->label) - 1);
	while (len && text[len - 1] == ' ')
		len--;
	memcpy(info->label, text, len);
	info->label[len] = '\0';
}

int vmimg_info_label16(struct vmimg_fs_info *info, const uint8_t *text, size_t len, bool big_endian,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *label = vmimg_utf16_decode(text, len, big_endian, err);

	if (!label)
		return -1;
	vmimg_info_label(info, (const uint8_t *)label, strlen(label));
	return 0;
}

void vmimg_info_uuid(struct vmimg_fs_info *info, const uint8_t uuid[16])
{
	struct vmimg_guid guid;

	memcpy(guid.bytes, uuid, sizeof(guid.bytes));
	if (!vmimg_guid_is_nil(&guid))
		vmimg_guid_format(info->uuid, &guid);
}

void vmimg_info_size(
	struct vmimg_fs_info *info, uint64_t blocks, uint64_t free_blocks, uint32_t block)
{
	uint64_t size;

	info->block = block;
	if (!vmimg_mul(blocks, block, &size))
		return;
	info->size = size;
	if (free_blocks <= blocks)
		info->used = (blocks - free_blocks) * block;
}

static void clear(struct vmimg_fs_info *info)
{
	memset(info, 0, sizeof(*info));
	info->size = info->used = VMIMG_UNKNOWN;
}

int vmimg_fs_recognise_other(
	struct vmimg_io *io, const char *type, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *head = vmimg_alloc_array(1, VMIMG_LOOK_HEAD, err);
	struct vmimg_look look = { io, vmimg_io_size(io), head };

	clear(info);
	if (!head ||
		vmimg_io_pread(io, head, (size_t)vmimg_min(look.size, VMIMG_LOOK_HEAD), 0, err))
		return -1;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(all); i++) {
		int found = all[i](&look, info, err);

		if (found < 0)
			return -1;
		if (found && (!type || strcmp(info->type, type)))
			return 0;
		clear(info);
	}
	return 0;
}

int vmimg_fs_recognise(struct vmimg_io *io, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	return vmimg_fs_recognise_other(io, NULL, info, err);
}

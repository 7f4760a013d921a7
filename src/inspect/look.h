/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that recognise file systems. */
#pragma once
#include "inspect/fs.h"
#include "util/guid.h"

#define VMIMG_LOOK_HEAD 69632U /* past the super block of btrfs at 64 KiB */

struct vmimg_look {
	struct vmimg_io *io;
	uint64_t size;
	const uint8_t *head; /* the first bytes, zeroes after the end */
};

/* 1: it is one, and info filled; 0: it is not; -1: a read failed. info comes cleared, with size and
 * used unknown. */
typedef int vmimg_recognise(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err);

vmimg_recognise vmimg_recognise_ext, vmimg_recognise_xfs, vmimg_recognise_btrfs,
	vmimg_recognise_fat, vmimg_recognise_exfat, vmimg_recognise_ntfs, vmimg_recognise_optical,
	vmimg_recognise_swap, vmimg_recognise_lvm, vmimg_recognise_luks, vmimg_recognise_squashfs,
	vmimg_recognise_bcache, vmimg_recognise_zfs, vmimg_recognise_raid,
	vmimg_recognise_bitlocker, vmimg_recognise_others;

/* Labels of a fixed field: cut at the first NUL, without the spaces at the end. */
void vmimg_info_label(struct vmimg_fs_info *info, const uint8_t *text, size_t len);
/* The same of UTF-16; len in bytes. */
int vmimg_info_label16(struct vmimg_fs_info *info, const uint8_t *text, size_t len, bool big_endian,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_info_uuid(struct vmimg_fs_info *info, const uint8_t uuid[16]);
/* blocks * block bytes, of which free are free; unknown when that makes no sense. */
void vmimg_info_size(
	struct vmimg_fs_info *info, uint64_t blocks, uint64_t free_blocks, uint32_t block);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ISO 9660 (ECMA-119) with Rock Ridge or Joliet, and El Torito boot catalogues. The tree comes from
 * Rock Ridge where there is any, else from Joliet, else from the plain names.
 */
#pragma once
#include "inspect/fs.h"

#define VMIMG_ISO_SECTOR 2048U
#define VMIMG_ISO_RECORD 33U /* bytes of a folder's record before the name */

struct vmimg_iso_volume {
	char system[33], volume[33], set[129], publisher[129], preparer[129], application[129];
	uint64_t size;     /* as the descriptor says */
	uint32_t boot_at;  /* sector of the boot catalogue; 0: none */
	const char *names; /* where the tree comes from: "Rock Ridge", "Joliet", "plain" */
	bool rock_ridge, joliet;
};

/* Of a file system that vmimg_iso_open() made. */
const struct vmimg_iso_volume *vmimg_iso_volume(const struct vmimg_fs *fs);

#define VMIMG_PLATFORM_BIOS 0x00
#define VMIMG_PLATFORM_EFI  0xef

/* An entry of the boot catalogue. */
struct vmimg_boot_entry {
	uint8_t platform;
	uint8_t media; /* 0: no emulation, 1–3: floppy, 4: hard disk */
	bool bootable;
	uint64_t at, len; /* bytes; as stated, which EFI entries often understate */
};
#define VMIMG_BOOT_ENTRIES 32
int vmimg_eltorito_read(struct vmimg_io *io, uint32_t catalogue, struct vmimg_boot_entry *entries,
	size_t *count, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* What makes a disk start, found on this machine when it is needed: systemd's stub for UEFI, and
 * syslinux for the BIOS. Neither is part of vmimg. */
#pragma once
#include "bundle/boot_disk.h"

struct cli_boot_parts {
	struct vmimg_io *stub;
	uint8_t boot_code[440];
	uint64_t epoch;
	struct vmimg_io *esp; /* a temporary file, for syslinux to be run on */
	int helper;           /* the socket of who will run it; -1: nobody */
};

/* While there is no sandbox yet and there are no threads: whoever will run syslinux on the EFI
 * system partition is made. It is a process of its own, does nothing else, and ends with ours. */
int cli_boot_parts_begin(
	struct cli_boot_parts *parts, bool bios, struct vmimg_error *err) VMIMG_CHECKED;

/* The parts for a kernel of that architecture, into how, which borrows them. */
int cli_boot_parts_find(struct cli_boot_parts *parts, const char *architecture, bool bios, bool efi,
	struct vmimg_boot_disk *how, struct vmimg_error *err) VMIMG_CHECKED;
void cli_boot_parts_done(struct cli_boot_parts *parts);
static inline void cli_boot_parts_done_auto(struct cli_boot_parts *parts)
{
	cli_boot_parts_done(parts);
}

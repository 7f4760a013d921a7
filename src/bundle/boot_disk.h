/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel, a ramdisk and a root file system as one disk that starts by itself: under a BIOS by
 * syslinux, under UEFI by a unified kernel image, both on an EFI system partition in front of the
 * root partition, which comes last so that it can grow. The disk is an io that reads through its
 * parts: nothing is copied, and it is as good a source of a conversion as any image.
 */
#pragma once
#include "io/io.h"
#include "util/guid.h"

struct vmimg_boot_disk {
	struct vmimg_io *kernel, *root;
	struct vmimg_io *ramdisk; /* NULL: none */
	const char *root_name;    /* "UUID=…", "LABEL=…"; NULL: by the partition's identity */
	const char *append;       /* more arguments for the kernel; NULL: none */
	const char *os_release;   /* shown by boot menus; NULL: nothing known */
	bool mbr;                 /* an MBR instead of a GPT */
	bool unique;              /* random identities */
	uint64_t epoch;           /* of everything that has a time */
	struct vmimg_io *stub;    /* systemd's, of the kernel's architecture; NULL: no UEFI */
	const char *efi_name;     /* "BOOTX64.EFI" */
	const uint8_t *boot_code; /* 440 bytes for sector 0; NULL: no BIOS */
	/* Makes a copy of the EFI system partition that a BIOS starts; with boot_code only. */
	struct vmimg_io *(*install)(void *ctx, struct vmimg_io *esp, struct vmimg_error *err);
	void *install_ctx;
};

struct vmimg_io *vmimg_boot_disk_open(
	const struct vmimg_boot_disk *how, struct vmimg_error *err) VMIMG_CHECKED;

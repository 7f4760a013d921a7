/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernels as files of their own: what an AKI is, and what a boot loader loads. Recognised by their
 * headers alone. Sources: Documentation/arch/x86/boot.rst, arm64/booting.rst and
 * riscv/boot-image-header.rst of Linux, xen/include/public/elfnote.h of Xen.
 */
#pragma once
#include <jansson.h>
#include "io/io.h"

struct vmimg_kernel {
	const char *kind;                 /* "bzImage", "EFI zboot image" … */
	const char *architecture;         /* as the field calls it: "x86_64"; NULL: not told */
	char version[192];                /* fit to show; empty: not told */
	unsigned protocol;                /* of x86's boot protocol, 0x20c; 0: none */
	const char *compression;          /* of the payload, a constant; NULL: not told, or none */
	uint64_t payload_at, payload_len; /* payload_len 0: not told */
	bool efi_stub;                    /* firmware can start it as a program */
	bool loaded_high;                 /* bzImage: not an ancient zImage */
	bool xen;                         /* has notes for a Xen guest */
	bool cut_short;                   /* the header promises more than there is */
};

/* VMIMG_EFORMAT: not a kernel. */
int vmimg_kernel_read(
	struct vmimg_io *io, struct vmimg_kernel *kernel, struct vmimg_error *err) VMIMG_CHECKED;
/* Adds what is known to a report. */
void vmimg_kernel_describe(const struct vmimg_kernel *kernel, json_t *object);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unified kernel images: systemd's stub, a program for the firmware, with the kernel, its arguments
 * and the ramdisk as sections of it; put together and taken apart. Sources: the Unified Kernel
 * Image specification of the UAPI group; Microsoft's PE format.
 */
#pragma once
#include "io/io.h"

struct vmimg_uki {
	struct vmimg_io *stub, *kernel;
	struct vmimg_io *ramdisk; /* NULL: none */
	const char *cmdline;
	const char *os_release;
};

/* Reads through the ios that it is made of, which it shares. VMIMG_EFORMAT: the stub is none. */
struct vmimg_io *vmimg_uki_write(
	const struct vmimg_uki *uki, struct vmimg_error *err) VMIMG_CHECKED;

/* A section of a PE program as an io; *io = NULL when there is none of that name. VMIMG_EFORMAT:
 * not a PE program. The caller unrefs it. */
int vmimg_uki_section(struct vmimg_io *program, const char *name, struct vmimg_io **io,
	struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Initial ramdisks as files of their own: what an ARI is. Cpio archives one after another, with
 * zeroes between them; the last one is usually packed as a whole. Source:
 * Documentation/driver-api/early-userspace/buffer-format.rst of Linux.
 */
#pragma once
#include <jansson.h>
#include "io/io.h"

#define VMIMG_RAMDISK_SEGMENTS 16

struct vmimg_ramdisk {
	struct vmimg_ramdisk_segment {
		const char *compression; /* NULL: a plain cpio archive */
		uint64_t at, len;
		uint64_t files; /* 0: packed, not counted */
		bool microcode; /* for the processor, read before everything else */
		bool cut_short; /* ends in the middle */
	} segments[VMIMG_RAMDISK_SEGMENTS];
	unsigned count;
	char version[96]; /* of the kernel whose modules are in it, fit to show; empty: not told */
};

/* VMIMG_EFORMAT: not a ramdisk. */
int vmimg_ramdisk_read(
	struct vmimg_io *io, struct vmimg_ramdisk *ramdisk, struct vmimg_error *err) VMIMG_CHECKED;
/* Adds what is known to a report. */
void vmimg_ramdisk_describe(const struct vmimg_ramdisk *ramdisk, json_t *object);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk without what nobody needs: blocks that its user has declared unused read as zeroes. Which
 * they are is kept as bits, each for so many bytes that they all fit in 32 MiB.
 */
#pragma once
#include "disk/disk.h"

struct vmimg_trim {
	struct vmimg_disk disk; /* what is to be read: the layer alone, on the same parents */
	struct vmimg_disk *inner;
	bool in_place;   /* what takes no space in the layer is ABSENT: it is to stay as it is */
	uint64_t unit;   /* bytes a bit stands for */
	uint64_t count;  /* of bits */
	uint8_t *bits;   /* set: unused; NULL: none is */
	uint64_t unused; /* bytes told */
};

/* disk is borrowed. */
void vmimg_trim_init(struct vmimg_trim *trim, struct vmimg_disk *disk, bool in_place);
void vmimg_trim_done(struct vmimg_trim *trim);
/* [at, at + len) of the guest is unused. */
int vmimg_trim_add(
	struct vmimg_trim *trim, uint64_t at, uint64_t len, struct vmimg_error *err) VMIMG_CHECKED;

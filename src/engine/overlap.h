/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether an image gives the same block of its file to two places of the guest. That is damage
 * which reading cannot notice otherwise, and which costs one bit a block to find out on the way.
 */
#pragma once
#include "disk/disk.h"

struct vmimg_overlap {
	uint8_t *seen; /* a bit for each block of the file; NULL: not watched */
	uint64_t blocks;
	uint64_t done;  /* guest bytes looked at: a run may be looked at again */
	uint64_t found; /* blocks that were seen before */
	uint64_t first; /* guest offset of the first one */
};

/* Watches nothing where memory would not be in proportion, or the format has no blocks. */
void vmimg_overlap_init(struct vmimg_overlap *overlap, const struct vmimg_disk *disk);
void vmimg_overlap_done(struct vmimg_overlap *overlap);
/* A run of the disk itself, at guest offset at. In guest order, but for repetitions. */
void vmimg_overlap_note(struct vmimg_overlap *overlap, const struct vmimg_disk *disk,
	const struct vmimg_run *run, uint64_t at);

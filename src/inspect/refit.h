/* SPDX-License-Identifier: Apache-2.0 */
/* Partition tables made to fit a disk whose size changes. */
#pragma once
#include "io/io.h"

struct vmimg_refit {
	uint32_t sector_size;
	uint64_t size; /* the disk's, as it is to be: at most that of the ios, when it shrinks */
	unsigned grow; /* this partition, up to the next one or the end; 0: none */
	struct vmimg_io *second; /* where what is to be written first goes: the GPT's second copy */
	struct vmimg_io *first;  /* and after that is in storage: the first copy and the MBR */
};

/* disk: what the guest sees. Both ios begin as the same. A disk with neither GPT nor MBR, or a
 * partition that would lie outside, is an error, and then nothing has been written. */
int vmimg_refit_tables(struct vmimg_io *disk, const struct vmimg_refit *refit,
	struct vmimg_error *err) VMIMG_CHECKED;

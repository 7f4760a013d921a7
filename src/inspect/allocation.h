/* SPDX-License-Identifier: Apache-2.0 */
/* Where a disk has data: its map drawn together into so many cells, for a bar. */
#pragma once
#include "disk/disk.h"

/* What most of a cell is, the more telling first when it is mixed: any data makes it data. */
enum vmimg_fill { VMIMG_FILL_HOLE, VMIMG_FILL_ZERO, VMIMG_FILL_PACKED, VMIMG_FILL_DATA };

struct vmimg_cell {
	enum vmimg_fill fill;
	unsigned depth; /* of the layer that most of its data lies in */
	double share;   /* of the cell that is data, plain or packed: 0 to 1 */
};

struct vmimg_allocation {
	struct vmimg_cell *cells; /* owned */
	size_t count;
	uint64_t bytes[4];     /* of the disk, by fill */
	uint64_t by_depth[16]; /* of data, by layer; the last one: that deep and deeper */
};

/* Walks the whole map, through the chain as far as it is open. count > 0. */
int vmimg_allocation_read(struct vmimg_disk *disk, size_t count,
	struct vmimg_allocation *allocation, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_allocation_done(struct vmimg_allocation *allocation);
static inline void vmimg_allocation_done_auto(struct vmimg_allocation *allocation)
{
	vmimg_allocation_done(allocation);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One walk over the map; a run that spans many cells is divided among them. */
#include "inspect/allocation.h"
#include <string.h>
#include "util/num.h"

#define DEPTHS 16U

/* Bytes of each kind in one cell. */
struct sums {
	uint64_t fill[4];
	uint64_t depth_bytes;
	unsigned depth;
};

static enum vmimg_fill fill_of(const struct vmimg_run *run)
{
	switch (run->kind) {
	case VMIMG_RUN_DATA:
		return VMIMG_FILL_DATA;
	case VMIMG_RUN_PACKED:
		return VMIMG_FILL_PACKED;
	case VMIMG_RUN_ZERO:
		return VMIMG_FILL_ZERO;
	case VMIMG_RUN_ABSENT:
		break;
	}
	return VMIMG_FILL_HOLE;
}

/* Cell i begins at size * i / count, computed without overflow. */
static uint64_t cell_start(uint64_t size, size_t count, size_t i)
{
	return size / count * i + size % count * i / count;
}

static void spread(struct sums *sums, uint64_t size, size_t count, size_t *cell, uint64_t at,
	uint64_t len, enum vmimg_fill fill, unsigned depth)
{
	while (len) {
		uint64_t end = cell_start(size, count, *cell + 1);
		uint64_t step = end > at ? vmimg_min(len, end - at) : 0;
		struct sums *s = &sums[*cell];

		s->fill[fill] += step;
		if (fill >= VMIMG_FILL_PACKED && step > s->depth_bytes) {
			s->depth_bytes = step;
			s->depth = depth;
		}
		at += step;
		len -= step;
		if (at >= end && *cell + 1 < count)
			++*cell;
	}
}

static struct vmimg_cell cell_of(const struct sums *s)
{
	uint64_t data = s->fill[VMIMG_FILL_DATA] + s->fill[VMIMG_FILL_PACKED];
	uint64_t all = data + s->fill[VMIMG_FILL_ZERO] + s->fill[VMIMG_FILL_HOLE];
	struct vmimg_cell cell = { .depth = s->depth };

	cell.share = all ? (double)data / (double)all : 0;
	if (data)
		cell.fill = s->fill[VMIMG_FILL_DATA] >= s->fill[VMIMG_FILL_PACKED]
			? VMIMG_FILL_DATA
			: VMIMG_FILL_PACKED;
	else
		cell.fill = s->fill[VMIMG_FILL_ZERO] > s->fill[VMIMG_FILL_HOLE] ? VMIMG_FILL_ZERO
										: VMIMG_FILL_HOLE;
	return cell;
}

int vmimg_allocation_read(struct vmimg_disk *disk, size_t count,
	struct vmimg_allocation *allocation, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct sums *sums = vmimg_alloc_array(count, sizeof(*sums), err);
	size_t cell = 0;

	memset(allocation, 0, sizeof(*allocation));
	allocation->cells = vmimg_alloc_array(count, sizeof(*allocation->cells), err);
	if (!sums || !allocation->cells)
		return -1;
	allocation->count = count;
	for (uint64_t at = 0; at < disk->size;) {
		struct vmimg_run run;
		unsigned depth;
		enum vmimg_fill fill;

		if (vmimg_disk_resolve(disk, at, &run, &depth, err))
			return -1;
		run.len = vmimg_min(run.len, disk->size - at);
		fill = fill_of(&run);
		allocation->bytes[fill] += run.len;
		if (fill >= VMIMG_FILL_PACKED)
			allocation->by_depth[vmimg_min(depth, DEPTHS - 1)] += run.len;
		spread(sums, disk->size, count, &cell, at, run.len, fill, depth);
		at += run.len;
	}
	for (size_t i = 0; i < count; i++)
		allocation->cells[i] = cell_of(&sums[i]);
	return 0;
}

void vmimg_allocation_done(struct vmimg_allocation *allocation)
{
	free(allocation->cells);
	memset(allocation, 0, sizeof(*allocation));
}

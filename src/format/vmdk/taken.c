/* SPDX-License-Identifier: Apache-2.0 */
/* The map has a fixed size at most: time and memory go with the file, not with its claims. */
#include "format/vmdk/taken.h"
#include "util/num.h"

#define MAP_BITS (UINT64_C(1) << 29) /* 64 MiB; one bit a sector up to files of 256 GiB */

int vmimg_vmdk_taken_init(struct vmdk_taken *taken, uint64_t size, struct vmimg_error *err)
{
	taken->unit = VMDK_SECTOR;
	while (size / taken->unit >= MAP_BITS)
		taken->unit *= 2;
	taken->bits =
		vmimg_alloc_array((size_t)(size / taken->unit / 64 + 1), sizeof(uint64_t), err);
	return taken->bits ? 0 : -1;
}

/* The bits of [first, end) that lie in the word of first. Moves first on. */
static uint64_t next_mask(uint64_t *first, uint64_t end)
{
	uint64_t bit = *first % 64, count = vmimg_min(64 - bit, end - *first);

	*first += count;
	return (count == 64 ? UINT64_MAX : (UINT64_C(1) << count) - 1) << bit;
}

bool vmimg_vmdk_take(struct vmdk_taken *taken, uint64_t at, uint64_t len)
{
	bool fine = taken->unit == VMDK_SECTOR;
	uint64_t first = fine ? at / taken->unit : vmimg_div_up(at, taken->unit);
	uint64_t end = fine ? vmimg_div_up(at + len, taken->unit) : (at + len) / taken->unit;

	for (uint64_t i = first, word; i < end;) {
		word = i / 64;
		if (taken->bits[word] & next_mask(&i, end))
			return false;
	}
	for (uint64_t i = first, word; i < end;) {
		word = i / 64;
		taken->bits[word] |= next_mask(&i, end);
	}
	return true;
}

void vmimg_vmdk_taken_done(struct vmdk_taken *taken)
{
	free(taken->bits);
	taken->bits = NULL;
}

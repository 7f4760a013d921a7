/* SPDX-License-Identifier: Apache-2.0 */
/* A list, sorted when it is first asked. */
#include "io/holes.h"
#include <stdlib.h>
#include "util/num.h"

int vmimg_holes_add(struct vmimg_holes *holes, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	struct vmimg_hole *last = holes->count ? &holes->list[holes->count - 1] : NULL;

	if (last && last->end == at) {
		last->end += len;
		return 0;
	}
	if (vmimg_grow_array(
		    &holes->list, &holes->cap, holes->count + 1, sizeof(*holes->list), err))
		return -1;
	holes->list[holes->count++] = (struct vmimg_hole){ at, at + len };
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct vmimg_hole *left = a, *right = b;

	return (left->at > right->at) - (left->at < right->at);
}

static void sort(struct vmimg_holes *holes)
{
	struct vmimg_hole *list = holes->list;
	size_t kept = 0;

	if (holes->count < 2)
		return;
	qsort(list, holes->count, sizeof(*list), compare);
	for (size_t i = 1; i < holes->count; i++) {
		if (list[i].at <= list[kept].end)
			list[kept].end = vmimg_max(list[kept].end, list[i].end);
		else
			list[++kept] = list[i];
	}
	holes->count = kept + 1;
}

int vmimg_holes_punch(struct vmimg_holes *holes, struct vmimg_io *io, uint64_t from, uint64_t end,
	struct vmimg_error *err)
{
	sort(holes);
	end = vmimg_min(end, vmimg_io_size(io));
	for (size_t i = 0; i < holes->count; i++) {
		uint64_t first = vmimg_max(holes->list[i].at, from);
		uint64_t last = vmimg_min(holes->list[i].end, end);

		if (first < last && vmimg_io_zero(io, first, last - first, err))
			return -1;
	}
	return 0;
}

bool vmimg_holes_find(const struct vmimg_holes *holes, uint64_t at, uint64_t *len)
{
	size_t low = 0, high = holes->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (holes->list[middle].end <= at)
			low = middle + 1;
		else
			high = middle;
	}
	*len = UINT64_MAX - at;
	if (low == holes->count)
		return false;
	if (holes->list[low].at > at)
		*len = holes->list[low].at - at;
	else
		*len = holes->list[low].end - at;
	return holes->list[low].at <= at;
}

void vmimg_holes_done(struct vmimg_holes *holes)
{
	free(holes->list);
	*holes = (struct vmimg_holes){ 0 };
}

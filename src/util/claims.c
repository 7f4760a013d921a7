/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of ranges, sorted: since no further range fits into a run, two ranges overlap just when two
 * neighbouring runs do. */
#include "util/claims.h"
#include <stdlib.h>
#include "util/auto.h"

/* Whether a range at start belongs to the run, which then ends *span after its start. */
static bool goes_on(
	const struct vmimg_claims_run *run, uint32_t start, uint32_t width, uint32_t *span)
{
	uint64_t end = (uint64_t)run->start + run->span;
	uint64_t wide = (uint64_t)start + width - run->start;

	if (start < end || start - end >= width || wide > UINT32_MAX)
		return false;
	*span = (uint32_t)wide;
	return true;
}

int vmimg_claims_add(struct vmimg_claims *claims, uint32_t start, struct vmimg_error *err)
{
	struct vmimg_claims_run *last = claims->count ? &claims->runs[claims->count - 1] : NULL;

	if (last && goes_on(last, start, claims->width, &last->span))
		return 0;
	if ((claims->most && claims->count >= claims->most) ||
		(last && start == last->start + last->span - claims->width)) {
		claims->clashes++;
		return 0;
	}
	if (last && start < last->start)
		claims->shuffled = true;
	if (vmimg_grow_array(
		    &claims->runs, &claims->cap, claims->count + 1, sizeof(*claims->runs), err))
		return -1;
	claims->runs[claims->count++] = (struct vmimg_claims_run){ start, claims->width };
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct vmimg_claims_run *left = a, *right = b;

	return (left->start > right->start) - (left->start < right->start);
}

static void sort(struct vmimg_claims *claims)
{
	if (claims->shuffled)
		qsort(claims->runs, claims->count, sizeof(*claims->runs), compare);
	claims->shuffled = false;
}

bool vmimg_claims_overlap(struct vmimg_claims *claims, size_t *next, uint32_t *start)
{
	sort(claims);
	for (size_t i = *next ? *next : 1; i < claims->count; i++) {
		const struct vmimg_claims_run *before = &claims->runs[i - 1];

		if (claims->runs[i].start >= (uint64_t)before->start + before->span)
			continue;
		*start = claims->runs[i].start;
		*next = i + 1;
		return true;
	}
	return false;
}

uint64_t vmimg_claims_room(struct vmimg_claims *claims)
{
	uint64_t end = 0, room = 0;

	sort(claims);
	for (size_t i = 0; i < claims->count; i++) {
		const struct vmimg_claims_run *run = &claims->runs[i];

		if (i && run->start > end)
			room += (run->start - end) / claims->width;
		if ((uint64_t)run->start + run->span > end)
			end = (uint64_t)run->start + run->span;
	}
	return room;
}

void vmimg_claims_done(struct vmimg_claims *claims)
{
	free(claims->runs);
	*claims = (struct vmimg_claims){ 0 };
}

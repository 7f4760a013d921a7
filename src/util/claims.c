/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted array: two ranges of one width overlap just when two neighbours do. */
#include "util/claims.h"
#include <stdlib.h>
#include "util/auto.h"

int vmimg_claims_add(struct vmimg_claims *claims, uint32_t start, struct vmimg_error *err)
{
	if (vmimg_grow_array(
		    &claims->starts, &claims->cap, claims->count + 1, sizeof(*claims->starts), err))
		return -1;
	if (claims->count && start < claims->starts[claims->count - 1])
		claims->shuffled = true;
	claims->starts[claims->count++] = start;
	return 0;
}

static int compare(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return (left > right) - (left < right);
}

bool vmimg_claims_overlap(
	struct vmimg_claims *claims, uint64_t width, size_t *next, uint32_t *start)
{
	if (claims->shuffled) {
		qsort(claims->starts, claims->count, sizeof(*claims->starts), compare);
		claims->shuffled = false;
	}
	for (size_t i = *next ? *next : 1; i < claims->count; i++) {
		if (claims->starts[i] - (uint64_t)claims->starts[i - 1] >= width)
			continue;
		*start = claims->starts[i];
		*next = i + 1;
		return true;
	}
	return false;
}

void vmimg_claims_done(struct vmimg_claims *claims)
{
	free(claims->starts);
	*claims = (struct vmimg_claims){ 0 };
}

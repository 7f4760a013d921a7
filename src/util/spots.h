/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges that are all equally wide, taken one after the other if none of those before overlaps:
 * memory and time follow how many there are, not where they lie. Units are the caller's.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

struct vmimg_spots {
	uint32_t width;  /* set by the caller: > 0 */
	uint64_t seed;   /* nobody can know which starts meet in one slot */
	uint32_t *slots; /* a start plus 1; 0: none */
	unsigned order;  /* 2^order slots */
	size_t count;
};

/* start < UINT32_MAX. *vacant: it was, and is taken now. */
int vmimg_spots_take(struct vmimg_spots *spots, uint32_t start, bool *vacant,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_spots_done(struct vmimg_spots *spots);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who claims which space: ranges that are all equally wide, and whether any two of them overlap.
 * Ranges that follow each other with no room for one more between them cost nothing; those of most
 * images do, nor do those that must overlap, which are only counted: a ruined or hostile table
 * costs no more memory than a sound one. Units are the caller's (sectors, block numbers).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

struct vmimg_claims {
	uint32_t width;   /* set by the caller: > 0 */
	size_t most;      /* set by the caller: how many fit without overlap; 0: any number */
	uint64_t clashes; /* ranges that overlap for certain, and were not kept */
	struct vmimg_claims_run {
		uint32_t start, span;
	} * runs;
	size_t count, cap;
	bool shuffled; /* not ascending: sorted when asked for overlaps */
};

int vmimg_claims_add(
	struct vmimg_claims *claims, uint32_t start, struct vmimg_error *err) VMIMG_CHECKED;
/* After all add()s, beside the clashes: the next place where a range begins before another one has
 * ended: into *start, and *next moved on (0 at first). False when there is none. No add() after
 * this. */
bool vmimg_claims_overlap(struct vmimg_claims *claims, size_t *next, uint32_t *start);
/* How many more ranges would fit between the first and the last. No add() after this. */
uint64_t vmimg_claims_room(struct vmimg_claims *claims);
void vmimg_claims_done(struct vmimg_claims *claims);

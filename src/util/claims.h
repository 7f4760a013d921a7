/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who claims which space: the starts of many ranges that are all equally wide, and whether any two
 * of them overlap. Costs four bytes a range, and no sorting when they come in ascending order, as
 * those of most images do. Units are the caller's (sectors, block numbers).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

struct vmimg_claims {
	uint32_t *starts;
	size_t count, cap;
	bool shuffled; /* not ascending: sorted when asked for overlaps */
};

int vmimg_claims_add(
	struct vmimg_claims *claims, uint32_t start, struct vmimg_error *err) VMIMG_CHECKED;
/* The first range at or after index *next that begins before the one in front of it has ended:
 * its start into *start, and *next past it. False when there is none. No add() after this. */
bool vmimg_claims_overlap(
	struct vmimg_claims *claims, uint64_t width, size_t *next, uint32_t *start);
void vmimg_claims_done(struct vmimg_claims *claims);

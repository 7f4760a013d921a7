/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves bytes inside a file: shared where that can be, holes as holes. What goes on where the last
 * bytes ended, at both places, is copied with them in one go.
 */
#pragma once
#include "io/holes.h"

struct vmimg_copier {
	struct vmimg_io *io;    /* borrowed */
	uint64_t from, to, len; /* what waits; len 0: nothing does */
	/* what counts as holes where it is copied from; sorted, borrowed; NULL: nothing does */
	const struct vmimg_holes *holes;
	uint8_t *buffer; /* NULL: it was not needed yet */
};

void vmimg_copier_init(struct vmimg_copier *copier, struct vmimg_io *io);
/* The two places do not overlap; nobody writes to them until flush has returned. */
int vmimg_copier_add(struct vmimg_copier *copier, uint64_t from, uint64_t to, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Nothing waits any more. */
int vmimg_copier_flush(struct vmimg_copier *copier, struct vmimg_error *err) VMIMG_CHECKED;
/* Drops what waits. */
void vmimg_copier_done(struct vmimg_copier *copier);

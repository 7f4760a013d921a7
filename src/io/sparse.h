/* SPDX-License-Identifier: Apache-2.0 */
/* A file with holes that was stored without them, as sparse members of tar archives are: the data
 * lie back to back in another io, and everything between is zero. */
#pragma once
#include "io/io.h"

struct vmimg_sparse_run {
	uint64_t at; /* in the file with holes */
	uint64_t len;
};

/* Data begin at stored_at of inner, which is shared (referenced). The runs are copied; they come in
 * order, do not overlap and end inside size: VMIMG_ECORRUPT otherwise. */
struct vmimg_io *vmimg_sparse_open(struct vmimg_io *inner, uint64_t stored_at,
	const struct vmimg_sparse_run *runs, size_t count, uint64_t size, const char *name,
	struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ranges of a file that are to become holes, kept until it is known which of them are worth a call
 * to the system: where the file is cut before they are made, none is.
 */
#pragma once
#include "io/io.h"

#define VMIMG_MOST_HOLES ((size_t)1 << 20) /* 16 MiB of them */

struct vmimg_holes {
	struct vmimg_hole {
		uint64_t at, end;
	} * list;
	size_t count, cap;
};

/* In any order; what goes on where the last one ended costs nothing. */
int vmimg_holes_add(struct vmimg_holes *holes, uint64_t at, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Makes those real, or the part of them, that lie in [from, end). All stay in the list, which is
 * sorted from then on. */
int vmimg_holes_punch(struct vmimg_holes *holes, struct vmimg_io *io, uint64_t from, uint64_t end,
	struct vmimg_error *err) VMIMG_CHECKED;
/* After punch: whether the byte at `at` is in one; *len: for how many bytes that is so. */
bool vmimg_holes_find(const struct vmimg_holes *holes, uint64_t at, uint64_t *len);
void vmimg_holes_done(struct vmimg_holes *holes);

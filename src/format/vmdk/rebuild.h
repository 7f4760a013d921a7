/* SPDX-License-Identifier: Apache-2.0 */
/* The walk along a stream's markers: rebuild_walk.c, for rebuild.c. */
#pragma once
#include "format/vmdk/repair.h"

#define VMDK_WALK_WINDOW 32768U

struct vmdk_found {
	uint32_t grain, sector;
};

struct vmdk_walk {
	const struct vmdk_grains *g;
	struct vmimg_io *io;
	uint64_t size;
	struct vmdk_found *found;
	size_t count, cap;
	size_t *gaps; /* something unknown lies before the grain of that index */
	size_t gap_count, gap_cap;
	bool in_gap, shuffled, complete;
	uint64_t good_end;                /* of the last grain, bytes */
	uint64_t gd_at, gd_end;           /* the last directory that a marker tells of; 0: none */
	uint8_t window[VMDK_WALK_WINDOW]; /* of the file, from window_at on */
	uint64_t window_at;
	size_t window_len;
};

/* Finds grains and the directory. g, io and size are set by the caller, who frees found and gaps.
 */
int vmimg_vmdk_walk_markers(struct vmdk_walk *w, struct vmimg_error *err) VMIMG_CHECKED;
/* Sorts what was found, by guest offset, and notes where something is missing. */
int vmimg_vmdk_note_unknown(
	struct vmdk_rebuilt *r, struct vmdk_walk *w, struct vmimg_error *err) VMIMG_CHECKED;

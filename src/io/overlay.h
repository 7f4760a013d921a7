/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes laid over an io without touching it: what a journal would do to a file, done in memory.
 * Reads see the patches, and the bytes below elsewhere; a patch of zeroes is kept as a range,
 * whatever its length. Nothing changes after it is made: any number of threads may read.
 */
#pragma once
#include "io/io.h"

struct vmimg_patch {
	uint64_t at, len;
	const uint8_t *bytes; /* NULL: zeroes */
};

/*
 * Patches in the order they are to be applied: a later one wins. The io becomes size bytes long (at
 * least as long as inner, every patch inside); what lies past inner's end is zero. inner is shared.
 * On success takes over memory, where the patches' bytes lie, to free() it at the end; patches
 * itself stays the caller's.
 */
struct vmimg_io *vmimg_overlay_open(struct vmimg_io *inner, uint64_t size,
	const struct vmimg_patch *patches, size_t count, void *memory,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Writes the patches into the file that they were laid over, which target is, and syncs it. */
int vmimg_overlay_apply(const struct vmimg_io *overlay, struct vmimg_io *target,
	struct vmimg_error *err) VMIMG_CHECKED;

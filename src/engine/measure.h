/* SPDX-License-Identifier: Apache-2.0 */
/* How large an image would become, from the source's map alone: no data is read. */
#pragma once
#include "disk/sink.h"

struct vmimg_measured {
	uint64_t required; /* bytes of the new file, uncompressed; data that is zero counts */
	uint64_t full;     /* with every block allocated */
	bool carries;      /* the new image takes bitmaps, as the source has them */
	uint64_t bitmaps;  /* bytes that those take besides */
};

/* create as for the sink, its siblings not needed; disk is the source, of create->size bytes, or
 * NULL: nothing is allocated. */
int vmimg_measure_run(const struct vmimg_format *format, const struct vmimg_create *create,
	struct vmimg_disk *disk, struct vmimg_measured *result,
	struct vmimg_error *err) VMIMG_CHECKED;

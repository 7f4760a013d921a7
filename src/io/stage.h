/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes held back in memory: an io over another one that takes writes and shows them, while the
 * one below stays as it is until they are applied as a whole (io/journal.h). Pages are copied when
 * they are first written to. One thread at a time while it is written; then any number may read.
 */
#pragma once
#include "io/io.h"

#define VMIMG_STAGE_PAGE 4096U

/* inner is shared. It can grow, not shrink. More than VMIMG_MAX_STAGE of changes is VMIMG_ELIMIT.
 */
struct vmimg_io *vmimg_stage_open(struct vmimg_io *inner, struct vmimg_error *err) VMIMG_CHECKED;

/* A page that differs, or lies past the end of what is below. */
struct vmimg_stage_page {
	uint64_t at;
	uint8_t *bytes; /* VMIMG_STAGE_PAGE of them; borrowed */
};
/* The pages written to, in order of offset; valid until the next write. */
const struct vmimg_stage_page *vmimg_stage_pages(const struct vmimg_io *stage, size_t *count);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a damaged disk as far as it can be read. A survey walks the map once, from end to end,
 * unpacks what is compressed, and notes every guest range that cannot be had; a salvaged disk then
 * is the damaged one with zeroes in those ranges, and can be converted like any other. A bad table
 * costs what it maps, a bad entry its block.
 */
#pragma once
#include "disk/disk.h"
#include "engine/flow.h"

struct vmimg_lost {
	struct vmimg_lost_range {
		uint64_t at, len; /* guest bytes */
	} * ranges;               /* ascending, apart from each other */
	size_t count, cap;
	uint64_t bytes;  /* of all */
	uint64_t packed; /* blocks met that are compressed */
	char why[240];   /* of the first one */
};

/* Fails with VMIMG_ELIMIT when the tables are ruined beyond interest. */
int vmimg_survey_run(struct vmimg_disk *disk, const struct vmimg_run_how *how,
	struct vmimg_lost *lost, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_lost_done(struct vmimg_lost *lost);

/* disk and lost are borrowed; nothing to be closed. */
struct vmimg_salvage {
	struct vmimg_disk disk; /* what is to be read */
	struct vmimg_disk *inner;
	const struct vmimg_lost *lost;
};
void vmimg_salvage_init(
	struct vmimg_salvage *salvage, struct vmimg_disk *disk, const struct vmimg_lost *lost);

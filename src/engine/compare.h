/* SPDX-License-Identifier: Apache-2.0 */
/* Whether two disks hold the same bytes. */
#pragma once
#include "engine/flow.h"

struct vmimg_compared {
	bool same;          /* what one disk has more than the other must be zero */
	uint64_t differ_at; /* guest offset of the first byte that differs, when not the same */
	bool sizes_differ;
	bool second_failed; /* on failure: it was the second disk that could not be read */
};

int vmimg_compare_run(struct vmimg_disk *a, struct vmimg_disk *b, const struct vmimg_run_how *how,
	struct vmimg_compared *result, struct vmimg_error *err) VMIMG_CHECKED;

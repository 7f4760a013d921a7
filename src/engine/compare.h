/* SPDX-License-Identifier: Apache-2.0 */
/* Whether two disks hold the same bytes: vmimg_disk_compare() of vmimg.h with what the engine knows. */
#pragma once
#include "engine/flow.h"

int vmimg_compare_run(struct vmimg_disk *a, struct vmimg_disk *b, const struct vmimg_run_how *how,
	struct vmimg_compared *result, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* The part of check that is the same for every format: each place that the map promises is there,
 * and each compressed block unpacks. Only this layer's own data; no parent is read. */
#pragma once
#include "disk/report.h"
#include "engine/flow.h"

int vmimg_verify_run(struct vmimg_disk *disk, const struct vmimg_run_how *how,
	struct vmimg_report *report, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking a disk: the driver walks its structures, each once, and hands over the compressed blocks
 * that it meets (vmimg_report_block); they are unpacked here, on all processors. Only this layer is
 * looked at. Time and memory are bounded by the file's size, not by what its tables claim.
 */
#pragma once
#include "disk/report.h"
#include "engine/flow.h"

/* Fails only when the check could not be done; what is wrong with the image is in the report.
 * Findings come in the order of their place in the file. */
int vmimg_check_run(struct vmimg_disk *disk, const struct vmimg_run_how *how,
	struct vmimg_report *report, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* What repair takes from check, and its own steps. */
#pragma once
#include "format/qcow2/clusters.h"

/* Counts every reference, as check does, with findings going to report; without refcounts, those of
 * the refcount table and its blocks are left out, and nothing is stated. Free with
 * vmimg_qcow2_clusters_done, also on failure. */
int vmimg_qcow2_count(struct vmimg_disk *disk, bool with_refcounts,
	struct vmimg_qcow2_clusters *clusters, struct vmimg_report *report,
	struct vmimg_error *err) VMIMG_CHECKED;

/* repair_refcounts.c: makes the stated refcounts equal the counted ones, where they are when that
 * can be done, else in a new table at the end of the file. */
int vmimg_qcow2_repair_refcounts(struct vmimg_disk *disk, struct vmimg_io *rw,
	struct vmimg_report *fixed, struct vmimg_error *err) VMIMG_CHECKED;

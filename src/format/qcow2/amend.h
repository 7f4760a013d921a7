/* SPDX-License-Identifier: Apache-2.0 */
/* What amend changes, each as a part of a change (change.h) or as one of its own. */
#pragma once
#include "format/qcow2/change.h"

/* amend_version.c: all of the image, for the other version. VMIMG_EUNSUPPORTED: it has what that
 * version does not know. */
int vmimg_qcow2_check_downgrade(
	const struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_qcow2_upgrade(struct vmimg_qcow2_change *change, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_qcow2_downgrade(struct vmimg_qcow2_change *change, struct vmimg_error *err) VMIMG_CHECKED;

/* amend_refcounts.c: a change of its own, to refcounts of 1 << order bits. */
int vmimg_qcow2_set_width(
	struct vmimg_disk *disk, unsigned order, struct vmimg_error *err) VMIMG_CHECKED;

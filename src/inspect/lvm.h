/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LVM2: logical volumes of the groups whose physical volumes are on one disk. Linear and striped
 * ones are seen through; of others it is told what they are. The layout is that of lvm2's text
 * format: a label in one of the first four sectors, areas of metadata, each a ring of text.
 */
#pragma once
#include "io/io.h"

struct vmimg_lvm; /* what was found on a disk */

struct vmimg_lvm *vmimg_lvm_new(struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_lvm_free(struct vmimg_lvm *lvm);
VMIMG_AUTO_DEFINE(vmimg_lvm_free, struct vmimg_lvm *)

/* A physical volume; io is shared. What makes no sense is VMIMG_ECORRUPT, and is left out. */
int vmimg_lvm_add(
	struct vmimg_lvm *lvm, struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;

/* Each visible logical volume once all physical ones are added. name is "group/volume". io is the
 * caller's, NULL with why when it cannot be read here. Fails when each() does, or memory. */
typedef int vmimg_lvm_each(void *ctx, const char *name, struct vmimg_io *io,
	const struct vmimg_error *why, struct vmimg_error *err);
int vmimg_lvm_list(struct vmimg_lvm *lvm, vmimg_lvm_each *each, void *ctx,
	struct vmimg_error *err) VMIMG_CHECKED;

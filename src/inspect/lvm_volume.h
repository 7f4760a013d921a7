/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that read LVM2. */
#pragma once
#include "inspect/lvm_text.h"
#include "io/io.h"

struct vmimg_lvm_pv {
	char id[32]; /* without hyphens */
	struct vmimg_io *io;
};

/* The bytes of a logical volume; the caller unrefs it. VMIMG_EUNSUPPORTED: it is of a kind that is
 * not seen through here, or a part of it is on another disk. */
struct vmimg_io *vmimg_lvm_volume_open(const struct vmimg_lvm_pv *pvs, size_t count,
	const struct vmimg_lvm_node *group, const struct vmimg_lvm_node *volume,
	struct vmimg_error *err) VMIMG_CHECKED;

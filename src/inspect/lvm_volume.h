/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that read LVM2. */
#pragma once
#include "inspect/lvm_text.h"
#include "io/io.h"

struct vmimg_lvm_pv {
	char id[32]; /* without hyphens */
	struct vmimg_io *io;
};

/* A physical volume by the name that a group has for it. */
struct vmimg_lvm_place {
	const char *name;    /* the text's */
	struct vmimg_io *io; /* borrowed; NULL: it is not on this disk */
	uint64_t start;      /* of its extents */
};

/* What the volumes of a group stand on. The caller frees places. */
struct vmimg_lvm_ground {
	struct vmimg_lvm_place *places;
	size_t count;
	uint64_t extent; /* bytes */
};
int vmimg_lvm_find_ground(const struct vmimg_lvm_pv *pvs, size_t count,
	const struct vmimg_lvm_node *group, struct vmimg_lvm_ground *ground,
	struct vmimg_error *err) VMIMG_CHECKED;

/* The bytes of a logical volume; the caller unrefs it. VMIMG_EUNSUPPORTED: it is of a kind that is
 * not seen through here, or a part of it is on another disk. */
struct vmimg_io *vmimg_lvm_volume_open(const struct vmimg_lvm_ground *ground,
	const struct vmimg_lvm_node *volume, struct vmimg_error *err) VMIMG_CHECKED;

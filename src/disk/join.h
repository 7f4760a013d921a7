/* SPDX-License-Identifier: Apache-2.0 */
/* Stretches of disks, one after the other, as one disk that can be read. */
#pragma once
#include "disk/disk.h"

struct vmimg_part {
	struct vmimg_disk *disk; /* borrowed: it outlives what is joined; NULL: zeroes, in one
				  * part that is not the last */
	uint64_t start, len;     /* the stretch: bytes of that disk */
};

/* Each part lies inside its disk. Closing the result leaves the parts' disks open. */
struct vmimg_disk *vmimg_disk_join(
	const struct vmimg_part *parts, size_t count, struct vmimg_error *err) VMIMG_CHECKED;

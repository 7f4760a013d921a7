/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest sees of a disk, as an io: readers of partition tables and file systems are written
 * against io alone, and read an image of any format, a stretch of it, or a plain file alike. */
#pragma once
#include "disk/disk.h"

/* The disk is borrowed and outlives the io. Read only; any number of threads. */
struct vmimg_io *vmimg_view_open(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing an image in place. Each operation is atomic: whatever moment a crash picks, the file is
 * the old image or the new one, at worst with space that nobody refers to. How that is brought
 * about is the format's matter; doc/formats says it for each.
 *
 * One thread at a time, with the image locked against others, on a disk whose io can be written.
 * After an operation the disk's own state is out of date: close it and open it anew.
 */
#pragma once
#include "disk/disk.h"

/* What a format cannot do is NULL. */
struct vmimg_edit_ops {
	/* The guest's size. Shrinking cuts off what lies beyond; growing adds zeroes. */
	int (*resize)(struct vmimg_disk *, uint64_t size, struct vmimg_error *);
	/* Internal snapshots. name is the user's; id or name select. Times are seconds and
	 * nanoseconds since 1970. */
	int (*snapshot_create)(struct vmimg_disk *, const char *name, uint64_t sec, uint32_t nsec,
		struct vmimg_error *);
	int (*snapshot_apply)(struct vmimg_disk *, const char *which, struct vmimg_error *);
	int (*snapshot_delete)(struct vmimg_disk *, const char *which, struct vmimg_error *);
};

/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that make the parts of the report. Each returns a new reference; a failure in
 * one file system is no failure of the report. */
#pragma once
#include "inspect/inspect.h"

json_t *vmimg_inspect_boot(struct vmimg_inspection *inspection);
/* Of one volume; NULL: no operating system there. */
json_t *vmimg_inspect_os(struct vmimg_volume *volume, bool deep);
/* Into an operating system's object: what the registry tells. */
void vmimg_inspect_windows(struct vmimg_fs *fs, json_t *os);
/* Into object: what the initial ramdisk holds of the drivers that a move to another hypervisor
 * needs. */
void vmimg_inspect_initrd(struct vmimg_fs *fs, const char *path, json_t *object);

struct vmimg_driver {
	const char *name, *target; /* module; where it is needed */
};
extern const struct vmimg_driver vmimg_drivers[]; /* ended by a NULL name */
/* The driver whose module has this file name ("virtio_blk.ko.xz"); NULL: none of them. Hyphens and
 * underscores are the same. */
const struct vmimg_driver *vmimg_driver_of(const char *file, size_t len);

/* Whether path is there and, unless kind is negative, of that kind. Trouble is "no". */
bool vmimg_inspect_has(struct vmimg_fs *fs, const char *path, int kind);
/* Names in a folder that begin with prefix (any case where the file system folds), sorted, as JSON
 * strings that are not yet escaped; at most 200. Empty when there is no such folder. */
json_t *vmimg_inspect_names(struct vmimg_fs *fs, const char *dir, const char *prefix);

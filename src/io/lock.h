/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's image locks, so that a running machine's disk is respected and respects us (QEMU,
 * docs/system/qemu-block-drivers, "Disk image file locking"). They are open file description locks
 * of single bytes, held until the file is closed.
 */
#pragma once
#include "io/io.h"

enum vmimg_lock {
	VMIMG_LOCK_LOOK,    /* look at tables: nobody may be writing */
	VMIMG_LOCK_READ,    /* read the content */
	VMIMG_LOCK_WRITE,   /* change it in place */
	VMIMG_LOCK_REPLACE, /* put another file in its place */
};

/* VMIMG_ELOCKED, naming the holder where that can be found out, when somebody else's use does not
 * go with this one. An io that is not a file, or a file system without such locks, is no error. */
int vmimg_io_lock(struct vmimg_io *io, enum vmimg_lock lock, struct vmimg_error *err) VMIMG_CHECKED;

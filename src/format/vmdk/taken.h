/* SPDX-License-Identifier: Apache-2.0 */
/* What of an extent's file is in use, so that two things in one place are found: by check, by
 * repair, and before a change. */
#pragma once
#include "format/vmdk/vmdk.h"

struct vmdk_taken {
	uint64_t *bits; /* one for unit bytes of the file */
	uint64_t unit;  /* a sector, in files up to 256 GiB */
};

/* For a file of size bytes. */
int vmimg_vmdk_taken_init(
	struct vmdk_taken *taken, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
/* Marks [at, at + len), which is inside the file. False: something is there already, and keeps it.
 * In files so large that the units are coarse, what does not fill whole units is passed over. */
bool vmimg_vmdk_take(struct vmdk_taken *taken, uint64_t at, uint64_t len);
void vmimg_vmdk_taken_done(struct vmdk_taken *taken);

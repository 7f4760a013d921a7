/* SPDX-License-Identifier: Apache-2.0 */
/* An io that may grow to a limit and no further: what an image from a stranger unpacks to has a
 * bound that does not depend on what the image says. */
#pragma once
#include "io/io.h"

/* One limit for any number of files; it must outlive them. */
struct vmimg_budget {
	uint64_t limit;
	_Atomic uint64_t used; /* the files' sizes, added up */
};

/* inner is shared (referenced), and empty or a device, whose size does not count. Going over is
 * VMIMG_ELIMIT, and nothing is written. */
struct vmimg_io *vmimg_limit_open(
	struct vmimg_io *inner, struct vmimg_budget *budget, struct vmimg_error *err) VMIMG_CHECKED;

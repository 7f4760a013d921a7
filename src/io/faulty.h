/* SPDX-License-Identifier: Apache-2.0 */
/* An io that fails on purpose, for tests: what every caller does when storage gives up. */
#pragma once
#include "io/io.h"

/* Shared by all faulty ios of one test. */
struct vmimg_faults {
	atomic_long left;  /* calls that still work; the one after them fails, later ones work */
	atomic_uint fired; /* how many have failed */
};

/* Passes everything on to inner (referenced), counting reads, writes, and all else that may fail.
 */
struct vmimg_io *vmimg_faulty_open(
	struct vmimg_io *inner, struct vmimg_faults *faults, struct vmimg_error *err) VMIMG_CHECKED;

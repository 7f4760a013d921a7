/* SPDX-License-Identifier: Apache-2.0 */
/* Several ios read one after another, as one: an image that was cut into files. */
#pragma once
#include "io/io.h"

/* The parts are shared (referenced), and must not change in size. count > 0. */
struct vmimg_io *vmimg_joined_open(struct vmimg_io *const *parts, size_t count, const char *name,
	struct vmimg_error *err) VMIMG_CHECKED;

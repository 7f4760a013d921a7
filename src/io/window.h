/* SPDX-License-Identifier: Apache-2.0 */
/* A stretch of another io, read as an io of its own: an extent inside a file, a member of a tar. */
#pragma once
#include "io/io.h"

/* [at, at + len) of inner, which is shared (referenced). VMIMG_ECORRUPT when it is not inside. */
struct vmimg_io *vmimg_window_open(struct vmimg_io *inner, uint64_t at, uint64_t len,
	const char *name, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* A look at the beginning of what is compressed, without unpacking the rest. */
#pragma once
#include "io/io.h"

/* Up to cap unpacked bytes of what is wrapped (codec/unwrap.h) from at on. *got 0: it is not, or it
 * is damaged from the start. No more than 128 KiB of it are read. */
int vmimg_unwrap_peek(struct vmimg_io *io, uint64_t at, uint8_t *out, size_t cap, size_t *got,
	struct vmimg_error *err) VMIMG_CHECKED;

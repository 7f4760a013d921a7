/* SPDX-License-Identifier: Apache-2.0 */
/* LZO1X as btrfs frames it, by liblzo2, which is loaded on first use and may be missing. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

/* All of out is written; in is cut into pieces, none of whose lengths crosses a sector.
 * VMIMG_EUNSUPPORTED: the library is not there. */
int vmimg_lzo_unpack(const uint8_t *in, size_t len, uint32_t sector, uint8_t *out, size_t size,
	struct vmimg_error *err) VMIMG_CHECKED;

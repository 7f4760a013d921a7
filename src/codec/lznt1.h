/* SPDX-License-Identifier: Apache-2.0 */
/* LZNT1, as NTFS packs files with it ([MS-XCA] 2.5): chunks of 4 KiB, each packed by itself. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

/* Fills out; what the input does not reach is zeroes. VMIMG_ECORRUPT: it is not LZNT1. */
int vmimg_lznt1_unpack(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len,
	struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* What packed data begins with, for payloads of kernels and segments of ramdisks. */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define VMIMG_PACKED_MAGIC 14 /* bytes that are enough to tell */

/* "gzip", "xz", "zstd", "lz4", "bzip2", "lzma" or "lzo"; NULL: none of them. */
const char *vmimg_packed_name(const uint8_t *head, size_t len);

/* SPDX-License-Identifier: Apache-2.0 */
/* Checksums of metadata. */
#pragma once
#include <stddef.h>
#include <stdint.h>

/* CRC-32C (Castagnoli), as fast as the processor can. sum is 0 at first, and then the result so
 * far, so that pieces may be summed one after the other. */
uint32_t vmimg_crc32c(uint32_t sum, const void *bytes, size_t len);

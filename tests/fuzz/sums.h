/* SPDX-License-Identifier: Apache-2.0 */
/* Sets all checksums of a packed image right that its parsers insist on: with a wrong one every
 * change ends at the same line. */
#pragma once
#include <stddef.h>
#include <stdint.h>

void sums_fix(uint8_t *input, size_t len);

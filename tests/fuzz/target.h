/* SPDX-License-Identifier: Apache-2.0 */
/* Takes len bytes as an image of the format (NULL: detected), and does all that only reads. */
#pragma once
#include <stddef.h>
#include <stdint.h>

void fuzz_one(const uint8_t *bytes, size_t len, const char *format);

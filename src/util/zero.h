/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a buffer is all zero: the one test that every byte of a conversion passes through. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

bool vmimg_is_zero(const void *buf, size_t len);

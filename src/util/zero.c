/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A buffer is all zero when its first bytes are and it equals itself moved by that many bytes; the
 * second half is memcmp, which the C library has tuned for every processor. Data nearly always
 * differs from zero in the first few bytes, so those are looked at first.
 */
#include "util/zero.h"
#include <stdint.h>
#include <string.h>

bool vmimg_is_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;
	size_t head = len < 64 ? len : 64;
	uint8_t seen = 0;

	for (size_t i = 0; i < head; i++)
		seen |= p[i];
	return !seen && (len <= 64 || !memcmp(p, p + 64, len - 64));
}

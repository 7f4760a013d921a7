/* SPDX-License-Identifier: Apache-2.0 */
/* ISA-L picks the instructions; it leaves the inversions before and after to the caller. */
#include "util/sum.h"
#include <isa-l/crc.h>
#include "util/num.h"

/* ISA-L counts in int. */
#define MOST ((size_t)1 << 30)

uint32_t vmimg_crc32c(uint32_t sum, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	sum = ~sum;
	while (len) {
		size_t step = (size_t)vmimg_min(len, MOST);

		/* It reads only, but its prototype has no const. */
		sum = crc32_iscsi((unsigned char *)(uintptr_t)p, (int)step, sum);
		p += step;
		len -= step;
	}
	return ~sum;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation with checked sizes and reported failure. */
#include "util/auto.h"
#include <stdint.h>
#include <string.h>
#include "util/num.h"

void *vmimg_alloc_array(size_t count, size_t size, struct vmimg_error *err)
{
	void *p = calloc(count ? count : 1, size);

	if (!p)
		vmimg_fail_nomem(err);
	return p;
}

void *vmimg_alloc_buffer(size_t size, struct vmimg_error *err)
{
	void *p;

	if (posix_memalign(&p, 4096, size ? size : 1)) {
		vmimg_fail_nomem(err);
		return NULL;
	}
	return p;
}

char *vmimg_strdup(const char *text, struct vmimg_error *err)
{
	char *copy = strdup(text);

	if (!copy)
		vmimg_fail_nomem(err);
	return copy;
}

int vmimg_grow_array(void *items, size_t *cap, size_t want, size_t size, struct vmimg_error *err)
{
	size_t grown = *cap ? *cap : 8;
	void *old, *p;
	uint64_t bytes;

	if (want <= *cap)
		return 0;
	while (grown < want)
		grown = grown > SIZE_MAX / 2 ? want : grown * 2;
	memcpy(&old, items, sizeof(old));
	if (!vmimg_mul(grown, size, &bytes) || !(p = realloc(old, bytes)))
		return vmimg_fail_nomem(err);
	memset((char *)p + *cap * size, 0, (grown - *cap) * size);
	memcpy(items, &p, sizeof(p));
	*cap = grown;
	return 0;
}

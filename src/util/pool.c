/* SPDX-License-Identifier: Apache-2.0 */
/* A list of allocations, newest first. */
#include "util/pool.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct vmimg_pool_part {
	struct vmimg_pool_part *next;
	max_align_t bytes[];
};

void *vmimg_pool_alloc(struct vmimg_pool *pool, size_t size, struct vmimg_error *err)
{
	struct vmimg_pool_part *part = size > SIZE_MAX / 2 ? NULL : calloc(1, sizeof(*part) + size);

	if (!part) {
		vmimg_fail_nomem(err);
		return NULL;
	}
	part->next = pool->parts;
	pool->parts = part;
	return part->bytes;
}

const char *vmimg_pool_copy(
	struct vmimg_pool *pool, const char *text, size_t len, struct vmimg_error *err)
{
	char *copy = vmimg_pool_alloc(pool, len + 1, err);

	return copy ? memcpy(copy, text, len) : NULL;
}

const char *vmimg_pool_text(struct vmimg_pool *pool, const char *text, struct vmimg_error *err)
{
	return vmimg_pool_copy(pool, text, strlen(text), err);
}

const char *vmimg_pool_printf(
	struct vmimg_pool *pool, struct vmimg_error *err, const char *fmt, ...)
{
	VMIMG_AUTO(free) char *text = NULL;
	va_list args;
	int len;

	va_start(args, fmt);
	len = vasprintf(&text, fmt, args);
	va_end(args);
	if (len < 0) {
		text = NULL;
		vmimg_fail_nomem(err);
		return NULL;
	}
	return vmimg_pool_copy(pool, text, (size_t)len, err);
}

void vmimg_pool_done(struct vmimg_pool *pool)
{
	while (pool->parts) {
		struct vmimg_pool_part *part = pool->parts;

		pool->parts = part->next;
		free(part);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Many small things that live and die together: the texts of a description. Nothing in a pool is
 * freed by itself. One thread at a time. */
#pragma once
#include <stddef.h>
#include "util/auto.h"
#include "util/error.h"

struct vmimg_pool {
	struct vmimg_pool_part *parts; /* a pool that is all zero is empty */
};

/* Zeroed memory, or NULL with err set. */
void *vmimg_pool_alloc(struct vmimg_pool *pool, size_t size, struct vmimg_error *err) VMIMG_CHECKED;
/* A copy of len bytes with a NUL after them. */
const char *vmimg_pool_copy(struct vmimg_pool *pool, const char *text, size_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
const char *vmimg_pool_text(
	struct vmimg_pool *pool, const char *text, struct vmimg_error *err) VMIMG_CHECKED;
const char *vmimg_pool_printf(struct vmimg_pool *pool, struct vmimg_error *err, const char *fmt,
	...) VMIMG_CHECKED VMIMG_PRINTF(3, 4);
void vmimg_pool_done(struct vmimg_pool *pool);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locals that own something. VMIMG_AUTO(free_fn) on a pointer calls free_fn(pointer) at the end of
 * the scope; free functions accept NULL. vmimg_take(p) hands the pointer over and forgets it.
 */
#pragma once
#include <stdlib.h>
#include "util/error.h"

#define VMIMG_AUTO(fn) __attribute__((cleanup(fn##_auto)))
#define VMIMG_AUTO_DEFINE(fn, type)                                      \
	__attribute__((unused)) static inline void fn##_auto(type *held) \
	{                                                                \
		fn(*held);                                               \
	}
#define vmimg_take(p)                       \
	({                                  \
		__typeof__(p) taken_ = (p); \
		(p) = NULL;                 \
		taken_;                     \
	})

__attribute__((unused)) static inline void free_auto(void *held)
{
	void *p;

	__builtin_memcpy(&p, held, sizeof(p));
	free(p);
}

/* Zeroed memory, or NULL with err set. count * size is checked; size > 0. */
void *vmimg_alloc_array(size_t count, size_t size, struct vmimg_error *err);
/* Memory for data transfer: page aligned, contents undefined; free() it. */
void *vmimg_alloc_buffer(size_t size, struct vmimg_error *err);
char *vmimg_strdup(const char *text, struct vmimg_error *err);
/* Grows *items (an array of *cap elements of size bytes) so that it holds at least want. */
int vmimg_grow_array(
	void *items, size_t *cap, size_t want, size_t size, struct vmimg_error *err) VMIMG_CHECKED;

#define vmimg_new(type, err) ((type *)vmimg_alloc_array(1, sizeof(type), (err)))

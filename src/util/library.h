/* SPDX-License-Identifier: Apache-2.0 */
/* Shared libraries that are loaded on first use, so that starting is fast and what is not needed
 * may be missing. Once loaded they stay: the only state that outlives a handle. */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

/* The first of the names that can be loaded, or NULL; the list ends with a NULL. */
void *vmimg_library_open(const char *const *names);
/* The address of a function into the function pointer at slot; false: library has none, or is NULL.
 */
bool vmimg_library_find(void *library, const char *name, void *slot);

/* A function by its name, and where its address goes in a struct of pointers to functions. */
struct vmimg_function {
	const char *name;
	size_t at;
};
/* The addresses of all of them into slots; false: one is not there. */
bool vmimg_library_find_all(
	void *library, const struct vmimg_function *list, size_t count, void *slots);

struct vmimg_library {
	pthread_mutex_t lock; /* guards all */
	bool tried, loaded;
};
#define VMIMG_LIBRARY                     \
	{                                 \
		PTHREAD_MUTEX_INITIALIZER \
	}
/* Calls load the first time, from whatever thread, and returns what it did. */
bool vmimg_library_once(
	struct vmimg_library *library, bool (*load)(void *functions), void *functions);

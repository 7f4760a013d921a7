/* SPDX-License-Identifier: Apache-2.0 */
#include "util/library.h"
#include <dlfcn.h>
#include <string.h>

void *vmimg_library_open(const char *const *names)
{
	void *library = NULL;

	for (; !library && *names; names++)
		library = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
	return library;
}

bool vmimg_library_find(void *library, const char *name, void *slot)
{
	void *symbol = library ? dlsym(library, name) : NULL;

	memcpy(slot, &symbol, sizeof(symbol));
	return symbol != NULL;
}

bool vmimg_library_find_all(
	void *library, const struct vmimg_function *list, size_t count, void *slots)
{
	for (size_t i = 0; i < count; i++)
		if (!vmimg_library_find(library, list[i].name, (char *)slots + list[i].at))
			return false;
	return true;
}

bool vmimg_library_once(
	struct vmimg_library *library, bool (*load)(void *functions), void *functions)
{
	bool loaded;

	pthread_mutex_lock(&library->lock);
	if (!library->tried)
		library->loaded = load(functions);
	library->tried = true;
	loaded = library->loaded;
	pthread_mutex_unlock(&library->lock);
	return loaded;
}

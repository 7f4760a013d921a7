/* SPDX-License-Identifier: Apache-2.0 */
/* Loading libxml2. It stays loaded. */
#include "bundle/libxml.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#undef xmlFree

static bool find(void *library, const char *name, void *slot)
{
	void *symbol = dlsym(library, name);

	memcpy(slot, &symbol, sizeof(symbol));
	return symbol != NULL;
}

static bool load(struct vmimg_libxml *lib)
{
	static const char *const names[] = { "libxml2.so.2", "libxml2.so.16", "libxml2.so" };
	void *library = NULL, *release;
	bool found;

	for (size_t i = 0; !library && i < sizeof(names) / sizeof(names[0]); i++)
		library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return false;
#define FIND(name) found = found && find(library, #name, &lib->name);
	found = find(library, "xmlFree", &release);
	VMIMG_LIBXML(FIND)
	if (!found)
		return false;
	memcpy(&lib->release, release, sizeof(lib->release)); /* a variable that holds a function */
	lib->xmlInitParser();
	return true;
}

const struct vmimg_libxml *vmimg_libxml_get(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct vmimg_libxml lib;
	static bool tried, loaded;
	bool ready;

	pthread_mutex_lock(&lock);
	if (!tried)
		loaded = load(&lib);
	tried = true;
	ready = loaded;
	pthread_mutex_unlock(&lock);
	return ready ? &lib : NULL;
}

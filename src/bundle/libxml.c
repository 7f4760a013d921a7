/* SPDX-License-Identifier: Apache-2.0 */
/* Loading libxml2. It stays loaded. */
#include "bundle/libxml.h"
#include "util/library.h"
#include <stdbool.h>
#include <string.h>
#undef xmlFree

static bool load(void *functions)
{
	struct vmimg_libxml *lib = functions;
	static const char *const names[] = { "libxml2.so.2", "libxml2.so.16", "libxml2.so", NULL };
	void *library = vmimg_library_open(names), *release;
	bool found;

	if (!library)
		return false;
#define FIND(name) found = found && vmimg_library_find(library, #name, &lib->name);
	found = vmimg_library_find(library, "xmlFree", &release);
	VMIMG_LIBXML(FIND)
	if (!found)
		return false;
	memcpy(&lib->release, release, sizeof(lib->release)); /* a variable that holds a function */
	lib->xmlInitParser();
	return true;
}

const struct vmimg_libxml *vmimg_libxml_get(void)
{
	static struct vmimg_library library = VMIMG_LIBRARY;
	static struct vmimg_libxml lib;

	return vmimg_library_once(&library, load, &lib) ? &lib : NULL;
}

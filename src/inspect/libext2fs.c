/* SPDX-License-Identifier: Apache-2.0 */
/* Loading libext2fs. It stays loaded. */
#include "inspect/libext2fs.h"
#include "util/library.h"
#include <stdbool.h>
#include <string.h>

static bool load(void *functions)
{
	struct vmimg_libext2fs *lib = functions;
	static const char *const names[] = { "libext2fs.so.2", NULL };
	void *library = vmimg_library_open(names);
	bool found = library != NULL;

#define FIND(name) found = found && vmimg_library_find(library, #name, &lib->name);
	VMIMG_LIBEXT2FS(FIND)
	if (found)
		lib->initialize_ext2_error_table();
	return found;
}

const struct vmimg_libext2fs *vmimg_libext2fs_get(void)
{
	static struct vmimg_library library = VMIMG_LIBRARY;
	static struct vmimg_libext2fs lib;

	return vmimg_library_once(&library, load, &lib) ? &lib : NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Loading libext2fs. It stays loaded. */
#include "inspect/libext2fs.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

static bool find(void *library, const char *name, void *slot)
{
	void *symbol = dlsym(library, name);

	memcpy(slot, &symbol, sizeof(symbol));
	return symbol != NULL;
}

static bool load(struct vmimg_libext2fs *lib)
{
	void *library = dlopen("libext2fs.so.2", RTLD_NOW | RTLD_LOCAL);
	bool found = library != NULL;

#define FIND(name) found = found && find(library, #name, &lib->name);
	VMIMG_LIBEXT2FS(FIND)
	if (found)
		lib->initialize_ext2_error_table();
	return found;
}

const struct vmimg_libext2fs *vmimg_libext2fs_get(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct vmimg_libext2fs lib;
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

/* SPDX-License-Identifier: Apache-2.0 */
/* The one function of liblzo2 that is used. It stays loaded. */
#include "inspect/liblzo.h"
#include <stdbool.h>
#include <string.h>
#include "util/bytes.h"
#include "util/library.h"

typedef int decompress(
	const unsigned char *in, unsigned long len, unsigned char *out, unsigned long *got, void *);

static bool load(void *function)
{
	static const char *const names[] = { "liblzo2.so.2", NULL };

	return vmimg_library_find(vmimg_library_open(names), "lzo1x_decompress_safe", function);
}

static decompress *lzo_get(void)
{
	static struct vmimg_library library = VMIMG_LIBRARY;
	static decompress *function;

	return vmimg_library_once(&library, load, &function) ? function : NULL;
}

/* The length of all, then pieces with a length each. Where fewer than four bytes are left of a
 * sector no length begins. */
int vmimg_lzo_unpack(const uint8_t *in, size_t len, uint32_t sector, uint8_t *out, size_t size,
	struct vmimg_error *err)
{
	decompress *unpack = lzo_get();
	size_t all = len >= 4 ? vmimg_get_le32(in) : 0, at = 4, done = 0;

	if (!unpack)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a file is packed with LZO, which needs liblzo2.so.2");
	if (all > len)
		return vmimg_fail(err, VMIMG_ECORRUPT, "what is packed with LZO is cut off");
	while (done < size && at + 4 <= all) {
		size_t piece = vmimg_get_le32(in + at);
		unsigned long got = size - done;

		at += 4;
		if (piece > all - at || unpack(in + at, piece, out + done, &got, NULL))
			return vmimg_fail(
				err, VMIMG_ECORRUPT, "what is packed with LZO makes no sense");
		at += piece;
		done += got;
		if (sector - at % sector < 4)
			at += sector - at % sector;
	}
	memset(out + done, 0, size - done);
	return 0;
}

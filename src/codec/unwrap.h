/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Undoing what was put around a whole file: gzip, xz, zstd, bzip2, from front to back and in
 * bounded memory. liblzma and libbz2 are loaded when the first file of theirs is met.
 */
#pragma once
#include <stdbool.h>
#include "util/auto.h"
#include "util/error.h"

struct vmimg_unwrapper;

struct vmimg_wrapping {
	const char *name;
	const char *magic;
	size_t magic_len;
	struct vmimg_unwrapper *(*unwrapper_new)(struct vmimg_error *);
};
#define VMIMG_WRAPPING_MAGIC 6 /* bytes that are enough to tell */

struct vmimg_unwrapper {
	/* Takes from *in, moving it and *len on, and puts *got bytes, at most cap, into out. *ended
	 * when a member is complete; the next call begins another one. VMIMG_ECORRUPT when in is
	 * not what the packer makes. */
	int (*step)(struct vmimg_unwrapper *, const uint8_t **in, size_t *len, uint8_t *out,
		size_t cap, size_t *got, bool *ended, struct vmimg_error *);
	void (*free)(struct vmimg_unwrapper *);
};

/* What the file that begins with these bytes is wrapped in; NULL: nothing that is known. */
const struct vmimg_wrapping *vmimg_wrapping_find(const uint8_t *head, size_t len);
/* Accepts NULL. */
void vmimg_unwrapper_free(struct vmimg_unwrapper *unwrapper);
VMIMG_AUTO_DEFINE(vmimg_unwrapper_free, struct vmimg_unwrapper *)

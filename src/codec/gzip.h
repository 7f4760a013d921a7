/* SPDX-License-Identifier: Apache-2.0 */
/* Packing a whole stream as one member of gzip, without a name and a time, so that the same bytes
 * give the same bytes. */
#pragma once
#include "io/io.h"

/* Called with each piece of what is packed, in order. */
typedef int vmimg_gzip_put(void *ctx, const uint8_t *bytes, size_t len, struct vmimg_error *err);

/* From front to back of io. see, which may be NULL, is called with each piece before it is packed.
 */
int vmimg_gzip_run(struct vmimg_io *io, vmimg_gzip_put *put, vmimg_gzip_put *see, void *ctx,
	const atomic_bool *cancel, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/peek.h"
#include "codec/unwrap.h"
#include "util/num.h"

int vmimg_unwrap_peek(struct vmimg_io *io, uint64_t at, uint8_t *out, size_t cap, size_t *got,
	struct vmimg_error *err)
{
	enum { IN = 128 << 10 };
	VMIMG_AUTO(free) uint8_t *in = vmimg_alloc_buffer(IN, err);
	VMIMG_AUTO(vmimg_unwrapper_free) struct vmimg_unwrapper *unwrapper = NULL;
	size_t len = (size_t)vmimg_min(IN, vmimg_io_size(io) - at), step;
	const struct vmimg_wrapping *wrapping;
	const uint8_t *next = in;
	struct vmimg_error damaged;
	bool ended = false;

	if (!in || vmimg_io_pread(io, in, len, at, err))
		return -1;
	*got = 0;
	wrapping = vmimg_wrapping_find(in, len);
	if (!wrapping)
		return 0;
	unwrapper = wrapping->unwrapper_new(err);
	if (!unwrapper)
		return -1;
	do {
		if (unwrapper->step(unwrapper, &next, &len, out + *got, cap - *got, &step, &ended,
			    &damaged))
			return 0;
		*got += step;
	} while (len && step && !ended && *got < cap);
	return 0;
}

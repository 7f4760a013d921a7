/* SPDX-License-Identifier: Apache-2.0 */
/* Offsets moved by a constant; io.c has already checked them against the window's size. */
#include "io/window.h"
#include <inttypes.h>
#include "util/num.h"

struct window {
	struct vmimg_io io;
	struct vmimg_io *inner;
	uint64_t at;
};

static struct window *window_of(struct vmimg_io *io)
{
	return (struct window *)io;
}

static int window_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	struct window *w = window_of(io);

	return vmimg_io_pread(w->inner, buf, len, w->at + at, err);
}

static int window_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *err)
{
	struct window *w = window_of(io);

	if (vmimg_io_extent(w->inner, w->at + at, hole, len, err))
		return -1;
	*len = vmimg_min(*len, vmimg_io_size(io) - at);
	return 0;
}

static void window_close(struct vmimg_io *io)
{
	vmimg_io_unref(window_of(io)->inner);
	free(io);
}

static const struct vmimg_io_ops window_ops = {
	.pread = window_pread,
	.extent = window_extent,
	.close = window_close,
};

struct vmimg_io *vmimg_window_open(struct vmimg_io *inner, uint64_t at, uint64_t len,
	const char *name, struct vmimg_error *err)
{
	struct window *w;

	if (!vmimg_range_inside(at, len, vmimg_io_size(inner))) {
		vmimg_fail(err, VMIMG_ECORRUPT,
			"%s: %" PRIu64 " bytes at 0x%" PRIx64
			" reach past the end of the file (0x%" PRIx64 ")",
			vmimg_io_name(inner), len, at, vmimg_io_size(inner));
		return NULL;
	}
	w = vmimg_new(struct window, err);
	if (!w || vmimg_io_init(&w->io, &window_ops, name, err)) {
		free(w);
		return NULL;
	}
	w->inner = vmimg_io_ref(inner);
	w->at = at;
	atomic_init(&w->io.size, len);
	return &w->io;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The sizes are kept by the wrappers in io.c. */
#include "io/null.h"
#include <string.h>

static int null_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	(void)io, (void)at, (void)err;
	memset(buf, 0, len);
	return 0;
}

static int null_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	(void)io, (void)buf, (void)len, (void)at, (void)err;
	return 0;
}

static int null_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *err)
{
	(void)err;
	*hole = true;
	*len = vmimg_io_size(io) - at;
	return 0;
}

static int null_range(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	(void)io, (void)at, (void)len, (void)err;
	return 0;
}

static int null_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *err)
{
	(void)io, (void)size, (void)err;
	return 0;
}

static void null_close(struct vmimg_io *io)
{
	free(io);
}

static const struct vmimg_io_ops null_ops = {
	.pread = null_pread,
	.pwrite = null_pwrite,
	.extent = null_extent,
	.zero = null_range,
	.reserve = null_range,
	.resize = null_resize,
	.close = null_close,
};

struct vmimg_io *vmimg_null_new(const char *name, struct vmimg_error *err)
{
	struct vmimg_io *io = vmimg_new(struct vmimg_io, err);

	if (!io || vmimg_io_init(io, &null_ops, name, err)) {
		free(io);
		return NULL;
	}
	return io;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that reads like a file; what was never written is zero. */
#include "io/memory.h"
#include <string.h>
#include "util/num.h"

struct memory {
	struct vmimg_io io;
	const uint8_t *view; /* what is read */
	uint8_t *own;        /* the same, when it is ours */
	size_t cap;
};

static struct memory *memory_of(struct vmimg_io *io)
{
	return (struct memory *)io;
}

static int memory_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	(void)err;
	memcpy(buf, memory_of(io)->view + at, len);
	return 0;
}

static int memory_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *err)
{
	struct memory *m = memory_of(io);
	uint64_t old = vmimg_io_size(io);

	if (vmimg_grow_array(&m->own, &m->cap, (size_t)size, 1, err))
		return -1;
	m->view = m->own;
	if (size < old)
		memset(m->own + size, 0, (size_t)(old - size));
	return 0;
}

static int memory_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	if (at + len > memory_of(io)->cap && memory_resize(io, at + len, err))
		return -1;
	memcpy(memory_of(io)->own + at, buf, len);
	return 0;
}

static void memory_close(struct vmimg_io *io)
{
	free(memory_of(io)->own);
	free(io);
}

static const struct vmimg_io_ops view_ops = {
	.pread = memory_pread,
	.close = memory_close,
};

static const struct vmimg_io_ops own_ops = {
	.pread = memory_pread,
	.pwrite = memory_pwrite,
	.resize = memory_resize,
	.close = memory_close,
};

static struct memory *memory_make(
	const struct vmimg_io_ops *ops, const char *name, struct vmimg_error *err)
{
	struct memory *m = vmimg_new(struct memory, err);

	if (m && vmimg_io_init(&m->io, ops, name, err)) {
		free(m);
		return NULL;
	}
	return m;
}

struct vmimg_io *vmimg_memory_view(
	const void *bytes, size_t len, const char *name, struct vmimg_error *err)
{
	struct memory *m = memory_make(&view_ops, name, err);

	if (!m)
		return NULL;
	m->view = bytes;
	atomic_init(&m->io.size, len);
	return &m->io;
}

struct vmimg_io *vmimg_memory_new(const char *name, struct vmimg_error *err)
{
	struct memory *m = memory_make(&own_ops, name, err);

	return m ? &m->io : NULL;
}

const uint8_t *vmimg_memory_bytes(const struct vmimg_io *io)
{
	return ((const struct memory *)io)->view;
}

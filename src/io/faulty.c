/* SPDX-License-Identifier: Apache-2.0 */
/* One counter, one failure; everything else is the inner io's. */
#include "io/faulty.h"
#include <errno.h>

struct faulty {
	struct vmimg_io io;
	struct vmimg_io *inner;
	struct vmimg_faults *faults;
};

static struct faulty *faulty_of(struct vmimg_io *io)
{
	return (struct faulty *)io;
}

static int count_down(struct vmimg_io *io, const char *what, struct vmimg_error *err)
{
	struct vmimg_faults *faults = faulty_of(io)->faults;

	if (atomic_fetch_sub(&faults->left, 1) != 0)
		return 0;
	atomic_fetch_add(&faults->fired, 1);
	return vmimg_fail_sys(err, EIO, "%s: %s", vmimg_io_name(io), what);
}

static int faulty_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	return count_down(io, "reading", err)
		? -1
		: vmimg_io_pread(faulty_of(io)->inner, buf, len, at, err);
}

static int faulty_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	return count_down(io, "writing", err)
		? -1
		: vmimg_io_pwrite(faulty_of(io)->inner, buf, len, at, err);
}

static int faulty_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *err)
{
	return count_down(io, "looking for holes", err)
		? -1
		: vmimg_io_extent(faulty_of(io)->inner, at, hole, len, err);
}

static int faulty_zero(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	return count_down(io, "zeroing", err) ? -1
					      : vmimg_io_zero(faulty_of(io)->inner, at, len, err);
}

static int faulty_reserve(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	return count_down(io, "reserving", err)
		? -1
		: vmimg_io_reserve(faulty_of(io)->inner, at, len, err);
}

static int faulty_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *err)
{
	return count_down(io, "resizing", err) ? -1
					       : vmimg_io_resize(faulty_of(io)->inner, size, err);
}

static int faulty_sync(struct vmimg_io *io, struct vmimg_error *err)
{
	return count_down(io, "flushing", err) ? -1 : vmimg_io_sync(faulty_of(io)->inner, err);
}

static void faulty_close(struct vmimg_io *io)
{
	vmimg_io_unref(faulty_of(io)->inner);
	free(io);
}

static const struct vmimg_io_ops faulty_ops = {
	.pread = faulty_pread,
	.pwrite = faulty_pwrite,
	.extent = faulty_extent,
	.zero = faulty_zero,
	.reserve = faulty_reserve,
	.resize = faulty_resize,
	.sync = faulty_sync,
	.close = faulty_close,
};

struct vmimg_io *vmimg_faulty_open(
	struct vmimg_io *inner, struct vmimg_faults *faults, struct vmimg_error *err)
{
	struct faulty *f = vmimg_new(struct faulty, err);

	if (!f || vmimg_io_init(&f->io, &faulty_ops, vmimg_io_name(inner), err)) {
		free(f);
		return NULL;
	}
	f->inner = vmimg_io_ref(inner);
	f->faults = faults;
	f->io.in_order = inner->in_order;
	atomic_init(&f->io.size, vmimg_io_size(inner));
	return &f->io;
}

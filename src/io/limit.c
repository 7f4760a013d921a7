/* SPDX-License-Identifier: Apache-2.0 */
/* Passes everything on, having looked at how far it reaches. */
#include "io/limit.h"
#include <inttypes.h>

struct limit {
	struct vmimg_io io;
	struct vmimg_io *inner;
	struct vmimg_budget *budget;
	_Atomic uint64_t end; /* what of the budget this file has taken */
};

static struct limit *limit_of(struct vmimg_io *io)
{
	return (struct limit *)io;
}

/* The file is about to reach end. */
static int claim(struct limit *l, uint64_t end, struct vmimg_error *err)
{
	uint64_t was = atomic_load(&l->end);

	do {
		if (end <= was || l->io.is_device)
			return 0;
	} while (!atomic_compare_exchange_weak(&l->end, &was, end));
	if (atomic_fetch_add(&l->budget->used, end - was) + (end - was) <= l->budget->limit)
		return 0;
	return vmimg_fail(err, VMIMG_ELIMIT,
		"%s would become larger than the limit of %" PRIu64 " bytes (--max-output)",
		vmimg_io_name(&l->io), l->budget->limit);
}

static int limit_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	return vmimg_io_pread(limit_of(io)->inner, buf, len, at, err);
}

static int limit_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	return claim(limit_of(io), at + len, err)
		? -1
		: vmimg_io_pwrite(limit_of(io)->inner, buf, len, at, err);
}

static int limit_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *err)
{
	return vmimg_io_extent(limit_of(io)->inner, at, hole, len, err);
}

static int limit_zero(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	return claim(limit_of(io), at + len, err)
		? -1
		: vmimg_io_zero(limit_of(io)->inner, at, len, err);
}

static int limit_reserve(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	return claim(limit_of(io), at + len, err)
		? -1
		: vmimg_io_reserve(limit_of(io)->inner, at, len, err);
}

static int limit_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *err)
{
	return claim(limit_of(io), size, err) ? -1
					      : vmimg_io_resize(limit_of(io)->inner, size, err);
}

static int limit_sync(struct vmimg_io *io, struct vmimg_error *err)
{
	return vmimg_io_sync(limit_of(io)->inner, err);
}

static bool limit_can_clone(struct vmimg_io *io, struct vmimg_io *src)
{
	return vmimg_io_can_clone(limit_of(io)->inner, src);
}

static int limit_clone_from(struct vmimg_io *io, struct vmimg_io *src, uint64_t src_at, uint64_t at,
	uint64_t len, struct vmimg_error *err)
{
	bool done;

	if (claim(limit_of(io), at + len, err) ||
		vmimg_io_clone(limit_of(io)->inner, src, src_at, at, len, &done, err))
		return -1;
	return done ? 0
		    : vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s: blocks cannot be shared",
			      vmimg_io_name(io));
}

static void limit_close(struct vmimg_io *io)
{
	vmimg_io_unref(limit_of(io)->inner);
	free(io);
}

static const struct vmimg_io_ops limit_ops = {
	.pread = limit_pread,
	.pwrite = limit_pwrite,
	.extent = limit_extent,
	.zero = limit_zero,
	.reserve = limit_reserve,
	.resize = limit_resize,
	.sync = limit_sync,
	.can_clone = limit_can_clone,
	.clone_from = limit_clone_from,
	.close = limit_close,
};

struct vmimg_io *vmimg_limit_open(
	struct vmimg_io *inner, struct vmimg_budget *budget, struct vmimg_error *err)
{
	struct limit *l = vmimg_new(struct limit, err);

	if (!l)
		return NULL;
	if (vmimg_io_init(&l->io, &limit_ops, NULL, err) ||
		!(l->io.name = vmimg_strdup(vmimg_io_name(inner), err))) {
		free(l);
		return NULL;
	}
	l->inner = vmimg_io_ref(inner);
	l->budget = budget;
	l->io.in_order = inner->in_order;
	l->io.is_device = inner->is_device;
	l->io.id[0] = inner->id[0];
	l->io.id[1] = inner->id[1];
	atomic_init(&l->io.size, vmimg_io_size(inner));
	return &l->io;
}

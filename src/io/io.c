/* SPDX-License-Identifier: Apache-2.0 */
/* The checks and fallbacks that every io shares, so that an implementation only moves bytes. */
#include "io/io.h"
#include <inttypes.h>
#include <string.h>
#include "util/num.h"
#include "util/text.h"

int vmimg_io_init(struct vmimg_io *io, const struct vmimg_io_ops *ops, const char *name,
	struct vmimg_error *err)
{
	io->ops = ops;
	atomic_init(&io->refs, 1);
	if (name && !(io->name = vmimg_escape_dup(name, strlen(name))))
		return vmimg_fail_nomem(err);
	return 0;
}

struct vmimg_io *vmimg_io_ref(struct vmimg_io *io)
{
	atomic_fetch_add_explicit(&io->refs, 1, memory_order_relaxed);
	return io;
}

void vmimg_io_unref(struct vmimg_io *io)
{
	if (!io || atomic_fetch_sub_explicit(&io->refs, 1, memory_order_acq_rel) != 1)
		return;
	free(io->name);
	io->ops->close(io);
}

uint64_t vmimg_io_size(struct vmimg_io *io)
{
	return atomic_load_explicit(&io->size, memory_order_relaxed);
}

const char *vmimg_io_name(const struct vmimg_io *io)
{
	return io->name ? io->name : "image";
}

bool vmimg_io_same(const struct vmimg_io *a, const struct vmimg_io *b)
{
	return a == b || ((a->id[0] || a->id[1]) && a->id[0] == b->id[0] && a->id[1] == b->id[1]);
}

int vmimg_io_pread(struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);

	if (!vmimg_range_inside(at, len, size))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"%s: %zu bytes at 0x%" PRIx64 " reach past the end of the file (0x%" PRIx64
			"): truncated?",
			vmimg_io_name(io), len, at, size);
	return len ? io->ops->pread(io, buf, len, at, err) : 0;
}

/* Lets size follow a write that went past the end. */
static void note_end(struct vmimg_io *io, uint64_t end)
{
	uint64_t size = vmimg_io_size(io);

	while (size < end && !atomic_compare_exchange_weak(&io->size, &size, end))
		;
}

int vmimg_io_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	if (!io->ops->pwrite)
		return vmimg_fail(
			err, VMIMG_EINVAL, "%s is open for reading only", vmimg_io_name(io));
	if (!len)
		return 0;
	if (io->ops->pwrite(io, buf, len, at, err))
		return -1;
	note_end(io, at + len);
	return 0;
}

int vmimg_io_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *err)
{
	if (io->ops->extent)
		return io->ops->extent(io, at, hole, len, err);
	*hole = false;
	*len = vmimg_io_size(io) - at;
	return 0;
}

int vmimg_io_write_zeroes(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	static const uint8_t zeroes[65536];

	while (len) {
		size_t step = (size_t)vmimg_min(len, sizeof(zeroes));

		if (vmimg_io_pwrite(io, zeroes, step, at, err))
			return -1;
		at += step;
		len -= step;
	}
	return 0;
}

int vmimg_io_zero(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);

	if (!io->in_order && at >= size)
		return io->is_device ? 0 : vmimg_io_resize(io, at + len, err);
	if (!io->ops->zero)
		return vmimg_io_write_zeroes(io, at, len, err);
	if (io->ops->zero(io, at, len, err))
		return -1;
	note_end(io, at + len);
	return 0;
}

int vmimg_io_reserve(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	if (!io->ops->reserve || !len)
		return 0;
	if (io->ops->reserve(io, at, len, err))
		return -1;
	note_end(io, at + len);
	return 0;
}

int vmimg_io_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *err)
{
	if (size == vmimg_io_size(io))
		return 0;
	if (!io->ops->resize)
		return vmimg_fail(
			err, VMIMG_EINVAL, "%s cannot change its size", vmimg_io_name(io));
	if (io->ops->resize(io, size, err))
		return -1;
	atomic_store(&io->size, size);
	return 0;
}

int vmimg_io_sync(struct vmimg_io *io, struct vmimg_error *err)
{
	return io->ops->sync ? io->ops->sync(io, err) : 0;
}

bool vmimg_io_can_clone(struct vmimg_io *io, struct vmimg_io *src)
{
	return io->ops->can_clone && io->ops->can_clone(io, src);
}

int vmimg_io_clone(struct vmimg_io *io, struct vmimg_io *src, uint64_t src_at, uint64_t at,
	uint64_t len, bool *done, struct vmimg_error *err)
{
	*done = false;
	if (!io->ops->clone_from)
		return 0;
	if (io->ops->clone_from(io, src, src_at, at, len, err))
		return err->status == VMIMG_EUNSUPPORTED ? 0 : -1;
	note_end(io, at + len);
	*done = true;
	return 0;
}

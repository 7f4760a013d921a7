/* SPDX-License-Identifier: Apache-2.0 */
/* A sorted list of runs, searched by halves. */
#include "io/sparse.h"
#include <inttypes.h>
#include <string.h>
#include "util/num.h"

struct run {
	uint64_t at, len;
	uint64_t stored; /* in inner */
};

struct sparse {
	struct vmimg_io io;
	struct vmimg_io *inner;
	struct run *runs;
	size_t count;
};

/* The first run that ends after at; count: there is none. */
static size_t find_run(const struct sparse *s, uint64_t at)
{
	size_t low = 0, high = s->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (s->runs[middle].at + s->runs[middle].len <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int sparse_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *err)
{
	const struct sparse *s = (struct sparse *)io;
	size_t i = find_run(s, at);
	uint64_t end = i < s->count ? s->runs[i].at : vmimg_io_size(io);

	(void)err;
	*hole = i == s->count || at < s->runs[i].at;
	*len = (*hole ? end : s->runs[i].at + s->runs[i].len) - at;
	return 0;
}

static int sparse_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	const struct sparse *s = (struct sparse *)io;
	uint8_t *to = buf;

	for (size_t i = find_run(s, at); len; i++) {
		const struct run *run = i < s->count ? &s->runs[i] : NULL;
		size_t gap = run && run->at <= at ? 0
			: run                     ? (size_t)vmimg_min(len, run->at - at)
						  : len;
		size_t part;

		memset(to, 0, gap);
		to += gap;
		at += gap;
		len -= gap;
		if (!len)
			break;
		part = (size_t)vmimg_min(len, run->at + run->len - at);
		if (vmimg_io_pread(s->inner, to, part, run->stored + (at - run->at), err))
			return -1;
		to += part;
		at += part;
		len -= part;
	}
	return 0;
}

static void sparse_close(struct vmimg_io *io)
{
	struct sparse *s = (struct sparse *)io;

	vmimg_io_unref(s->inner);
	free(s->runs);
	free(s);
}

static const struct vmimg_io_ops sparse_ops = {
	.pread = sparse_pread,
	.extent = sparse_extent,
	.close = sparse_close,
};

/* Copies the runs, each with its place; empty ones are left out. */
static int take_runs(struct sparse *s, uint64_t stored, const struct vmimg_sparse_run *runs,
	size_t count, uint64_t size, struct vmimg_error *err)
{
	uint64_t end = 0, total = vmimg_io_size(s->inner);

	s->runs = vmimg_alloc_array(count + 1, sizeof(*s->runs), err);
	if (!s->runs)
		return -1;
	for (size_t i = 0; i < count; i++) {
		if (runs[i].at < end || !vmimg_range_inside(runs[i].at, runs[i].len, size) ||
			!vmimg_range_inside(stored, runs[i].len, total))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"stretch %zu of a sparse file, %" PRIu64 " bytes at 0x%" PRIx64
				", overlaps another or lies past an end",
				i, runs[i].len, runs[i].at);
		if (runs[i].len)
			s->runs[s->count++] = (struct run){ runs[i].at, runs[i].len, stored };
		end = runs[i].at + runs[i].len;
		stored += runs[i].len;
	}
	return 0;
}

struct vmimg_io *vmimg_sparse_open(struct vmimg_io *inner, uint64_t stored_at,
	const struct vmimg_sparse_run *runs, size_t count, uint64_t size, const char *name,
	struct vmimg_error *err)
{
	struct sparse *s = vmimg_new(struct sparse, err);

	if (!s || vmimg_io_init(&s->io, &sparse_ops, name, err)) {
		free(s);
		return NULL;
	}
	s->inner = vmimg_io_ref(inner);
	atomic_init(&s->io.size, size);
	if (take_runs(s, stored_at, runs, count, size, err)) {
		vmimg_io_unref(&s->io);
		return NULL;
	}
	return &s->io;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Pages in an array ordered by offset: changes are few, and mostly come in order. */
#include "io/stage.h"
#include <string.h>
#include "util/limits.h"
#include "util/num.h"

#define PAGE VMIMG_STAGE_PAGE

struct stage {
	struct vmimg_io io;
	struct vmimg_io *inner;
	struct vmimg_stage_page *pages; /* ascending */
	size_t count, cap;
};

static struct stage *stage_of(struct vmimg_io *io)
{
	return (struct stage *)io;
}

/* The first page at or after at, or count. */
static size_t find(const struct stage *s, uint64_t at)
{
	size_t low = 0, high = s->count;

	if (high && s->pages[high - 1].at < at)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (s->pages[middle].at < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* What lies below; zeroes past its end. */
static int read_below(
	struct stage *s, uint8_t *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(s->inner);
	size_t there = at < size ? (size_t)vmimg_min(len, size - at) : 0;

	memset(buf + there, 0, len - there);
	return vmimg_io_pread(s->inner, buf, there, there ? at : 0, err);
}

static int stage_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	struct stage *s = stage_of(io);

	if (read_below(s, buf, len, at, err))
		return -1;
	for (size_t i = find(s, at - at % PAGE); i < s->count && s->pages[i].at < at + len; i++) {
		const struct vmimg_stage_page *page = &s->pages[i];
		uint64_t from = vmimg_max(page->at, at);
		uint64_t end = vmimg_min(page->at + PAGE, at + len);

		memcpy((uint8_t *)buf + (from - at), page->bytes + (from - page->at),
			(size_t)(end - from));
	}
	return 0;
}

/* The page at `at`, copied from below when it is written to for the first time. */
static uint8_t *take_page(struct stage *s, uint64_t at, struct vmimg_error *err)
{
	size_t i = find(s, at);
	VMIMG_AUTO(free) uint8_t *bytes = NULL;

	if (i < s->count && s->pages[i].at == at)
		return s->pages[i].bytes;
	if (s->count >= VMIMG_MAX_STAGE / PAGE) {
		vmimg_fail(err, VMIMG_ELIMIT,
			"more than %d MiB would have to be changed in place: make a new image",
			VMIMG_MAX_STAGE >> 20);
		return NULL;
	}
	bytes = vmimg_alloc_array(PAGE, 1, err);
	if (!bytes || read_below(s, bytes, PAGE, at, err) ||
		vmimg_grow_array(&s->pages, &s->cap, s->count + 1, sizeof(*s->pages), err))
		return NULL;
	memmove(s->pages + i + 1, s->pages + i, (s->count - i) * sizeof(*s->pages));
	s->count++;
	s->pages[i] = (struct vmimg_stage_page){ at, vmimg_take(bytes) };
	return s->pages[i].bytes;
}

static int stage_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	const uint8_t *from = buf;

	while (len) {
		size_t skip = at % PAGE, step = (size_t)vmimg_min(len, PAGE - skip);
		uint8_t *page = take_page(stage_of(io), at - skip, err);

		if (!page)
			return -1;
		memcpy(page + skip, from, step);
		from += step;
		at += step;
		len -= step;
	}
	return 0;
}

/* A page that is zero already is not taken, and a hole below is stepped over whole, so that a long
 * stretch costs what it holds. */
static int stage_zero(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	static const uint8_t zero[PAGE];
	uint8_t bytes[PAGE];
	uint64_t end = vmimg_min(at + len, vmimg_io_size(io)), step;
	bool hole;

	for (uint64_t from = at; from < end; from += step) {
		if (vmimg_io_extent(io, from, &hole, &step, err))
			return -1;
		step = vmimg_min(step, end - from);
		if (hole)
			continue;
		step = vmimg_min(step, PAGE - from % PAGE);
		if (vmimg_io_pread(io, bytes, (size_t)step, from, err))
			return -1;
		if (memcmp(bytes, zero, (size_t)step) &&
			vmimg_io_pwrite(io, zero, (size_t)step, from, err))
			return -1;
	}
	return 0;
}

/* Whether there are holes below is asked below, as far as nothing is laid over it. */
static int stage_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *err)
{
	struct stage *s = stage_of(io);
	uint64_t below = vmimg_io_size(s->inner), reach = vmimg_io_size(io) - at;
	size_t i = find(s, at - at % PAGE);

	*hole = false;
	if (i < s->count && s->pages[i].at <= at) {
		*len = vmimg_min(reach, s->pages[i].at + PAGE - at);
		return 0;
	}
	if (i < s->count)
		reach = vmimg_min(reach, s->pages[i].at - at);
	if (at >= below) {
		*hole = true;
		*len = reach;
		return 0;
	}
	if (vmimg_io_extent(s->inner, at, hole, len, err))
		return -1;
	*len = vmimg_min(*len, reach);
	return 0;
}

static int stage_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *err)
{
	if (size >= vmimg_io_size(io))
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL, "%s is not made shorter here", vmimg_io_name(io));
}

static void stage_close(struct vmimg_io *io)
{
	struct stage *s = stage_of(io);

	for (size_t i = 0; i < s->count; i++)
		free(s->pages[i].bytes);
	free(s->pages);
	vmimg_io_unref(s->inner);
	free(s);
}

static const struct vmimg_io_ops stage_ops = {
	.pread = stage_pread,
	.pwrite = stage_pwrite,
	.extent = stage_extent,
	.zero = stage_zero,
	.resize = stage_resize,
	.close = stage_close,
};

struct vmimg_io *vmimg_stage_open(struct vmimg_io *inner, struct vmimg_error *err)
{
	struct stage *s = vmimg_new(struct stage, err);

	if (!s)
		return NULL;
	if (vmimg_io_init(&s->io, &stage_ops, vmimg_io_name(inner), err)) {
		free(s);
		return NULL;
	}
	atomic_init(&s->io.size, vmimg_io_size(inner));
	memcpy(s->io.id, inner->id, sizeof(s->io.id));
	s->inner = vmimg_io_ref(inner);
	return &s->io;
}

const struct vmimg_stage_page *vmimg_stage_pages(const struct vmimg_io *stage, size_t *count)
{
	const struct stage *s = (const struct stage *)stage;

	*count = s->count;
	return s->pages;
}

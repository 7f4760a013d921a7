/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The patches are settled once into ranges that do not overlap, in order of offset. All the
 * patches' ends cut the file into segments; the patches are then painted onto the segments from the
 * last to the first, each segment keeping its first paint. A table of "next segment without paint"
 * makes that nearly linear, however the patches overlap.
 */
#include "io/overlay.h"
#include <assert.h>
#include <string.h>
#include "util/num.h"

struct overlay {
	struct vmimg_io io;
	struct vmimg_io *inner;
	struct vmimg_patch *ranges; /* sorted, apart from each other */
	size_t count;
	void *memory;
};

static struct overlay *overlay_of(struct vmimg_io *io)
{
	return (struct overlay *)io;
}

/* The first range that ends after at, or count. */
static size_t find_range(const struct overlay *o, uint64_t at)
{
	size_t low = 0, high = o->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (o->ranges[middle].at + o->ranges[middle].len <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Bytes that no patch covers. */
static int read_below(
	struct overlay *o, uint8_t *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(o->inner);
	size_t there = at < size ? (size_t)vmimg_min(len, size - at) : 0;

	memset(buf + there, 0, len - there);
	return vmimg_io_pread(o->inner, buf, there, there ? at : 0, err);
}

static void read_patch(const struct vmimg_patch *patch, uint8_t *buf, size_t len, uint64_t at)
{
	if (patch->bytes)
		memcpy(buf, patch->bytes + (at - patch->at), len);
	else
		memset(buf, 0, len);
}

static int overlay_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	struct overlay *o = overlay_of(io);
	uint8_t *to = buf;

	for (size_t i = find_range(o, at), step; len; to += step, at += step, len -= step) {
		const struct vmimg_patch *next = i < o->count ? &o->ranges[i] : NULL;

		if (next && next->at <= at) {
			step = (size_t)vmimg_min(len, next->at + next->len - at);
			read_patch(next, to, step, at);
			i++;
			continue;
		}
		step = next ? (size_t)vmimg_min(len, next->at - at) : len;
		if (read_below(o, to, step, at, err))
			return -1;
	}
	return 0;
}

static int overlay_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *err)
{
	struct overlay *o = overlay_of(io);
	size_t i = find_range(o, at);
	const struct vmimg_patch *next = i < o->count ? &o->ranges[i] : NULL;
	uint64_t limit = next ? next->at : vmimg_io_size(io);

	if (next && next->at <= at) {
		*hole = !next->bytes;
		*len = next->at + next->len - at;
		return 0;
	}
	if (at >= vmimg_io_size(o->inner)) {
		*hole = true;
		*len = limit - at;
		return 0;
	}
	if (vmimg_io_extent(o->inner, at, hole, len, err))
		return -1;
	*len = vmimg_min(*len, limit - at);
	return 0;
}

static void overlay_close(struct vmimg_io *io)
{
	struct overlay *o = overlay_of(io);

	vmimg_io_unref(o->inner);
	free(o->ranges);
	free(o->memory);
	free(o);
}

static const struct vmimg_io_ops overlay_ops = {
	.pread = overlay_pread,
	.extent = overlay_extent,
	.close = overlay_close,
};

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* All ends of the patches, sorted, each once. Returns how many. */
static size_t collect_ends(const struct vmimg_patch *patches, size_t count, uint64_t *ends)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		ends[2 * i] = patches[i].at;
		ends[2 * i + 1] = patches[i].at + patches[i].len;
	}
	qsort(ends, 2 * count, sizeof(*ends), by_value);
	for (size_t i = 0; i < 2 * count; i++)
		if (!i || ends[i] != ends[kept - 1])
			ends[kept++] = ends[i];
	return kept;
}

static size_t index_of(const uint64_t *ends, size_t count, uint64_t value)
{
	const uint64_t *found = bsearch(&value, ends, count, sizeof(*ends), by_value);

	assert(found);
	return (size_t)(found - ends);
}

/* The first segment from i on that has no paint. Shortens the way for the next who asks. */
static uint32_t find_bare(uint32_t *next, uint32_t i)
{
	while (next[i] != i) {
		next[i] = next[next[i]];
		i = next[i];
	}
	return i;
}

/* owner[s]: the patch, counted from 1, that is seen in the segment from ends[s] to ends[s + 1]. */
static void paint(const struct vmimg_patch *patches, size_t count, const uint64_t *ends,
	size_t end_count, uint32_t *owner, uint32_t *next)
{
	for (size_t i = 0; i < end_count; i++)
		next[i] = (uint32_t)i;
	for (size_t i = count; i-- > 0;) {
		uint64_t stop = patches[i].at + patches[i].len;
		uint32_t s = find_bare(next, (uint32_t)index_of(ends, end_count, patches[i].at));

		while (ends[s] < stop) {
			owner[s] = (uint32_t)i + 1;
			next[s] = s + 1;
			s = find_bare(next, s + 1);
		}
	}
}

/* Segments into ranges, neighbours of one patch as one. */
static void gather(struct overlay *o, const struct vmimg_patch *patches, const uint64_t *ends,
	size_t end_count, const uint32_t *owner)
{
	for (size_t s = 0; s + 1 < end_count; s++) {
		const struct vmimg_patch *patch = owner[s] ? &patches[owner[s] - 1] : NULL;

		if (patch && s && owner[s] == owner[s - 1])
			o->ranges[o->count - 1].len += ends[s + 1] - ends[s];
		else if (patch)
			o->ranges[o->count++] = (struct vmimg_patch){ ends[s],
				ends[s + 1] - ends[s],
				patch->bytes ? patch->bytes + (ends[s] - patch->at) : NULL };
	}
}

static int settle(
	struct overlay *o, const struct vmimg_patch *patches, size_t count, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint64_t *ends = vmimg_alloc_array(2 * count, sizeof(*ends), err);
	VMIMG_AUTO(free) uint32_t *owner = vmimg_alloc_array(2 * count, sizeof(*owner), err);
	VMIMG_AUTO(free) uint32_t *next = vmimg_alloc_array(2 * count, sizeof(*next), err);
	size_t end_count;

	o->ranges = vmimg_alloc_array(2 * count, sizeof(*o->ranges), err);
	if (!ends || !owner || !next || !o->ranges)
		return -1;
	end_count = collect_ends(patches, count, ends);
	paint(patches, count, ends, end_count, owner, next);
	gather(o, patches, ends, end_count, owner);
	return 0;
}

struct vmimg_io *vmimg_overlay_open(struct vmimg_io *inner, uint64_t size,
	const struct vmimg_patch *patches, size_t count, void *memory, struct vmimg_error *err)
{
	struct overlay *o = vmimg_new(struct overlay, err);

	assert(size >= vmimg_io_size(inner) && count < UINT32_MAX / 2);
	if (!o || vmimg_io_init(&o->io, &overlay_ops, vmimg_io_name(inner), err)) {
		free(o);
		return NULL;
	}
	o->inner = vmimg_io_ref(inner);
	memcpy(o->io.id, inner->id, sizeof(o->io.id));
	o->io.is_device = inner->is_device;
	atomic_init(&o->io.size, size);
	if (count && settle(o, patches, count, err)) {
		vmimg_io_unref(&o->io);
		return NULL;
	}
	o->memory = memory;
	return &o->io;
}

int vmimg_overlay_apply(
	const struct vmimg_io *overlay, struct vmimg_io *target, struct vmimg_error *err)
{
	const struct overlay *o = (const struct overlay *)overlay;
	uint64_t size = atomic_load(&overlay->size);

	if (size > vmimg_io_size(target) && vmimg_io_resize(target, size, err))
		return -1;
	for (size_t i = 0; i < o->count; i++) {
		const struct vmimg_patch *range = &o->ranges[i];

		if (range->bytes ? vmimg_io_pwrite(
					   target, range->bytes, (size_t)range->len, range->at, err)
				 : vmimg_io_zero(target, range->at, range->len, err))
			return -1;
	}
	return vmimg_io_sync(target, err);
}

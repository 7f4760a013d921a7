/* SPDX-License-Identifier: Apache-2.0 */
/* Read only. Parts are few (VHD has at most 64), so they are looked through one by one. */
#include "io/joined.h"
#include "util/num.h"

struct part {
	struct vmimg_io *io;
	uint64_t start, end;
};

struct joined {
	struct vmimg_io io;
	size_t count;
	struct part *parts;
};

static const struct part *find_part(const struct joined *joined, uint64_t at)
{
	size_t i = 0;

	while (at >= joined->parts[i].end)
		i++;
	return &joined->parts[i];
}

static int joined_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	uint8_t *to = buf;

	while (len) {
		const struct part *part = find_part((struct joined *)io, at);
		size_t step = (size_t)vmimg_min(len, part->end - at);

		if (vmimg_io_pread(part->io, to, step, at - part->start, err))
			return -1;
		to += step;
		at += step;
		len -= step;
	}
	return 0;
}

static int joined_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *err)
{
	const struct part *part = find_part((struct joined *)io, at);

	return vmimg_io_extent(part->io, at - part->start, hole, len, err);
}

static void joined_close(struct vmimg_io *io)
{
	struct joined *joined = (struct joined *)io;

	for (size_t i = 0; i < joined->count; i++)
		vmimg_io_unref(joined->parts[i].io);
	free(joined->parts);
	free(joined);
}

static const struct vmimg_io_ops joined_ops = {
	.pread = joined_pread,
	.extent = joined_extent,
	.close = joined_close,
};

/* Takes the parts in; *size becomes their sum. */
static int fill(struct joined *joined, struct vmimg_io *const *parts, size_t count, uint64_t *size,
	struct vmimg_error *err)
{
	uint64_t end = 0;

	joined->parts = vmimg_alloc_array(count, sizeof(*joined->parts), err);
	if (!joined->parts)
		return -1;
	for (size_t i = 0; i < count; i++) {
		struct part *part = &joined->parts[i];

		part->start = end;
		if (!vmimg_add(end, vmimg_io_size(parts[i]), &end))
			return vmimg_fail(err, VMIMG_ECORRUPT, "the parts are too large together");
		part->end = end;
		part->io = vmimg_io_ref(parts[i]);
		joined->count++;
	}
	*size = end;
	return 0;
}

struct vmimg_io *vmimg_joined_open(
	struct vmimg_io *const *parts, size_t count, const char *name, struct vmimg_error *err)
{
	struct joined *joined = vmimg_new(struct joined, err);
	uint64_t size = 0;

	if (!joined)
		return NULL;
	if (fill(joined, parts, count, &size, err) ||
		vmimg_io_init(&joined->io, &joined_ops, name, err)) {
		joined_close(&joined->io);
		return NULL;
	}
	atomic_init(&joined->io.size, size);
	return &joined->io;
}

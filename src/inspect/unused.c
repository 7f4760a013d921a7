/* SPDX-License-Identifier: Apache-2.0 */
/* The places of a disk in ascending order, and what keeps one from being looked into. */
#include "inspect/unused.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "inspect/fs.h"
#include "inspect/parts.h"
#include "util/bytes.h"
#include "util/num.h"

#define GUARD \
	(UINT64_C(1) << 20) /* at the disk's end: copies of tables, and what RAIDs keep there */

static const struct {
	const char *type;
	vmimg_unused_reader *read;
} readers[] = {
	{ "exfat", vmimg_unused_exfat },
	{ "ext2", vmimg_unused_ext },
	{ "ext3", vmimg_unused_ext },
	{ "ext4", vmimg_unused_ext },
	{ "ntfs", vmimg_unused_ntfs },
	{ "vfat", vmimg_unused_fat },
	{ "xfs", vmimg_unused_xfs },
};

/* ---- ranges ------------------------------------------------------------------------------ */

static int flush(struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	uint64_t len = sink->len;

	sink->len = 0;
	if (!len || !sink->how)
		return 0;
	if (!sink->how->each(sink->how->ctx, sink->base + sink->at, len, err))
		return 0;
	sink->stopped = true;
	return -1;
}

int vmimg_unused_add(
	struct vmimg_unused_sink *sink, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	/* a second line of defence: each reader knows how far its own space reaches */
	if (at < sink->at + sink->len || !vmimg_range_inside(at, len, sink->size))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"free space at 0x%" PRIx64 " (0x%" PRIx64
			" bytes) overlaps other free space or lies outside",
			at, len);
	if (sink->len && at == sink->at + sink->len) {
		sink->len += len;
		return 0;
	}
	if (flush(sink, err))
		return -1;
	sink->at = at;
	sink->len = len;
	return 0;
}

/* How many bits from i on are the same as bit i; whole words at once. */
static uint64_t same_bits(const uint8_t *bits, uint64_t i, uint64_t count)
{
	bool set = bits[i / 8] >> i % 8 & 1;
	uint64_t whole = set ? UINT64_MAX : 0, from = i;

	while (i < count) {
		if (i % 64 == 0 && count - i >= 64 && vmimg_get_le64(bits + i / 8) == whole)
			i += 64;
		else if ((bits[i / 8] >> i % 8 & 1) == set)
			i++;
		else
			break;
	}
	return i - from;
}

int vmimg_unused_add_bits(struct vmimg_unused_sink *sink, const uint8_t *bits, uint64_t count,
	uint64_t base, uint64_t unit, uint64_t *clear, struct vmimg_error *err)
{
	uint64_t run;

	for (uint64_t i = 0; i < count; i += run) {
		run = same_bits(bits, i, count);
		if (bits[i / 8] >> i % 8 & 1)
			continue;
		*clear += run;
		if (vmimg_unused_add(sink, base + i * unit, run * unit, err))
			return -1;
	}
	return 0;
}

/* ---- one file system --------------------------------------------------------------------- */

static vmimg_unused_reader *reader_of(const char *type)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(readers); i++)
		if (!strcmp(readers[i].type, type))
			return readers[i].read;
	return NULL;
}

static bool is_grave(const struct vmimg_error *err)
{
	return err->status == VMIMG_ESYSTEM || err->status == VMIMG_ENOMEM ||
		err->status == VMIMG_ECANCELLED;
}

/* Of two that have their marks there, one is what was there before, and which is not known. */
static int judge_marks(struct vmimg_io *io, const char *type, struct vmimg_error *err)
{
	struct vmimg_fs_info other;

	if (vmimg_fs_recognise_other(io, type, &other, err))
		return -1;
	return other.type ? vmimg_fail(err, VMIMG_EREFUSED,
				    "it has the marks of %s as well: take away those that are "
				    "left over (wipefs)",
				    other.type)
			  : 0;
}

static int pass(vmimg_unused_reader *read, struct vmimg_io *io, const struct vmimg_unused *how,
	uint64_t base, bool *stopped, struct vmimg_error *err)
{
	struct vmimg_unused_sink sink = { .how = how, .base = base, .size = vmimg_io_size(io) };
	int failed = read(io, &sink, err) || flush(&sink, err);

	*stopped = sink.stopped;
	return failed ? -1 : 0;
}

static int look(struct vmimg_io *io, uint64_t base, unsigned part, const struct vmimg_unused *how,
	struct vmimg_error *err)
{
	struct vmimg_fs_info info = { 0 };
	vmimg_unused_reader *read;
	bool stopped = false;

	if (vmimg_fs_recognise(io, &info, err))
		return -1;
	read = info.type ? reader_of(info.type) : NULL;
	if (!read)
		vmimg_fail(err, VMIMG_EUNSUPPORTED,
			info.type ? "what is unused in it is not read here"
				  : "there is no file system that is known here");
	else if (!judge_marks(io, info.type, err) && !pass(read, io, NULL, base, &stopped, err) &&
		!pass(read, io, how, base, &stopped, err))
		return 0;
	if (stopped || (read && is_grave(err)))
		return -1;
	if (how->left)
		how->left(how->ctx, part, info.type, err->text);
	return 0;
}

static int add_up(void *ctx, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	(void)at;
	(void)err;
	*(uint64_t *)ctx += len;
	return 0;
}

int vmimg_unused_sum(
	struct vmimg_io *io, const char *type, uint64_t *bytes, struct vmimg_error *err)
{
	uint64_t sum = 0;
	struct vmimg_unused how = { .each = add_up, .ctx = &sum };
	vmimg_unused_reader *read = reader_of(type);
	bool stopped;

	/* a second line of defence: those without a reader say how much they use */
	if (!read)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "what is unused in it is not read here");
	if (pass(read, io, &how, 0, &stopped, err))
		return -1;
	*bytes = sum;
	return 0;
}

/* ---- the disk ---------------------------------------------------------------------------- */

struct walk {
	struct vmimg_io *io;
	const struct vmimg_unused *how;
	const struct vmimg_part **order; /* by where they begin */
	size_t count;
};

static int by_start(const void *a, const void *b)
{
	const struct vmimg_part *x = *(const struct vmimg_part *const *)a;
	const struct vmimg_part *y = *(const struct vmimg_part *const *)b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->extended ? -1 : y->extended ? 1 : 0; /* a container before what is in it */
}

static uint64_t end_of(const struct vmimg_part *part)
{
	uint64_t end;

	return vmimg_add(part->start, part->len, &end) ? end : UINT64_MAX;
}

/* Whether a partition shares bytes with another: then neither knows what is free. A container
 * shares with those in it. */
static bool overlaps(const struct walk *walk, size_t i)
{
	const struct vmimg_part *part = walk->order[i];

	for (size_t k = 0; k < walk->count; k++) {
		const struct vmimg_part *other = walk->order[k];

		if (k != i && !(other->extended && part->logical) && other->start < end_of(part) &&
			part->start < end_of(other))
			return true;
	}
	return false;
}

static int look_at_part(const struct walk *walk, size_t i, struct vmimg_error *err)
{
	const struct vmimg_part *part = walk->order[i];
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;
	const char *why = NULL;

	if (part->extended || !part->len)
		return 0;
	if (!vmimg_range_inside(part->start, part->len, vmimg_io_size(walk->io)))
		why = "the partition reaches past the end of the disk";
	else if (overlaps(walk, i))
		why = "the partition overlaps another one";
	if (why && walk->how->left)
		walk->how->left(walk->how->ctx, part->index, NULL, why);
	if (why)
		return 0;
	io = vmimg_part_open(walk->io, part, err);
	return io ? look(io, part->start, part->index, walk->how, err) : -1;
}

/* What lies between the end of what came before and a partition. Before the first one are tables
 * and boot loaders, which is no gap. */
static int gap(const struct walk *walk, uint64_t from, uint64_t to, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(walk->io);

	to = vmimg_min(to, size > GUARD ? size - GUARD : 0);
	if (!walk->how->gaps || !from || from >= to)
		return 0;
	return walk->how->each(walk->how->ctx, from, to - from, err);
}

static int walk_parts(const struct walk *walk, struct vmimg_error *err)
{
	uint64_t end = 0;

	for (size_t i = 0; i < walk->count; i++) {
		if (gap(walk, end, walk->order[i]->start, err) || look_at_part(walk, i, err))
			return -1;
		end = vmimg_max(end, end_of(walk->order[i]));
	}
	return gap(walk, end, UINT64_MAX, err);
}

int vmimg_unused_walk(struct vmimg_io *io, const struct vmimg_unused *how, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_parts_done) struct vmimg_parts parts = { 0 };
	VMIMG_AUTO(free) const struct vmimg_part **order = NULL;
	struct walk walk = { .io = io, .how = how };
	struct vmimg_fs_info whole;

	if (vmimg_parts_read(io, how->sector_size, &parts, err))
		return -1;
	if (!parts.count)
		return look(io, 0, 0, how, err);
	if (vmimg_fs_recognise(io, &whole, err))
		return -1;
	if (whole.type) { /* its files and the partitions are the same bytes, and may have checksums
			   */
		if (how->left)
			how->left(how->ctx, 0, whole.type,
				"the disk is a file system and has partitions as well");
		return 0;
	}
	order = vmimg_alloc_array(parts.count, sizeof(*order), err);
	if (!order)
		return -1;
	for (size_t i = 0; i < parts.count; i++)
		order[i] = &parts.list[i];
	qsort(order, parts.count, sizeof(*order), by_start);
	walk.order = order;
	walk.count = parts.count;
	return walk_parts(&walk, err);
}

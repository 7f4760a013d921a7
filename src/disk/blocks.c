/* SPDX-License-Identifier: Apache-2.0 */
/* What is in use as sorted runs; what lies between them are the gaps. */
#include "disk/blocks.h"
#include <stdlib.h>
#include "io/file.h"
#include "util/auto.h"
#include "util/num.h"

/* 32 MiB of runs: what is more scattered than that is not squeezed. */
#define MOST_RUNS ((size_t)1 << 21)

void vmimg_blocks_init(struct vmimg_blocks *blocks, uint64_t width, uint64_t step, uint64_t phase)
{
	*blocks = (struct vmimg_blocks){
		.width = width, .step = step, .phase = phase, .limit = UINT64_MAX
	};
}

static int compare(const void *a, const void *b)
{
	const struct vmimg_blocks_run *left = a, *right = b;

	return (left->start > right->start) - (left->start < right->start);
}

/* Sorts the runs, and makes one of those with no room for a block between them. */
static void merge(struct vmimg_blocks *blocks)
{
	struct vmimg_blocks_run *runs = blocks->runs;
	size_t kept = 0;

	if (blocks->count)
		qsort(runs, blocks->count, sizeof(*runs), compare);
	for (size_t i = 1; i < blocks->count; i++) {
		if (runs[i].start < runs[kept].end + blocks->width)
			runs[kept].end = vmimg_max(runs[kept].end, runs[i].end);
		else
			runs[++kept] = runs[i];
	}
	blocks->count = blocks->count ? kept + 1 : 0;
}

int vmimg_blocks_add(
	struct vmimg_blocks *blocks, uint64_t start, uint64_t len, struct vmimg_error *err)
{
	struct vmimg_blocks_run *last = blocks->count ? &blocks->runs[blocks->count - 1] : NULL;
	uint64_t end = start + len;

	blocks->end = vmimg_max(blocks->end, end);
	if (blocks->blind || !len)
		return 0;
	if (last && start >= last->start && start < last->end + blocks->width) {
		last->end = vmimg_max(last->end, end);
		return 0;
	}
	if (blocks->count == MOST_RUNS) {
		merge(blocks);
		blocks->blind = blocks->count > MOST_RUNS / 2;
		if (blocks->blind)
			return 0;
	}
	if (vmimg_grow_array(
		    &blocks->runs, &blocks->cap, blocks->count + 1, sizeof(*blocks->runs), err))
		return -1;
	blocks->runs[blocks->count++] = (struct vmimg_blocks_run){ start, end };
	return 0;
}

/* The first place at or after `at` where blocks are wanted. */
static uint64_t wanted(const struct vmimg_blocks *blocks, uint64_t at)
{
	uint64_t off = at % blocks->step;

	return at + (blocks->phase + blocks->step - off) % blocks->step;
}

/* How many blocks a gap holds, and where: where they are wanted, unless more fit side by side. */
struct layout {
	uint64_t first, stride, count;
};

static uint64_t fitting(uint64_t first, uint64_t stride, uint64_t width, uint64_t end)
{
	return first < end && end - first >= width ? (end - first - width) / stride + 1 : 0;
}

static struct layout lay_out(const struct vmimg_blocks *blocks, uint64_t start, uint64_t end)
{
	uint64_t first = wanted(blocks, start);
	uint64_t stride = vmimg_align_up(blocks->width, blocks->step);
	struct layout good = { first, stride, fitting(first, stride, blocks->width, end) };
	struct layout close = { start, blocks->width,
		fitting(start, blocks->width, blocks->width, end) };

	return close.count > good.count ? close : good;
}

void vmimg_blocks_room(struct vmimg_blocks *blocks, uint64_t from)
{
	struct vmimg_blocks_run *runs = blocks->runs;
	size_t gaps = 0;
	uint64_t at = from;

	blocks->used_end = blocks->end;
	merge(blocks);
	for (size_t i = 0; i < blocks->count && !blocks->blind; i++) {
		struct vmimg_blocks_run run = runs[i];

		if (run.start > at && lay_out(blocks, at, run.start).count)
			runs[gaps++] = (struct vmimg_blocks_run){ at, run.start };
		at = vmimg_max(at, run.end);
	}
	blocks->count = gaps;
	vmimg_blocks_rewind(blocks);
}

uint64_t vmimg_blocks_take(struct vmimg_blocks *blocks)
{
	uint64_t place;

	for (; blocks->gap < blocks->count; blocks->gap++, blocks->filled = 0) {
		const struct vmimg_blocks_run *gap = &blocks->runs[blocks->gap];
		struct layout layout = lay_out(blocks, gap->start, gap->end);

		if (blocks->filled < layout.count)
			return layout.first + layout.stride * blocks->filled++;
	}
	place = wanted(blocks, blocks->end);
	blocks->end = place + blocks->width;
	return place;
}

void vmimg_blocks_rewind(struct vmimg_blocks *blocks)
{
	blocks->gap = 0;
	blocks->filled = 0;
	blocks->end = blocks->used_end;
}

/* Blocks that the gaps hold which end at limit or before. */
static uint64_t room_below(const struct vmimg_blocks *blocks, uint64_t limit)
{
	uint64_t room = 0;

	for (size_t i = 0; i < blocks->count && blocks->runs[i].start < limit; i++)
		room += lay_out(
			blocks, blocks->runs[i].start, vmimg_min(blocks->runs[i].end, limit))
				.count;
	return room;
}

static void cut_gaps(struct vmimg_blocks *blocks)
{
	size_t i = 0;

	for (; i < blocks->count && blocks->runs[i].start < blocks->limit; i++)
		blocks->runs[i].end = vmimg_min(blocks->runs[i].end, blocks->limit);
	blocks->count = i;
}

int vmimg_blocks_plan(struct vmimg_blocks *blocks, vmimg_blocks_count *count, void *ctx,
	uint64_t *moves, struct vmimg_error *err)
{
	uint64_t low = blocks->count ? blocks->runs[0].start : blocks->used_end;
	uint64_t high = blocks->used_end, found = 0;

	*moves = 0;
	while (low < high) {
		uint64_t middle = low + (high - low) / 2;

		if (count(ctx, middle, &found, err))
			return -1;
		if (found <= room_below(blocks, middle)) {
			high = middle;
			*moves = found;
		} else {
			low = middle + 1;
		}
	}
	blocks->limit = high;
	cut_gaps(blocks);
	return 0;
}

/* ---- squeezing ---- */

struct squeeze {
	struct vmimg_blocks *blocks;
	const struct vmimg_blocks_image *image;
	struct vmimg_copier copier;
	uint64_t limit, found; /* count_from */
	bool copies;           /* data is copied; else entries change */
};

static int count_one(void *ctx, uint64_t i, uint32_t start, struct vmimg_error *err)
{
	struct squeeze *s = ctx;

	(void)i;
	(void)err;
	s->found += start >= s->limit;
	return 0;
}

static int count_from(void *ctx, uint64_t limit, uint64_t *count, struct vmimg_error *err)
{
	struct squeeze *s = ctx;

	s->limit = limit;
	s->found = 0;
	if (s->image->walk(s->image->ctx, count_one, s, err))
		return -1;
	*count = s->found;
	return 0;
}

/* The same places, in the same order, whether data is copied or entries change. */
static int move(void *ctx, uint64_t i, uint32_t start, struct vmimg_error *err)
{
	struct squeeze *s = ctx;
	uint64_t to;

	if (!vmimg_blocks_moves(s->blocks, start))
		return 0;
	to = vmimg_blocks_take(s->blocks);
	return s->copies ? s->image->copy(s->image->ctx, &s->copier, i, start, to, err)
			 : s->image->lead(s->image->ctx, i, to, err);
}

static int copy_all(struct squeeze *s, struct vmimg_error *err)
{
	const struct vmimg_blocks_image *image = s->image;
	int failed;

	s->copies = true;
	vmimg_file_pace(image->io);
	vmimg_copier_init(&s->copier, image->io);
	s->copier.holes = image->holes;
	failed = image->walk(image->ctx, move, s, err) || vmimg_copier_flush(&s->copier, err) ||
		vmimg_io_sync(image->io, err);
	vmimg_copier_done(&s->copier);
	return failed ? -1 : 0;
}

int vmimg_blocks_squeeze(struct vmimg_blocks *blocks, const struct vmimg_blocks_image *image,
	struct vmimg_error *err)
{
	struct squeeze s = { .blocks = blocks, .image = image };
	uint64_t moves;

	if (vmimg_blocks_plan(blocks, count_from, &s, &moves, err) ||
		(image->planned && image->planned(image->ctx, blocks->limit, err)))
		return -1;
	if (!moves)
		return 0;
	if (copy_all(&s, err))
		return -1;
	s.copies = false;
	vmimg_blocks_rewind(blocks);
	return image->walk(image->ctx, move, &s, err) || vmimg_io_sync(image->io, err) ? -1 : 0;
}

int vmimg_blocks_copy(
	struct vmimg_io *io, uint64_t from, uint64_t to, uint64_t len, struct vmimg_error *err)
{
	struct vmimg_copier copier;
	int failed;

	vmimg_copier_init(&copier, io);
	failed = vmimg_copier_add(&copier, from, to, len, err) || vmimg_copier_flush(&copier, err);
	vmimg_copier_done(&copier);
	return failed ? -1 : 0;
}

void vmimg_blocks_done(struct vmimg_blocks *blocks)
{
	free(blocks->runs);
	*blocks = (struct vmimg_blocks){ 0 };
}

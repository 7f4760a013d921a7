/* SPDX-License-Identifier: Apache-2.0 */
/* One lock around the walk: a deal costs a look at a table, a chunk of work costs a thousand times
 * more. */
#include "engine/source.h"
#include <inttypes.h>
#include "util/num.h"

/* Asking a file for its holes costs a system call: not worth it for short runs. */
#define WORTH_ASKING (UINT64_C(1) << 20)

void vmimg_source_init(
	struct vmimg_source *source, struct vmimg_disk *disk, uint32_t granule, uint32_t chunk)
{
	*source = (struct vmimg_source){
		.disk = disk, .end = disk->size, .granule = granule, .chunk = chunk
	};
	pthread_mutex_init(&source->lock, NULL);
}

void vmimg_source_done(struct vmimg_source *source)
{
	pthread_mutex_destroy(&source->lock);
}

/* Plain data that lies in a hole of its file is zero, and need not be read. */
static int look_for_hole(struct vmimg_run *run, struct vmimg_error *err)
{
	uint64_t len;
	bool hole;

	if (run->kind != VMIMG_RUN_DATA || run->encrypted || !run->io || run->len < WORTH_ASKING ||
		run->at >= vmimg_io_size(run->io))
		return 0;
	if (vmimg_io_extent(run->io, run->at, &hole, &len, err))
		return -1;
	run->len = vmimg_min(run->len, len);
	if (hole)
		run->kind = VMIMG_RUN_ZERO;
	return 0;
}

/* Makes source->run the run at guest offset at. */
static int fetch(struct vmimg_source *source, uint64_t at, struct vmimg_error *err)
{
	struct vmimg_run *run = &source->run;
	uint64_t step;

	if (at >= source->disk->size) {
		*run = (struct vmimg_run){ .kind = VMIMG_RUN_ZERO, .len = source->end - at };
	} else if (at >= source->run_start && at < source->run_end) {
		step = run->len - (source->run_end - at);
		run->len -= step;
		if (run->kind == VMIMG_RUN_PACKED)
			run->block.skip += (uint32_t)step;
		else
			run->at += step, run->cipher_at += step;
	} else if (source->keep_absent ? vmimg_disk_map(source->disk, at, run, err)
				       : vmimg_disk_resolve(source->disk, at, run, NULL, err)) {
		return vmimg_within(err, "guest offset 0x%" PRIx64, at);
	} else if (look_for_hole(run, err)) {
		return -1;
	}
	if (source->overlap)
		vmimg_overlap_note(source->overlap, source->disk, run, at);
	source->run_start = at;
	source->run_end = at + run->len;
	return 0;
}

static enum vmimg_piece_kind kind_of(const struct vmimg_source *source, const struct vmimg_run *run)
{
	if (run->kind == VMIMG_RUN_ABSENT && source->keep_absent)
		return VMIMG_PIECE_ABSENT;
	if (run->kind == VMIMG_RUN_DATA || run->kind == VMIMG_RUN_PACKED || source->fill)
		return VMIMG_PIECE_DATA;
	return VMIMG_PIECE_ZERO;
}

/* How far, from at, stretches of that kind go on. Sets *end, at most limit. */
static int stretch(struct vmimg_source *source, enum vmimg_piece_kind kind, uint64_t at,
	uint64_t limit, uint64_t *end, struct vmimg_error *err)
{
	while (at < limit) {
		if (fetch(source, at, err))
			return -1;
		if (kind_of(source, &source->run) != kind)
			break;
		at = source->run_end;
	}
	*end = vmimg_min(at, limit);
	return 0;
}

static bool joins(const struct vmimg_source *source, enum vmimg_piece_kind kind)
{
	return source->joins_zeroes && kind == VMIMG_PIECE_ZERO;
}

/* A stretch of nothing that holds whole granules becomes one deal; *taken says so. */
static int deal_empty(
	struct vmimg_source *source, struct vmimg_deal *deal, bool *taken, struct vmimg_error *err)
{
	enum vmimg_piece_kind kind = kind_of(source, &source->run);
	uint64_t end;

	*taken = false;
	if (kind == VMIMG_PIECE_DATA)
		return 0;
	if (stretch(source, kind, deal->guest, source->end, &end, err))
		return -1;
	if (end < source->end)
		end = vmimg_align_down(end, source->granule);
	if (end <= deal->guest ||
		(joins(source, kind) && end < source->end && end - deal->guest < source->chunk))
		return 0;
	deal->kind = kind;
	deal->len = end - deal->guest;
	*taken = true;
	return 0;
}

/* Whether the chunk of data that has come to *at, before limit, goes on there; *at moves over
 * zeroes that are joined to it. */
static int goes_on(struct vmimg_source *source, uint64_t *at, uint64_t limit, bool *on,
	struct vmimg_error *err)
{
	enum vmimg_piece_kind kind;
	uint64_t end;

	if (fetch(source, *at, err))
		return -1;
	kind = kind_of(source, &source->run);
	*on = kind == VMIMG_PIECE_DATA;
	if (!joins(source, kind))
		return 0;
	if (stretch(source, kind, *at, limit, &end, err))
		return -1;
	*on = end < limit;
	if (*on)
		*at = vmimg_align_down(end, source->granule);
	return 0;
}

/*
 * A chunk of data: up to chunk bytes, ended early where a whole granule of nothing follows. Where
 * the same granule is part data, part nothing, it is data; the reader fills in.
 */
static int deal_data(struct vmimg_source *source, struct vmimg_deal *deal, struct vmimg_error *err)
{
	uint64_t limit = vmimg_min(source->end, deal->guest + source->chunk), at = deal->guest, end;
	struct vmimg_run first;
	bool on = true;

	if (fetch(source, at, err))
		return -1;
	first = source->run;
	while (on && at < limit) {
		if (stretch(source, VMIMG_PIECE_DATA, at, limit, &end, err))
			return -1;
		at = vmimg_min(vmimg_align_up(vmimg_max(end, at + 1), source->granule), limit);
		if (at < limit && goes_on(source, &at, limit, &on, err))
			return -1;
	}
	deal->kind = VMIMG_PIECE_DATA;
	deal->len = at - deal->guest;
	deal->run = first;
	if (first.len < deal->len)
		deal->run = (struct vmimg_run){ .kind = VMIMG_RUN_ABSENT };
	return 0;
}

static int deal_next(struct vmimg_source *source, struct vmimg_deal *deal, struct vmimg_error *err)
{
	bool taken;

	*deal = (struct vmimg_deal){ .guest = source->next, .ticket = source->ticket };
	if (source->next >= source->end)
		return 0;
	if (fetch(source, source->next, err) || deal_empty(source, deal, &taken, err))
		return -1;
	if (!taken && deal_data(source, deal, err))
		return -1;
	source->next += deal->len;
	source->ticket++;
	return 0;
}

int vmimg_source_deal(struct vmimg_source *source, struct vmimg_deal *deal, struct vmimg_error *err)
{
	int result;

	pthread_mutex_lock(&source->lock);
	result = deal_next(source, deal, err);
	pthread_mutex_unlock(&source->lock);
	return result;
}

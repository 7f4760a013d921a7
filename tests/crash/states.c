/* SPDX-License-Identifier: Apache-2.0 */
#include "states.h"
#include <string.h>
#include "util/num.h"

#define FEW 10U /* writes in an epoch of which all subsets are tried */

struct run {
	const struct states *states;
	uint8_t *base, *work; /* room bytes each */
	uint64_t room, base_size, work_size;
	uint64_t seed;
	size_t epoch;
	long count;
};

static uint64_t random_next(struct run *run)
{
	run->seed = run->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return run->seed >> 33;
}

/* len: how much of a write; it may be torn. */
static void apply(uint8_t *bytes, uint64_t *size, const struct vmimg_record *record, uint64_t len)
{
	if (record->kind == VMIMG_RECORD_RESIZE) {
		if (record->at < *size)
			memset(bytes + record->at, 0, (size_t)(*size - record->at));
		*size = record->at;
	} else if (record->kind == VMIMG_RECORD_WRITE) {
		memcpy(bytes + record->at, record->bytes, (size_t)len);
		*size = vmimg_max(*size, record->at + len);
	}
}

static void judge(struct run *run, bool whole)
{
	struct state state = {
		.bytes = run->work, .size = run->work_size, .epoch = run->epoch, .whole = whole
	};

	run->count++;
	run->states->judge(run->states->ctx, &state);
}

static void restart(struct run *run)
{
	memcpy(run->work, run->base, (size_t)run->room);
	run->work_size = run->base_size;
}

/* A part of a write, in units of 512 or 4096 bytes as devices have them. */
static uint64_t torn(struct run *run, const struct vmimg_record *record)
{
	uint64_t unit = random_next(run) % 2 ? 512 : 4096, units = record->len / unit;

	return units ? unit * (random_next(run) % (units + 1)) : 0;
}

static void try_subset(
	struct run *run, const struct vmimg_record *list, size_t count, uint64_t mask, bool tear)
{
	size_t victim = tear && count ? random_next(run) % count : SIZE_MAX;

	restart(run);
	for (size_t i = 0; i < count; i++)
		if (i == victim && list[i].kind == VMIMG_RECORD_WRITE)
			apply(run->work, &run->work_size, &list[i], torn(run, &list[i]));
		else if (mask >> (i % 64) & 1)
			apply(run->work, &run->work_size, &list[i], list[i].len);
	judge(run, false);
}

/* Torn at every unit when they are few; at some. */
static void try_torn(struct run *run, const struct vmimg_record *record)
{
	uint64_t units = record->len / 512, step = vmimg_max(units / 8, 1);

	if (record->kind != VMIMG_RECORD_WRITE)
		return;
	for (uint64_t unit = 1; unit < units; unit += step) {
		apply(run->work, &run->work_size, record, unit * 512);
		judge(run, false);
	}
}

static void try_prefixes(struct run *run, const struct vmimg_record *list, size_t count, bool last)
{
	size_t step = count / (run->states->most * 2) + 1;

	restart(run);
	for (size_t i = 0; i < count; i++) {
		bool look = i % step == 0 || count - i < 20;

		if (look)
			judge(run, false);
		if (look)
			try_torn(run, &list[i]);
		apply(run->work, &run->work_size, &list[i], list[i].len);
	}
	judge(run, last);
}

static void try_epoch(struct run *run, const struct vmimg_record *list, size_t count, bool last)
{
	uint64_t all = count <= FEW ? UINT64_C(1) << count : 0;

	try_prefixes(run, list, count, last);
	for (uint64_t mask = 1; mask + 1 < all; mask++)
		try_subset(run, list, count, mask, false);
	for (size_t i = 0; count > 1 && i < run->states->most; i++) {
		uint64_t mask = random_next(run) ^ random_next(run) << 31;

		/* mostly everything, mostly nothing, half of it */
		if (i % 3 == 0)
			mask |= random_next(run) ^ random_next(run) << 31;
		try_subset(run, list, count, mask, i % 2);
	}
	for (size_t i = 0; i < count; i++)
		apply(run->base, &run->base_size, &list[i], list[i].len);
}

static uint64_t room_for(const struct states *states)
{
	uint64_t room = states->size;

	for (size_t i = 0; i < states->recording->count; i++) {
		const struct vmimg_record *r = &states->recording->list[i];

		room = vmimg_max(room, r->at + r->len);
	}
	return room;
}

long states_run(const struct states *states)
{
	const struct vmimg_recording *recording = states->recording;
	struct run run = { .states = states, .seed = states->seed, .room = room_for(states) };
	size_t from = 0;

	run.base = calloc(1, (size_t)run.room + 1);
	run.work = calloc(1, (size_t)run.room + 1);
	if (!run.base || !run.work)
		return -1;
	memcpy(run.base, states->before, (size_t)states->size);
	run.base_size = run.work_size = states->size;
	for (size_t i = 0; i <= recording->count; i++) {
		bool end = i == recording->count;

		if (!end && recording->list[i].kind != VMIMG_RECORD_SYNC)
			continue;
		try_epoch(&run, recording->list + from, i - from, end);
		from = i + 1;
		run.epoch++;
	}
	free(run.base);
	free(run.work);
	return run.count;
}

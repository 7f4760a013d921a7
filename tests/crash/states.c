/* SPDX-License-Identifier: Apache-2.0 */
#include "states.h"
#include <string.h>
#include "util/num.h"

#define FEW 10U /* writes in an epoch of which all subsets are tried */

struct run {
	const struct states *states;
	struct state_file base[STATES_FILES];
	struct state work;
	uint64_t room[STATES_FILES];      /* bytes each of a file can have */
	const struct vmimg_record **list; /* what was done and not synced since */
	size_t count;
	uint64_t seed;
	long judged;
};

static uint64_t random_next(struct run *run)
{
	run->seed = run->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return run->seed >> 33;
}

/* len: how much of a write; it may be torn. */
static void apply(struct state_file *files, const struct vmimg_record *record, uint64_t len)
{
	struct state_file *file = &files[record->file];

	if (record->kind == VMIMG_RECORD_RESIZE) {
		if (record->at < file->size)
			memset(file->bytes + record->at, 0, (size_t)(file->size - record->at));
		file->size = record->at;
	} else if (record->kind == VMIMG_RECORD_WRITE) {
		memcpy(file->bytes + record->at, record->bytes, (size_t)len);
		file->size = vmimg_max(file->size, record->at + len);
	}
}

static void judge(struct run *run, bool whole)
{
	run->work.whole = whole;
	run->judged++;
	run->states->judge(run->states->ctx, &run->work);
}

static void restart(struct run *run)
{
	for (size_t i = 0; i < STATES_FILES; i++) {
		if (run->base[i].bytes)
			memcpy(run->work.files[i].bytes, run->base[i].bytes, (size_t)run->room[i]);
		run->work.files[i].size = run->base[i].size;
	}
}

/* A part of a write, in units of 512 or 4096 bytes as devices have them. */
static uint64_t torn(struct run *run, const struct vmimg_record *record)
{
	uint64_t unit = random_next(run) % 2 ? 512 : 4096, units = record->len / unit;

	return units ? unit * (random_next(run) % (units + 1)) : 0;
}

static void try_subset(struct run *run, uint64_t mask, bool tear)
{
	size_t victim = tear && run->count ? random_next(run) % run->count : SIZE_MAX;

	restart(run);
	for (size_t i = 0; i < run->count; i++) {
		const struct vmimg_record *record = run->list[i];

		if (i == victim && record->kind == VMIMG_RECORD_WRITE)
			apply(run->work.files, record, torn(run, record));
		else if (mask >> (i % 64) & 1)
			apply(run->work.files, record, record->len);
	}
	judge(run, false);
}

/* Torn at every unit when they are few; at some. */
static void try_torn(struct run *run, const struct vmimg_record *record)
{
	uint64_t units = record->len / 512, step = vmimg_max(units / 8, 1);

	if (record->kind != VMIMG_RECORD_WRITE)
		return;
	for (uint64_t unit = 1; unit < units; unit += step) {
		apply(run->work.files, record, unit * 512);
		judge(run, false);
	}
}

static void try_prefixes(struct run *run, bool last)
{
	size_t step = run->count / (run->states->most * 2) + 1;

	restart(run);
	for (size_t i = 0; i < run->count; i++) {
		bool look = i % step == 0 || run->count - i < 20;

		if (look)
			judge(run, false);
		if (look)
			try_torn(run, run->list[i]);
		apply(run->work.files, run->list[i], run->list[i]->len);
	}
	judge(run, last);
}

static void try_epoch(struct run *run, bool last)
{
	uint64_t all = run->count <= FEW ? UINT64_C(1) << run->count : 0;

	try_prefixes(run, last);
	for (uint64_t mask = 1; mask + 1 < all; mask++)
		try_subset(run, mask, false);
	for (size_t i = 0; run->count > 1 && i < run->states->most; i++) {
		uint64_t mask = random_next(run) ^ random_next(run) << 31;

		/* mostly everything, mostly nothing, half of it */
		if (i % 3 == 0)
			mask |= random_next(run) ^ random_next(run) << 31;
		try_subset(run, mask, i % 2);
	}
}

/* What was done to that file is there for good; what was done to others waits on. */
static void settle(struct run *run, unsigned file)
{
	size_t kept = 0;

	for (size_t i = 0; i < run->count; i++)
		if (run->list[i]->file == file)
			apply(run->base, run->list[i], run->list[i]->len);
		else
			run->list[kept++] = run->list[i];
	run->count = kept;
	run->work.epoch++;
}

static int open_file(struct run *run, unsigned file)
{
	const struct vmimg_recording *recording = run->states->recording;
	const struct state_file *before = &run->states->before[file];
	uint64_t room = before->size;

	if (!before->bytes)
		return 0;
	for (size_t i = 0; i < recording->count; i++) {
		const struct vmimg_record *r = &recording->list[i];

		if (r->file == file)
			room = vmimg_max(room, r->at + r->len);
	}
	run->room[file] = room;
	run->base[file].bytes = calloc(1, (size_t)room + 1);
	run->work.files[file].bytes = calloc(1, (size_t)room + 1);
	if (!run->base[file].bytes || !run->work.files[file].bytes)
		return -1;
	memcpy(run->base[file].bytes, before->bytes, (size_t)before->size);
	run->base[file].size = before->size;
	return 0;
}

static int run_open(struct run *run)
{
	run->list = calloc(run->states->recording->count + 1, sizeof(struct vmimg_record *));
	for (unsigned file = 0; run->list && file < STATES_FILES; file++)
		if (open_file(run, file))
			return -1;
	return run->list ? 0 : -1;
}

static void run_close(struct run *run)
{
	for (size_t i = 0; i < STATES_FILES; i++) {
		free(run->base[i].bytes);
		free(run->work.files[i].bytes);
	}
	free(run->list);
}

long states_run(const struct states *states)
{
	const struct vmimg_recording *recording = states->recording;
	struct run run = { .states = states, .seed = states->seed };
	int failed = run_open(&run);

	for (size_t i = 0; !failed && i < recording->count; i++) {
		const struct vmimg_record *record = &recording->list[i];

		if (record->kind != VMIMG_RECORD_SYNC) {
			run.list[run.count++] = record;
			continue;
		}
		try_epoch(&run, false);
		settle(&run, record->file);
	}
	if (!failed)
		try_epoch(&run, true);
	run_close(&run);
	return failed ? -1 : run.judged;
}

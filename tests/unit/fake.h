/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk format that exists in memory only: a list of runs over a buffer. Engines are tested on it,
 * because it can hold any arrangement, and fail at any place.
 */
#pragma once
#include <string.h>
#include "disk/disk.h"
#include "io/memory.h"
#include "util/num.h"

#define FAKE_RUNS 400

struct fake {
	struct vmimg_disk disk;
	enum vmimg_run_kind kinds[FAKE_RUNS];
	uint64_t ends[FAKE_RUNS]; /* guest offset past each run */
	size_t count;
	uint8_t *bytes;   /* the guest's content; run after run, where they lie in the io too */
	uint64_t fail_at; /* map fails past this guest offset */
	uint64_t seed;
};

/* Numbers that are the same every time. */
static inline uint64_t fake_random(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static int fake_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	struct fake *fake = disk->state;
	size_t i = 0;

	if (at >= fake->fail_at)
		return vmimg_fail(err, VMIMG_ECORRUPT, "no table at 0x%llx", (long long)at);
	while (fake->ends[i] <= at)
		i++;
	run->kind = fake->kinds[i];
	run->len = fake->ends[i] - at;
	run->io = disk->io;
	run->at = at;
	return 0;
}

static void fake_close(struct vmimg_disk *disk)
{
	(void)disk;
}

static const struct vmimg_format fake_format = {
	.name = "fake", .title = "a fake disk", .close = fake_close, .map = fake_map
};

static inline void fake_add(struct fake *fake, enum vmimg_run_kind kind, uint64_t len)
{
	uint64_t start = fake->count ? fake->ends[fake->count - 1] : 0;

	fake->kinds[fake->count] = kind;
	fake->ends[fake->count++] = start + len;
	if (kind != VMIMG_RUN_DATA)
		memset(fake->bytes + start, 0, len);
}

/* Between 1 and FAKE_RUNS runs of any kind and length, size bytes in all, some of the data zero. */
static inline void fake_open(struct fake *fake, uint64_t size, uint64_t seed)
{
	struct vmimg_error err;

	*fake = (struct fake){ .bytes = calloc(1, size + 1), .fail_at = UINT64_MAX, .seed = seed };
	for (uint64_t i = 0; i < size; i++)
		fake->bytes[i] = (uint8_t)(fake_random(&fake->seed) % 256);
	for (uint64_t at = 0; at < size;) {
		uint64_t left = size - at, unit = fake_random(&fake->seed) % 2 ? 512 : 4096;
		uint64_t len = (1 + fake_random(&fake->seed) % 200) *
			(fake_random(&fake->seed) % 8 ? unit : 1);
		static const enum vmimg_run_kind kinds[] = { VMIMG_RUN_DATA, VMIMG_RUN_DATA,
			VMIMG_RUN_ZERO, VMIMG_RUN_ABSENT };

		len = fake->count + 1 == FAKE_RUNS ? left : vmimg_min(len, left);
		if (fake_random(&fake->seed) % 4 == 0)
			memset(fake->bytes + at, 0, len);
		fake_add(fake, kinds[fake_random(&fake->seed) % 4], len);
		at += len;
	}
	fake->disk = (struct vmimg_disk){ .format = &fake_format,
		.io = vmimg_memory_view(fake->bytes, size, "fake", &err),
		.size = size,
		.sector_size = 512,
		.state = fake };
}

static inline void fake_done(struct fake *fake)
{
	vmimg_io_unref(fake->disk.io);
	free(fake->bytes);
}

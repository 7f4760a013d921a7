/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every state that a crash can leave a file in, from the record of what was done to it: all that
 * was synced, and of the rest any subset, one write of it torn. All of them where they are few;
 * else all prefixes, and a seeded sample of the others.
 */
#pragma once
#include "io/record.h"

struct state {
	uint8_t *bytes;
	uint64_t size;
	size_t epoch; /* syncs before it */
	bool whole;   /* everything was done */
};

struct states {
	const struct vmimg_recording *recording;
	const uint8_t *before; /* the file's content, size bytes */
	uint64_t size;
	uint64_t seed;
	size_t most; /* states for each epoch, beyond the prefixes */
	void (*judge)(void *ctx, const struct state *state);
	void *ctx;
};

/* Calls judge with each. Returns how many there were, or -1. */
long states_run(const struct states *states);

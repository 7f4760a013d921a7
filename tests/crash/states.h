/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every state that a crash can leave a file in, or several, from the record of what was done to
 * them: all that was synced, which each file is by itself, and of the rest any subset, one write of
 * it torn. All of them where they are few; else all prefixes, and a seeded sample of the others.
 */
#pragma once
#include "io/record.h"

#define STATES_FILES 4

struct state_file {
	uint8_t *bytes; /* NULL: there is no such file */
	uint64_t size;
};

struct state {
	struct state_file files[STATES_FILES];
	size_t epoch; /* syncs before it */
	bool whole;   /* everything was done */
};

struct states {
	const struct vmimg_recording *recording;
	struct state_file before[STATES_FILES]; /* the first of them always; borrowed */
	uint64_t seed;
	size_t most; /* states for each epoch, beyond the prefixes */
	void (*judge)(void *ctx, const struct state *state);
	void *ctx;
};

/* Calls judge with each. Returns how many there were, or -1. */
long states_run(const struct states *states);

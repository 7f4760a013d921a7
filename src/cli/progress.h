/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far a long operation is: a bar on standard error when that is a terminal, percent as qemu-img
 * prints it (-p), or JSON lines for programs. Steps come from one thread at a time.
 */
#pragma once
#include <stdio.h>
#include <time.h>
#include "cli/cli.h"
#include "engine/flow.h"

struct cli_progress {
	void (*show)(struct cli_progress *, uint64_t done, uint64_t total); /* NULL: nothing */
	FILE *to;
	struct timespec begun, shown;
	double percent; /* as shown last */
	uint64_t rate;  /* bytes a second, kept to by waiting; 0: none */
};

/* stdout_taken: an image goes there. */
void cli_progress_begin(
	struct cli_progress *progress, const struct cli_common *common, bool stdout_taken);
/* For struct vmimg_run_how. */
void cli_progress_step(void *progress, uint64_t done, uint64_t total);
void cli_progress_end(struct cli_progress *progress);
double cli_seconds_since(const struct timespec *begun);

/* The first SIGINT, SIGTERM or SIGHUP asks the running operation to stop and take back what it has
 * begun; the second one kills. */
const atomic_bool *cli_catch_signals(void);

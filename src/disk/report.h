/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check found (the findings themselves: vmimg.h). The first VMIMG_MAX_FINDINGS are kept with
 * their text, the rest counted, so that a report on a ruined image is bounded.
 */
#pragma once
#include <pthread.h>
#include <stdint.h>
#include "util/error.h"
#include "util/limits.h"

struct vmimg_run;

/* Who unpacks the compressed blocks that a driver meets. */
struct vmimg_report_blocks {
	int (*block)(struct vmimg_report_blocks *, const struct vmimg_run *, uint64_t guest,
		struct vmimg_error *);
};

struct vmimg_report {
	struct vmimg_report_blocks *blocks; /* NULL: nobody */
	pthread_mutex_t *lock; /* held while a finding is added; NULL: one thread only */
	struct vmimg_finding kept[VMIMG_MAX_FINDINGS];
	unsigned kept_count;
	uint64_t count[4]; /* by severity */
	bool malformed;    /* the first finding is why nothing but a repair opens the image */

	uint64_t total_blocks, allocated_blocks, compressed_blocks, fragmented_blocks;
	uint64_t given_up;  /* table entries that a repair has cleared, with what they pointed to */
	uint64_t image_end; /* offset past the last byte in use */
};

/* For drivers: here is a compressed block (a whole one, skip 0) that the guest sees at guest; see
 * that it unpacks. Each block once. Fails only when the check cannot go on. */
int vmimg_report_block(struct vmimg_report *report, const struct vmimg_run *run, uint64_t guest,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Adds a finding. */
void vmimg_report_add(struct vmimg_report *report, enum vmimg_severity severity, const char *code,
	uint64_t at, const char *fmt, ...) VMIMG_PRINTF(5, 6);
/* The same with the numbers of struct vmimg_finding, at most 3. */
void vmimg_report_add_numbers(struct vmimg_report *report, enum vmimg_severity severity,
	const char *code, uint64_t at, const uint64_t *numbers, unsigned count, const char *fmt,
	...) VMIMG_PRINTF(7, 8);
/* Counts more findings like one already added. */
void vmimg_report_count(struct vmimg_report *report, enum vmimg_severity severity, uint64_t more);
const char *vmimg_severity_name(enum vmimg_severity severity);

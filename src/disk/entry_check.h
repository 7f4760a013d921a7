/* SPDX-License-Identifier: Apache-2.0 */
/* What check tells of a table whose entries each claim a block of the file (a BAT, a block map):
 * those that lead nowhere, and blocks that two of them have. A ruined table costs no more than a
 * sound one. */
#pragma once
#include "disk/report.h"
#include "util/claims.h"

struct vmimg_entry_check {
	struct vmimg_report *report;
	struct vmimg_claims claims; /* width and most are set by the caller */
	uint64_t wrong;             /* entries that lead nowhere */
};

/* In a visit: VMIMG_ELIMIT when so much is wrong that the rest is not worth a look. */
int vmimg_entry_check_enough(
	const struct vmimg_entry_check *check, struct vmimg_error *err) VMIMG_CHECKED;
/* An entry, which stands at `at` in the file, is wrong. */
void vmimg_entry_check_wrong(struct vmimg_entry_check *check, const char *code, uint64_t at,
	const char *fmt, ...) VMIMG_PRINTF(4, 5);
/* After the walk, which returned walked: tells the rest. code: of blocks that overlap; block n lies
 * at base + n * unit. -1: the walk failed for another reason than that there was enough. */
int vmimg_entry_check_end(struct vmimg_entry_check *check, int walked, const char *code,
	uint64_t base, uint64_t unit) VMIMG_CHECKED;
void vmimg_entry_check_done(struct vmimg_entry_check *check);

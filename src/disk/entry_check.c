/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/entry_check.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* Wrong entries after which a table is ruined beyond interest. */
#define ENOUGH (UINT64_C(1) << 20)

static bool had_enough(const struct vmimg_entry_check *check)
{
	return check->wrong + check->claims.clashes > ENOUGH;
}

int vmimg_entry_check_enough(const struct vmimg_entry_check *check, struct vmimg_error *err)
{
	return had_enough(check) ? vmimg_fail(err, VMIMG_ELIMIT, "enough") : 0;
}

void vmimg_entry_check_wrong(
	struct vmimg_entry_check *check, const char *code, uint64_t at, const char *fmt, ...)
{
	char text[sizeof(check->report->kept->text)];
	va_list list;

	if (++check->wrong > VMIMG_MAX_FINDINGS)
		return;
	va_start(list, fmt);
	vsnprintf(text, sizeof(text), fmt, list);
	va_end(list);
	vmimg_report_add(check->report, VMIMG_FINDING_CORRUPTION, code, at, "%s", text);
}

static void report_overlaps(
	struct vmimg_entry_check *check, const char *code, uint64_t base, uint64_t unit)
{
	uint32_t start;
	size_t next = 0;

	while (vmimg_claims_overlap(&check->claims, &next, &start))
		vmimg_report_add(check->report, VMIMG_FINDING_CORRUPTION, code, base + start * unit,
			"two blocks share the space at 0x%" PRIx64, base + start * unit);
	if (!check->claims.clashes)
		return;
	vmimg_report_add(check->report, VMIMG_FINDING_CORRUPTION, code, VMIMG_NOWHERE,
		"two blocks share the same space, %" PRIu64 " times", check->claims.clashes);
	vmimg_report_count(check->report, VMIMG_FINDING_CORRUPTION, check->claims.clashes - 1);
}

int vmimg_entry_check_end(
	struct vmimg_entry_check *check, int walked, const char *code, uint64_t base, uint64_t unit)
{
	if (walked && !had_enough(check))
		return -1;
	if (had_enough(check))
		vmimg_report_add(check->report, VMIMG_FINDING_NOTE, "gave-up", VMIMG_NOWHERE,
			"the rest of the table was not looked at");
	if (check->wrong > VMIMG_MAX_FINDINGS)
		vmimg_report_count(
			check->report, VMIMG_FINDING_CORRUPTION, check->wrong - VMIMG_MAX_FINDINGS);
	report_overlaps(check, code, base, unit);
	return 0;
}

void vmimg_entry_check_done(struct vmimg_entry_check *check)
{
	vmimg_claims_done(&check->claims);
}

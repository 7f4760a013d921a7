/* SPDX-License-Identifier: Apache-2.0 */
/* Findings, kept up to a limit. */
#include "disk/report.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void lock(struct vmimg_report *report)
{
	if (report->lock)
		pthread_mutex_lock(report->lock);
}

static void unlock(struct vmimg_report *report)
{
	if (report->lock)
		pthread_mutex_unlock(report->lock);
}

static VMIMG_PRINTF(3, 0) void add(struct vmimg_report *report, const struct vmimg_finding *finding,
	const char *fmt, va_list args)
{
	struct vmimg_finding *kept;

	lock(report);
	report->count[finding->severity]++;
	if (report->kept_count < VMIMG_MAX_FINDINGS) {
		kept = &report->kept[report->kept_count++];
		*kept = *finding;
		vsnprintf(kept->text, sizeof(kept->text), fmt, args);
	}
	unlock(report);
}

void vmimg_report_add(struct vmimg_report *report, enum vmimg_severity severity, const char *code,
	uint64_t at, const char *fmt, ...)
{
	struct vmimg_finding finding = { .severity = severity, .code = code, .at = at };
	va_list args;

	va_start(args, fmt);
	add(report, &finding, fmt, args);
	va_end(args);
}

void vmimg_report_add_numbers(struct vmimg_report *report, enum vmimg_severity severity,
	const char *code, uint64_t at, const uint64_t *numbers, unsigned count, const char *fmt,
	...)
{
	struct vmimg_finding finding = {
		.severity = severity, .code = code, .at = at, .number_count = count
	};
	va_list args;

	memcpy(finding.numbers, numbers, count * sizeof(*numbers));
	va_start(args, fmt);
	add(report, &finding, fmt, args);
	va_end(args);
}

int vmimg_report_block(struct vmimg_report *report, const struct vmimg_run *run, uint64_t guest,
	struct vmimg_error *err)
{
	return report->blocks ? report->blocks->block(report->blocks, run, guest, err) : 0;
}

void vmimg_report_count(struct vmimg_report *report, enum vmimg_severity severity, uint64_t more)
{
	lock(report);
	report->count[severity] += more;
	unlock(report);
}

const char *vmimg_severity_name(enum vmimg_severity severity)
{
	static const char *const names[] = { "note", "leak", "corruption", "error" };

	return names[severity];
}

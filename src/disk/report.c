/* SPDX-License-Identifier: Apache-2.0 */
/* Findings, kept up to a limit. */
#include "disk/report.h"
#include <stdarg.h>
#include <stdio.h>

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

void vmimg_report_add(struct vmimg_report *report, enum vmimg_severity severity, const char *code,
	uint64_t at, const char *fmt, ...)
{
	struct vmimg_finding *finding;
	va_list args;

	lock(report);
	report->count[severity]++;
	if (report->kept_count < VMIMG_MAX_FINDINGS) {
		finding = &report->kept[report->kept_count++];
		finding->severity = severity;
		finding->code = code;
		finding->at = at;
		va_start(args, fmt);
		vsnprintf(finding->text, sizeof(finding->text), fmt, args);
		va_end(args);
	}
	unlock(report);
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

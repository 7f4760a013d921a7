/* SPDX-License-Identifier: Apache-2.0 */
/* Findings, kept up to a limit. */
#include "disk/report.h"
#include <stdarg.h>
#include <stdio.h>

void vmimg_report_add(struct vmimg_report *report, enum vmimg_severity severity, const char *code,
	uint64_t at, const char *fmt, ...)
{
	struct vmimg_finding *finding;
	va_list args;

	report->count[severity]++;
	if (report->kept_count == VMIMG_MAX_FINDINGS)
		return;
	finding = &report->kept[report->kept_count++];
	finding->severity = severity;
	finding->code = code;
	finding->at = at;
	va_start(args, fmt);
	vsnprintf(finding->text, sizeof(finding->text), fmt, args);
	va_end(args);
}

void vmimg_report_count(struct vmimg_report *report, enum vmimg_severity severity, uint64_t more)
{
	report->count[severity] += more;
}

const char *vmimg_severity_name(enum vmimg_severity severity)
{
	static const char *const names[] = { "note", "leak", "corruption", "error" };

	return names[severity];
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Findings of check and repair, as lines and as JSON. */
#include "cli/findings.h"
#include <inttypes.h>
#include <stdio.h>
#include "disk/info.h"

uint64_t cli_findings_count(const struct vmimg_report *report)
{
	uint64_t all = 0;

	for (unsigned i = 0; i < 4; i++)
		all += report->count[i];
	return all;
}

void cli_print_findings(const struct vmimg_report *report)
{
	uint64_t all = cli_findings_count(report);

	for (unsigned i = 0; i < report->kept_count; i++) {
		const struct vmimg_finding *f = &report->kept[i];

		printf("%s: %s (%s", vmimg_severity_name(f->severity), f->text, f->code);
		if (f->at != VMIMG_NOWHERE)
			printf(", at 0x%" PRIx64, f->at);
		printf(")\n");
	}
	if (all > report->kept_count)
		printf("... and %" PRIu64 " more\n", all - report->kept_count);
}

json_t *cli_findings_json(const struct vmimg_report *report)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < report->kept_count; i++) {
		const struct vmimg_finding *f = &report->kept[i];
		json_t *item = json_object();

		vmimg_json_text(item, "code", f->code);
		vmimg_json_text(item, "severity", vmimg_severity_name(f->severity));
		if (f->at != VMIMG_NOWHERE)
			vmimg_json_uint(item, "offset", f->at);
		/* the driver has escaped what comes from the image */
		json_object_set_new(item, "text", json_string(f->text));
		json_array_append_new(list, item);
	}
	return list;
}

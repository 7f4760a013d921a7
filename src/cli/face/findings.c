/* SPDX-License-Identifier: Apache-2.0 */
/* Callers look for "Leaked cluster N" and "ERROR cluster N". The numbers are those of the text. */
#include "cli/face/findings.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cli/findings.h"

/* Returns false when it is about something else. */
static bool print_refcount(const struct vmimg_finding *f)
{
	uint64_t cluster;
	uint32_t stated, counted;

	if (sscanf(f->text, "cluster %" SCNu64 " has refcount %" SCNu32 ", but %" SCNu32, &cluster,
		    &stated, &counted) != 3)
		return false;
	fprintf(stderr, "%s cluster %" PRIu64 " refcount=%" PRIu32 " reference=%" PRIu32 "\n",
		f->severity == VMIMG_FINDING_LEAK ? "Leaked" : "ERROR", cluster, stated, counted);
	return true;
}

static bool print_copied(const struct vmimg_finding *f)
{
	const char *refcount = strstr(f->text, "refcount is ");
	uint64_t entry;

	if (!refcount || sscanf(f->text, "L2 entry 0x%" SCNx64 " at", &entry) != 1)
		return false;
	fprintf(stderr, "ERROR OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%s\n", entry,
		refcount + strlen("refcount is "));
	return true;
}

static bool is_refcount(const struct vmimg_finding *f)
{
	return !strcmp(f->code, "refcount") || !strcmp(f->code, "leaked-cluster");
}

static void print_finding(const struct vmimg_finding *f)
{
	if (is_refcount(f) ? print_refcount(f)
			   : !strcmp(f->code, "copied-flag") && print_copied(f))
		return;
	fprintf(stderr, "%s: %s (%s)\n",
		f->severity == VMIMG_FINDING_LEAK ? "Leaked" : "ERROR", f->text, f->code);
}

void face_print_findings(const struct vmimg_report *report)
{
	uint64_t all = cli_findings_count(report);

	for (int pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i < report->kept_count; i++) {
			const struct vmimg_finding *f = &report->kept[i];

			if (is_refcount(f) == !pass && f->severity != VMIMG_FINDING_NOTE)
				print_finding(f);
		}
	if (all > report->kept_count)
		fprintf(stderr, "... and %" PRIu64 " more\n", all - report->kept_count);
}

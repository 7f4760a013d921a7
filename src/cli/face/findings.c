/* SPDX-License-Identifier: Apache-2.0 */
/* Callers look for "Leaked cluster N" and "ERROR cluster N". */
#include "cli/face/findings.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cli/findings.h"

static const char *verdict(const struct vmimg_finding *f)
{
	return f->severity == VMIMG_FINDING_LEAK ? "Leaked" : "ERROR";
}

static void print_refcount(const struct vmimg_finding *f)
{
	fprintf(stderr, "%s cluster %" PRIu64 " refcount=%" PRIu64 " reference=%" PRIu64 "\n",
		verdict(f), f->numbers[0], f->numbers[1], f->numbers[2]);
}

static void print_copied(const struct vmimg_finding *f)
{
	if (f->number_count == 3)
		fprintf(stderr,
			"ERROR OFLAG_COPIED L2 cluster: l1_index=%" PRIu64 " l1_entry=%" PRIx64
			" refcount=%" PRIu64 "\n",
			f->numbers[2], f->numbers[0], f->numbers[1]);
	else
		fprintf(stderr,
			"ERROR OFLAG_COPIED data cluster: l2_entry=%" PRIx64 " refcount=%" PRIu64
			"\n",
			f->numbers[0], f->numbers[1]);
}

static bool is_refcount(const struct vmimg_finding *f)
{
	return !strcmp(f->code, "refcount") || !strcmp(f->code, "leaked-cluster");
}

static void print_finding(const struct vmimg_finding *f)
{
	if (!f->number_count)
		fprintf(stderr, "%s: %s (%s)\n", verdict(f), f->text, f->code);
	else if (is_refcount(f))
		print_refcount(f);
	else
		print_copied(f);
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

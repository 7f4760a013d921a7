/* SPDX-License-Identifier: Apache-2.0 */
/* Rounds of fixing. A driver reads its tables through caches, so each round opens the image anew.
 */
#include "engine/repair.h"
#include "engine/check.h"

/* A driver fixes one kind of thing in a round, and has fewer kinds than this. */
#define ROUNDS 12

static struct vmimg_disk *open_damaged(
	struct vmimg_io *io, const char *format, struct vmimg_error *err)
{
	struct vmimg_open how = { .format = format, .alone = true, .lenient = true };

	return vmimg_disk_open(io, &how, err);
}

static uint64_t fixes(const struct vmimg_report *report)
{
	return report->count[VMIMG_FINDING_NOTE] + report->count[VMIMG_FINDING_LEAK] +
		report->count[VMIMG_FINDING_CORRUPTION];
}

/* *again: something was fixed, and more may be found behind it. */
static int one_round(struct vmimg_io *stage, const char *format, struct vmimg_report *fixed,
	bool *again, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = open_damaged(stage, format, err);
	uint64_t before = fixes(fixed);

	if (!disk)
		return -1;
	if (!disk->format->repair)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"format %s cannot be repaired in place: name a new file with -o",
			disk->format->name);
	if (disk->format->repair(disk, stage, fixed, err))
		return -1;
	*again = fixes(fixed) > before;
	return 0;
}

static int survey(struct vmimg_io *stage, const char *format, const struct vmimg_run_how *how,
	struct vmimg_lost *lost, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = open_damaged(stage, format, err);

	return disk ? vmimg_survey_run(disk, how, lost, err) : -1;
}

int vmimg_repair_check(struct vmimg_io *io, const char *format, const struct vmimg_run_how *how,
	struct vmimg_report *report, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = open_damaged(io, format, err);

	if (!disk)
		return -1;
	return disk->format->check ? vmimg_check_run(disk, how, report, err) : 0;
}

int vmimg_repair_run(struct vmimg_io *stage, const char *format, const struct vmimg_run_how *how,
	struct vmimg_repair *repair, struct vmimg_error *err)
{
	bool again = true;

	if (survey(stage, format, how, &repair->lost, err))
		return -1;
	for (unsigned round = 0; again && round < ROUNDS; round++)
		if (one_round(stage, format, &repair->fixed, &again, err))
			return -1;
	return vmimg_repair_check(stage, format, how, &repair->left, err);
}

int vmimg_repair_leaks(struct vmimg_io *stage, const char *format, struct vmimg_report *fixed,
	struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = open_damaged(stage, format, err);

	if (!disk)
		return -1;
	return disk->format->repair_leaks ? disk->format->repair_leaks(disk, stage, fixed, err) : 0;
}

void vmimg_repair_done(struct vmimg_repair *repair)
{
	vmimg_lost_done(&repair->lost);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What check says of an image, for tests. */
#pragma once
#include <stdlib.h>
#include "disk/disk.h"
#include "disk/report.h"
#include "engine/check.h"
#include "util/auto.h"

/* 0 sound, 1 leaks, 2 worse. resolver: finds its other files; NULL: it has none that matter. */
static inline int image_check_whole(struct vmimg_io *io, const char *format,
	const struct vmimg_resolver *resolver, struct vmimg_error *err)
{
	struct vmimg_open options = {
		.format = format, .resolver = resolver, .alone = !resolver, .lenient = true
	};
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = vmimg_disk_open(io, &options, err);
	VMIMG_AUTO(free) struct vmimg_report *report = vmimg_new(struct vmimg_report, err);
	struct vmimg_run_how how = { .threads = 1 };

	if (!disk || !report)
		return 2;
	if (!disk->format->check)
		return 0;
	if (vmimg_check_run(disk, &how, report, err))
		return 2;
	if (report->count[VMIMG_FINDING_CORRUPTION] || report->count[VMIMG_FINDING_ERROR]) {
		vmimg_fail(err, VMIMG_ECORRUPT, "check: %s", report->kept[0].text);
		return 2;
	}
	return report->count[VMIMG_FINDING_LEAK] != 0;
}

static inline int image_check(struct vmimg_io *io, const char *format, struct vmimg_error *err)
{
	return image_check_whole(io, format, NULL, err);
}

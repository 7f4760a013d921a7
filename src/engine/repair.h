/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair of an image where it is: the driver's fixes are made to a staged copy of the tables, round
 * after round until there is nothing left to fix, and only what came out of it is written, under an
 * undo journal. Nothing is written when any of it fails.
 */
#pragma once
#include "disk/report.h"
#include "engine/salvage.h"

struct vmimg_repair {
	struct vmimg_report fixed; /* what the driver did */
	struct vmimg_report left;  /* what check still finds */
	struct vmimg_lost lost; /* guest ranges that could not be read before, and are zero now */
};

/* The image in stage (io/stage.h), which takes the fixes. format: NULL: detect. VMIMG_EUNSUPPORTED
 * when the format has no repair. */
int vmimg_repair_run(struct vmimg_io *stage, const char *format, const struct vmimg_run_how *how,
	struct vmimg_repair *repair, struct vmimg_error *err) VMIMG_CHECKED;
/* Gives lost space back, whatever else is wrong; nothing where the format has no such repair. */
int vmimg_repair_leaks(struct vmimg_io *stage, const char *format, struct vmimg_report *fixed,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_repair_done(struct vmimg_repair *repair);
/* What check finds in the image in io, of that format. */
int vmimg_repair_check(struct vmimg_io *io, const char *format, const struct vmimg_run_how *how,
	struct vmimg_report *report, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* The repair of an image where it is, from the lock to the removal of the undo journal. */
#pragma once
#include "cli/open.h"
#include "engine/repair.h"

struct cli_repair {
	bool dry_run; /* nothing is written */
	bool leaks;   /* only when leaks are all that there is to fix; */
	bool beside;  /* or they alone, beside what is worse */
	bool copied;  /* the undo file may have been made for where the image lay before */
	struct vmimg_repair did; /* to be given to vmimg_repair_done */
	const char *format;
	bool rolled_back; /* a repair that was cut off was undone first */
	bool held_back;   /* there was more to fix than leaks, so nothing was written */
};

/* Opens image; what is open stays so, after a failure too. */
int cli_repair_in_place(struct cli_image *image, const char *path, const struct cli_common *common,
	struct cli_repair *repair, const struct vmimg_run_how *how,
	struct vmimg_error *err) VMIMG_CHECKED;

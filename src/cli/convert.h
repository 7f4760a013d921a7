/* SPDX-License-Identifier: Apache-2.0 */
/* What convert can be told; dd is another spelling of some of it. */
#pragma once
#include "cli/sources.h"
#include "cli/target.h"

struct cli_convert_args {
	struct cli_common common;
	struct cli_target_args target;
	const char *snapshot;
	struct cli_size sparse; /* -S */
	const char *digest;     /* --digest: an algorithm */
	bool bitmaps;           /* --bitmaps: asked for by name */
	bool skip_broken;       /* those that were not closed are left out */
	bool salvage;           /* what cannot be read becomes zeroes */
	bool keep_chain;
	bool in_place; /* --in-place: the data stays where it is */
	bool into;     /* with target.in_place: what DST has elsewhere stays, and window.pad is where
			* in DST it begins */
	struct cli_window window;
};

/* Words: SRC... DST. The exit code, or -1 with err set. */
int cli_convert_run(const struct cli_call *call, struct vmimg_error *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* Disks written into an image that is there, of any format that takes new content. */
#pragma once
#include "cli/sources.h"
#include "engine/convert.h"

struct cli_lay {
	const char *const *from;
	size_t from_count;
	const char *to;
	const char *format;   /* of what is at `to`; NULL: detect */
	const char *snapshot; /* of the only source; may be NULL */
	struct cli_window window; /* pad: where it begins in `to`, and no zeroes */
	bool grow;                /* a raw file becomes longer when it is too short */
};

struct cli_laid {
	const char *from_format, *to_format;
	uint64_t size; /* of the disk that was written into */
	struct vmimg_converted done;
	double seconds;
};

int cli_lay_run(const struct cli_lay *lay, const struct cli_common *common,
	struct cli_laid *laid, struct vmimg_error *err) VMIMG_CHECKED;

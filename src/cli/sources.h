/* SPDX-License-Identifier: Apache-2.0 */
/* What a conversion reads: one image, or several one after the other, or a stretch of that. */
#pragma once
#include "cli/open.h"

struct cli_sources {
	struct cli_image *images; /* the first one's files are those of all */
	size_t count;
	struct vmimg_disk *joined; /* NULL: the only image's disk is read as it is */
};

/* Bytes of what the images are together; a stretch that is longer than that ends with it. */
struct cli_window {
	uint64_t pad; /* zeroes that come before */
	uint64_t skip;
	struct cli_size length; /* not given: to the end */
	bool strict;            /* to skip more than there is is an error */
};

int cli_sources_open(struct cli_sources *sources, const char *const *paths, size_t count,
	const struct cli_window *window, const struct cli_common *common,
	const struct cli_open *how, struct vmimg_error *err) VMIMG_CHECKED;
void cli_sources_close(struct cli_sources *sources);
static inline struct vmimg_disk *cli_sources_disk(const struct cli_sources *sources)
{
	return sources->joined ? sources->joined : sources->images[0].disk;
}

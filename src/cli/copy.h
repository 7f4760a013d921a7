/* SPDX-License-Identifier: Apache-2.0 */
/* A disk as a new image, from the first look at its name to its publication. */
#pragma once
#include "cli/target.h"
#include "engine/convert.h"

struct cli_copy {
	struct vmimg_disk *disk;
	const struct cli_files *files; /* opened for it: none of them is replaced */
	const char *path;
	const struct vmimg_format *format;
	struct cli_target_args *target;
};

/* What the disk's layer lacks is left to target->backing, where there is one. */
int cli_copy_run(const struct cli_copy *copy, const struct cli_common *common,
	struct vmimg_converted *done, struct vmimg_error *err) VMIMG_CHECKED;
/* Makes the new image one of the same kind as disk, unless format (NULL: the same) says otherwise.
 */
int cli_copy_like(struct cli_copy *copy, struct vmimg_disk *disk, const char *format,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The name by which disk knows its parent; NULL: it has none. */
const char *cli_parent_name(const struct vmimg_disk *disk);
/* Bytes of the guest that the layer itself has as data. */
int cli_count_data(struct vmimg_disk *disk, uint64_t *data, struct vmimg_error *err) VMIMG_CHECKED;

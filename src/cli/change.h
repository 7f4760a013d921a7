/* SPDX-License-Identifier: Apache-2.0 */
/* Opening an image to change it where it is. */
#pragma once
#include "cli/open.h"
#include "disk/edit.h"

/* Opens path for writing, locked as QEMU locks, its parents for reading. Only what is sound is
 * changed. */
int cli_change_open(struct cli_image *image, const char *path, const struct cli_common *common,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The same, and the parent that is the file of that id can be written as well. */
int cli_change_open_with(struct cli_image *image, const char *path, const struct cli_common *common,
	const struct cli_file_id *parent, struct vmimg_error *err) VMIMG_CHECKED;
/* The image without its parents, which may be missing. */
int cli_change_open_alone(struct cli_image *image, const char *path,
	const struct cli_common *common, struct vmimg_error *err) VMIMG_CHECKED;
/* The same as cli_change_open, but a change that was cut off is undone first. */
int cli_change_open_undone(struct cli_image *image, const char *path,
	const struct cli_common *common, struct vmimg_error *err) VMIMG_CHECKED;
/* VMIMG_EREFUSED for an image with internal snapshots: they go with the file, and what they lack is
 * read from its backing file as well, which would be something else afterwards. */
int cli_change_refuse_snapshots(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
/* For an operation that the format does not have. */
int cli_change_unsupported(
	const struct cli_image *image, const char *what, struct vmimg_error *err);

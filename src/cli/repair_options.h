/* SPDX-License-Identifier: Apache-2.0 */
/* The options by which a new image becomes like an old one. */
#pragma once
#include "cli/target.h"

/* Fills in args->options alone: the format's own, and not those that name files. */
int cli_options_like(struct cli_target_args *args, struct vmimg_disk *disk,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Fills in args->options, ->compress and the backing file from what disk is. VMIMG_EUNSUPPORTED
 * when a new image cannot take its place. */
int cli_repair_options(struct cli_target_args *args, struct vmimg_disk *disk, bool packed,
	struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* What a conversion leaves behind, and what its output could be mistaken for. */
#pragma once
#include "cli/cli.h"

/* An array of objects {what, text}, one for each thing that the target cannot hold. NULL with err
 * set when the source cannot be described. */
json_t *cli_lost(
	struct vmimg_disk *source, bool carries_bitmaps, struct vmimg_error *err) VMIMG_CHECKED;
void cli_print_lost(const json_t *lost);
/* Warns when the guest's own first bytes look like an image: as a raw file they would be one. */
void cli_warn_disguise(struct vmimg_disk *disk, const char *output);

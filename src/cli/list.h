/* SPDX-License-Identifier: Apache-2.0 */
/* What an image says of itself in one list. */
#pragma once
#include "cli/open.h"

/* Opens the image alone. *root: an object with that array of its info, empty if there is none. It
 * is the caller's. */
int cli_list_of(struct cli_image *image, const char *filename, const struct cli_common *common,
	const char *key, json_t **root, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* What an image holds, moved down. */
#pragma once
#include "cli/cli.h"

/* Into the next parent, quietly; the image stays as it is. */
int cli_commit_down(
	const char *path, const struct cli_common *common, struct vmimg_error *err) VMIMG_CHECKED;

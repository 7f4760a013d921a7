/* SPDX-License-Identifier: Apache-2.0 */
/* A conversion of every layer of a chain. */
#pragma once
#include "cli/target.h"

/* The top layer becomes `to`, the others files beside it, with the names of their sources and the
 * suffix of `to`. All there or, after an error, none. The exit code, or -1. */
int cli_keep_chain(const char *from, const char *to, const struct vmimg_format *format,
	const struct cli_target_args *target, const struct cli_common *common,
	struct vmimg_error *err) VMIMG_CHECKED;

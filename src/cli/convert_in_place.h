/* SPDX-License-Identifier: Apache-2.0 */
/* Another format around data that stays where it is: nothing of it is read or written. */
#pragma once
#include "cli/target.h"

/* Between raw, fixed VHD and VMDK with one flat extent. `to` may be NULL: the file keeps its name.
 * The exit code, or -1. Whatever moment a crash picks, the disk is whole under the old name or the
 * new, maybe under both. */
int cli_convert_in_place(const char *from, const char *to, const struct vmimg_format *format,
	const struct cli_target_args *args, const struct cli_common *common,
	struct vmimg_error *err) VMIMG_CHECKED;

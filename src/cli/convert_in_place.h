/* SPDX-License-Identifier: Apache-2.0 */
/* Another format around data that stays where it is: nothing of it is read or written, but for what
 * the head of QCOW2, VHDX or VDI lies over. */
#pragma once
#include "cli/target.h"

/* Between raw, fixed VHD and VMDK with one flat extent; from raw to QCOW2, VHDX and VDI. `to` may be NULL: the file keeps its name.
 * The exit code, or -1. Whatever moment a crash picks, the disk is whole under the old name or the
 * new, maybe under both; or the same command given again makes it so. */
int cli_convert_in_place(const char *from, const char *to, const struct vmimg_format *format,
	const struct cli_target_args *args, const struct cli_common *common,
	struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel and the ramdisk that a medium or a disk starts, as files for direct boot. */
#pragma once
#include "cli/open.h"

/* Into a folder, which is made when it is not there: vmlinuz, initrd.img and, when the disk's boot
 * loader has any, the arguments as cmdline. */
int cli_kernel_extract(const char *image, const char *folder, bool force,
	const struct cli_common *common, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* Files that belong to a machine and are no disks: kernels (AKI) and ramdisks (ARI). */
#pragma once
#include "cli/cli.h"
#include "inspect/fs.h"
#include "io/io.h"

/* The report of info on io; NULL with VMIMG_EFORMAT when it is neither. */
json_t *cli_describe_artifact(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
/* Adds to the report on a raw disk that is one file system from end to end, an AMI, what that is.
 */
void cli_describe_ami(struct vmimg_io *io, const struct vmimg_fs_info *info, json_t *root);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots for formats that have none inside: each is a file of its own, DISK@NAME.ext beside
 * DISK.ext, and the disk is a child of the newest. The disk's own name always is that of the active
 * state.
 */
#pragma once
#include "cli/cli.h"

/* Each is the exit code, or -1. A crash leaves at worst a second name, or a file that nobody builds
 * on. */
int cli_external_create(const char *path, const char *name, const struct cli_common *common,
	struct vmimg_error *err) VMIMG_CHECKED;
/* A new empty child over the snapshot takes the place of the active state, which is lost. */
int cli_external_apply(const char *path, const char *name, const struct cli_common *common,
	struct vmimg_error *err) VMIMG_CHECKED;
/* What the snapshot holds goes up into its child, or the child's down, whichever is less. */
int cli_external_delete(const char *path, const char *name, const struct cli_common *common,
	struct vmimg_error *err) VMIMG_CHECKED;
/* As info lists internal ones; the caller json_decref()s it. */
int cli_external_list(const char *path, const struct cli_common *common, json_t **list,
	struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether an image may be taken from strangers: the verdict that info gives, for services that
 * accept uploads. Safe is what is one file, of one format, sound, and readable by every program in
 * the same way. All else has a reason, as a code for programs and a text for people.
 */
#pragma once
#include <jansson.h>
#include "disk/disk.h"

/* Adds "safe" and "unsafe-reasons" to info's report of the disk. stated: the format that the user
 * insists on; NULL: it was detected. */
int cli_gate_disk(json_t *root, struct vmimg_disk *disk, const char *stated,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The same for what is no disk image: a bundle, a kernel, an image that cannot be opened. */
void cli_gate_refuse(json_t *root, const char *code, const char *text);
/* For an image that was not opened: a report with nothing but the verdict. NULL: the error is not
 * the image's, but of the system or the command line. */
json_t *cli_gate_failed(const char *path, const struct vmimg_error *why);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of new files that appear together, or not at all. Each is written without a name
 * (O_TMPFILE; where that is not to be had, under a hidden temporary name) in the folder it is meant
 * for. Publishing syncs all, names the siblings first and the main file last, and syncs the folder.
 * A device, pipe or terminal is written in place.
 */
#pragma once
#include "io/io.h"

struct vmimg_output;

struct vmimg_output_how {
	bool replace;  /* an existing file may be replaced; otherwise VMIMG_EEXIST, found at once */
	bool in_place; /* an existing file is written to as it is, like a device: its size stays */
	bool no_sync;  /* do not wait for storage: a crash of the machine may leave anything */
};

/* "-" is standard output. */
struct vmimg_output *vmimg_output_open(const char *path, const struct vmimg_output_how *how,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Borrowed; NULL once published. */
struct vmimg_io *vmimg_output_io(struct vmimg_output *output);
/* The last component of the main file's name. */
const char *vmimg_output_name(const struct vmimg_output *output);
/* One more file, in the same folder. The caller unrefs it. */
struct vmimg_io *vmimg_output_sibling(
	struct vmimg_output *output, const char *name, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_output_publish(struct vmimg_output *output, struct vmimg_error *err) VMIMG_CHECKED;
/* Discards what was not published. */
void vmimg_output_close(struct vmimg_output *output);
VMIMG_AUTO_DEFINE(vmimg_output_close, struct vmimg_output *)

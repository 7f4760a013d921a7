/* SPDX-License-Identifier: Apache-2.0 */
/* Every file that is opened for an image passes through here: it is locked as QEMU would, and
 * remembered, so that no output is put in its place. */
#pragma once
#include <sys/stat.h>
#include "cli/cli.h"
#include "io/lock.h"

/* The warning that goes with cut_off. */
#define CLI_CUT_OFF "a change of it in place was cut off: vmimg repair --in-place undoes that"

struct cli_file_id {
	uint64_t id[2]; /* as in struct vmimg_io */
};

struct cli_files {
	struct vmimg_resolver resolver; /* to be given to vmimg_disk_open */
	const struct vmimg_resolver *policy;
	enum vmimg_lock mode;
	bool share;
	bool quiet;
	bool cut_off;                      /* a change of the image was, and can be undone */
	bool searching;                    /* files are only looked into, to find the right one */
	const struct cli_file_id *written; /* a file that is to be opened for writing; NULL: none */
	const struct vmimg_io *image;      /* one that is open for writing; NULL: none */
	struct cli_file_id *ids;
	size_t count, cap;
};

void cli_files_init(struct cli_files *files, const struct cli_common *common,
	const struct vmimg_resolver *policy, enum vmimg_lock mode);
void cli_files_done(struct cli_files *files);
/* Locks and remembers io. */
int cli_files_add(
	struct cli_files *files, struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
bool cli_files_has(const struct cli_files *files, const struct stat *st);

/* SPDX-License-Identifier: Apache-2.0 */
/* Every file that is opened for an image passes through here: it is locked as QEMU would, and
 * remembered, so that no output is put in its place. */
#pragma once
#include <sys/stat.h>
#include "cli/cli.h"
#include "io/lock.h"

/* What there is to say of a change in place that was cut off. */
struct cli_undone {
	char note[240]; /* "": nothing, for there was none */
};

struct cli_file_id {
	uint64_t id[2]; /* as in struct vmimg_io */
};

struct cli_files {
	struct vmimg_resolver resolver; /* to be given to vmimg_disk_open */
	const struct vmimg_resolver *policy;
	enum vmimg_lock mode;
	bool share;
	bool quiet;
	struct cli_undone undone;          /* of the image itself */
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
/* The file as it was before a change that was cut off; one without such a change is itself. Owned
 * by the caller. */
struct vmimg_io *cli_files_undone(const struct cli_files *files, struct vmimg_io *io,
	struct cli_undone *undone, struct vmimg_error *err) VMIMG_CHECKED;
bool cli_files_has(const struct cli_files *files, const struct stat *st);
/* Whether path leads to the file, or the device, that io is. */
bool cli_is_at(const char *path, const struct vmimg_io *io);
/* VMIMG_EINVAL when an output of that name ("-": standard output) would take the place of one. */
int cli_files_spare(
	const struct cli_files *files, const char *path, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* An io over a file descriptor: a regular file or a block device, in page-cache mode. */
#pragma once
#include "io/io.h"

/* Opens path for reading, or reading and writing. Anything that is neither a regular file nor a
 * block device is VMIMG_EFORMAT, and a FIFO does not block. */
struct vmimg_io *vmimg_file_open(
	const char *path, bool writable, struct vmimg_error *err) VMIMG_CHECKED;
/* Takes over fd, also when it fails. name is for messages. */
struct vmimg_io *vmimg_file_from_fd(
	int fd, bool writable, const char *name, struct vmimg_error *err) VMIMG_CHECKED;
/* The same, for reading, remembering the path that fd was opened by. */
struct vmimg_io *vmimg_file_from_path_fd(
	int fd, const char *path, struct vmimg_error *err) VMIMG_CHECKED;
/* The same file, opened anew for reading and writing: whoever chose it has opened it for reading,
 * so no name is looked up again. */
struct vmimg_io *vmimg_file_reopen(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
/* The file will be synced at the end: begin to write it back early. Before the first write. */
void vmimg_file_pace(struct vmimg_io *io);
/* The file is new: room for each large write is asked for as a whole, where that is cheaper than to
 * have it found block by block (ext4). */
void vmimg_file_allocate(struct vmimg_io *io);
/* The path it was opened by, as given; NULL when io is not a file opened by path. */
const char *vmimg_file_path(const struct vmimg_io *io);
/* The descriptor, still owned by the io; -1 when io is not a file. */
int vmimg_file_fd(const struct vmimg_io *io);
/* What has happened to names in the folder of path is in storage when this returns. */
int vmimg_file_sync_folder(const char *path, struct vmimg_error *err) VMIMG_CHECKED;

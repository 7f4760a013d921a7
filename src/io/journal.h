/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applies staged changes to a file so that a crash at any moment leaves the old bytes or the new
 * ones. The old bytes of every page that will change go into NAME.vmimg-undo beside the file first;
 * that is synced; then the file is written and synced; then the undo file is removed. One that is
 * found later is either whole, and takes the file back to what it was, or was never finished, and
 * then the file was never touched.
 *
 *     0    "VMIMGUND", version 1, file's inode, size before, size after, count of pages
 *     512  count times: offset in the file, CRC-32C of offset and page, page of 4096 bytes
 *     end  "VMIMGEND", CRC-32C of all before
 */
#pragma once
#include "io/io.h"

struct vmimg_journal;

/* For the image at path, which io is, opened for writing and locked. Opens its folder, touches
 * nothing. */
struct vmimg_journal *vmimg_journal_open(
	const char *path, struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_journal_close(struct vmimg_journal *journal);
VMIMG_AUTO_DEFINE(vmimg_journal_close, struct vmimg_journal *)
/* Takes the image back to before a change that was cut off. *done: there was one. */
int vmimg_journal_roll_back(
	struct vmimg_journal *journal, bool *done, struct vmimg_error *err) VMIMG_CHECKED;
/* Writes what is staged over the image. When that fails, the image is as it was; where even that
 * cannot be reached, the message says so and the undo file stays. */
int vmimg_journal_apply(struct vmimg_journal *journal, const struct vmimg_io *stage,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Whether a change of that file was cut off, and its undo file is still there. */
bool vmimg_journal_left(struct vmimg_io *io);
/* The error of those who will not change such a file. 0: there is none. */
int vmimg_journal_refuse(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
/* The undo file's name, in the image's folder. */
const char *vmimg_journal_name(const struct vmimg_journal *journal);

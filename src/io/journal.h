/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes a file so that a crash at any moment leaves the old bytes or the new ones. The old bytes
 * of every page that will change go into NAME.vmimg-undo beside the file first; that is synced;
 * then the file is written and synced; then the undo file is removed. One that is found later is
 * either whole, and takes the file back to what it was, or was never finished, and then the file
 * was never touched.
 *
 *     0    "VMIMGUND", version 2, file's inode, size before, size after, count of pages, from where
 *          on the file was zero (absent in version 1: it was not)
 *     512  count times: offset in the file, CRC-32C of offset and page, page of 4096 bytes
 *     end  "VMIMGEND", CRC-32C of all before
 */
#pragma once
#include "io/io.h"
#include "io/stage.h"

struct vmimg_journal;

/* What is about to change. */
struct vmimg_journal_change {
	uint64_t after;     /* the largest size that the file will have meanwhile */
	uint64_t zero_from; /* from there on it is zero up to its end now, and may become shorter */
	const struct vmimg_stage_page *pages; /* below zero_from, all that change: `at` counts */
	size_t count;
};

/* For the image at path, which io is, opened for writing and locked. Opens its folder, touches
 * nothing. */
struct vmimg_journal *vmimg_journal_open(
	const char *path, struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_journal_close(struct vmimg_journal *journal);
VMIMG_AUTO_DEFINE(vmimg_journal_close, struct vmimg_journal *)
/* Takes the image back to before a change that was cut off. *done: there was one. */
int vmimg_journal_roll_back(
	struct vmimg_journal *journal, bool *done, struct vmimg_error *err) VMIMG_CHECKED;
/* What undoes the change is in storage when this returns: the image may be written to. Then comes
 * one of the two below. */
int vmimg_journal_begin(struct vmimg_journal *journal, const struct vmimg_journal_change *change,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The image, as it is now, is brought to storage and stays. When that fails, it is as it was. */
int vmimg_journal_end(struct vmimg_journal *journal, struct vmimg_error *err) VMIMG_CHECKED;
/* The change failed with err: back to before it. Returns -1, err saying how that went. */
int vmimg_journal_go_back(struct vmimg_journal *journal, struct vmimg_error *err);
/* All of that for what is staged. When that fails, the image is as it was; where even that
 * cannot be reached, the message says so and the undo file stays. */
int vmimg_journal_apply(struct vmimg_journal *journal, const struct vmimg_io *stage,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The image may lie elsewhere than where the undo file was made: it goes back all the same. */
void vmimg_journal_is_copied(struct vmimg_journal *journal);
/* For those who read: the file as it was before a change that was cut off, undone in memory; where
 * there is none, io itself. Shared, or owned by the caller alike. What lies beside it and cannot be
 * read, or was made for another file (VMIMG_EREFUSED), is an error. */
struct vmimg_io *vmimg_journal_view(
	struct vmimg_io *io, bool *cut_off, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether a change of that file was cut off, and its undo file is still there. */
bool vmimg_journal_left(struct vmimg_io *io);
/* The error of those who will not change such a file. 0: there is none. */
int vmimg_journal_refuse(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
/* The undo file's name, in the image's folder. */
const char *vmimg_journal_name(const struct vmimg_journal *journal);

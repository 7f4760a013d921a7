/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changes images in place, for every format that takes new content (disk/edit.h). Each is a
 * conversion of a view (engine/view.h) into an image that is there already. But for
 * vmimg_lay_run and vmimg_write_run, the guest's content is the same before, after and at any moment between.
 */
#pragma once
#include "disk/edit.h"
#include "engine/convert.h"
#include "engine/trim.h"

/*
 * What the layers above base hold goes into base, one of top's parents, whose io can be written and
 * which is at least as large as top. When this returns it is in storage; the layers above are as
 * they were.
 */
int vmimg_commit_run(struct vmimg_disk *top, struct vmimg_disk *base,
	const struct vmimg_run_how *how, struct vmimg_converted *done,
	struct vmimg_error *err) VMIMG_CHECKED;

/*
 * Makes top hold all in which its parents differ from parent (NULL: from nothing), so that it can
 * be set upon that. top stays on its old parents.
 */
int vmimg_rebase_run(struct vmimg_disk *top, struct vmimg_disk *parent,
	const struct vmimg_run_how *how, struct vmimg_converted *done,
	struct vmimg_error *err) VMIMG_CHECKED;

/*
 * Gives the space back of all that is zero, or unused, in the layer itself (trim->inner, in place).
 * done->bytes_zero: how much that was. The file may then have gaps, which squeeze closes.
 */
int vmimg_compact_run(struct vmimg_trim *trim, const struct vmimg_run_how *how,
	struct vmimg_converted *done, struct vmimg_error *err) VMIMG_CHECKED;

/* Writes source, all of it, over what the guest sees of disk from byte `at` on, where it ends inside.
 * It is in storage when this returns. */
int vmimg_lay_run(struct vmimg_disk *disk, struct vmimg_disk *source, uint64_t at,
	const struct vmimg_run_how *how, struct vmimg_converted *done,
	struct vmimg_error *err) VMIMG_CHECKED;

/* Writes what has been changed in stage (io/stage.h), which lies over what the guest sees of disk.
 * It is in storage when this returns. */
int vmimg_write_run(
	struct vmimg_disk *disk, struct vmimg_io *stage, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* Repair through the public interface: staged in memory, written under the undo journal. */
#include "api/work.h"
#include "api/checked.h"
#include "engine/repair.h"
#include "io/file.h"
#include "io/journal.h"
#include "io/lock.h"
#include "io/stage.h"

static const char *find_format(struct vmimg_io *io, const char *named, struct vmimg_error *err)
{
	const char *found = named;

	return named || !vmimg_detect(io, &found, err) ? found : NULL;
}

static int fix(struct vmimg_io *io, struct vmimg_journal *journal, const char *named,
	const struct vmimg_work *work, struct vmimg_repair *repair, struct vmimg_error *err)
{
	const char *format = find_format(io, named, err);
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *stage = format ? vmimg_stage_open(io, err) : NULL;
	struct api_work how;

	api_work_init(&how, work);
	return stage && !vmimg_repair_run(stage, format, &how.how, repair, err) &&
			!vmimg_journal_apply(journal, stage, err)
		? 0
		: -1;
}

static int repair_file(const char *path, const char *format, const struct vmimg_work *work,
	struct vmimg_repair *repair, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_file_open(path, true, err);
	VMIMG_AUTO(vmimg_journal_close) struct vmimg_journal *journal = NULL;
	bool undone;

	if (!io || vmimg_io_lock(io, VMIMG_LOCK_WRITE, err))
		return -1;
	journal = vmimg_journal_open(path, io, err);
	if (!journal || vmimg_journal_roll_back(journal, &undone, err))
		return -1;
	return fix(io, journal, format, work, repair, err);
}

int vmimg_image_repair(const char *path, const char *format, const struct vmimg_work *work,
	void (*each)(void *ctx, const struct vmimg_finding *fixed), void *ctx,
	struct vmimg_checked *left, struct vmimg_error *err)
{
	struct vmimg_repair *repair = vmimg_new(struct vmimg_repair, err);
	int failed = !repair || repair_file(path, format, work, repair, err);

	if (!failed) {
		api_tell(&repair->fixed, each, ctx);
		*left = api_checked(&repair->left);
	}
	if (repair)
		vmimg_repair_done(repair);
	free(repair);
	return failed ? -1 : 0;
}

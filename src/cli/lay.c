/* SPDX-License-Identifier: Apache-2.0 */
/* The image that is written is opened first, without the sandbox that the sources are read in. */
#include "cli/lay.h"
#include <inttypes.h>
#include <string.h>
#include "cli/change.h"
#include "cli/progress.h"
#include "engine/in_place.h"
#include "util/num.h"

struct job {
	const struct cli_lay *lay;
	struct cli_image into;
	struct cli_sources sources;
};

/* Each of them is locked, so that one would be told to be in use by this very program. */
static int refuse_same(const struct cli_lay *lay, struct vmimg_error *err)
{
	struct stat to, from;

	for (size_t i = 0; i < lay->from_count; i++)
		if (!stat(lay->from[i], &from) && !stat(lay->to, &to) &&
			from.st_ino == to.st_ino && from.st_dev == to.st_dev)
			return vmimg_fail(err, VMIMG_EINVAL,
				"%.100s is being read: it cannot be the output as well", lay->to);
	return 0;
}

/* -f is the sources' format. */
static int open_target(struct job *job, const struct cli_common *common, struct vmimg_error *err)
{
	struct cli_common of_target = *common;

	of_target.format = job->lay->format;
	of_target.sandbox = NULL;
	return cli_change_open(&job->into, job->lay->to, &of_target, err);
}

static int open_sources(struct job *job, const struct cli_common *common, struct vmimg_error *err)
{
	const struct cli_lay *lay = job->lay;
	struct cli_window window = lay->window;
	struct cli_open how = { .format = common->format,
		.snapshot = lay->snapshot,
		.spool_for = lay->to,
		.refs = CLI_REFS_BESIDE };

	window.pad = 0;
	return cli_sources_open(
		&job->sources, lay->from, lay->from_count, &window, common, &how, err);
}

/* A raw file may grow, as dd has it grow. */
static int make_room(struct job *job, uint64_t end, struct vmimg_error *err)
{
	struct vmimg_disk *disk = job->into.disk;
	bool is_file = !strcmp(disk->format->name, "raw") && !disk->io->is_device;

	if (end <= disk->size)
		return 0;
	if (!job->lay->grow || !is_file)
		return vmimg_fail(err, VMIMG_EINVAL,
			"%" PRIu64 " bytes from byte %" PRIu64
			" on end past the disk in %.80s, which has %" PRIu64 " bytes%s",
			end - job->lay->window.pad, job->lay->window.pad, job->lay->to, disk->size,
			is_file || disk->io->is_device ? "" : " (vmimg resize makes it larger)");
	if (disk->format->edit->resize(disk, end, err))
		return -1;
	disk->size = end; /* all that a raw disk knows of itself */
	return 0;
}

static int lay_over(struct job *job, const struct cli_common *common, struct cli_laid *laid,
	struct vmimg_error *err)
{
	struct vmimg_disk *source = cli_sources_disk(&job->sources);
	uint64_t at = job->lay->window.pad, end;
	struct cli_progress progress;
	struct vmimg_run_how how = { .threads = common->threads,
		.cancel = cli_catch_signals(),
		.progress = cli_progress_step,
		.progress_ctx = &progress };
	int failed;

	if (!vmimg_add(at, source->size, &end))
		return vmimg_fail(err, VMIMG_EINVAL, "it would begin at byte %" PRIu64, at);
	if (make_room(job, end, err))
		return -1;
	laid->from_format = source->format->name;
	laid->to_format = job->into.disk->format->name;
	laid->size = job->into.disk->size;
	if (!source->size)
		return 0;
	cli_progress_begin(&progress, common, false);
	failed = vmimg_lay_run(job->into.disk, source, at, &how, &laid->done, err);
	laid->seconds = cli_seconds_since(&progress.begun);
	cli_progress_end(&progress);
	return failed;
}

int cli_lay_run(const struct cli_lay *lay, const struct cli_common *common, struct cli_laid *laid,
	struct vmimg_error *err)
{
	struct job job = { .lay = lay };
	int failed = refuse_same(lay, err) || open_target(&job, common, err) ||
		open_sources(&job, common, err) || lay_over(&job, common, laid, err);

	cli_sources_close(&job.sources);
	cli_image_close(&job.into);
	return failed ? -1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A callback that may say no becomes a flag that the workers look at. */
#include "api/work.h"

static void step(void *ctx, uint64_t done, uint64_t total)
{
	struct api_work *work = ctx;

	if (work->wanted->progress(work->wanted->ctx, done, total))
		atomic_store(&work->cancel, true);
}

void api_work_init(struct api_work *work, const struct vmimg_work *wanted)
{
	static const struct vmimg_work nothing;

	work->wanted = wanted ? wanted : &nothing;
	atomic_init(&work->cancel, false);
	work->how = (struct vmimg_run_how){ .threads = work->wanted->threads,
		.cancel = &work->cancel,
		.progress = work->wanted->progress ? step : NULL,
		.progress_ctx = work };
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one way that guest data is worked through: N identical workers, each taking a deal from the
 * source through three steps,
 *
 *     work   many at once
 *     turn   one at a time, in guest order
 *     after  many at once
 *
 * There is no dispatcher and there are no queues, so memory is N times what one worker holds. The
 * first failure (first in guest order, among those met) stops all; it cannot hang.
 */
#pragma once
#include <stdatomic.h>
#include "engine/source.h"

struct vmimg_flow_ops {
	void *(*worker_new)(void *ctx, struct vmimg_error *);
	void (*worker_free)(void *worker); /* accepts NULL */
	int (*work)(void *ctx, void *worker, const struct vmimg_deal *, struct vmimg_error *);
	/* NULL: nothing to do in order. May set *stop: enough was seen. */
	int (*turn)(void *ctx, void *worker, const struct vmimg_deal *, bool *stop,
		struct vmimg_error *);
	int (*after)(void *ctx, void *worker, const struct vmimg_deal *, struct vmimg_error *);
};

/* How an operation is to be run. All optional: zero is fine. */
struct vmimg_run_how {
	unsigned threads;          /* 0: one for each processor, at least 2 */
	const atomic_bool *cancel; /* becomes true when the user gives up */
	/* Called one at a time, in order, with guest bytes done. */
	void (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *progress_ctx;
};

int vmimg_flow_run(struct vmimg_source *source, const struct vmimg_flow_ops *ops, void *ctx,
	const struct vmimg_run_how *how, struct vmimg_error *err) VMIMG_CHECKED;
unsigned vmimg_flow_threads(const struct vmimg_run_how *how);

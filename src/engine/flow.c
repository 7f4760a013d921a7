/* SPDX-License-Identifier: Apache-2.0 */
/* Threads, order, and stopping at the first failure. */
#include "engine/flow.h"
#include <unistd.h>
#include "engine/turnstile.h"
#include "util/limits.h"
#include "util/num.h"

struct flow {
	struct vmimg_source *source;
	const struct vmimg_flow_ops *ops;
	void *ctx;
	const struct vmimg_run_how *how;
	struct vmimg_turnstile turnstile;
	atomic_bool stopping;
	pthread_mutex_t lock; /* guards the failure */
	struct vmimg_error failure;
	uint64_t failed_ticket;
	bool failed;
};

unsigned vmimg_flow_threads(const struct vmimg_run_how *how)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (how->threads)
		return (unsigned)vmimg_min(how->threads, VMIMG_MAX_THREADS);
	return (unsigned)vmimg_min(
		vmimg_max(cores > 0 ? (uint64_t)cores : 1, 2), VMIMG_MAX_THREADS);
}

static void stop(struct flow *flow)
{
	atomic_store(&flow->stopping, true);
	vmimg_turnstile_break(&flow->turnstile);
}

static void fail(struct flow *flow, uint64_t ticket, const struct vmimg_error *err)
{
	pthread_mutex_lock(&flow->lock);
	if (!flow->failed || ticket < flow->failed_ticket) {
		flow->failed = true;
		flow->failed_ticket = ticket;
		flow->failure = *err;
	}
	pthread_mutex_unlock(&flow->lock);
	stop(flow);
}

static bool cancelled(const struct flow *flow, struct vmimg_error *err)
{
	if (!flow->how->cancel || !atomic_load(flow->how->cancel))
		return false;
	vmimg_fail(err, VMIMG_ECANCELLED, "interrupted");
	return true;
}

/* The ordered step. *done when the flow is over for this worker. */
static int take_turn(struct flow *flow, void *worker, const struct vmimg_deal *deal, bool *done,
	struct vmimg_error *err)
{
	bool enough = false;

	if (!vmimg_turnstile_enter(&flow->turnstile, deal->ticket)) {
		*done = true;
		return 0;
	}
	if (flow->ops->turn && flow->ops->turn(flow->ctx, worker, deal, &enough, err))
		return -1;
	if (flow->how->progress)
		flow->how->progress(
			flow->how->progress_ctx, deal->guest + deal->len, flow->source->end);
	if (enough) {
		stop(flow);
		*done = true;
		return 0;
	}
	vmimg_turnstile_leave(&flow->turnstile);
	return 0;
}

static int do_deal(struct flow *flow, void *worker, const struct vmimg_deal *deal, bool *done,
	struct vmimg_error *err)
{
	if (flow->ops->work(flow->ctx, worker, deal, err) ||
		take_turn(flow, worker, deal, done, err))
		return -1;
	return *done || !flow->ops->after ? 0 : flow->ops->after(flow->ctx, worker, deal, err);
}

static void work_through(struct flow *flow, void *worker)
{
	struct vmimg_deal deal = { 0 };
	struct vmimg_error err;
	bool done = false;

	while (!done && !atomic_load(&flow->stopping)) {
		if (cancelled(flow, &err) || vmimg_source_deal(flow->source, &deal, &err)) {
			fail(flow, deal.ticket, &err);
			return;
		}
		if (!deal.len)
			return;
		if (do_deal(flow, worker, &deal, &done, &err)) {
			fail(flow, deal.ticket, &err);
			return;
		}
	}
}

static void *worker_main(void *arg)
{
	struct flow *flow = arg;
	struct vmimg_error err;
	void *worker = flow->ops->worker_new(flow->ctx, &err);

	if (worker)
		work_through(flow, worker);
	else
		fail(flow, 0, &err);
	flow->ops->worker_free(worker);
	return NULL;
}

/* The calling thread is one of the workers; those that cannot be started are done without. */
static void run_workers(struct flow *flow)
{
	pthread_t threads[VMIMG_MAX_THREADS];
	unsigned wanted = vmimg_flow_threads(flow->how), started = 0;

	while (started + 1 < wanted && !pthread_create(&threads[started], NULL, worker_main, flow))
		started++;
	worker_main(flow);
	while (started)
		pthread_join(threads[--started], NULL);
}

int vmimg_flow_run(struct vmimg_source *source, const struct vmimg_flow_ops *ops, void *ctx,
	const struct vmimg_run_how *how, struct vmimg_error *err)
{
	struct flow flow = { .source = source, .ops = ops, .ctx = ctx, .how = how };

	vmimg_turnstile_init(&flow.turnstile);
	pthread_mutex_init(&flow.lock, NULL);
	run_workers(&flow);
	pthread_mutex_destroy(&flow.lock);
	vmimg_turnstile_done(&flow.turnstile);
	if (!flow.failed)
		return 0;
	*err = flow.failure;
	return -1;
}

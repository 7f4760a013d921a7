/* SPDX-License-Identifier: Apache-2.0 */
/* A ring of blocks between the walking driver and the threads that unpack. */
#include "engine/check.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "util/limits.h"
#include "util/num.h"

#define RING 256U

struct task {
	struct vmimg_run run;
	uint64_t guest;
};

struct pool {
	struct vmimg_report_blocks blocks; /* what the report calls */
	struct vmimg_report *report;
	const struct vmimg_run_how *how;
	pthread_mutex_t report_lock;
	pthread_mutex_t lock; /* guards all below */
	pthread_cond_t moved;
	struct task ring[RING];
	unsigned head, count;
	bool closed; /* no more will come */
	bool failed; /* a thread gave up: err says why */
	struct vmimg_error err;
	pthread_t threads[VMIMG_MAX_THREADS];
	unsigned thread_count;
};

/* Takes the next task; false: there are no more. */
static bool next_task(struct pool *pool, struct task *task)
{
	bool got;

	pthread_mutex_lock(&pool->lock);
	while (!pool->count && !pool->closed)
		pthread_cond_wait(&pool->moved, &pool->lock);
	got = pool->count && !pool->failed;
	if (got) {
		*task = pool->ring[pool->head];
		pool->head = (pool->head + 1) % RING;
		pool->count--;
		pthread_cond_broadcast(&pool->moved);
	}
	pthread_mutex_unlock(&pool->lock);
	return got;
}

static void give_up(struct pool *pool, const struct vmimg_error *err)
{
	pthread_mutex_lock(&pool->lock);
	pool->failed = true;
	pool->err = *err;
	pthread_cond_broadcast(&pool->moved);
	pthread_mutex_unlock(&pool->lock);
}

static int unpack(struct pool *pool, struct vmimg_reader *reader, const struct task *task,
	struct vmimg_error *err)
{
	const uint8_t *packed, *unpacked;
	struct vmimg_error why;
	size_t packed_len;

	if (!vmimg_reader_block(reader, &task->run, &packed, &packed_len, &unpacked, &why))
		return 0;
	if (why.status != VMIMG_ECORRUPT && why.status != VMIMG_ELIMIT) {
		*err = why;
		return -1;
	}
	if (task->guest != VMIMG_NOWHERE)
		vmimg_within(&why, "guest offset 0x%" PRIx64, task->guest);
	vmimg_report_add(pool->report, VMIMG_FINDING_CORRUPTION, "packed-block", task->run.at, "%s",
		why.text);
	return 0;
}

static void *unpack_all(void *arg)
{
	struct pool *pool = arg;
	struct vmimg_error err;
	VMIMG_AUTO(vmimg_reader_free) struct vmimg_reader *reader = vmimg_reader_new(&err);
	struct task task;

	if (!reader) {
		give_up(pool, &err);
		return NULL;
	}
	while (next_task(pool, &task))
		if (unpack(pool, reader, &task, &err)) {
			give_up(pool, &err);
			break;
		}
	return NULL;
}

/* The driver met a block. It waits while the ring is full. */
static int add_task(struct vmimg_report_blocks *blocks, const struct vmimg_run *run, uint64_t guest,
	struct vmimg_error *err)
{
	struct pool *pool = (struct pool *)blocks;
	int result = 0;

	if (pool->how->cancel && atomic_load(pool->how->cancel))
		return vmimg_fail(err, VMIMG_ECANCELLED, "interrupted");
	pthread_mutex_lock(&pool->lock);
	while (pool->count == RING && !pool->failed)
		pthread_cond_wait(&pool->moved, &pool->lock);
	if (pool->failed) {
		*err = pool->err;
		result = -1;
	} else {
		pool->ring[(pool->head + pool->count++) % RING] = (struct task){ *run, guest };
		pthread_cond_broadcast(&pool->moved);
	}
	pthread_mutex_unlock(&pool->lock);
	return result;
}

/* Starts the threads when the first block comes: most images have none. */
static int first_task(struct vmimg_report_blocks *blocks, const struct vmimg_run *run,
	uint64_t guest, struct vmimg_error *err)
{
	struct pool *pool = (struct pool *)blocks;
	unsigned wanted = vmimg_flow_threads(pool->how);

	while (pool->thread_count < wanted &&
		!pthread_create(&pool->threads[pool->thread_count], NULL, unpack_all, pool))
		pool->thread_count++;
	if (!pool->thread_count)
		return vmimg_fail(err, VMIMG_ESYSTEM, "no thread could be started");
	pool->blocks.block = add_task;
	return add_task(blocks, run, guest, err);
}

static int finish(struct pool *pool, int result, struct vmimg_error *err)
{
	pthread_mutex_lock(&pool->lock);
	pool->closed = true;
	pthread_cond_broadcast(&pool->moved);
	pthread_mutex_unlock(&pool->lock);
	while (pool->thread_count)
		pthread_join(pool->threads[--pool->thread_count], NULL);
	if (result || !pool->failed)
		return result;
	*err = pool->err;
	return -1;
}

static int by_place(const void *a, const void *b)
{
	const struct vmimg_finding *x = a, *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return strcmp(x->text, y->text);
}

int vmimg_check_run(struct vmimg_disk *disk, const struct vmimg_run_how *how,
	struct vmimg_report *report, struct vmimg_error *err)
{
	struct pool *pool;
	int result;

	if (!disk->format->check)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"format %s has no structure that could be checked", disk->format->name);
	pool = vmimg_new(struct pool, err);
	if (!pool)
		return -1;
	pool->blocks.block = first_task;
	pool->report = report;
	pool->how = how;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_mutex_init(&pool->report_lock, NULL);
	report->lock = &pool->report_lock;
	pthread_cond_init(&pool->moved, NULL);
	report->blocks = &pool->blocks;
	result = finish(pool, disk->format->check(disk, report, err), err);
	report->blocks = NULL;
	report->lock = NULL;
	pthread_mutex_destroy(&pool->report_lock);
	pthread_cond_destroy(&pool->moved);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
	qsort(report->kept, report->kept_count, sizeof(report->kept[0]), by_place);
	return result;
}

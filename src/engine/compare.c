/* SPDX-License-Identifier: Apache-2.0 */
/* The source walks the first disk; where it has nothing, the second one's map is walked, so that
 * two sparse disks are compared by their maps alone. */
#include "engine/compare.h"
#include <string.h>
#include "util/num.h"
#include "util/zero.h"

#define CHUNK   (256U << 10)
#define GRANULE 65536U

struct job {
	struct vmimg_disk *a, *b;
	struct vmimg_compared *result; /* changed in turn only */
	atomic_bool second_failed;
};

struct worker {
	struct vmimg_reader *reader_a, *reader_b;
	uint8_t *data_a, *data_b;
	bool differs;
	uint64_t at;
};

static void worker_free(void *arg)
{
	struct worker *w = arg;

	if (!w)
		return;
	vmimg_reader_free(w->reader_a);
	vmimg_reader_free(w->reader_b);
	free(w->data_a);
	free(w->data_b);
	free(w);
}

static void *worker_new(void *arg, struct vmimg_error *err)
{
	struct worker *w = vmimg_new(struct worker, err);

	(void)arg;
	if (!w)
		return NULL;
	w->reader_a = vmimg_reader_new(err);
	w->reader_b = vmimg_reader_new(err);
	w->data_a = vmimg_alloc_buffer(CHUNK, err);
	w->data_b = vmimg_alloc_buffer(CHUNK, err);
	if (!w->reader_a || !w->reader_b || !w->data_a || !w->data_b) {
		worker_free(w);
		return NULL;
	}
	return w;
}

/* Guest bytes, zeroes past the disk's end. */
static int read_padded(struct vmimg_reader *reader, struct vmimg_disk *disk, uint8_t *buf,
	size_t len, uint64_t at, struct vmimg_error *err)
{
	size_t inside = at < disk->size ? (size_t)vmimg_min(len, disk->size - at) : 0;

	memset(buf + inside, 0, len - inside);
	return vmimg_reader_pread(reader, disk, buf, inside, at, err);
}

static void note_difference(
	struct worker *w, const uint8_t *a, const uint8_t *b, size_t len, uint64_t guest)
{
	size_t i = 0;

	if (!memcmp(a, b, len))
		return;
	while (a[i] == b[i])
		i++;
	w->differs = true;
	w->at = guest + i;
}

static int read_second(
	struct job *job, struct worker *w, size_t len, uint64_t at, struct vmimg_error *err)
{
	if (!read_padded(w->reader_b, job->b, w->data_b, len, at, err))
		return 0;
	atomic_store(&job->second_failed, true);
	return -1;
}

/* The first disk has zeroes in the deal: so must the second. */
static int expect_zero(
	struct job *job, struct worker *w, const struct vmimg_deal *deal, struct vmimg_error *err)
{
	uint64_t at = deal->guest, end = vmimg_min(deal->guest + deal->len, job->b->size);

	memset(w->data_a, 0, CHUNK);
	while (at < end && !w->differs) {
		struct vmimg_run run;
		uint64_t step;

		if (vmimg_disk_resolve(job->b, at, &run, NULL, err)) {
			atomic_store(&job->second_failed, true);
			return -1;
		}
		step = vmimg_min(run.len, end - at);
		if (run.kind == VMIMG_RUN_DATA || run.kind == VMIMG_RUN_PACKED) {
			step = vmimg_min(step, CHUNK);
			if (read_second(job, w, (size_t)step, at, err))
				return -1;
			note_difference(w, w->data_a, w->data_b, (size_t)step, at);
		}
		at += step;
	}
	return 0;
}

static int work(void *arg, void *worker, const struct vmimg_deal *deal, struct vmimg_error *err)
{
	struct job *job = arg;
	struct worker *w = worker;
	size_t len = (size_t)deal->len;

	w->differs = false;
	if (deal->kind != VMIMG_PIECE_DATA)
		return expect_zero(job, w, deal, err);
	if (read_padded(w->reader_a, job->a, w->data_a, len, deal->guest, err) ||
		read_second(job, w, len, deal->guest, err))
		return -1;
	note_difference(w, w->data_a, w->data_b, len, deal->guest);
	return 0;
}

static int turn(
	void *arg, void *worker, const struct vmimg_deal *deal, bool *stop, struct vmimg_error *err)
{
	struct job *job = arg;
	struct worker *w = worker;

	(void)deal, (void)err;
	if (!w->differs)
		return 0;
	job->result->same = false;
	job->result->differ_at = w->at;
	*stop = true;
	return 0;
}

static const struct vmimg_flow_ops compare_ops = {
	.worker_new = worker_new,
	.worker_free = worker_free,
	.work = work,
	.turn = turn,
};

int vmimg_compare_run(struct vmimg_disk *a, struct vmimg_disk *b, const struct vmimg_run_how *how,
	struct vmimg_compared *result, struct vmimg_error *err)
{
	struct job job = { .a = a, .b = b, .result = result };
	struct vmimg_source source;
	int failed;

	*result = (struct vmimg_compared){ .same = true, .sizes_differ = a->size != b->size };
	vmimg_source_init(&source, a, GRANULE, CHUNK);
	source.end = vmimg_max(a->size, b->size);
	failed = vmimg_flow_run(&source, &compare_ops, &job, how, err);
	vmimg_source_done(&source);
	result->second_failed = atomic_load(&job.second_failed);
	return failed;
}

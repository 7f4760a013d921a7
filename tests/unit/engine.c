/* SPDX-License-Identifier: Apache-2.0 */
/* Dealing, order, failure, and whole conversions, on disks that exist in memory only. */
#include <fcntl.h>
#include <unistd.h>
#include "check.h"
#include "engine/compare.h"
#include "engine/convert.h"
#include "engine/turnstile.h"
#include "fake.h"
#include "io/file.h"
#include "util/zero.h"

/* ---- dealing ---- */

static void check_deal(const struct fake *fake, const struct vmimg_source *source,
	const struct vmimg_deal *deal, uint64_t at, uint64_t ticket)
{
	CHECK(deal->guest == at && deal->ticket == ticket);
	CHECK(deal->len <= source->end - at);
	CHECK(deal->guest % source->granule == 0);
	CHECK((deal->guest + deal->len) % source->granule == 0 ||
		deal->guest + deal->len == source->end);
	if (deal->kind == VMIMG_PIECE_DATA)
		CHECK(deal->len <= source->chunk);
	else
		CHECK(vmimg_is_zero(fake->bytes + at, deal->len));
	if (deal->run.kind == VMIMG_RUN_DATA && deal->kind == VMIMG_PIECE_DATA)
		CHECK(deal->run.at == at && deal->run.len >= deal->len);
}

static void deal_out(uint64_t seed, uint32_t granule, bool keep_absent)
{
	struct vmimg_error err = { 0 };
	struct vmimg_source source;
	struct vmimg_deal deal;
	struct fake fake;
	uint64_t at = 0, ticket = 0;

	fake_open(&fake, 1 + seed * 7919 % 3000000, seed);
	vmimg_source_init(&source, &fake.disk, granule, granule * (uint32_t)(1 + seed % 8));
	source.keep_absent = keep_absent;
	for (;; at += deal.len, ticket++) {
		CHECK(!vmimg_source_deal(&source, &deal, &err));
		if (!deal.len)
			break;
		check_deal(&fake, &source, &deal, at, ticket);
	}
	CHECK(at == fake.disk.size);
	vmimg_source_done(&source);
	fake_done(&fake);
}

static void deals_cover_the_disk(void)
{
	for (uint64_t seed = 1; seed < 60; seed++)
		deal_out(seed, 512U << seed % 8, seed % 2);
}

static void deals_may_go_past_the_end(void)
{
	struct vmimg_error err = { 0 };
	struct vmimg_source source;
	struct vmimg_deal deal;
	struct fake fake;
	uint64_t at = 0;

	fake_open(&fake, 100001, 5);
	vmimg_source_init(&source, &fake.disk, 4096, 65536);
	source.end = 1 << 20;
	for (; !vmimg_source_deal(&source, &deal, &err) && deal.len; at += deal.len)
		;
	CHECK(at == 1 << 20);
	vmimg_source_done(&source);
	fake_done(&fake);
}

/* ---- the flow ---- */

struct trace {
	uint64_t fail_work, fail_turn, fail_after, stop_at; /* tickets; UINT64_MAX: never */
	bool fail_worker;
	atomic_uint workers;
	uint64_t next_ticket; /* by turns, which come one at a time */
	uint64_t next_guest;
	bool out_of_order;
	atomic_bool cancel;
};

static void *trace_worker_new(void *ctx, struct vmimg_error *err)
{
	struct trace *trace = ctx;

	if (trace->fail_worker) {
		vmimg_fail_nomem(err);
		return NULL;
	}
	atomic_fetch_add(&trace->workers, 1);
	return trace;
}

static void trace_worker_free(void *worker)
{
	if (worker)
		atomic_fetch_sub(&((struct trace *)worker)->workers, 1);
}

static int maybe_fail(uint64_t ticket, uint64_t when, struct vmimg_error *err)
{
	return ticket == when ? vmimg_fail(err, VMIMG_ECORRUPT, "ticket %d", (int)ticket) : 0;
}

static int trace_work(
	void *ctx, void *worker, const struct vmimg_deal *deal, struct vmimg_error *err)
{
	struct trace *trace = ctx;

	(void)worker;
	if (deal->ticket % 3 == 0)
		usleep(200); /* so that threads overtake each other */
	return maybe_fail(deal->ticket, trace->fail_work, err);
}

static int trace_turn(
	void *ctx, void *worker, const struct vmimg_deal *deal, bool *stop, struct vmimg_error *err)
{
	struct trace *trace = ctx;

	(void)worker;
	trace->out_of_order |=
		deal->ticket != trace->next_ticket || deal->guest != trace->next_guest;
	trace->next_ticket++;
	trace->next_guest += deal->len;
	*stop = deal->ticket == trace->stop_at;
	return maybe_fail(deal->ticket, trace->fail_turn, err);
}

static int trace_after(
	void *ctx, void *worker, const struct vmimg_deal *deal, struct vmimg_error *err)
{
	struct trace *trace = ctx;

	(void)worker;
	if (deal->ticket == 5)
		usleep(100);
	return maybe_fail(deal->ticket, trace->fail_after, err);
}

static const struct vmimg_flow_ops trace_ops = { trace_worker_new, trace_worker_free, trace_work,
	trace_turn, trace_after };

static const struct trace no_trace = { .fail_work = UINT64_MAX,
	.fail_turn = UINT64_MAX,
	.fail_after = UINT64_MAX,
	.stop_at = UINT64_MAX };

static void trace_progress(void *ctx, uint64_t done, uint64_t total)
{
	uint64_t *last = ctx;

	CHECK(done >= *last && done <= total);
	*last = done;
}

/* Runs over one disk. Returns the flow's answer, with what it said in err. */
static int run_traced(struct trace *trace, unsigned threads, struct vmimg_error *err)
{
	struct vmimg_source source;
	struct fake fake;
	uint64_t last = 0;
	struct vmimg_run_how how = { .threads = threads,
		.cancel = &trace->cancel,
		.progress = trace_progress,
		.progress_ctx = &last };
	int result;

	fake_open(&fake, 2000000, 3);
	vmimg_source_init(&source, &fake.disk, 4096, 16384);
	result = vmimg_flow_run(&source, &trace_ops, trace, &how, err);
	CHECK(!trace->out_of_order);
	CHECK(atomic_load(&trace->workers) == 0);
	if (!result && trace->stop_at == UINT64_MAX)
		CHECK(trace->next_guest == fake.disk.size && last == fake.disk.size);
	vmimg_source_done(&source);
	fake_done(&fake);
	return result;
}

static void turns_come_in_order(void)
{
	for (unsigned threads = 1; threads <= 8; threads++) {
		struct trace trace = no_trace;
		struct vmimg_error err = { 0 };

		CHECK(!run_traced(&trace, threads, &err));
	}
}

static void failures_end_the_flow(void)
{
	for (unsigned round = 0; round < 3 * 8; round++) {
		struct trace trace = no_trace;
		struct vmimg_error err = { 0 };

		*(uint64_t *[]){ &trace.fail_work, &trace.fail_turn,
			&trace.fail_after }[round % 3] = round / 3;
		CHECK(run_traced(&trace, 1 + round % 8, &err) == -1);
		CHECK(err.status == VMIMG_ECORRUPT && !strncmp(err.text, "ticket ", 7));
	}
}

static void workers_that_cannot_be_made_end_it(void)
{
	struct trace trace = no_trace;
	struct vmimg_error err = { 0 };

	trace.fail_worker = true;
	CHECK(run_traced(&trace, 4, &err) == -1 && err.status == VMIMG_ENOMEM);
}

static void cancelling_and_stopping_end_it(void)
{
	struct trace trace = no_trace;
	struct vmimg_error err = { 0 };

	atomic_store(&trace.cancel, true);
	CHECK(run_traced(&trace, 4, &err) == -1 && err.status == VMIMG_ECANCELLED);
	trace = no_trace;
	trace.stop_at = 7;
	CHECK(!run_traced(&trace, 4, &err));
	CHECK(trace.next_ticket == 8);
}

/* ---- converting ---- */

/* Into a raw file; true when it then holds what the disk does. */
static bool convert_and_compare(struct fake *fake, unsigned threads, struct vmimg_error *err)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
	struct vmimg_io *io = vmimg_file_from_fd(fd, true, "out", err);
	struct vmimg_create create = { .size = fake->disk.size };
	struct vmimg_sink *sink = vmimg_sink_create(vmimg_format_find("raw"), io, &create, err);
	struct vmimg_convert convert = {
		.disk = &fake->disk, .sink = sink, .how = { .threads = threads }
	};
	struct vmimg_converted done;
	uint8_t *back = malloc(fake->disk.size);
	bool same = !vmimg_convert_run(&convert, &done, err) &&
		vmimg_io_size(io) == fake->disk.size &&
		!vmimg_io_pread(io, back, fake->disk.size, 0, err) &&
		!memcmp(back, fake->bytes, fake->disk.size);

	free(back);
	vmimg_sink_close(sink);
	vmimg_io_unref(io);
	return same;
}

static void conversion_keeps_every_byte(void)
{
	for (uint64_t seed = 1; seed < 20; seed++) {
		struct vmimg_error err = { 0 };
		struct fake fake;

		fake_open(&fake, 1 + seed * 104729 % 2000000, seed);
		if (!convert_and_compare(&fake, (unsigned)(1 + seed % 5), &err))
			printf("# seed %d: %s\n", (int)seed, err.text);
		CHECK(!err.text[0]);
		fake_done(&fake);
	}
}

static void a_damaged_map_fails_the_conversion(void)
{
	struct vmimg_error err = { 0 };
	struct fake fake;

	fake_open(&fake, 3000000, 9);
	fake.fail_at = 1500000;
	CHECK(!convert_and_compare(&fake, 3, &err));
	CHECK(err.status == VMIMG_ECORRUPT && strstr(err.text, "no table at"));
	fake_done(&fake);
}

static void comparing_finds_the_first_difference(void)
{
	struct vmimg_run_how how = { .threads = 3 };
	struct vmimg_compared result;
	struct vmimg_error err = { 0 };
	struct fake a, b;
	uint64_t at = 0;

	fake_open(&a, 1000000, 4);
	fake_open(&b, 1000000, 4);
	CHECK(!vmimg_compare_run(&a.disk, &b.disk, &how, &result, &err) && result.same);
	while (a.kinds[at] != VMIMG_RUN_DATA || a.ends[at] < 400000)
		at++;
	at = a.ends[at] - 1;
	b.bytes[at] ^= 1;
	CHECK(!vmimg_compare_run(&a.disk, &b.disk, &how, &result, &err) && !result.same);
	CHECK(result.differ_at == at);
	fake_done(&a);
	fake_done(&b);
}

UNIT_TESTS(TEST(deals_cover_the_disk), TEST(deals_may_go_past_the_end), TEST(turns_come_in_order),
	TEST(failures_end_the_flow), TEST(workers_that_cannot_be_made_end_it),
	TEST(cancelling_and_stopping_end_it), TEST(conversion_keeps_every_byte),
	TEST(a_damaged_map_fails_the_conversion), TEST(comparing_finds_the_first_difference));
UNIT_MAIN()

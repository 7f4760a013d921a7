/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacking runs on all threads; findings are added in guest order. */
#include "engine/verify.h"
#include <inttypes.h>
#include <string.h>
#include "util/num.h"

#define CHUNK   (4U << 20)
#define GRANULE 65536U
#define KEPT    8 /* findings of one chunk with their text; the rest are counted */

struct job {
	struct vmimg_disk *disk;
	struct vmimg_report *report; /* added to in turn only */
};

struct finding {
	const char *code;
	uint64_t at;
	char text[200];
};

struct worker {
	struct vmimg_reader *reader;
	struct finding kept[KEPT];
	uint64_t found;
};

static void worker_free(void *arg)
{
	struct worker *w = arg;

	if (!w)
		return;
	vmimg_reader_free(w->reader);
	free(w);
}

static void *worker_new(void *arg, struct vmimg_error *err)
{
	struct worker *w = vmimg_new(struct worker, err);

	(void)arg;
	if (w && !(w->reader = vmimg_reader_new(err))) {
		free(w);
		return NULL;
	}
	return w;
}

static void note(struct worker *w, const char *code, uint64_t at, const struct vmimg_error *why)
{
	struct finding *finding;

	if (w->found++ >= KEPT)
		return;
	finding = &w->kept[w->found - 1];
	finding->code = code;
	finding->at = at;
	memcpy(finding->text, why->text, sizeof(finding->text) - 1);
	finding->text[sizeof(finding->text) - 1] = '\0';
}

/* Called for a run, cut to the part that begins in the deal. */
static int look_at(
	struct worker *w, const struct vmimg_run *run, uint64_t guest, struct vmimg_error *err)
{
	const uint8_t *packed, *unpacked;
	size_t packed_len;
	struct vmimg_error why;

	if (!run->io || (run->kind != VMIMG_RUN_DATA && run->kind != VMIMG_RUN_PACKED))
		return 0;
	if (run->kind == VMIMG_RUN_DATA) {
		uint64_t size = vmimg_io_size(run->io);

		if (vmimg_range_inside(run->at, run->len, size))
			return 0;
		vmimg_fail(&why, VMIMG_ECORRUPT,
			"guest offset 0x%" PRIx64 ": its data at 0x%" PRIx64
			" reach past the end of the file (0x%" PRIx64 ")",
			guest, run->at, size);
		note(w, "data-past-end", run->at, &why);
		return 0;
	}
	if (run->block.skip ||
		!vmimg_reader_block(w->reader, run, &packed, &packed_len, &unpacked, &why))
		return 0;
	if (why.status == VMIMG_ESYSTEM || why.status == VMIMG_ENOMEM) {
		*err = why;
		return -1;
	}
	vmimg_within(&why, "guest offset 0x%" PRIx64, guest);
	note(w, "packed-block", run->at, &why);
	return 0;
}

static int work(void *arg, void *worker, const struct vmimg_deal *deal, struct vmimg_error *err)
{
	struct job *job = arg;
	struct worker *w = worker;
	uint64_t at = deal->guest, end = deal->guest + deal->len;

	w->found = 0;
	while (at < end && deal->kind == VMIMG_PIECE_DATA) {
		struct vmimg_run run;

		if (vmimg_disk_map(job->disk, at, &run, err)) {
			if (err->status == VMIMG_ESYSTEM || err->status == VMIMG_ENOMEM)
				return -1;
			note(w, "map", VMIMG_NOWHERE, err);
			return 0;
		}
		run.len = vmimg_min(run.len, end - at);
		if (look_at(w, &run, at, err))
			return -1;
		at += run.len;
	}
	return 0;
}

static int turn(
	void *arg, void *worker, const struct vmimg_deal *deal, bool *stop, struct vmimg_error *err)
{
	struct job *job = arg;
	struct worker *w = worker;

	(void)deal, (void)stop, (void)err;
	for (uint64_t i = 0; i < w->found && i < KEPT; i++)
		vmimg_report_add(job->report, VMIMG_FINDING_CORRUPTION, w->kept[i].code,
			w->kept[i].at, "%s", w->kept[i].text);
	if (w->found > KEPT)
		vmimg_report_count(job->report, VMIMG_FINDING_CORRUPTION, w->found - KEPT);
	return 0;
}

static const struct vmimg_flow_ops verify_ops = {
	.worker_new = worker_new,
	.worker_free = worker_free,
	.work = work,
	.turn = turn,
};

int vmimg_verify_run(struct vmimg_disk *disk, const struct vmimg_run_how *how,
	struct vmimg_report *report, struct vmimg_error *err)
{
	struct job job = { .disk = disk, .report = report };
	struct vmimg_source source;
	int failed;

	vmimg_source_init(&source, disk, GRANULE, CHUNK);
	source.keep_absent = true;
	failed = vmimg_flow_run(&source, &verify_ops, &job, how, err);
	vmimg_source_done(&source);
	return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a conversion, hung into the flow. */
#include "engine/convert.h"
#include <isa-l/crc64.h>
#include <string.h>
#include "util/num.h"
#include "util/zero.h"

#define SEALED (256U << 10)

struct job {
	const struct vmimg_convert *convert;
	struct vmimg_sink *sink;
	bool try_clone; /* decided once, so that the outcome does not depend on timing */
	_Atomic uint64_t read, written, cloned, zero;
};

struct worker {
	struct vmimg_reader *reader;
	struct vmimg_packer *packer;
	struct vmimg_chunk chunk;
	uint8_t *other; /* the same stretch of the disk to compare with; NULL: there is none */
	size_t piece_cap;
	uint8_t *sealed; /* SEALED bytes on their way to the file; NULL: there were none yet */
	bool unread;     /* data was left unread, in the hope that it can be cloned */
};

static void worker_free(void *arg)
{
	struct worker *w = arg;

	if (!w)
		return;
	vmimg_reader_free(w->reader);
	vmimg_packer_free(w->packer);
	free(w->chunk.data);
	free(w->other);
	free(w->chunk.packed);
	free(w->chunk.pieces);
	free(w->chunk.stores);
	free(w->sealed);
	free(w);
}

static int worker_fill(struct worker *w, const struct job *job, struct vmimg_error *err)
{
	struct vmimg_sink *sink = job->sink;
	size_t room = vmimg_align_up(sink->chunk, sink->granule);

	w->piece_cap = room / sink->granule;
	w->reader = vmimg_reader_new(err);
	w->chunk.data = vmimg_alloc_buffer(room, err);
	w->chunk.pieces = vmimg_alloc_array(w->piece_cap, sizeof(struct vmimg_piece), err);
	w->chunk.stores = vmimg_alloc_array(
		w->piece_cap + sink->more_stores, sizeof(struct vmimg_store), err);
	if (!w->reader || !w->chunk.data || !w->chunk.pieces || !w->chunk.stores)
		return -1;
	if (job->convert->against && !(w->other = vmimg_alloc_buffer(room, err)))
		return -1;
	if (sink->pack_room && !(w->chunk.packed = vmimg_alloc_buffer(sink->pack_room, err)))
		return -1;
	if (sink->codec && !(w->packer = sink->codec->packer_new(sink->level, err)))
		return -1;
	return 0;
}

static void *worker_new(void *arg, struct vmimg_error *err)
{
	struct job *job = arg;
	struct worker *w = vmimg_new(struct worker, err);

	if (w && worker_fill(w, job, err)) {
		worker_free(w);
		return NULL;
	}
	return w;
}

static bool can_clone(const struct job *job, const struct vmimg_deal *deal)
{
	return job->try_clone && deal->run.kind == VMIMG_RUN_DATA && !deal->run.encrypted &&
		deal->run.io && !(deal->run.at % 4096) && !(deal->len % 4096) &&
		deal->len >= job->sink->granule;
}

/* One piece for each granule, all of them data. */
static void cut_pieces(struct worker *w, uint32_t granule)
{
	struct vmimg_chunk *chunk = &w->chunk;
	size_t len = (size_t)chunk->len;

	chunk->piece_count = vmimg_div_up(len, granule);
	for (size_t i = 0; i < chunk->piece_count; i++) {
		size_t at = i * granule;

		chunk->pieces[i] = (struct vmimg_piece){ .kind = VMIMG_PIECE_DATA,
			.size = (uint32_t)vmimg_min(granule, len - at),
			.bytes = chunk->data + at };
	}
	memset(chunk->data + len, 0, chunk->piece_count * granule - len);
}

/* Marks the pieces that are zero; a chunk of nothing else becomes zero as a whole. */
static void find_zeroes(struct vmimg_sink *sink, struct vmimg_chunk *chunk)
{
	size_t zeroes = 0;

	for (size_t i = 0; i < chunk->piece_count; i++) {
		struct vmimg_piece *piece = &chunk->pieces[i];

		if (piece->kind != VMIMG_PIECE_DATA || !vmimg_is_zero(piece->bytes, piece->size))
			continue;
		zeroes++;
		if (sink->splits_zeroes)
			piece->kind = VMIMG_PIECE_ZERO;
	}
	if (zeroes == chunk->piece_count) {
		chunk->kind = VMIMG_PIECE_ZERO;
		chunk->piece_count = 0;
	}
}

/* Reads disk, which may be shorter, or missing: there it is zero. */
static int read_padded(struct worker *w, struct vmimg_disk *disk, uint8_t *buf, size_t len,
	uint64_t at, size_t *there, struct vmimg_error *err)
{
	uint64_t left = disk && at < disk->size ? disk->size - at : 0;

	*there = (size_t)vmimg_min(len, left);
	memset(buf + *there, 0, len - *there);
	return *there ? vmimg_reader_pread(w->reader, disk, buf, *there, at, err) : 0;
}

/* Pieces that the other disk has as well are left out. */
static int leave_equal(struct job *job, struct worker *w, struct vmimg_error *err)
{
	struct vmimg_disk *against = job->convert->against;
	struct vmimg_chunk *chunk = &w->chunk;
	uint32_t granule = job->sink->granule;
	size_t there;

	if (against &&
		read_padded(w, against, w->other, (size_t)chunk->len, chunk->guest, &there, err))
		return -1;
	for (size_t i = 0; i < chunk->piece_count; i++) {
		struct vmimg_piece *piece = &chunk->pieces[i];

		if (against ? !memcmp(piece->bytes, w->other + i * granule, piece->size)
			    : vmimg_is_zero(piece->bytes, piece->size))
			piece->kind = VMIMG_PIECE_ABSENT;
	}
	return 0;
}

/* A chunk that is left out as a whole has no pieces. */
static void leave_chunk(struct vmimg_chunk *chunk)
{
	size_t absent = 0;

	for (size_t i = 0; i < chunk->piece_count; i++)
		absent += chunk->pieces[i].kind == VMIMG_PIECE_ABSENT;
	if (chunk->kind == VMIMG_PIECE_DATA && absent == chunk->piece_count) {
		chunk->kind = VMIMG_PIECE_ABSENT;
		chunk->piece_count = 0;
	}
}

/* What the sink is to be given of the chunk. */
static int choose(struct job *job, struct worker *w, struct vmimg_error *err)
{
	struct vmimg_chunk *chunk = &w->chunk;
	enum vmimg_only only = job->convert->only;

	if (only == VMIMG_ONLY_DIFFERENCES && leave_equal(job, w, err))
		return -1;
	if (!job->convert->keep_zeroes)
		find_zeroes(job->sink, chunk);
	for (size_t i = 0; only == VMIMG_ONLY_ZEROES && i < chunk->piece_count; i++)
		if (chunk->pieces[i].kind == VMIMG_PIECE_DATA)
			chunk->pieces[i].kind = VMIMG_PIECE_ABSENT;
	if (only != VMIMG_ALL)
		leave_chunk(chunk);
	return 0;
}

/* Spreads every bit over all (the finalizer of splitmix64). A CRC is linear, and so are many disks:
 * without this, different disks would have equal sums. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/*
 * A sum over the pieces that are not zero, each with its place: equal content gives equal sums over
 * all chunks, however it is cut into chunks, which depends on where the source happens to have
 * holes.
 */
static uint64_t digest_of(const struct vmimg_chunk *chunk, uint32_t granule)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < chunk->piece_count; i++) {
		const struct vmimg_piece *piece = &chunk->pieces[i];
		uint64_t guest = chunk->guest + i * granule;

		if (!vmimg_is_zero(piece->bytes, piece->size))
			sum += mix(mix(guest + 1) ^ crc64_ecma_refl(0, piece->bytes, piece->size));
	}
	return sum;
}

/* A block that is packed already as the sink wants it. Unpacking it proves that it is sound. */
static int take_packed(struct job *job, struct worker *w, const struct vmimg_deal *deal,
	bool *taken, struct vmimg_error *err)
{
	const struct vmimg_run *run = &deal->run;
	const uint8_t *packed, *unpacked;
	size_t packed_len;

	*taken = false;
	if (job->convert->only != VMIMG_ALL)
		return 0;
	if (run->kind != VMIMG_RUN_PACKED || run->block.codec != job->sink->codec ||
		job->convert->repack || run->block.skip || deal->len != job->sink->granule ||
		run->block.unpacked != deal->len)
		return 0;
	if (vmimg_reader_block(w->reader, run, &packed, &packed_len, &unpacked, err))
		return -1;
	*taken = packed_len < run->block.unpacked;
	if (!*taken)
		return 0;
	w->chunk.piece_count = 1;
	w->chunk.pieces[0] =
		(struct vmimg_piece){ VMIMG_PIECE_PACKED, (uint32_t)packed_len, packed };
	if (vmimg_is_zero(unpacked, (size_t)deal->len)) {
		w->chunk.kind = VMIMG_PIECE_ZERO;
		w->chunk.piece_count = 0;
	}
	return 0;
}

/* What was not read as a whole is read sector by sector, as far as it goes. */
static void read_parts(const struct vmimg_convert *convert, struct worker *w)
{
	struct vmimg_chunk *chunk = &w->chunk;
	struct vmimg_error why = { 0 };
	size_t there, step, bad = 0;

	for (size_t at = 0; at < chunk->len; at += step) {
		step = vmimg_min(VMIMG_SECTOR, (size_t)chunk->len - at);
		if (read_padded(w, convert->disk, chunk->data + at, step, chunk->guest + at, &there,
			    &why)) {
			memset(chunk->data + at, 0, step);
			bad += step;
		} else if (bad) {
			convert->unread(convert->unread_ctx, chunk->guest + at - bad, bad, &why);
			bad = 0;
		}
	}
	if (bad)
		convert->unread(
			convert->unread_ctx, chunk->guest + chunk->len - bad, bad, &why);
}

/* The guest's bytes of the chunk; past the disk's end, where the sink is larger, zeroes. */
static int read_data(struct job *job, struct worker *w, struct vmimg_error *err)
{
	struct vmimg_chunk *chunk = &w->chunk;
	size_t len;

	if (read_padded(w, job->convert->disk, chunk->data, (size_t)chunk->len, chunk->guest, &len,
		    err)) {
		if (!job->convert->unread)
			return -1;
		read_parts(job->convert, w);
		len = (size_t)chunk->len;
	}
	atomic_fetch_add_explicit(&job->read, len, memory_order_relaxed);
	return 0;
}

static int work_data(
	struct job *job, struct worker *w, const struct vmimg_deal *deal, struct vmimg_error *err)
{
	struct vmimg_sink *sink = job->sink;
	struct vmimg_chunk *chunk = &w->chunk;
	bool taken = false;

	if (take_packed(job, w, deal, &taken, err))
		return -1;
	if (taken)
		return 0;
	w->unread = can_clone(job, deal);
	if (w->unread) {
		chunk->source = deal->run;
	} else if (read_data(job, w, err)) {
		return -1;
	}
	cut_pieces(w, sink->granule);
	if (!w->unread && choose(job, w, err))
		return -1;
	if (chunk->kind == VMIMG_PIECE_DATA && sink->wants_digest)
		chunk->digest = digest_of(chunk, sink->granule);
	if (chunk->kind == VMIMG_PIECE_DATA && sink->ops->pack && !w->unread)
		return sink->ops->pack(sink, chunk, w->packer, err);
	return 0;
}

static int work(void *arg, void *worker, const struct vmimg_deal *deal, struct vmimg_error *err)
{
	struct worker *w = worker;
	struct vmimg_chunk *chunk = &w->chunk;

	chunk->guest = deal->guest;
	chunk->len = deal->len;
	chunk->kind = deal->kind;
	chunk->piece_count = chunk->store_count = 0;
	chunk->digest = 0;
	chunk->source = (struct vmimg_run){ .kind = VMIMG_RUN_ABSENT };
	chunk->clone = (struct vmimg_store){ 0 };
	w->unread = false;
	return deal->kind == VMIMG_PIECE_DATA ? work_data(arg, w, deal, err) : 0;
}

static int write_sealed(struct worker *w, const struct vmimg_store *s, struct vmimg_error *err)
{
	if (!w->sealed && !(w->sealed = vmimg_alloc_buffer(SEALED, err)))
		return -1;
	for (size_t done = 0, step; done < s->len; done += step) {
		step = vmimg_min(SEALED, s->len - done);
		if (vmimg_cipher_encrypt(s->cipher, (s->cipher_at + done) / VMIMG_SECTOR,
			    s->bytes + done, w->sealed, step, err) ||
			vmimg_io_pwrite(s->io, w->sealed, step, s->at + done, err))
			return -1;
	}
	return 0;
}

static int store(void *arg, void *worker, const struct vmimg_deal *deal, struct vmimg_error *err)
{
	struct job *job = arg;
	struct worker *w = worker;
	struct vmimg_chunk *chunk = &w->chunk;
	uint64_t written = 0;
	bool cloned = false;

	if (w->unread && chunk->clone.io &&
		vmimg_io_clone(chunk->clone.io, chunk->source.io, chunk->source.at, chunk->clone.at,
			chunk->clone.len, &cloned, err))
		return -1;
	if (cloned) {
		atomic_fetch_add_explicit(&job->cloned, deal->len, memory_order_relaxed);
		return 0;
	}
	if (w->unread && read_data(job, w, err))
		return -1;
	for (size_t i = 0; i < chunk->store_count; i++) {
		const struct vmimg_store *s = &chunk->stores[i];

		if (s->cipher ? write_sealed(w, s, err)
			      : vmimg_io_pwrite(s->io, s->bytes, s->len, s->at, err))
			return -1;
		written += s->len;
	}
	atomic_fetch_add_explicit(&job->written, written, memory_order_relaxed);
	return 0;
}

static int place(
	void *arg, void *worker, const struct vmimg_deal *deal, bool *stop, struct vmimg_error *err)
{
	struct job *job = arg;
	struct worker *w = worker;
	struct vmimg_chunk *chunk = &w->chunk;

	(void)stop;
	if (job->sink->ops->place(job->sink, chunk, err))
		return -1;
	if (chunk->kind == VMIMG_PIECE_ZERO ||
		(chunk->kind == VMIMG_PIECE_ABSENT && job->convert->only == VMIMG_ALL))
		atomic_fetch_add_explicit(&job->zero, chunk->len, memory_order_relaxed);
	for (size_t i = 0; i < chunk->piece_count; i++)
		if (chunk->pieces[i].kind == VMIMG_PIECE_ZERO)
			atomic_fetch_add_explicit(
				&job->zero, chunk->pieces[i].size, memory_order_relaxed);
	return job->sink->in_order ? store(arg, worker, deal, err) : 0;
}

static int after(void *arg, void *worker, const struct vmimg_deal *deal, struct vmimg_error *err)
{
	struct job *job = arg;

	return job->sink->in_order ? 0 : store(arg, worker, deal, err);
}

static const struct vmimg_flow_ops convert_ops = {
	.worker_new = worker_new,
	.worker_free = worker_free,
	.work = work,
	.turn = place,
	.after = after,
};

int vmimg_convert_run(const struct vmimg_convert *convert, struct vmimg_converted *result,
	struct vmimg_error *err)
{
	struct vmimg_sink *sink = convert->sink;
	struct job job = { .convert = convert, .sink = sink };
	struct vmimg_overlap overlap;
	struct vmimg_source source;
	int failed;

	job.try_clone = convert->only == VMIMG_ALL && !sink->pack_room && !sink->wants_digest &&
		sink->clone_io && vmimg_io_can_clone(sink->clone_io, convert->disk->io);
	vmimg_source_init(&source, convert->disk, sink->granule, sink->chunk);
	source.end = sink->size;
	source.fill = convert->fill;
	/* what a disk without a parent lacks is zero, and must hide what lies below the sink */
	source.keep_absent = sink->keeps_absent && (convert->disk->parent || convert->layer);
	source.joins_zeroes = convert->only == VMIMG_ONLY_ZEROES && sink->splits_zeroes;
	vmimg_overlap_init(&overlap, convert->disk);
	source.overlap = &overlap;
	failed = vmimg_flow_run(&source, &convert_ops, &job, &convert->how, err);
	vmimg_source_done(&source);
	vmimg_overlap_done(&overlap);
	if (failed)
		return -1;
	*result = (struct vmimg_converted){ .bytes_read = job.read,
		.bytes_written = job.written,
		.bytes_cloned = job.cloned,
		.bytes_zero = job.zero,
		.shared_blocks = overlap.found,
		.shared_at = overlap.first,
		.threads = vmimg_flow_threads(&convert->how) };
	return sink->ops->finish(sink, err);
}

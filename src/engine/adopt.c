/* SPDX-License-Identifier: Apache-2.0 */
/* The disk's map is walked once; only what has to move is read. */
#include "engine/adopt.h"
#include <string.h>
#include "util/num.h"
#include "util/zero.h"

#define STAYING (UINT32_C(64) << 20) /* bytes of a chunk that is not read: a table's walk */
#define PAGE    VMIMG_STAGE_PAGE

/* ---- chunk by chunk ---- */

struct pour {
	struct vmimg_disk *raw;
	struct vmimg_sink *sink;
	struct vmimg_source source;
	struct vmimg_reader *reader;
	struct vmimg_chunk chunk;
	size_t piece_cap;
};

static void pour_done(struct pour *p)
{
	vmimg_source_done(&p->source);
	vmimg_reader_free(p->reader);
	free(p->chunk.data);
	free(p->chunk.pieces);
	free(p->chunk.stores);
}

static int pour_init(struct pour *p, uint64_t end, struct vmimg_error *err)
{
	struct vmimg_sink *sink = p->sink;
	size_t moving = vmimg_align_up(sink->chunk, sink->granule);
	size_t stores = moving / sink->granule + sink->more_stores;

	vmimg_source_init(&p->source, p->raw, sink->granule, 0);
	p->source.end = vmimg_min(vmimg_align_up(end, sink->granule), sink->size);
	p->piece_cap = vmimg_max(moving, STAYING) / sink->granule;
	p->reader = vmimg_reader_new(err);
	p->chunk.data = vmimg_alloc_buffer(moving, err);
	p->chunk.pieces = vmimg_alloc_array(p->piece_cap, sizeof(*p->chunk.pieces), err);
	p->chunk.stores = vmimg_alloc_array(stores, sizeof(*p->chunk.stores), err);
	return p->reader && p->chunk.data && p->chunk.pieces && p->chunk.stores ? 0 : -1;
}

/* What is to be moved is read; past the disk's end it is zero. */
static int read_moving(struct pour *p, struct vmimg_error *err)
{
	struct vmimg_chunk *chunk = &p->chunk;
	size_t len = (size_t)vmimg_align_up(chunk->len, p->sink->granule), there;

	there = chunk->guest < p->raw->size
		? (size_t)vmimg_min(chunk->len, p->raw->size - chunk->guest)
		: 0;
	memset(chunk->data + there, 0, len - there);
	return there ? vmimg_reader_pread(p->reader, p->raw, chunk->data, there, chunk->guest, err)
		     : 0;
}

static void cut_pieces(struct pour *p, bool stays)
{
	struct vmimg_chunk *chunk = &p->chunk;
	uint32_t granule = p->sink->granule;

	chunk->piece_count = vmimg_div_up(chunk->len, granule);
	for (size_t i = 0; i < chunk->piece_count; i++) {
		uint64_t at = i * (uint64_t)granule;
		uint32_t size = (uint32_t)vmimg_min(granule, chunk->len - at);
		bool zero = !stays && vmimg_is_zero(chunk->data + at, size);

		chunk->pieces[i] = (struct vmimg_piece){ zero ? VMIMG_PIECE_ZERO : VMIMG_PIECE_DATA,
			size, stays ? NULL : chunk->data + at };
	}
}

static int pour_chunk(struct pour *p, const struct vmimg_deal *deal, struct vmimg_error *err)
{
	struct vmimg_chunk *chunk = &p->chunk;
	bool stays = deal->guest >= p->sink->moved;

	chunk->guest = deal->guest;
	chunk->len = deal->len;
	chunk->kind = deal->kind;
	chunk->piece_count = chunk->store_count = 0;
	if (deal->kind == VMIMG_PIECE_DATA) {
		if (!stays && read_moving(p, err))
			return -1;
		cut_pieces(p, stays);
	}
	if (p->sink->ops->place(p->sink, chunk, err))
		return -1;
	for (size_t i = 0; i < chunk->store_count; i++) {
		const struct vmimg_store *s = &chunk->stores[i];

		if (vmimg_io_pwrite(s->io, s->bytes, s->len, s->at, err))
			return -1;
	}
	return 0;
}

static bool is_cancelled(const struct vmimg_run_how *how)
{
	return how->cancel && atomic_load(how->cancel);
}

/* Chunks up to where the data ends; the file is not looked at behind, where the image grows. */
static int pour_all(struct pour *p, const struct vmimg_run_how *how, struct vmimg_error *err)
{
	uint64_t moved = p->sink->moved;
	uint64_t staying = vmimg_max(STAYING, p->sink->granule), left;
	struct vmimg_deal deal;

	for (;;) {
		left = p->source.next < moved ? moved - p->source.next : 0;
		p->source.chunk = (uint32_t)(left ? vmimg_min(left, p->sink->chunk) : staying);
		if (is_cancelled(how))
			return vmimg_fail(err, VMIMG_ECANCELLED, "interrupted");
		if (vmimg_source_deal(&p->source, &deal, err))
			return -1;
		if (!deal.len)
			break;
		if (pour_chunk(p, &deal, err))
			return -1;
	}
	deal = (struct vmimg_deal){ .guest = p->source.end,
		.len = p->sink->size - p->source.end,
		.kind = VMIMG_PIECE_ZERO };
	if (deal.len && pour_chunk(p, &deal, err))
		return -1;
	return p->sink->ops->finish(p->sink, err);
}

int vmimg_adopt_pour(struct vmimg_disk *raw, struct vmimg_sink *sink, uint64_t end,
	const struct vmimg_run_how *how, struct vmimg_error *err)
{
	struct pour pour = { .raw = raw, .sink = sink };
	int failed = pour_init(&pour, end, err) || pour_all(&pour, how, err);

	pour_done(&pour);
	return failed ? -1 : 0;
}

/* ---- the whole ---- */

/* Where the last data of the file ends, give or take what a file system counts in: a search, for
 * a file with many holes has many stretches, and "nothing but a hole from here on" is monotonous.
 */
static int find_end(struct vmimg_io *io, uint64_t *end, struct vmimg_error *err)
{
	uint64_t low = 0, high = vmimg_io_size(io), len;
	bool hole;

	while (low < high) {
		uint64_t at = low + (high - low) / 2;

		if (vmimg_io_extent(io, at, &hole, &len, err))
			return -1;
		if (!hole || at + len < vmimg_io_size(io))
			low = at + 1;
		else
			high = at;
	}
	*end = low;
	return 0;
}

/* Pages that the format's head will lie over. */
static int make_pages(struct vmimg_journal_change *change, uint64_t overlaid,
	struct vmimg_stage_page **pages, struct vmimg_error *err)
{
	change->count = (size_t)vmimg_div_up(vmimg_min(overlaid, change->zero_from), PAGE);
	*pages = vmimg_alloc_array(change->count + 1, sizeof(**pages), err);
	for (size_t i = 0; *pages && i < change->count; i++)
		(*pages)[i].at = i * (uint64_t)PAGE;
	change->pages = *pages;
	return *pages ? 0 : -1;
}

static int begin(const struct vmimg_adopt *adopt, const struct vmimg_create *create,
	const struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct vmimg_journal_change change = { .zero_from = vmimg_min(create->adopt,
						       vmimg_io_size(adopt->raw->io)) };
	VMIMG_AUTO(free) struct vmimg_stage_page *pages = NULL;
	uint64_t more;

	if (adopt->format->measure(create, create->size, &more, err) ||
		make_pages(&change, sink->overlaid, &pages, err))
		return -1;
	change.after = vmimg_io_size(adopt->raw->io) + more + sink->moved;
	return vmimg_journal_begin(adopt->journal, &change, err);
}

/* What was moved and not written over is space for nothing. */
static void give_back(const struct vmimg_adopt *adopt, const struct vmimg_sink *sink)
{
	struct vmimg_error unused;

	if (sink->overlaid < sink->moved)
		(void)!vmimg_io_zero(
			adopt->raw->io, sink->overlaid, sink->moved - sink->overlaid, &unused);
}

int vmimg_adopt_run(const struct vmimg_adopt *adopt, struct vmimg_error *err)
{
	struct vmimg_create create = {
		.size = adopt->raw->size, .options = adopt->options, .unique = true
	}; /* identities that come from the content would have to read it */
	VMIMG_AUTO(vmimg_sink_close) struct vmimg_sink *sink = NULL;

	if (find_end(adopt->raw->io, &create.adopt, err))
		return -1;
	create.adopt = vmimg_max(create.adopt, 1);
	sink = vmimg_sink_create(adopt->format, adopt->raw->io, &create, err);
	if (!sink || begin(adopt, &create, sink, err))
		return -1;
	if (vmimg_adopt_pour(adopt->raw, sink, create.adopt, &adopt->how, err))
		return vmimg_journal_go_back(adopt->journal, err);
	if (vmimg_journal_end(adopt->journal, err))
		return -1;
	give_back(adopt, sink);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking: every structure that can be reached is looked at once, and what it takes of the file is
 * marked, so that two things in one place are found, and a table named twice is not walked twice.
 */
#include <inttypes.h>
#include "disk/report.h"
#include "format/vmdk/taken.h"
#include "util/num.h"

#define WINDOW 4096U

struct hole {
	uint64_t at, end;
};

struct walk {
	struct vmimg_report *report;
	const struct vmdk *disk;
	const struct vmdk_extent *e;
	const char *name; /* of the file */
	bool inside;      /* the descriptor lies in it */
	struct vmdk_taken taken;
	uint64_t guest;               /* where the table in hand begins, in the extent */
	struct hole hole, other_hole; /* of the file, met last among tables and their copies */
	uint64_t previous;            /* the end of the grain before, for counting fragments */
};

#define CORRUPT(w, code, at, ...) \
	vmimg_report_add((w)->report, VMIMG_FINDING_CORRUPTION, code, at, __VA_ARGS__)

/* ---- what is taken ---- */

/* False: something is there already. */
static bool take(struct walk *w, uint64_t at, uint64_t len)
{
	w->report->image_end = vmimg_max(w->report->image_end, at + len);
	return vmimg_vmdk_take(&w->taken, at, len);
}

static bool inside(const struct walk *w, uint64_t at, uint64_t len)
{
	return vmimg_range_inside(at, len, vmimg_io_size(w->e->io));
}

/* ---- grains ---- */

static int packed_grain(struct walk *w, uint64_t at, uint64_t guest, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &w->e->g;
	struct vmimg_run run = { .kind = VMIMG_RUN_PACKED, .io = w->e->io };
	struct vmimg_error why;

	w->report->compressed_blocks++;
	if (vmimg_vmdk_packed_grain(g, w->e->io, at, guest, &run.at, &run.block.packed, &why)) {
		if (why.status != VMIMG_ECORRUPT) {
			*err = why;
			return -1;
		}
		CORRUPT(w, "grain-marker", at, "%s: guest offset 0x%" PRIx64 ": %s", w->name,
			w->e->start + guest, why.text);
		return 0;
	}
	if (!take(w, at, run.at - at + (run.at > at ? run.block.packed : 1))) {
		CORRUPT(w, "grain-overlap", at,
			"%s: the compressed grain of guest offset 0x%" PRIx64
			" overlaps something else",
			w->name, w->e->start + guest);
		return 0;
	}
	run.len = vmimg_min(g->grain, w->e->len - guest);
	run.block.codec = &vmimg_codec_zlib;
	run.block.unpacked = g->grain;
	return vmimg_report_block(w->report, &run, w->e->start + guest, err);
}

/* entry_at: where the entry stands. */
static int check_grain(struct walk *w, const uint8_t *entry, uint64_t entry_at, uint64_t guest,
	struct vmimg_error *err)
{
	const struct vmdk_grains *g = &w->e->g;
	uint64_t need = vmimg_min(g->grain, w->e->len - guest), at = 0;
	enum vmdk_entry_kind kind = vmimg_vmdk_grain_entry(g, entry, &at);

	if (kind == VMDK_ENTRY_ABSENT || kind == VMDK_ENTRY_ZERO)
		return 0;
	if (kind == VMDK_ENTRY_BAD || at < VMDK_SECTOR ||
		!inside(w, at, g->packed ? VMDK_GRAIN_HEAD : need)) {
		CORRUPT(w, "grain-past-end", entry_at,
			"%s: the grain table entry of guest offset 0x%" PRIx64
			" points outside the file (0x%" PRIx64 ")",
			w->name, w->e->start + guest, at);
		return 0;
	}
	w->report->allocated_blocks++;
	w->report->fragmented_blocks += w->previous && w->previous != at;
	w->previous = at + g->grain;
	if (g->packed)
		return packed_grain(w, at, guest, err);
	if (!take(w, at, need))
		CORRUPT(w, "grain-overlap", entry_at,
			"%s: the grain at 0x%" PRIx64 " of guest offset 0x%" PRIx64
			" overlaps something else",
			w->name, at, w->e->start + guest);
	return 0;
}

/* ---- tables ---- */

static int read_table(struct walk *w, void *to, size_t len, uint64_t at, struct vmimg_error *err)
{
	return vmimg_io_pread(w->e->io, to, len, at, err);
}

/* Whether the table was never written: it names nothing then. *known is the hole found last. */
static int is_hole(struct walk *w, struct hole *known, uint64_t at, uint64_t len, bool *yes,
	struct vmimg_error *err)
{
	uint64_t reach;

	if (at < known->at || at + len > known->end) {
		if (vmimg_io_extent(w->e->io, at, yes, &reach, err))
			return -1;
		*known = (struct hole){ at, *yes ? at + reach : at };
	}
	*yes = at + len <= known->end;
	return 0;
}

/* The table at `at`; its redundant copy at other (0: none). */
static int check_table(
	struct walk *w, uint64_t at, uint64_t len, uint64_t other, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &w->e->g;
	uint8_t window[WINDOW], copy[WINDOW];
	bool differs = false, hole, other_hole = true;

	if (is_hole(w, &w->hole, at, len, &hole, err) ||
		(other && is_hole(w, &w->other_hole, other, len, &other_hole, err)))
		return -1;
	if (hole && other_hole)
		return 0;
	for (uint64_t done = 0; done < len;) {
		size_t step = (size_t)vmimg_min(sizeof(window), len - done);

		if (read_table(w, window, step, at + done, err) ||
			(other && read_table(w, copy, step, other + done, err)))
			return -1;
		differs |= other && memcmp(window, copy, step);
		for (size_t i = 0; i < step; i += g->entry_size) {
			uint64_t index = (done + i) / g->entry_size;

			if (check_grain(
				    w, window + i, at + done + i, w->guest + index * g->grain, err))
				return -1;
		}
		done += step;
	}
	if (differs) /* while tables change they may: the first ones count */
		vmimg_report_add(w->report,
			g->unclean ? VMIMG_FINDING_NOTE : VMIMG_FINDING_CORRUPTION,
			"redundant-differs", other,
			"%s: the redundant grain table at 0x%" PRIx64
			" differs from the one at 0x%" PRIx64,
			w->name, other, at);
	return 0;
}

/* The place of the redundant table, 0 where there is none to compare with. */
static uint64_t redundant_table(
	struct walk *w, const uint8_t *entry, bool here, uint64_t index, uint64_t len)
{
	const struct vmdk_grains *g = &w->e->g;
	uint64_t at = 0, entry_at = g->rgd_at + index * g->entry_size;
	enum vmdk_entry_kind kind = vmimg_vmdk_directory_entry(g, entry, &at);

	if ((kind == VMDK_ENTRY_AT) != here)
		vmimg_report_add(w->report,
			g->unclean && !here ? VMIMG_FINDING_NOTE : VMIMG_FINDING_CORRUPTION,
			"redundant-differs", entry_at,
			"%s: the grain directories disagree whether there is a table %" PRIu64,
			w->name, index);
	if (kind != VMDK_ENTRY_AT || !here)
		return 0;
	if (!inside(w, at, len)) {
		CORRUPT(w, "table-past-end", entry_at,
			"%s: redundant grain directory entry %" PRIu64
			" points past the end of the file (0x%" PRIx64 ")",
			w->name, index, at);
		return 0;
	}
	if (take(w, at, len))
		return at;
	CORRUPT(w, "table-overlap", entry_at,
		"%s: the redundant grain table at 0x%" PRIx64 " overlaps something else", w->name,
		at);
	return 0;
}

/* One directory entry; redundant is the other directory's, or NULL. */
static int check_directory_entry(struct walk *w, const uint8_t *entry, const uint8_t *redundant,
	uint64_t index, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &w->e->g;
	uint64_t at = 0, len = vmimg_vmdk_table_len(g, index), other = 0;
	uint64_t entry_at = g->gd_at + index * g->entry_size;
	enum vmdk_entry_kind kind = vmimg_vmdk_directory_entry(g, entry, &at);

	w->guest = index * vmimg_vmdk_table_span(g);
	if (redundant)
		other = redundant_table(w, redundant, kind == VMDK_ENTRY_AT, index, len);
	if (kind == VMDK_ENTRY_ABSENT || kind == VMDK_ENTRY_ZERO)
		return 0;
	if (kind == VMDK_ENTRY_BAD || !inside(w, at, len)) {
		CORRUPT(w, "table-past-end", entry_at,
			"%s: grain directory entry %" PRIu64
			" points past the end of the file (0x%" PRIx64 ")",
			w->name, index, at);
		return 0;
	}
	if (!take(w, at, len)) {
		CORRUPT(w, "table-overlap", entry_at,
			"%s: the grain table at 0x%" PRIx64 " overlaps something else", w->name,
			at);
		return 0;
	}
	return w->guest < w->e->len ? check_table(w, at, len, other, err) : 0;
}

/* Takes the directory's place; false: it is not inside the file. */
static bool take_directory(struct walk *w, uint64_t at, const char *what)
{
	uint64_t len = w->e->g.gd_count * w->e->g.entry_size;

	if (!inside(w, at, len)) {
		CORRUPT(w, "directory-past-end", at,
			"%s: the %s at 0x%" PRIx64 " reaches past the end of the file (0x%" PRIx64
			")",
			w->name, what, at, vmimg_io_size(w->e->io));
		return false;
	}
	if (len && !take(w, at, len))
		CORRUPT(w, "directory-overlap", at,
			"%s: the %s at 0x%" PRIx64 " overlaps something else", w->name, what, at);
	return true;
}

static int check_directory(struct walk *w, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &w->e->g;
	bool redundant = g->rgd_at && !g->through_rgd &&
		take_directory(w, g->rgd_at, "redundant grain directory");
	uint8_t window[WINDOW], other[WINDOW];

	if (!take_directory(w, g->gd_at, "grain directory"))
		return 0;
	for (uint64_t i = 0; i < g->gd_count;) {
		uint64_t count = vmimg_min(g->gd_count - i, WINDOW / g->entry_size);
		size_t len = (size_t)count * g->entry_size;

		if (read_table(w, window, len, g->gd_at + i * g->entry_size, err) ||
			(redundant &&
				read_table(w, other, len, g->rgd_at + i * g->entry_size, err)))
			return -1;
		for (size_t k = 0; k < len; k += g->entry_size, i++)
			if (check_directory_entry(
				    w, window + k, redundant ? other + k : NULL, i, err))
				return -1;
	}
	return 0;
}

/* ---- extents ---- */

static void check_header(struct walk *w)
{
	const struct vmdk_grains *g = &w->e->g;
	uint64_t stated = w->e->line ? w->e->line->sectors * VMDK_SECTOR : w->e->len;

	if (g->line_ends_bad) { /* and so may any byte be that looks like one */
		w->report->malformed = !w->report->kept_count;
		CORRUPT(w, "line-ends", 73,
			"%s: the line ends at offset 73 are not 0a 20 0d 0a: damaged by a "
			"text-mode transfer? copy it again in binary mode",
			w->name);
	}
	take(w, 0, vmimg_min(VMDK_SECTOR, vmimg_io_size(w->e->io)));
	if (g->descriptor_at)
		take(w, g->descriptor_at, g->descriptor_len);
	/* a change of size that was cut off leaves an extent larger than its descriptor says */
	if (stated != g->capacity)
		vmimg_report_add(w->report,
			g->capacity > stated && !w->inside ? VMIMG_FINDING_LEAK
							   : VMIMG_FINDING_CORRUPTION,
			"capacity-differs", 0,
			"%s: the header says a capacity of %" PRIu64
			" bytes, the descriptor %" PRIu64,
			w->name, g->capacity, stated);
	if (w->disk->rebuilt)
		CORRUPT(w, "stream-end", VMIMG_NOWHERE,
			"%s: the stream's footer or its directory is lost", w->name);
	if (g->through_rgd)
		CORRUPT(w, "directory-damaged", VMIMG_NOWHERE,
			"%s: the grain directory is damaged; the redundant one is used", w->name);
	if (g->unclean)
		vmimg_report_add(w->report, VMIMG_FINDING_NOTE, "unclean", VMIMG_NOWHERE,
			"%s: it was not closed cleanly", w->name);
}

static int check_sparse(struct walk *w, struct vmimg_error *err)
{
	int result;

	if (vmimg_vmdk_taken_init(&w->taken, vmimg_io_size(w->e->io), err))
		return -1;
	w->report->total_blocks += vmimg_div_up(w->e->len, w->e->g.grain);
	w->previous = 0;
	w->hole = w->other_hole = (struct hole){ 0, 0 };
	check_header(w);
	result = check_directory(w, err);
	vmimg_vmdk_taken_done(&w->taken);
	return result;
}

static int check_extent(struct walk *w, size_t index, struct vmimg_error *err)
{
	const struct vmdk_extent *e = w->e;

	if (e->zero)
		return 0;
	if (!e->io) {
		vmimg_report_add(w->report,
			w->disk->missing ? VMIMG_FINDING_CORRUPTION : VMIMG_FINDING_NOTE,
			"extent-not-opened", VMIMG_NOWHERE, "extent %zu %s", index,
			w->disk->missing ? "is missing" : "was not opened, and not checked");
		return 0;
	}
	w->name = vmimg_io_name(e->io);
	if (e->sparse)
		return check_sparse(w, err);
	if (!inside(w, e->at, e->len))
		CORRUPT(w, "extent-short", vmimg_io_size(e->io),
			"%s holds %" PRIu64 " bytes, the descriptor says %" PRIu64, w->name,
			vmimg_io_size(e->io), e->at + e->len);
	return 0;
}

int vmimg_vmdk_check(struct vmimg_disk *disk, struct vmimg_report *report, struct vmimg_error *err)
{
	const struct vmdk *v = vmdk_of(disk);
	struct walk w = { .report = report, .disk = v };

	for (size_t i = 0; i < v->extent_count; i++) {
		w.e = &v->extents[i];
		w.inside = w.e->io == disk->io;
		if (check_extent(&w, i, err))
			return -1;
	}
	if (v->header_differs)
		vmimg_report_add(report, VMIMG_FINDING_CORRUPTION, "capacity-differs", 0,
			"the header and the descriptor state different sizes");
	return 0;
}

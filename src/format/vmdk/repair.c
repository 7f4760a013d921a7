/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair of an extent where it is, one kind of thing a round: the end of a stream; the bytes that
 * tell of a text-mode transfer, where nothing else was changed by one; directories and tables
 * (repair_tables.c); the mark that tables were being changed.
 */
#include "format/vmdk/repair.h"
#include <inttypes.h>
#include <string.h>
#include "io/overlay.h"
#include "util/num.h"

#define WINDOW 65536U

/* ---- the line ends ---- */

/* What a transfer makes of line ends without changing how long a file is. */
static const struct {
	uint8_t ends[4], lost, made;
} transfers[] = {
	{ "\n \n\n", '\r', '\n' },
	{ "\r \r\r", '\n', '\r' },
};

struct bytes {
	bool lost, made; /* were seen */
};

static int look_for(struct vmimg_io *io, uint64_t at, uint64_t len, size_t transfer,
	struct bytes *seen, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *window = vmimg_alloc_array(WINDOW, 1, err);

	for (uint64_t step; window && len && !seen->lost; at += step, len -= step) {
		bool hole;

		if (vmimg_io_extent(io, at, &hole, &step, err))
			return -1;
		step = vmimg_min(step, len);
		if (hole)
			continue;
		step = vmimg_min(step, WINDOW);
		if (vmimg_io_pread(io, window, (size_t)step, at, err))
			return -1;
		seen->lost |= memchr(window, transfers[transfer].lost, (size_t)step) != NULL;
		seen->made |= memchr(window, transfers[transfer].made, (size_t)step) != NULL;
	}
	return window ? 0 : -1;
}

/* Whether more than these four bytes were changed, by the whole of a transfer: then what it makes
 * is found behind the descriptor, and what it takes is not. */
static int was_transferred(const struct vmdk_mending *m, bool *yes, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &m->e->g;
	uint64_t from = vmimg_max(VMDK_SECTOR, g->descriptor_at + g->descriptor_len);
	uint64_t size = vmimg_io_size(m->rw);

	*yes = false;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(transfers); i++) {
		struct bytes seen = { 0 };

		if (memcmp(m->header.line_ends, transfers[i].ends, 4) || from >= size)
			continue;
		if (look_for(m->rw, from, size - from, i, &seen, err))
			return -1;
		*yes = seen.made && !seen.lost;
	}
	return 0;
}

static int repair_line_ends(struct vmdk_mending *m, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &m->e->g;
	bool transferred;

	if (!g->line_ends_bad || g->lost || g->through_rgd)
		return 0;
	if (was_transferred(m, &transferred, err))
		return -1;
	if (transferred)
		return 0;
	vmimg_report_add(m->fixed, VMIMG_FINDING_CORRUPTION, "line-ends", 73,
		"the line ends in the header are 0a 20 0d 0a again, not %02x %02x %02x %02x: "
		"nothing else was changed by a transfer",
		m->header.line_ends[0], m->header.line_ends[1], m->header.line_ends[2],
		m->header.line_ends[3]);
	memcpy(m->header.line_ends, VMDK_LINE_ENDS, 4);
	m->header_changed = true;
	return 0;
}

/* ---- the mark ---- */

static void repair_mark(struct vmdk_mending *m)
{
	if (!m->header.unclean)
		return;
	vmimg_report_add(
		m->fixed, VMIMG_FINDING_NOTE, "unclean", 72, "the mark \"not closed\" is cleared");
	m->header.unclean = 0;
	m->header_changed = true;
}

/* ---- the whole ---- */

static int put_header(const struct vmdk_mending *m, struct vmimg_error *err)
{
	uint8_t bytes[VMDK_SECTOR];

	if (!m->header_changed)
		return 0;
	if (vmimg_io_pread(m->rw, bytes, sizeof(bytes), 0, err))
		return -1;
	vmdk_header_encode(&m->header, bytes);
	return vmimg_io_pwrite(m->rw, bytes, sizeof(bytes), 0, err);
}

static int repair_stream(
	const struct vmdk_mending *m, const struct vmdk_rebuilt *rebuilt, struct vmimg_error *err)
{
	vmimg_report_add(m->fixed, VMIMG_FINDING_CORRUPTION, "stream-end", VMIMG_NOWHERE,
		rebuilt->old_directory
			? "the stream has a footer again that leads to the directory of its "
			  "%" PRIu64 " grains"
			: "the stream has tables, a directory and an end again, of the %" PRIu64
			  " grains that were found",
		rebuilt->grains);
	return vmimg_overlay_apply(rebuilt->io, m->rw, err);
}

static uint64_t fixes(const struct vmimg_report *report)
{
	return report->count[VMIMG_FINDING_CORRUPTION] + report->count[VMIMG_FINDING_LEAK];
}

/* One kind of thing. */
static int repair_one(struct vmdk_mending *m, struct vmimg_error *err)
{
	uint64_t before = fixes(m->fixed);

	if (repair_line_ends(m, err))
		return -1;
	if (fixes(m->fixed) == before && vmimg_vmdk_repair_tables(m, err))
		return -1;
	if (fixes(m->fixed) == before)
		repair_mark(m);
	return put_header(m, err);
}

static int fail_kind(const struct vmdk *v, struct vmimg_error *err)
{
	for (size_t i = 0; i < v->extent_count; i++)
		if (v->extents[i].sparse && v->extents[i].line)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"its extents are files of their own: repair each by its name, "
				"beginning with %.80s",
				v->extents[i].line->name);
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"a disk of plain extents has no structure that is repaired in place");
}

int vmimg_vmdk_repair(struct vmimg_disk *disk, struct vmimg_io *rw, struct vmimg_report *fixed,
	struct vmimg_error *err)
{
	const struct vmdk *v = vmdk_of(disk);
	struct vmdk_mending m = { .disk = disk, .rw = rw, .fixed = fixed };
	uint8_t bytes[VMDK_SECTOR];

	for (size_t i = 0; i < v->extent_count && !m.e; i++)
		if (v->extents[i].sparse && v->extents[i].io)
			m.e = &v->extents[i];
	if (!m.e)
		return fail_kind(v, err);
	if (m.e->g.kind != VMDK_HOSTED)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a sparse extent of ESX is not repaired in place: name a new file with -o");
	if (v->rebuilt)
		return repair_stream(&m, v->rebuilt, err);
	if (vmimg_io_pread(rw, bytes, sizeof(bytes), 0, err))
		return -1;
	vmdk_header_decode(&m.header, bytes);
	return repair_one(&m, err);
}

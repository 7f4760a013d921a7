/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair, one kind of thing a round: entries of L1 and L2 tables that cannot be right are cleared;
 * then refcounts are made what the entries say; then the COPIED flags follow the refcounts; last,
 * the marks that said the image was damaged go. A cluster that two entries name keeps both: its
 * refcount becomes two, so that the next write to either copies it.
 */
#include "format/qcow2/repair.h"
#include <inttypes.h>
#include "format/qcow2/change.h"
#include "util/num.h"

struct repair {
	struct vmimg_disk *disk;
	struct vmimg_qcow2 *q;
	struct vmimg_io *rw;
	struct vmimg_report *fixed;
	uint64_t size; /* of the file */
	/* What was added, and how many entries name it: a cluster, an L2 table; 0: none yet */
	uint64_t zeroes, zeroes_uses, blank, blank_uses;
	/* of a cluster's refcount; only while flags are set */
	struct vmimg_qcow2_clusters *clusters;
};

static int put(struct repair *r, uint64_t at, uint64_t value, struct vmimg_error *err)
{
	uint8_t raw[8];

	vmimg_put_be64(raw, value);
	return vmimg_io_pwrite(r->rw, raw, sizeof(raw), at, err);
}

/* ---- entries that cannot be right ---- */

static const char *judge_place(const struct repair *r, uint64_t at, uint64_t len)
{
	if (at % r->q->cluster)
		return "is not at a multiple of the cluster size";
	if (!vmimg_range_inside(at, len, r->size))
		return "points past the end of the file";
	return vmimg_qcow2_metadata_at(r->q, at, r->q->cluster) ? "points into metadata" : NULL;
}

/* The guest's last cluster may be cut short by the end of the file, but begin it must. */
static const char *judge_entry(const struct repair *r, const uint8_t *raw)
{
	uint64_t entry = vmimg_get_be64(raw), at = entry & QCOW2_OFFSET;
	uint64_t bits = r->q->extended ? vmimg_get_be64(raw + 8) : 0;
	uint32_t len;

	if (entry & QCOW2_COMPRESSED) {
		if (r->q->external)
			return "is compressed, with an external data file";
		vmimg_qcow2_packed_place(r->q, entry, &at, &len);
		return at < r->size ? NULL : "points past the end of the file";
	}
	if (r->q->extended && bits >> 32 & bits & UINT32_MAX)
		return "has subclusters both zero and allocated";
	if (r->q->external)
		return NULL;
	if (r->q->extended && !at && bits & UINT32_MAX)
		return "has subclusters, but no cluster";
	return at ? judge_place(r, at, 1) : NULL;
}

/* A cluster of zeroes behind the file. */
static int add_cluster(struct repair *r, uint64_t *at, struct vmimg_error *err)
{
	*at = vmimg_align_up(vmimg_io_size(r->rw), r->q->cluster);
	return vmimg_io_resize(r->rw, *at + r->q->cluster, err);
}

/* The most entries that may name one cluster: its refcount counts them. */
static uint64_t most_uses(const struct repair *r)
{
	unsigned bits = 1U << r->q->header.refcount_order;

	return bits < 16 ? (UINT64_C(1) << bits) - 1 : UINT16_MAX;
}

/* Older images have no entry that says "zeroes": over a backing file it takes a cluster of them. */
static bool lacks_zeroes(const struct repair *r)
{
	return r->q->header.version == 2 && r->q->backing_name && !r->q->header.crypt_method;
}

/* What the guest sees there from now on: zeroes, not what a backing file has. */
static int blank_entry(struct repair *r, uint8_t *raw, struct vmimg_error *err)
{
	if (r->q->extended) {
		vmimg_put_be64(raw, 0);
		vmimg_put_be64(raw + 8, (uint64_t)UINT32_MAX << 32);
		return 0;
	}
	if (!lacks_zeroes(r)) {
		vmimg_put_be64(raw, r->q->header.version == 2 ? 0 : QCOW2_ZERO);
		return 0;
	}
	if (!r->zeroes || r->zeroes_uses == most_uses(r)) {
		if (add_cluster(r, &r->zeroes, err))
			return -1;
		r->zeroes_uses = 0;
	}
	r->zeroes_uses++;
	vmimg_put_be64(raw, r->zeroes);
	return 0;
}

static int clear_l2(struct repair *r, uint64_t table, uint8_t *raw, struct vmimg_error *err)
{
	unsigned entry_size = r->q->extended ? 16 : 8;
	bool changed = false;

	if (vmimg_io_pread(r->rw, raw, r->q->cluster, table, err))
		return -1;
	for (uint32_t i = 0; i < r->q->cluster; i += entry_size) {
		const char *wrong = judge_entry(r, raw + i);

		if (!wrong)
			continue;
		vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "l2-entry", table + i,
			"L2 entry 0x%" PRIx64 " at 0x%" PRIx64 " %s: cleared",
			vmimg_get_be64(raw + i), table + i, wrong);
		if (blank_entry(r, raw + i, err))
			return -1;
		changed = true;
	}
	return changed ? vmimg_io_pwrite(r->rw, raw, r->q->cluster, table, err) : 0;
}

/* An L2 table of zeroes; its clusters are those of no other: they count with each that names it. */
static int add_blank(struct repair *r, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *table = vmimg_alloc_array(r->q->cluster, 1, err);

	r->zeroes = 0;
	for (uint32_t i = 0; table && i < r->q->cluster; i += r->q->extended ? 16 : 8)
		if (blank_entry(r, table + i, err))
			return -1;
	r->zeroes = r->blank_uses = 0;
	return !table || add_cluster(r, &r->blank, err) ||
			vmimg_io_pwrite(r->rw, table, r->q->cluster, r->blank, err)
		? -1
		: 0;
}

/* The L1 entry of a stretch of zeroes. Over a backing file that takes an L2 table, which such
 * entries share. */
static int blank_stretch(struct repair *r, uint64_t *entry, struct vmimg_error *err)
{
	uint64_t each = lacks_zeroes(r) ? r->q->cluster / 8 : 1;

	*entry = 0;
	if (!r->q->backing_name || (r->q->header.version == 2 && !lacks_zeroes(r)))
		return 0;
	if ((!r->blank || (r->blank_uses + 1) * each > most_uses(r)) && add_blank(r, err))
		return -1;
	r->blank_uses++;
	*entry = r->blank;
	return 0;
}

/* The L1 table that is being repaired. */
struct l1 {
	struct repair *r;
	uint64_t at;
	struct vmimg_qcow2_clusters *seen;
	uint8_t *raw; /* for a cluster */
};

static int clear_l1_entry(void *ctx, uint64_t i, uint64_t entry, struct vmimg_error *err)
{
	struct l1 *l1 = ctx;
	struct repair *r = l1->r;
	uint64_t l2 = entry & QCOW2_OFFSET, at = l1->at + i * 8;
	const char *wrong = l2 ? judge_place(r, l2, r->q->cluster) : NULL;
	struct vmimg_qcow2_cluster *cluster;

	if (!l2)
		return 0;
	if (wrong) {
		vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "l1-entry", at,
			"L1 entry 0x%" PRIx64 " at 0x%" PRIx64 " %s: cleared", entry, at, wrong);
		return blank_stretch(r, &l2, err) || put(r, at, l2, err) ? -1 : 0;
	}
	cluster = vmimg_qcow2_clusters_at(l1->seen, l2 / r->q->cluster, err);
	if (!cluster)
		return -1;
	return cluster->l2_refs++ ? 0 : clear_l2(r, l2, l1->raw, err);
}

static int clear_l1(struct repair *r, uint64_t at, uint32_t entries,
	struct vmimg_qcow2_clusters *seen, uint8_t *raw, struct vmimg_error *err)
{
	struct l1 l1 = { r, at, seen, raw };

	return vmimg_qcow2_each_entry(r->disk->io, at, entries, clear_l1_entry, &l1, err);
}

/* Tables as a whole are not moved or cut: one that is not in the file is left for check to tell. */
static bool table_inside(const struct repair *r, uint64_t at, uint32_t entries)
{
	return !(at % r->q->cluster) && vmimg_range_inside(at, (uint64_t)entries * 8, r->size);
}

static int clear_all(struct repair *r, struct vmimg_qcow2_clusters *seen, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *raw = vmimg_alloc_buffer(r->q->cluster, err);
	uint64_t budget = r->size; /* snapshots that share one table are not worth walking */
	const struct vmimg_qcow2_header *h = &r->q->header;

	if (!raw)
		return -1;
	if (table_inside(r, h->l1_offset, h->l1_size) &&
		clear_l1(r, h->l1_offset, h->l1_size, seen, raw, err))
		return -1;
	for (size_t i = 0; i < r->q->snapshot_count; i++) {
		const struct vmimg_qcow2_snapshot_entry *e = &r->q->snapshots[i].entry;
		uint64_t len = (uint64_t)e->l1_size * 8;

		if (!table_inside(r, e->l1_offset, e->l1_size) || len > budget)
			continue;
		budget -= len;
		if (clear_l1(r, e->l1_offset, e->l1_size, seen, raw, err))
			return -1;
	}
	return 0;
}

static int repair_entries(struct repair *r, struct vmimg_error *err)
{
	struct vmimg_qcow2_clusters seen = { 0 };
	int result =
		vmimg_qcow2_clusters_init(&seen, r->q, vmimg_div_up(r->size, r->q->cluster), err);

	if (!result)
		result = clear_all(r, &seen, err);
	vmimg_qcow2_clusters_done(&seen);
	return result;
}

/* ---- COPIED flags ---- */

static uint64_t flagged(const struct repair *r, uint64_t entry)
{
	uint64_t at = entry & QCOW2_OFFSET;

	if (entry & QCOW2_COMPRESSED)
		return entry & ~QCOW2_COPIED;
	if (!at || at / r->q->cluster >= r->clusters->count)
		return entry;
	return vmimg_qcow2_clusters_stated(r->clusters, at / r->q->cluster) == 1
		? entry | QCOW2_COPIED
		: entry & ~QCOW2_COPIED;
}

/* Sets the flags of count entries, width bytes each, that lie at `at`. */
static int flag_entries(struct repair *r, uint64_t at, uint8_t *raw, size_t len, unsigned width,
	struct vmimg_error *err)
{
	for (size_t i = 0; i < len; i += width) {
		uint64_t entry = vmimg_get_be64(raw + i), wanted = flagged(r, entry);

		if (entry == wanted)
			continue;
		vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "copied-flag", at + i,
			"the COPIED flag of the entry at 0x%" PRIx64 " is %s now", at + i,
			wanted & QCOW2_COPIED ? "set" : "clear");
		if (put(r, at + i, wanted, err))
			return -1;
	}
	return 0;
}

static int flag_l1_entry(void *ctx, uint64_t i, uint64_t entry, struct vmimg_error *err)
{
	struct repair *r = ctx;
	uint8_t raw[8];

	vmimg_put_be64(raw, entry);
	return flag_entries(r, r->q->header.l1_offset + i * 8, raw, sizeof(raw), 8, err);
}

/* Only the active state has them; each table once. */
static int flag_all(struct repair *r, uint8_t *raw, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *h = &r->q->header;
	struct vmimg_qcow2_cluster *cluster;

	if (vmimg_qcow2_each_entry(r->rw, h->l1_offset, h->l1_size, flag_l1_entry, r, err))
		return -1;
	if (vmimg_qcow2_clusters_sort(r->clusters, err))
		return -1;
	for (uint64_t i = 0;
		!r->q->external && vmimg_qcow2_clusters_next(r->clusters, &i, &cluster); i++) {
		uint64_t at = i * r->q->cluster;

		if (!cluster->l1_index)
			continue;
		if (vmimg_io_pread(r->rw, raw, r->q->cluster, at, err) ||
			flag_entries(r, at, raw, r->q->cluster, r->q->extended ? 16 : 8, err))
			return -1;
	}
	return 0;
}

static int repair_flags(struct repair *r, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *raw = vmimg_alloc_buffer(r->q->cluster, err);
	VMIMG_AUTO(free) struct vmimg_report *unused = vmimg_new(struct vmimg_report, err);
	struct vmimg_qcow2_clusters clusters = { 0 };
	int result = -1;

	if (!raw || !unused)
		return -1;
	if (!table_inside(r, r->q->header.l1_offset, r->q->header.l1_size))
		return 0;
	if (!vmimg_qcow2_count(r->disk, true, &clusters, unused, err)) {
		r->clusters = &clusters;
		result = flag_all(r, raw, err);
	}
	vmimg_qcow2_clusters_done(&clusters);
	return result;
}

/* ---- marks ---- */

static int repair_marks(struct repair *r, struct vmimg_error *err)
{
	uint64_t marks = QCOW2_INCOMPATIBLE_CORRUPT | QCOW2_INCOMPATIBLE_DIRTY;

	if (r->q->header.version < 3 || !(r->q->header.incompatible & marks))
		return 0;
	vmimg_report_add(r->fixed, VMIMG_FINDING_NOTE, "marks", 72,
		"the marks \"corrupt\" and \"not closed\" are cleared");
	return put(r, 72, r->q->header.incompatible & ~marks, err);
}

int vmimg_qcow2_repair(struct vmimg_disk *disk, struct vmimg_io *rw, struct vmimg_report *fixed,
	struct vmimg_error *err)
{
	struct repair r = { .disk = disk,
		.q = vmimg_qcow2_of(disk),
		.rw = rw,
		.fixed = fixed,
		.size = vmimg_io_size(rw) };
	uint64_t before = fixed->count[VMIMG_FINDING_CORRUPTION] + fixed->count[VMIMG_FINDING_LEAK];

	if (r.q->header.cluster_bits > QCOW2_MAX_CHANGED_BITS)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"clusters of %" PRIu32 " bytes are more than is repaired in place: repair "
			"it into a new file",
			r.q->cluster);
	if (repair_entries(&r, err))
		return -1;
	if (fixed->count[VMIMG_FINDING_CORRUPTION] + fixed->count[VMIMG_FINDING_LEAK] > before)
		return 0;
	if (vmimg_qcow2_repair_refcounts(disk, rw, fixed, err))
		return -1;
	if (fixed->count[VMIMG_FINDING_CORRUPTION] + fixed->count[VMIMG_FINDING_LEAK] > before)
		return 0;
	if (repair_flags(&r, err))
		return -1;
	if (fixed->count[VMIMG_FINDING_CORRUPTION] > before)
		return 0;
	return repair_marks(&r, err);
}

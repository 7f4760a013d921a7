/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Check: every reference to a cluster is counted and held against the refcounts that the image
 * states. L1 tables are read first, noting how often each L2 table is referred to; then each L2
 * table is read once, whatever the number of snapshots that share it.
 */
#include <inttypes.h>
#include "format/qcow2/change.h"
#include "format/qcow2/repair.h"
#include "util/num.h"

/* Clusters may have 1 GiB: blocks and tables are read in slices of this many bytes. */
#define SLICE (1U << 20)

struct check {
	struct vmimg_disk *disk;
	struct vmimg_qcow2 *q;
	struct vmimg_report *report;
	struct vmimg_qcow2_clusters clusters;
	uint64_t budget; /* bytes of L1 tables, and of those of bitmaps, that may still be read */
	uint8_t *slice;  /* of the block or table that is being read */
	uint32_t slice_len; /* SLICE, or a cluster when that is smaller */
};

/* Counts refs references to the clusters that [at, at + len) touches. */
static int count(struct check *c, const char *what, uint64_t at, uint64_t len, uint32_t refs,
	struct vmimg_error *err)
{
	uint64_t first = at / c->q->cluster, last = (at + len - 1) / c->q->cluster;

	if (!len)
		return 0;
	if (at + len < at || first >= c->clusters.count) {
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "past-end", at,
			"%s at 0x%" PRIx64 " lies past the end of the file (0x%" PRIx64 ")", what,
			at, vmimg_io_size(c->disk->io));
		return 0;
	}
	return vmimg_qcow2_clusters_refer(
		&c->clusters, first, vmimg_min(last + 1, c->clusters.count), refs, err);
}

/* Whether a failed read is a finding, not the end of the check. */
static bool found(struct check *c, const char *code, uint64_t at, const struct vmimg_error *err)
{
	if (err->status != VMIMG_ECORRUPT)
		return false;
	vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, code, at, "%s", err->text);
	return true;
}

/* ---- refcounts as the image states them ---- */

/* The counts in c->slice, which begin with that of cluster first. *past: those of clusters that the
 * file does not have. */
static int keep_counts(struct check *c, uint64_t first, uint64_t *past, struct vmimg_error *err)
{
	unsigned order = c->q->header.refcount_order;
	uint64_t end = first + (((uint64_t)c->slice_len * 8) >> order);

	for (uint64_t i = vmimg_max(first, c->clusters.count); i < end; i++)
		*past += vmimg_qcow2_get_refcount(c->slice, i - first, order) != 0;
	return vmimg_qcow2_clusters_state(&c->clusters, first, c->slice, c->slice_len, err);
}

static int read_slices(struct check *c, uint64_t index, uint64_t at, struct vmimg_error *err)
{
	unsigned order = c->q->header.refcount_order;
	uint64_t first = index * (((uint64_t)c->q->cluster * 8) >> order), past = 0;

	for (uint64_t done = 0; done < c->q->cluster; done += c->slice_len) {
		if (vmimg_io_pread(c->disk->io, c->slice, c->slice_len, at + done, err))
			return found(c, "refcount-block", at, err) ? 0 : -1;
		if (keep_counts(c, first + ((done * 8) >> order), &past, err))
			return -1;
	}
	if (past)
		vmimg_report_add(c->report, VMIMG_FINDING_LEAK, "refcount-past-end", VMIMG_NOWHERE,
			"%" PRIu64
			" clusters past the end of the file have refcounts in block %" PRIu64,
			past, index);
	if (past > 1)
		vmimg_report_count(c->report, VMIMG_FINDING_LEAK, past - 1);
	return 0;
}

static int read_block(void *ctx, uint64_t index, uint64_t at, struct vmimg_error *err)
{
	struct check *c = ctx;
	uint64_t entry_at = c->q->header.refcount_table + index * 8;

	if (at % c->q->cluster || at / c->q->cluster >= c->clusters.count) {
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "refcount-block", entry_at,
			"refcount block %" PRIu64 " at 0x%" PRIx64 " is %s", index, at,
			at % c->q->cluster ? "not at a multiple of the cluster size"
					   : "past the end of the file");
		return 0;
	}
	if (count(c, "refcount block", at, c->q->cluster, 1, err))
		return -1;
	/* and must not be read again for every entry */
	if (vmimg_qcow2_clusters_counted(&c->clusters, at / c->q->cluster) > 1) {
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "refcount-block", entry_at,
			"refcount block %" PRIu64 " at 0x%" PRIx64
			" lies where something else does",
			index, at);
		return 0;
	}
	return read_slices(c, index, at, err);
}

static int read_refcounts(struct check *c, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *h = &c->q->header;
	uint64_t len = (uint64_t)h->refcount_table_clusters << h->cluster_bits;
	uint64_t size = vmimg_io_size(c->disk->io);
	uint64_t group = ((uint64_t)c->q->cluster * 8) >> h->refcount_order;
	uint64_t most =
		vmimg_max(vmimg_div_up(c->clusters.count, group) * 8, QCOW2_MAX_REFCOUNT_TABLE);

	if (count(c, "refcount table", h->refcount_table, vmimg_min(len, most), 1, err))
		return -1;
	if (!vmimg_range_inside(h->refcount_table, len, size) || len > most)
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "refcount-table",
			h->refcount_table,
			"the refcount table (%" PRIu32 " clusters at 0x%" PRIx64 ") %s",
			h->refcount_table_clusters, h->refcount_table,
			len > most ? "is larger than any file of this size needs"
				   : "reaches past the end of the file");
	if (h->refcount_table >= size)
		return 0;
	return vmimg_qcow2_each_entry(c->disk->io, h->refcount_table,
		vmimg_min(len, size - h->refcount_table) / 8, read_block, c, err);
}

/* ---- L1 tables ---- */

/* In the active tables, the COPIED flag says that the refcount is exactly one. index: of an L1
 * entry; NULL: it is one of L2. */
static void check_copied(
	struct check *c, const uint32_t *index, uint64_t entry, uint64_t entry_at, uint64_t at)
{
	uint32_t stated = vmimg_qcow2_clusters_stated(&c->clusters, at / c->q->cluster);
	const uint64_t numbers[] = { entry, stated, index ? *index : 0 };
	bool copied = entry & QCOW2_COPIED;

	if (copied == (stated == 1))
		return;
	vmimg_report_add_numbers(c->report, VMIMG_FINDING_CORRUPTION, "copied-flag", entry_at,
		numbers, index ? 3 : 2,
		"%s entry 0x%" PRIx64 " at 0x%" PRIx64
		" has the COPIED flag %s, but its cluster's refcount is %" PRIu32,
		index ? "L1" : "L2", entry, entry_at, copied ? "set" : "clear", stated);
}

/* The L1 table that is being read. */
struct l1 {
	struct check *c;
	uint64_t at;
	bool active;
};

static int note_l2(void *ctx, uint64_t i, uint64_t entry, struct vmimg_error *err)
{
	const struct l1 *l1 = ctx;
	struct check *c = l1->c;
	uint64_t l2 = entry & QCOW2_OFFSET, entry_at = l1->at + i * 8;
	uint32_t index = (uint32_t)i;
	struct vmimg_qcow2_cluster *cluster;

	if (!l2)
		return 0;
	if (l2 % c->q->cluster ||
		!vmimg_range_inside(l2, c->q->cluster, vmimg_io_size(c->disk->io))) {
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "l1-entry", entry_at,
			"L1 entry 0x%" PRIx64 " at 0x%" PRIx64 " %s", entry, entry_at,
			l2 % c->q->cluster ? "is not at a multiple of the cluster size"
					   : "points past the end of the file");
		return count(c, "L2 table", l2, 1, 1, err);
	}
	if (count(c, "L2 table", l2, c->q->cluster, 1, err))
		return -1;
	cluster = vmimg_qcow2_clusters_at(&c->clusters, l2 / c->q->cluster, err);
	if (!cluster)
		return -1;
	if (cluster->l2_refs < UINT32_MAX)
		cluster->l2_refs++;
	if (!l1->active)
		return 0;
	if (!cluster->l1_index)
		cluster->l1_index = index + 1;
	check_copied(c, &index, entry, entry_at, l2);
	return 0;
}

static int check_l1(struct check *c, const char *what, uint64_t at, uint32_t entries, bool active,
	struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(c->disk->io), len = (uint64_t)entries * 8;
	struct l1 l1 = { c, at, active };

	if (at % c->q->cluster || !vmimg_range_inside(at, len, size) || len > c->budget) {
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "l1-table", at,
			"the L1 table of %s (%" PRIu32 " entries at 0x%" PRIx64 ") %s", what,
			entries, at,
			at % c->q->cluster        ? "is not at a multiple of the cluster size"
				: len > c->budget ? "overlaps others"
						  : "reaches past the end of the file");
		return 0;
	}
	c->budget -= len;
	return count(c, "L1 table", at, len, 1, err) ||
			vmimg_qcow2_each_entry(c->disk->io, at, entries, note_l2, &l1, err)
		? -1
		: 0;
}

/* ---- L2 tables ---- */

/* What is known of the L2 table that is being read. */
struct table {
	uint64_t at;
	uint32_t refs;
	bool active;
	uint64_t guest; /* of its first entry, when it is active */
	uint64_t next;  /* where the next cluster would lie, were there no fragments */
};

static int check_packed(struct check *c, struct table *t, uint64_t entry, uint64_t entry_at,
	uint64_t guest, struct vmimg_error *err)
{
	struct vmimg_run run = { .kind = VMIMG_RUN_PACKED,
		.len = c->q->cluster,
		.io = c->disk->io,
		.block = { .codec = c->q->codec, .unpacked = c->q->cluster } };
	uint64_t size = vmimg_io_size(c->disk->io);

	if (entry & QCOW2_COPIED)
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "copied-flag", entry_at,
			"L2 entry at 0x%" PRIx64 " is compressed and has the COPIED flag",
			entry_at);
	vmimg_qcow2_packed_place(c->q, entry, &run.at, &run.block.packed);
	if (count(c, "compressed cluster", run.at,
		    vmimg_min(run.block.packed, run.at < size ? size - run.at : 1), t->refs, err))
		return -1;
	if (t->active) {
		c->report->allocated_blocks++;
		c->report->compressed_blocks++;
		c->report->fragmented_blocks++; /* as QEMU counts them */
	}
	if (run.at >= size)
		return 0;
	run.block.packed = (uint32_t)vmimg_min(run.block.packed, size - run.at);
	return vmimg_report_block(c->report, &run, guest, err);
}

/* The end of the file is in the cluster at at, and the disk has more of it than lies before. */
static void check_whole(struct check *c, const uint8_t *raw, uint64_t at, uint64_t guest)
{
	uint64_t end = c->disk->size, size = vmimg_io_size(c->disk->io);
	uint64_t room = guest < end ? vmimg_min(c->q->cluster, end - guest) : 1;

	if (at < size && !vmimg_range_inside(at, vmimg_qcow2_needed(c->q, raw, room), size))
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "past-end", at,
			"data cluster at 0x%" PRIx64 " reaches past the end of the file (0x%" PRIx64 ")",
			at, size);
}

static int check_data(struct check *c, struct table *t, const uint8_t *raw, uint64_t entry_at,
	uint64_t guest, struct vmimg_error *err)
{
	uint64_t entry = vmimg_get_be64(raw), at = entry & QCOW2_OFFSET;
	const char *hit = vmimg_qcow2_metadata_at(c->q, at, c->q->cluster);

	if (at % c->q->cluster || hit) {
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "l2-entry", entry_at,
			"L2 entry 0x%" PRIx64 " at 0x%" PRIx64 " points %s%s", entry, entry_at,
			hit ? "into " : "between clusters", hit ? hit : "");
		if (at % c->q->cluster)
			return 0;
	}
	if (t->active) {
		c->report->allocated_blocks++;
		c->report->fragmented_blocks += t->next && at != t->next;
		t->next = at + c->q->cluster;
	}
	if (count(c, "data cluster", at, c->q->cluster, t->refs, err))
		return -1;
	check_whole(c, raw, at, guest);
	if (t->active && at / c->q->cluster < c->clusters.count)
		check_copied(c, NULL, entry, entry_at, at);
	return 0;
}

static void check_subclusters(struct check *c, uint64_t bits, bool allocated, uint64_t entry_at)
{
	if (bits >> 32 & bits & UINT32_MAX)
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "subclusters", entry_at,
			"L2 entry at 0x%" PRIx64 " has subclusters both zero and allocated",
			entry_at);
	if (!allocated && bits & UINT32_MAX)
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "subclusters", entry_at,
			"L2 entry at 0x%" PRIx64 " has subclusters, but no cluster", entry_at);
}

static int check_l2_entry(struct check *c, struct table *t, const uint8_t *raw, uint64_t slot,
	struct vmimg_error *err)
{
	uint64_t entry = vmimg_get_be64(raw), entry_at = t->at + slot * (c->q->extended ? 16 : 8);
	uint64_t guest = t->active ? t->guest + slot * c->q->cluster : VMIMG_NOWHERE;

	if (entry & QCOW2_COMPRESSED && c->q->external) {
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "l2-entry", entry_at,
			"L2 entry at 0x%" PRIx64 " is compressed, with an external data file",
			entry_at);
		return 0;
	}
	if (entry & QCOW2_COMPRESSED)
		return check_packed(c, t, entry, entry_at, guest, err);
	if (c->q->extended)
		check_subclusters(c, vmimg_get_be64(raw + 8),
			entry & (c->q->external ? QCOW2_OFFSET | QCOW2_COPIED : QCOW2_OFFSET),
			entry_at);
	if (c->q->external) {
		c->report->allocated_blocks += t->active && entry & (QCOW2_OFFSET | QCOW2_COPIED);
		return 0;
	}
	return entry & QCOW2_OFFSET ? check_data(c, t, raw, entry_at, guest, err) : 0;
}

static int check_l2(struct check *c, struct table *t, struct vmimg_error *err)
{
	unsigned entry_size = c->q->extended ? 16 : 8;
	uint64_t slot = 0;

	for (uint64_t done = 0; done < c->q->cluster; done += c->slice_len) {
		if (vmimg_io_pread(c->disk->io, c->slice, c->slice_len, t->at + done, err))
			return found(c, "l2-table", t->at, err) ? 0 : -1;
		for (uint32_t at = 0; at < c->slice_len; at += entry_size)
			if (check_l2_entry(c, t, c->slice + at, slot++, err))
				return -1;
	}
	return 0;
}

static int check_all_l2(struct check *c, struct vmimg_error *err)
{
	struct vmimg_qcow2_cluster *cluster;

	if (vmimg_qcow2_clusters_sort(&c->clusters, err)) /* the L2 tables are known now */
		return -1;
	for (uint64_t i = 0; vmimg_qcow2_clusters_next(&c->clusters, &i, &cluster); i++) {
		struct table t = { .at = i * c->q->cluster,
			.refs = cluster->l2_refs,
			.active = cluster->l1_index };

		if (!cluster->l2_refs)
			continue;
		if (t.active)
			t.guest = (uint64_t)(cluster->l1_index - 1) * c->q->cluster
				<< c->q->l2_bits;
		if (check_l2(c, &t, err))
			return -1;
	}
	return 0;
}

/* ---- what else takes space ---- */

static int check_bitmap(
	struct check *c, const struct vmimg_qcow2_bitmap_place *place, struct vmimg_error *err)
{
	uint64_t len = (uint64_t)place->entries * 8;
	uint8_t raw[8];

	if (len > c->budget) {
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "bitmap-table", place->table,
			"the table of a bitmap (%" PRIu32 " entries at 0x%" PRIx64
			") overlaps others",
			place->entries, place->table);
		return 0;
	}
	c->budget -= len;
	if (count(c, "bitmap table", place->table, len, 1, err))
		return -1;
	for (uint32_t i = 0; i < place->entries; i++) {
		uint64_t at;

		if (vmimg_table_read(c->q->table, raw, 8, place->table + i * UINT64_C(8), err))
			return found(c, "bitmap-table", place->table, err) ? 0 : -1;
		at = vmimg_get_be64(raw) & QCOW2_OFFSET;
		if (at && count(c, "bitmap data", at, c->q->cluster, 1, err))
			return -1;
	}
	return 0;
}

static int check_bitmaps(struct check *c, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = c->q;

	if (!q->has_bitmaps || !(q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0;
	if (count(c, "bitmap directory", q->bitmaps.directory,
		    vmimg_min(q->bitmaps.directory_size, QCOW2_MAX_BITMAP_DIRECTORY), 1, err))
		return -1;
	for (size_t i = 0; i < c->disk->bitmap_count; i++)
		if (check_bitmap(c, &q->bitmap_places[i], err))
			return -1;
	return 0;
}

static int check_snapshots(struct check *c, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = c->q;
	uint64_t len = 0;

	for (size_t i = 0; i < q->snapshot_count; i++) {
		const struct vmimg_qcow2_snapshot_entry *e = &q->snapshots[i].entry;

		len += vmimg_align_up(40 + (uint64_t)e->extra_size + e->id_size + e->name_size, 8);
		if (check_l1(c, "a snapshot", e->l1_offset, e->l1_size, false, err))
			return -1;
	}
	if (q->snapshot_count < q->header.snapshot_count)
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "snapshot-table",
			q->header.snapshots_offset,
			"the snapshot table cannot be read: %zu of %" PRIu32 " entries",
			q->snapshot_count, q->header.snapshot_count);
	return count(c, "snapshot table", q->header.snapshots_offset, len, 1, err);
}

/* ---- the verdict ---- */

static void tell_counts(struct check *c, uint64_t first, const struct vmimg_qcow2_refs *refs)
{
	bool leak = refs->stated > refs->counted;
	enum vmimg_severity severity = leak ? VMIMG_FINDING_LEAK : VMIMG_FINDING_CORRUPTION;
	uint64_t i = first, end = first + refs->len;

	for (; i < end && c->report->kept_count < VMIMG_MAX_FINDINGS; i++)
		vmimg_report_add_numbers(c->report, severity, leak ? "leaked-cluster" : "refcount",
			i * c->q->cluster, (const uint64_t[]){ i, refs->stated, refs->counted }, 3,
			"cluster %" PRIu64 " has refcount %" PRIu32 ", but %" PRIu32 " references",
			i, refs->stated, refs->counted);
	vmimg_report_count(c->report, severity, end - i);
}

static int compare_counts(struct check *c, struct vmimg_error *err)
{
	struct vmimg_qcow2_refs refs;
	uint64_t last = 0;

	if (vmimg_qcow2_clusters_sort(&c->clusters, err))
		return -1;
	for (uint64_t i = 0; vmimg_qcow2_clusters_walk(&c->clusters, &i, UINT64_MAX, &refs);
		i += refs.len) {
		if (refs.stated || refs.counted)
			last = i + refs.len;
		if (refs.stated == refs.counted)
			continue;
		tell_counts(c, i, &refs);
	}
	c->report->image_end = last * c->q->cluster;
	return 0;
}

static void check_flags(struct check *c)
{
	if (c->q->header.incompatible & QCOW2_INCOMPATIBLE_CORRUPT)
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "corrupt-flag", 72,
			"the image is marked corrupt");
	if (c->q->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY)
		vmimg_report_add(c->report, VMIMG_FINDING_NOTE, "dirty-flag", 72,
			"the image was not closed: its refcounts may be out of date");
}

static int check_all(struct check *c, bool with_refcounts, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = c->q;

	if (count(c, "header", 0, q->cluster, 1, err) ||
		(with_refcounts && read_refcounts(c, err)) ||
		check_l1(
			c, "the active state", q->header.l1_offset, q->header.l1_size, true, err) ||
		check_snapshots(c, err) || check_bitmaps(c, err))
		return -1;
	if (q->has_crypto && q->crypto.length > QCOW2_MAX_CRYPTO)
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "encryption-header",
			q->crypto.offset,
			"an encryption header of 0x%" PRIx64 " bytes: none is so large",
			q->crypto.length);
	else if (q->has_crypto &&
		count(c, "encryption header", q->crypto.offset, q->crypto.length, 1, err))
		return -1;
	return check_all_l2(c, err);
}

static int count_all(struct check *c, bool with_refcounts, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = c->q = vmimg_qcow2_of(c->disk);
	uint64_t size = vmimg_io_size(c->disk->io);
	VMIMG_AUTO(free) uint8_t *slice = NULL;

	c->budget = size + (UINT64_C(1) << 20);
	c->slice_len = (uint32_t)vmimg_min(q->cluster, SLICE);
	c->slice = slice = vmimg_alloc_buffer(c->slice_len, err);
	if (!slice ||
		vmimg_qcow2_clusters_init(&c->clusters, q, vmimg_div_up(size, q->cluster), err))
		return -1;
	return check_all(c, with_refcounts, err);
}

int vmimg_qcow2_count(struct vmimg_disk *disk, bool with_refcounts,
	struct vmimg_qcow2_clusters *clusters, struct vmimg_report *report, struct vmimg_error *err)
{
	struct check c = { .disk = disk, .report = report };
	int result = count_all(&c, with_refcounts, err);

	*clusters = c.clusters;
	return result;
}

int vmimg_qcow2_check(struct vmimg_disk *disk, struct vmimg_report *report, struct vmimg_error *err)
{
	struct check c = { .disk = disk, .report = report };
	int result = count_all(&c, true, err);

	if (!result) {
		check_flags(&c);
		result = compare_counts(&c, err);
		report->total_blocks = vmimg_div_up(disk->size, c.q->cluster);
	}
	vmimg_qcow2_clusters_done(&c.clusters);
	return result;
}

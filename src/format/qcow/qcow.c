/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QCOW version 1, read only: two levels of tables, compressed clusters, a backing file whose format
 * is not stated. It has no refcounts, so there is little that a check could hold against it.
 */
#include <inttypes.h>
#include <string.h>
#include "disk/info.h"
#include "disk/report.h"
#include "format/qcow/layout.h"
#include "io/table.h"
#include "util/limits.h"
#include "util/num.h"

#define BATCH 512U

struct qcow {
	struct vmimg_qcow_header header;
	struct vmimg_table *table;
	uint32_t cluster;
	uint64_t l1_entries;
	char *backing_name;
	struct vmimg_cipher *cipher; /* NULL: not encrypted, or no secret */
};

static struct qcow *qcow_of(const struct vmimg_disk *disk)
{
	return disk->state;
}

static int qcow_probe(const struct vmimg_probe *probe)
{
	return probe->head_len >= 8 && vmimg_get_be32(probe->head) == QCOW_MAGIC &&
			vmimg_get_be32(probe->head + 4) == 1
		? 100
		: 0;
}

static int check_header(const struct vmimg_qcow_header *h, struct vmimg_error *err)
{
	if (h->magic != QCOW_MAGIC)
		return vmimg_fail(err, VMIMG_EFORMAT, "it does not begin with QFI\\xfb: no QCOW");
	if (h->version != 1)
		return vmimg_fail(err, VMIMG_EFORMAT, "version %" PRIu32 " at 4: no QCOW version 1",
			h->version);
	if (h->cluster_bits < 9 || h->cluster_bits > 16)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"clusters of 2^%u bytes at 32: they have 2^9 to 2^16", h->cluster_bits);
	if (h->l2_bits < 6 || h->l2_bits > 13)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"L2 tables of 2^%u entries at 33: they have 2^6 to 2^13", h->l2_bits);
	if (h->crypt_method > 1)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"encryption method %" PRIu32 " at 36 is not known", h->crypt_method);
	if (h->size <= 1 || h->size > VMIMG_MAX_DISK)
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "a virtual size of %" PRIu64 " bytes at 24", h->size);
	if (h->backing_size > 1023)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a backing file name of %" PRIu32 " bytes at 16", h->backing_size);
	return 0;
}

static int open_backing(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct qcow *q = qcow_of(disk);
	int ref;

	if (!q->header.backing_offset || !q->header.backing_size)
		return 0;
	q->backing_name = vmimg_alloc_array(q->header.backing_size + 1, 1, err);
	if (!q->backing_name ||
		vmimg_io_pread(disk->io, q->backing_name, q->header.backing_size,
			q->header.backing_offset, err))
		return -1;
	ref = vmimg_disk_refer(disk, "backing", q->backing_name, NULL, err);
	return ref < 0 ? -1 : vmimg_disk_open_parent(disk, options, ref, err);
}

static int qcow_open(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct qcow *q = vmimg_new(struct qcow, err);
	uint8_t raw[48];

	disk->state = q;
	if (!q || vmimg_io_pread(disk->io, raw, sizeof(raw), 0, err))
		return -1;
	vmimg_qcow_header_decode(&q->header, raw);
	if (check_header(&q->header, err) || !(q->table = vmimg_table_new(disk->io, err)))
		return -1;
	q->cluster = UINT32_C(1) << q->header.cluster_bits;
	q->l1_entries = vmimg_div_up(q->header.size, (uint64_t)q->cluster << q->header.l2_bits);
	disk->size = q->header.size;
	disk->block = q->cluster;
	if (q->header.crypt_method && options->secret_count &&
		!(q->cipher = vmimg_disk_old_cipher(options, err)))
		return -1;
	return open_backing(disk, options, err);
}

static void qcow_close(struct vmimg_disk *disk)
{
	struct qcow *q = qcow_of(disk);

	if (!q)
		return;
	vmimg_cipher_free(q->cipher);
	vmimg_table_free(q->table);
	free(q->backing_name);
	free(q);
}

static int fill_packed(struct vmimg_disk *disk, uint64_t entry, uint64_t at, struct vmimg_run *run,
	struct vmimg_error *err)
{
	struct qcow *q = qcow_of(disk);
	unsigned bits = 63U - q->header.cluster_bits;
	uint64_t size = vmimg_io_size(disk->io);

	run->kind = VMIMG_RUN_PACKED;
	run->at = entry & ((UINT64_C(1) << bits) - 1);
	if (run->at >= size)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"compressed cluster of guest offset 0x%" PRIx64
			" lies past the end of the file (0x%" PRIx64 ")",
			at, run->at);
	run->block.codec = &vmimg_codec_deflate;
	run->block.packed = (uint32_t)vmimg_min(entry >> bits & (q->cluster - 1), size - run->at);
	run->block.unpacked = q->cluster;
	run->block.skip = (uint32_t)(at % q->cluster);
	run->len = q->cluster - run->block.skip;
	return 0;
}

/* Entries of an L2 table from that of at on, as far as they continue each other. */
static int map_l2(struct vmimg_disk *disk, uint64_t l2, uint64_t at, struct vmimg_run *run,
	struct vmimg_error *err)
{
	struct qcow *q = qcow_of(disk);
	uint64_t slots = UINT64_C(1) << q->header.l2_bits, slot = at / q->cluster & (slots - 1);
	uint64_t count = vmimg_min(slots - slot, BATCH), first, skip = at % q->cluster, i = 1;
	uint8_t raw[BATCH * 8];

	if (l2 >= vmimg_io_size(disk->io)) {
		run->len = slots * q->cluster - at % (slots * q->cluster);
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"L2 table at 0x%" PRIx64 " lies past the end of the file", l2);
	}
	if (vmimg_table_read(q->table, raw, (size_t)count * 8, l2 + slot * 8, err))
		return vmimg_within(err, "L2 table at 0x%" PRIx64, l2);
	first = vmimg_get_be64(raw);
	run->io = disk->io;
	if (first & QCOW_COMPRESSED)
		return fill_packed(disk, first, at, run, err);
	while (i < count && vmimg_get_be64(raw + i * 8) == (first ? first + i * q->cluster : 0))
		i++;
	run->kind = first ? VMIMG_RUN_DATA : VMIMG_RUN_ABSENT;
	run->at = first + skip;
	run->len = i * q->cluster - skip;
	return 0;
}

static int qcow_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	struct qcow *q = qcow_of(disk);
	uint64_t covers = (uint64_t)q->cluster << q->header.l2_bits, index = at / covers, l2 = 0;
	uint8_t raw[8];

	for (uint64_t i = index; i < q->l1_entries; i++) {
		if (vmimg_table_read(q->table, raw, 8, q->header.l1_offset + i * 8, err))
			return vmimg_within(err, "L1 table");
		l2 = vmimg_get_be64(raw);
		if (l2 && i > index) {
			run->len = i * covers - at;
			return 0; /* the empty stretch before this table: kind 0 is ABSENT */
		}
		if (l2)
			break;
	}
	if (!l2) {
		run->len = q->l1_entries * covers - at;
		return 0;
	}
	if (map_l2(disk, l2, at, run, err))
		return -1;
	run->encrypted = q->header.crypt_method && run->kind == VMIMG_RUN_DATA;
	run->cipher = run->encrypted ? q->cipher : NULL;
	run->cipher_at = at;
	return 0;
}

static int qcow_describe(struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err)
{
	const struct qcow *q = qcow_of(disk);

	(void)err;
	vmimg_json_text(info->root, "backing-filename", q->backing_name);
	if (q->header.crypt_method)
		vmimg_json_bool(info->root, "encrypted", true);
	return 0;
}

/* Each table once; every cluster in the file, every compressed one sound. */
static int check_table(struct vmimg_disk *disk, uint64_t guest, struct vmimg_report *report,
	struct vmimg_error *err)
{
	uint64_t end = vmimg_min(disk->size,
		guest + ((uint64_t)qcow_of(disk)->cluster << qcow_of(disk)->header.l2_bits));
	uint64_t size = vmimg_io_size(disk->io);
	struct vmimg_run run;

	for (; guest < end; guest += run.len) {
		if (vmimg_disk_map(disk, guest, &run, err)) {
			if (err->status != VMIMG_ECORRUPT)
				return -1;
			vmimg_report_add(report, VMIMG_FINDING_CORRUPTION, "l2-table",
				VMIMG_NOWHERE, "%s", err->text);
			return 0;
		}
		if (run.kind == VMIMG_RUN_DATA && !vmimg_range_inside(run.at, run.len, size))
			vmimg_report_add(report, VMIMG_FINDING_CORRUPTION, "past-end", run.at,
				"the cluster of guest offset 0x%" PRIx64 " at 0x%" PRIx64
				" reaches past the end of the file",
				guest, run.at);
		if (run.kind == VMIMG_RUN_PACKED && vmimg_report_block(report, &run, guest, err))
			return -1;
		report->allocated_blocks +=
			run.kind == VMIMG_RUN_ABSENT ? 0 : vmimg_div_up(run.len, disk->block);
		report->compressed_blocks += run.kind == VMIMG_RUN_PACKED;
	}
	return 0;
}

static int qcow_check(struct vmimg_disk *disk, struct vmimg_report *report, struct vmimg_error *err)
{
	struct qcow *q = qcow_of(disk);
	uint64_t size = vmimg_io_size(disk->io), tables = 0, len = q->l1_entries * 8;
	uint8_t raw[8];

	report->total_blocks = vmimg_div_up(disk->size, q->cluster);
	report->image_end = size;
	if (!vmimg_range_inside(q->header.l1_offset, len, size)) {
		vmimg_report_add(report, VMIMG_FINDING_CORRUPTION, "l1-table", q->header.l1_offset,
			"the L1 table (%" PRIu64 " entries) reaches past the end of the file",
			q->l1_entries);
		return 0;
	}
	for (uint64_t i = 0; i < q->l1_entries; i++) {
		if (vmimg_table_read(q->table, raw, 8, q->header.l1_offset + i * 8, err))
			return -1;
		if (!vmimg_get_be64(raw))
			continue;
		if (++tables * (8U << q->header.l2_bits) > size) {
			vmimg_report_add(report, VMIMG_FINDING_CORRUPTION, "l1-entry",
				q->header.l1_offset + i * 8, "L2 tables are used more than once");
			return 0;
		}
		if (check_table(disk, i * q->cluster << q->header.l2_bits, report, err))
			return -1;
	}
	return 0;
}

const struct vmimg_format vmimg_qcow = {
	.name = "qcow",
	.title = "a QCOW image (version 1)",
	.probe = qcow_probe,
	.open = qcow_open,
	.close = qcow_close,
	.map = qcow_map,
	.describe = qcow_describe,
	.check = qcow_check,
};

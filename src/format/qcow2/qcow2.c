/* SPDX-License-Identifier: Apache-2.0 */
/* QCOW2: detection, opening, and what info says. */
#include "format/qcow2/qcow2.h"
#include "format/qcow2/crypt.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "disk/info.h"
#include "util/num.h"

static int qcow2_probe(const struct vmimg_probe *probe)
{
	if (probe->head_len < 8 || vmimg_get_be32(probe->head) != QCOW2_MAGIC)
		return 0;
	return vmimg_get_be32(probe->head + 4) == 1 ? 0 : 100; /* version 1 has a room of its own */
}

/* Formats that older writers name and that mean plain bytes. */
static const char *plain_name(const char *format)
{
	return format && (!strcmp(format, "file") || !strcmp(format, "host_device")) ? "raw"
										     : format;
}

static int open_data_file(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	int ref;

	if (!q->external) {
		q->data = vmimg_io_ref(disk->io);
		return 0;
	}
	ref = vmimg_disk_refer(disk, "data-file", q->data_name, "raw", err);
	return ref < 0 ? -1 : vmimg_disk_open_ref(disk, options, ref, &q->data, err);
}

static int open_backing(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	int ref;

	if (!q->backing_name)
		return 0;
	if (!q->backing_format)
		vmimg_disk_warn(
			disk, "the format of the backing file is not stated; it is detected");
	ref = vmimg_disk_refer(
		disk, "backing", q->backing_name, plain_name(q->backing_format), err);
	return ref < 0 ? -1 : vmimg_disk_open_parent(disk, options, ref, err);
}

static int choose_state(struct vmimg_disk *disk, const char *name, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	const struct vmimg_qcow2_snapshot *snapshot;
	uint64_t needed;

	q->l1_offset = q->header.l1_offset;
	q->l1_size = q->header.l1_size;
	disk->size = q->header.size;
	if (!name)
		return 0;
	snapshot = vmimg_qcow2_find_snapshot(q, name);
	if (!snapshot)
		return vmimg_fail(err, VMIMG_EINVAL, "there is no snapshot '%.60s'", name);
	q->l1_offset = snapshot->entry.l1_offset;
	q->l1_size = snapshot->entry.l1_size;
	if (snapshot->extra.disk_size)
		disk->size = snapshot->extra.disk_size;
	needed = vmimg_div_up(disk->size, (uint64_t)q->cluster << q->l2_bits);
	if (q->l1_size < needed || q->l1_offset % q->cluster)
		return vmimg_fail(err, VMIMG_ECORRUPT, "snapshot '%.60s' has a bad L1 table", name);
	return 0;
}

/* Reading does not need the refcounts; still, what is plainly wrong with them is said. Looks at the
 * beginning of a large table only. */
static int look_at_refcounts(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t len = (uint64_t)q->header.refcount_table_clusters << q->header.cluster_bits;
	uint64_t size = vmimg_io_size(disk->io), at = q->header.refcount_table;
	uint8_t raw[4096];

	len = vmimg_min(len, sizeof(raw));
	if (!vmimg_range_inside(at, len, size)) {
		vmimg_disk_warn(disk, "the refcount table reaches past the end of the file");
		return 0;
	}
	if (vmimg_table_read(q->table, raw, (size_t)len, at, err))
		return -1;
	for (uint64_t i = 0; i + 8 <= len; i += 8) {
		uint64_t block = vmimg_get_be64(raw + i);

		if (!block || (!(block % q->cluster) && block < size))
			continue;
		vmimg_disk_warn(disk,
			"refcount block %" PRIu64 " cannot be at 0x%" PRIx64 ": check says more",
			i / 8, block);
		return 0;
	}
	return 0;
}

/* Damage in what reading the disk does not need is a warning when the caller can live with it. */
static int read_extras(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	if (vmimg_qcow2_read_snapshots(disk, err)) {
		if (!options->lenient || err->status == VMIMG_ENOMEM)
			return -1;
		vmimg_disk_warn(disk, "%s", err->text);
	}
	if (!vmimg_qcow2_read_bitmaps(disk, err))
		return 0;
	if (err->status == VMIMG_ENOMEM || err->status == VMIMG_ESYSTEM)
		return -1;
	vmimg_disk_warn(disk, "bitmaps cannot be read: %s", err->text);
	return 0;
}

static int qcow2_open(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_new(struct vmimg_qcow2, err);

	disk->state = q;
	if (!q || vmimg_qcow2_read_header(disk, err) ||
		!(q->table = vmimg_table_new(disk->io, err)))
		return -1;
	disk->block = q->cluster;
	if (q->header.incompatible & QCOW2_INCOMPATIBLE_CORRUPT)
		vmimg_disk_warn(disk, "the image is marked corrupt by the program that wrote it");
	if (!options->alone && look_at_refcounts(disk, err))
		return -1;
	return vmimg_qcow2_open_crypt(disk, options, err) || read_extras(disk, options, err) ||
			choose_state(disk, options->snapshot, err) ||
			open_data_file(disk, options, err) || open_backing(disk, options, err)
		? -1
		: 0;
}

static void qcow2_close(struct vmimg_disk *disk)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);

	if (!q)
		return;
	for (size_t i = 0; i < q->snapshot_count; i++) {
		free(q->snapshots[i].id);
		free(q->snapshots[i].name);
	}
	vmimg_qcow2_close_crypt(q);
	vmimg_table_free(q->table);
	vmimg_io_unref(q->data);
	free(q->snapshots);
	free(q->bitmap_places);
	free(q->features);
	free(q->backing_name);
	free(q->backing_format);
	free(q->data_name);
	free(q);
}

static int qcow2_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);

	if (vmimg_qcow2_map(disk, at, run, err))
		return -1;
	vmimg_qcow2_seal_run(q, at, run);
	return 0;
}

static void describe_version2(const struct vmimg_qcow2 *q, struct vmimg_info *info)
{
	vmimg_json_uint(info->specific, "refcount-bits", 16);
	vmimg_qcow2_describe_crypt(q, info);
}

static void describe_version3(const struct vmimg_qcow2 *q, struct vmimg_info *info)
{
	const struct vmimg_qcow2_header *h = &q->header;

	vmimg_json_bool(info->specific, "lazy-refcounts", h->compatible & QCOW2_COMPATIBLE_LAZY);
	vmimg_json_uint(info->specific, "refcount-bits", UINT64_C(1) << h->refcount_order);
	vmimg_qcow2_describe_crypt(q, info);
	vmimg_json_bool(info->specific, "corrupt", h->incompatible & QCOW2_INCOMPATIBLE_CORRUPT);
	vmimg_json_bool(info->specific, "extended-l2", q->extended);
	if (!q->external)
		return;
	vmimg_json_text(info->specific, "data-file", q->data_name);
	vmimg_json_bool(info->specific, "data-file-raw", h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA);
}

/* Feature bits that are set and that this program gives no meaning. */
static void describe_unknown(const struct vmimg_qcow2 *q, struct vmimg_info *info)
{
	uint64_t bits = q->header.compatible & ~QCOW2_COMPATIBLE_LAZY;
	json_t *list = json_array();
	char shown[100], number[24];

	for (unsigned bit = 0; bit < 64; bit++) {
		const char *name = vmimg_qcow2_feature_name(q, 1, bit, shown);

		if (!(bits >> bit & 1))
			continue;
		snprintf(number, sizeof(number), "bit %u", bit);
		json_array_append_new(list, json_string(name ? name : number));
	}
	if (json_array_size(list))
		json_object_set(info->specific, "unknown-compatible-features", list);
	json_decref(list);
}

static int qcow2_describe(struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);

	(void)err;
	vmimg_json_bool(
		info->root, "dirty-flag", q->header.incompatible & QCOW2_INCOMPATIBLE_DIRTY);
	vmimg_json_text(info->root, "backing-filename", q->backing_name);
	if (q->backing_name)
		vmimg_json_text(info->root, "backing-filename-format", q->backing_format);
	if (q->snapshot_count)
		json_object_set_new(info->root, "snapshots", vmimg_qcow2_describe_snapshots(q));
	vmimg_json_text(info->specific, "compat", q->header.version == 3 ? "1.1" : "0.10");
	vmimg_json_text(info->specific, "compression-type", q->codec->name);
	if (q->header.version == 3)
		describe_version3(q, info);
	else
		describe_version2(q, info);
	describe_unknown(q, info);
	return 0;
}

const struct vmimg_format vmimg_qcow2 = {
	.name = "qcow2",
	.title = "a QCOW2 image",
	.suffixes = "qcow2 qcow",
	.snapshots = true,
	.adopts = true,
	.probe = qcow2_probe,
	.open = qcow2_open,
	.close = qcow2_close,
	.map = qcow2_map,
	.describe = qcow2_describe,
	.check = vmimg_qcow2_check,
	.repair = vmimg_qcow2_repair,
	.repair_leaks = vmimg_qcow2_repair_leaks,
	.bitmap_read = vmimg_qcow2_bitmap_read,
	.create = vmimg_qcow2_create,
	.measure = vmimg_qcow2_measure,
	.edit = &vmimg_qcow2_edit,
	.options = vmimg_qcow2_options,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another size of the disk. What lies past the end in the last cluster reads as zeroes afterwards,
 * whoever makes the disk larger: in the image by a new cluster (cut.c), in a data file by zeroes
 * that are written while they are past the end, before the disk grows or after it has shrunk.
 */
#include <inttypes.h>
#include <string.h>
#include "disk/edit.h"
#include "format/qcow2/bitmaps.h"
#include "io/file.h"
#include "util/limits.h"
#include "util/num.h"

uint32_t vmimg_qcow2_l1_entries(const struct vmimg_qcow2 *q, uint64_t size)
{
	uint64_t needed = vmimg_div_up(size, (uint64_t)q->cluster << q->l2_bits);

	return (uint32_t)vmimg_min(needed ? needed : 1, UINT32_MAX);
}

/* ---- the data file, where each cluster has the place that it has on the disk ---- */

static bool is_raw(const struct vmimg_qcow2 *q)
{
	return q->header.autoclear & QCOW2_AUTOCLEAR_RAW_DATA;
}

static int write_zeroes(const struct vmimg_qcow2 *q, struct vmimg_io *data, uint64_t at,
	uint64_t len, struct vmimg_error *err)
{
	uint64_t sector = at / VMIMG_SECTOR;
	VMIMG_AUTO(free) uint8_t *bytes = NULL;

	if (!q->cipher)
		return vmimg_io_zero(data, at, len, err);
	bytes = vmimg_alloc_array((size_t)len, 1, err);
	return !bytes || vmimg_cipher_encrypt(q->cipher, sector, bytes, bytes, (size_t)len, err) ||
			vmimg_io_pwrite(data, bytes, (size_t)len, at, err)
		? -1
		: 0;
}

/* The rest of the cluster in which a disk of size bytes ends. */
static int clear_outside(
	const struct vmimg_qcow2 *q, struct vmimg_io *data, uint64_t size, struct vmimg_error *err)
{
	uint64_t end = vmimg_min(vmimg_align_up(size, q->cluster), vmimg_io_size(data));

	if (size >= end)
		return 0;
	if (q->header.crypt_method && !q->cipher)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"the cluster in which the disk ends is encrypted, and no secret was given "
			"(--secret-file)");
	return write_zeroes(q, data, size, vmimg_align_down(end - size, VMIMG_SECTOR), err);
}

/* A raw one is the disk, whose end is its own. */
static int fit_outside(
	const struct vmimg_qcow2 *q, uint64_t from, uint64_t size, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *data = vmimg_file_reopen(q->data, err);
	uint64_t end;

	if (!data)
		return -1;
	end = vmimg_io_size(data);
	if (!is_raw(q)) {
		if (clear_outside(q, data, from, err))
			return -1;
	} else if (!data->is_device) {
		if (vmimg_io_resize(data, from, err) || vmimg_io_resize(data, size, err))
			return -1;
	} else if (size > end) {
		return vmimg_fail(err, VMIMG_EREFUSED,
			"the data file is a device of %" PRIu64 " bytes, and raw", end);
	} else if (size > from && vmimg_io_zero(data, from, size - from, err)) {
		return -1;
	}
	return vmimg_io_sync(data, err);
}

int vmimg_qcow2_settle_size(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);

	return q->external && size < disk->size ? fit_outside(q, size, size, err) : 0;
}

/* ---- the image ---- */

int vmimg_qcow2_check_resize(const struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	bool grows = size > disk->size;

	if (size > VMIMG_MAX_DISK || vmimg_qcow2_l1_entries(q, size) > QCOW2_MAX_L1_ENTRIES)
		return vmimg_fail(err, VMIMG_EINVAL,
			"%" PRIu64 " bytes are too many for clusters of %" PRIu32, size,
			q->cluster);
	if (q->external && !q->data)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"its data is in another file, which was not opened: allow it (--refs)");
	if (q->external && is_raw(q) && vmimg_io_size(q->data) < disk->size)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the data file has %" PRIu64
			" bytes, and is said to be the disk, of %" PRIu64,
			vmimg_io_size(q->data), disk->size);
	if (grows && q->backing_name && !disk->parent)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"whether the backing file would show through is not known: "
			"let it be opened (--refs)");
	if (grows && disk->parent && disk->parent->size > disk->size && q->header.version == 2)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the backing file is larger (%" PRIu64
			" bytes), and would show through: compat=0.10 cannot hide it",
			disk->parent->size);
	return 0;
}

/* A snapshot that does not state its size has the disk's, and has to state it from now on. */
static int state_sizes(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	for (size_t i = 0; i < c->q->snapshot_count; i++)
		if (!c->q->snapshots[i].extra.disk_size)
			return vmimg_qcow2_write_snapshots(c, NULL, NULL, err);
	return 0;
}

int vmimg_qcow2_change_size(struct vmimg_qcow2_change *c, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = c->q;
	const struct vmimg_disk *parent = c->disk->parent;
	uint32_t entries = vmimg_qcow2_l1_entries(q, size);
	bool grows = size > q->header.size;

	if ((!grows && vmimg_qcow2_check_singles(c, err)) || state_sizes(c, err))
		return -1;
	if (grows)
		entries = (uint32_t)vmimg_max(entries, q->header.l1_size);
	c->header.size = size;
	c->cut = vmimg_min(size, q->header.size);
	c->cut = c->cut % q->cluster && !q->external ? c->cut : 0;
	if (grows && parent && parent->size > q->header.size) {
		c->hide_from = q->header.size;
		c->hide_to = vmimg_min(size, parent->size);
	}
	if ((grows && q->external && fit_outside(q, q->header.size, size, err)) ||
		vmimg_qcow2_resize_bitmaps(c, false, err))
		return -1;
	if (!c->cut && !c->hide_to && grows && entries <= q->header.l1_size)
		return 0; /* the table reaches far enough as it is */
	if (vmimg_qcow2_rebuild(c, q->header.l1_offset, q->header.l1_size, entries, err))
		return -1;
	return vmimg_qcow2_free_l1(c, q->header.l1_offset, q->header.l1_size, err);
}

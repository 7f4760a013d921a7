/* SPDX-License-Identifier: Apache-2.0 */
/* The cluster in which a disk ends, or ended: what lies past the end shall read as zeroes when the
 * disk grows. By shadow paging (change.h), as the old state may still show it. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/change.h"
#include "util/num.h"
#include "util/zero.h"

#define ALL UINT64_C(0xffffffff) /* subclusters */

int vmimg_qcow2_unpack(struct vmimg_qcow2_change *c, struct vmimg_reader *reader, uint64_t entry,
	uint8_t *to, struct vmimg_error *err)
{
	struct vmimg_run run = { .kind = VMIMG_RUN_PACKED, .io = c->io, .len = c->q->cluster };
	uint64_t size = vmimg_io_size(c->io);
	uint32_t packed;

	vmimg_qcow2_packed_place(c->q, entry, &run.at, &packed);
	run.block.codec = c->q->codec;
	run.block.packed = (uint32_t)vmimg_min(packed, size - vmimg_min(run.at, size));
	run.block.unpacked = c->q->cluster;
	return vmimg_reader_run(reader, &run, 0, to, c->q->cluster, err);
}

/* The cluster of a plain entry, or of a packed one. */
static int read_cluster(struct vmimg_qcow2_change *c, uint64_t entry, uint64_t guest, uint8_t *to,
	struct vmimg_error *err)
{
	uint64_t at = entry & QCOW2_OFFSET, size = vmimg_io_size(c->io);
	VMIMG_AUTO(vmimg_reader_free) struct vmimg_reader *reader = NULL;
	size_t len = (size_t)vmimg_min(c->q->cluster, size - vmimg_min(at, size));

	if (entry & QCOW2_COMPRESSED) {
		reader = vmimg_reader_new(err);
		return reader ? vmimg_qcow2_unpack(c, reader, entry, to, err) : -1;
	}
	if (c->q->header.crypt_method && !c->q->cipher)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"the cluster in which the disk ends is encrypted, and no secret was given "
			"(--secret-file)");
	if (vmimg_io_pread(c->io, to, len, at, err))
		return -1;
	return c->q->cipher ? vmimg_cipher_decrypt(c->q->cipher,
				      vmimg_qcow2_cipher_at(c->q, at, guest) / VMIMG_SECTOR, to, to,
				      c->q->cluster, err)
			    : 0;
}

/* A new cluster for the entry, which gives up the old one. */
static int replace(struct vmimg_qcow2_change *c, uint8_t *raw, uint64_t guest, uint8_t *bytes,
	struct vmimg_error *err)
{
	uint64_t at, old = 0, len;

	if (vmimg_qcow2_change_take(c, 1, &at, err) ||
		(c->q->cipher &&
			vmimg_cipher_encrypt(c->q->cipher,
				vmimg_qcow2_cipher_at(c->q, at, guest) / VMIMG_SECTOR, bytes, bytes,
				c->q->cluster, err)) ||
		vmimg_io_pwrite(c->io, bytes, c->q->cluster, at, err))
		return -1;
	vmimg_qcow2_data_place(c->q, vmimg_get_be64(raw), &old, &len);
	vmimg_put_be64(raw, at | QCOW2_COPIED);
	return vmimg_qcow2_change_drop(c, old, len, err);
}

/* Subclusters that lie past the end as a whole need no other bytes. *end: up to where bytes count.
 */
static uint64_t clear_subclusters(
	const struct vmimg_qcow2_change *c, uint8_t *raw, uint64_t keep, uint64_t *end)
{
	uint32_t unit = c->q->cluster / QCOW2_SUBCLUSTERS;
	uint64_t kept = (UINT64_C(1) << vmimg_div_up(keep, unit)) - 1;
	uint64_t bits = vmimg_get_be64(raw + 8), allocated = bits & ALL, zero = bits >> 32;

	*end = vmimg_align_up(keep, unit);
	if (vmimg_get_be64(raw) & QCOW2_COMPRESSED)
		return ALL;
	zero |= allocated & ~kept;
	vmimg_put_be64(raw + 8, zero << 32 | (allocated & kept));
	return allocated & (UINT64_C(1) << (keep / unit));
}

int vmimg_qcow2_clear_rest(
	struct vmimg_qcow2_change *c, uint8_t *raw, uint64_t guest, struct vmimg_error *err)
{
	uint64_t keep = c->cut - guest, end = c->q->cluster, entry = vmimg_get_be64(raw);
	bool packed = entry & QCOW2_COMPRESSED, data = packed || entry & QCOW2_OFFSET;
	VMIMG_AUTO(free) uint8_t *bytes = NULL;

	if (c->q->extended)
		data = clear_subclusters(c, raw, keep, &end) && data;
	else if (!packed && entry & QCOW2_ZERO)
		data = false;
	if (!data)
		return 0;
	bytes = vmimg_alloc_buffer(c->q->cluster, err);
	if (!bytes || read_cluster(c, entry, guest, bytes, err))
		return vmimg_within(err, "the last cluster, at %" PRIu64, guest);
	end = packed ? c->q->cluster : end;
	if (vmimg_is_zero(bytes + keep, (size_t)(end - keep)))
		return 0;
	memset(bytes + keep, 0, (size_t)(end - keep));
	if (c->q->extended && packed)
		vmimg_put_be64(raw + 8, ALL);
	return replace(c, raw, guest, bytes, err);
}

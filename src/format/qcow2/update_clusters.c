/* SPDX-License-Identifier: Apache-2.0 */
/* L2 tables and clusters while content is written: what can be written over, and where the rest
 * goes. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/update.h"
#include "util/num.h"
#include "util/zero.h"

/* ---- L2 tables ---- */

/* A table that has changed gets a new place; one that is empty now goes. */
int vmimg_qcow2_leave_l2(struct vmimg_qcow2_writing *w, struct vmimg_error *err)
{
	uint8_t *entry = w->l1 + w->l2_index * 8;
	uint64_t old = vmimg_get_be64(entry) & QCOW2_OFFSET, at = 0;

	if (!w->l2_read)
		return 0;
	w->l2_read = false;
	if (!memcmp(w->l2, w->l2_old, w->q->cluster))
		return 0;
	w->l1_changed = true;
	if (!vmimg_is_zero(w->l2, w->q->cluster) &&
		(vmimg_qcow2_change_take(&w->c, 1, &at, err) ||
			vmimg_io_pwrite(w->c.io, w->l2, w->q->cluster, at, err)))
		return -1;
	vmimg_put_be64(entry, at ? at | QCOW2_COPIED : 0);
	return old ? vmimg_qcow2_change_count(&w->c, old, w->q->cluster, -1, err) : 0;
}

int vmimg_qcow2_find_entry(
	struct vmimg_qcow2_writing *w, uint64_t guest, uint8_t **entry, struct vmimg_error *err)
{
	uint64_t index = guest / ((uint64_t)w->q->cluster << w->q->l2_bits), at;
	uint64_t slot = guest / w->q->cluster & ((UINT64_C(1) << w->q->l2_bits) - 1);

	*entry = w->l2 + (slot << (w->q->extended ? 4 : 3));
	if (w->l2_read && w->l2_index == index)
		return 0;
	if (vmimg_qcow2_leave_l2(w, err))
		return -1;
	w->l2_index = index;
	at = vmimg_get_be64(w->l1 + index * 8) & QCOW2_OFFSET;
	if (!at)
		memset(w->l2_old, 0, w->q->cluster);
	else if (vmimg_qcow2_read_l2(&w->c, at, w->l2_old, err))
		return -1;
	memcpy(w->l2, w->l2_old, w->q->cluster);
	w->l2_read = true;
	return 0;
}

/* ---- clusters ---- */

uint64_t vmimg_qcow2_subclusters(const struct vmimg_qcow2_writing *w, uint64_t guest, uint64_t len)
{
	uint32_t unit = w->q->cluster / QCOW2_SUBCLUSTERS;
	uint64_t count = vmimg_min(vmimg_div_up(len, unit), QCOW2_SUBCLUSTERS);

	return ((UINT64_C(1) << count) - 1) << guest % w->q->cluster / unit & QCOW2_ALL;
}

void vmimg_qcow2_set_bits(
	const struct vmimg_qcow2_writing *w, uint8_t *entry, uint64_t allocated, uint64_t zero)
{
	if (w->q->extended)
		vmimg_put_be64(entry + 8, zero << 32 | allocated);
}

uint64_t vmimg_qcow2_allocated_bits(const struct vmimg_qcow2_writing *w, const uint8_t *entry)
{
	return w->q->extended ? vmimg_get_be64(entry + 8) & QCOW2_ALL : 0;
}

uint64_t vmimg_qcow2_zero_bits(const struct vmimg_qcow2_writing *w, const uint8_t *entry)
{
	return w->q->extended ? vmimg_get_be64(entry + 8) >> 32 : 0;
}

int vmimg_qcow2_release(struct vmimg_qcow2_writing *w, uint8_t *entry, struct vmimg_error *err)
{
	uint64_t at, len;

	vmimg_qcow2_data_place(w->q, vmimg_get_be64(entry), &at, &len);
	vmimg_put_be64(entry, 0);
	return len ? vmimg_qcow2_change_drop(&w->c, at, len, err) : 0;
}

/* A new cluster instead of what the entry says. */
static int renew(
	struct vmimg_qcow2_writing *w, uint8_t *entry, uint64_t *at, struct vmimg_error *err)
{
	if (vmimg_qcow2_change_take(&w->c, 1, at, err) || vmimg_qcow2_release(w, entry, err))
		return -1;
	vmimg_put_be64(entry, *at | QCOW2_COPIED);
	return 0;
}

int vmimg_qcow2_write_scratch(struct vmimg_qcow2_writing *w, uint64_t at, uint64_t guest,
	size_t len, struct vmimg_error *err)
{
	uint64_t sector = vmimg_qcow2_cipher_at(w->q, at, guest) / VMIMG_SECTOR;

	if (w->q->cipher &&
		vmimg_cipher_encrypt(w->q->cipher, sector, w->scratch, w->scratch, len, err))
		return -1;
	return vmimg_io_pwrite(w->data, w->scratch, len, at, err);
}

/* A cluster of which only a part is to change is unpacked into a new one. */
static int explode(
	struct vmimg_qcow2_writing *w, uint8_t *entry, uint64_t guest, struct vmimg_error *err)
{
	uint64_t at;

	if (vmimg_qcow2_unpack(&w->c, w->reader, vmimg_get_be64(entry), w->scratch, err) ||
		renew(w, entry, &at, err) ||
		vmimg_qcow2_write_scratch(
			w, at, vmimg_align_down(guest, w->q->cluster), w->q->cluster, err))
		return -1;
	vmimg_qcow2_set_bits(w, entry, QCOW2_ALL, 0);
	return 0;
}

/* The other way. */
static int read_scratch(struct vmimg_qcow2_writing *w, uint64_t at, uint64_t guest, size_t len,
	struct vmimg_error *err)
{
	uint64_t sector = vmimg_qcow2_cipher_at(w->q, at, guest) / VMIMG_SECTOR;

	if (vmimg_io_pread(w->data, w->scratch, len, at, err))
		return -1;
	return w->q->cipher
		? vmimg_cipher_decrypt(w->q->cipher, sector, w->scratch, w->scratch, len, err)
		: 0;
}

/* A cluster that others see as well: a new one, with the subclusters that are not given. */
static int copy_cluster(struct vmimg_qcow2_writing *w, uint8_t *entry, uint64_t guest,
	uint64_t given, uint64_t *at, struct vmimg_error *err)
{
	uint64_t from = vmimg_get_be64(entry) & QCOW2_OFFSET;
	uint64_t bits = vmimg_qcow2_allocated_bits(w, entry) & ~given;
	uint32_t unit = w->q->cluster / QCOW2_SUBCLUSTERS;

	if (vmimg_qcow2_change_take(&w->c, 1, at, err))
		return -1;
	guest = vmimg_align_down(guest, w->q->cluster);
	for (unsigned i = 0; i < QCOW2_SUBCLUSTERS; i++)
		if (bits >> i & 1 &&
			(read_scratch(w, from + i * unit, guest + i * unit, unit, err) ||
				vmimg_qcow2_write_scratch(
					w, *at + i * unit, guest + i * unit, unit, err)))
			return -1;
	if (vmimg_qcow2_release(w, entry, err))
		return -1;
	vmimg_put_be64(entry, *at | QCOW2_COPIED);
	return 0;
}

/* The cluster that an entry names is whole, in the file, and not something else. */
static int check_plain(struct vmimg_qcow2_writing *w, uint64_t at, struct vmimg_error *err)
{
	const char *hit = vmimg_qcow2_metadata_at(w->q, at, w->q->cluster);

	if (at % w->q->cluster || hit)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"an L2 entry gives offset 0x%" PRIx64 ", %s: repair the image first", at,
			hit ? hit : "which is not a multiple of the cluster size");
	return 0;
}

static int find_cluster(struct vmimg_qcow2_writing *w, uint8_t *entry, uint64_t guest,
	uint64_t given, uint64_t *at, struct vmimg_error *err)
{
	uint64_t value = vmimg_get_be64(entry), old, now;

	*at = value & QCOW2_OFFSET;
	if (w->q->external) { /* as check_singles has made sure */
		*at = vmimg_align_down(guest, w->q->cluster);
		vmimg_put_be64(entry, *at | QCOW2_COPIED);
		return 0;
	}
	if (!*at || value & QCOW2_COMPRESSED)
		return renew(w, entry, at, err);
	if (check_plain(w, *at, err) || vmimg_qcow2_change_both(&w->c, *at, &old, &now, err))
		return -1;
	if (!now)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the cluster at 0x%" PRIx64
			" is in use and has refcount 0: repair the image first",
			*at);
	if (now > 1 || old > 1)
		return copy_cluster(w, entry, guest, given, at, err);
	vmimg_put_be64(entry, *at | QCOW2_COPIED);
	return 0;
}

int vmimg_qcow2_host_cluster(struct vmimg_qcow2_writing *w, uint8_t *entry, uint64_t guest,
	uint64_t given, uint64_t *at, struct vmimg_error *err)
{
	if (vmimg_get_be64(entry) & QCOW2_COMPRESSED)
		vmimg_qcow2_set_bits(w, entry, 0, 0);
	if (find_cluster(w, entry, guest, given, at, err))
		return -1;
	vmimg_qcow2_set_bits(w, entry, vmimg_qcow2_allocated_bits(w, entry) | given,
		vmimg_qcow2_zero_bits(w, entry) & ~given);
	return 0;
}

int vmimg_qcow2_open_up(struct vmimg_qcow2_writing *w, uint8_t *entry, uint64_t guest,
	uint64_t given, struct vmimg_error *err)
{
	if (!(vmimg_get_be64(entry) & QCOW2_COMPRESSED))
		return 0;
	if (w->q->external)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the cluster for %" PRIu64
			" is compressed, and the image has an external data file, which holds no "
			"such: repair the image first",
			vmimg_align_down(guest, w->q->cluster));
	return w->q->extended && given != QCOW2_ALL ? explode(w, entry, guest, err) : 0;
}

int vmimg_qcow2_punch(struct vmimg_qcow2_writing *w, const uint8_t *entry, uint64_t guest,
	uint64_t len, struct vmimg_error *err)
{
	uint64_t value = vmimg_get_be64(entry), at = value & QCOW2_OFFSET, old = 1, now = 1;

	if (value & (QCOW2_COMPRESSED | QCOW2_ZERO) || !(value & (QCOW2_OFFSET | QCOW2_COPIED)))
		return 0;
	if (!w->q->external &&
		(check_plain(w, at, err) || vmimg_qcow2_change_both(&w->c, at, &old, &now, err)))
		return -1;
	if (old != 1 || now != 1)
		return 0;
	return vmimg_io_zero(w->data, at + guest % w->q->cluster, len, err);
}

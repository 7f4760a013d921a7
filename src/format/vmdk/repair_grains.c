/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a grain table is to say, from two that may both be damaged: what leads nowhere in one is
 * taken from the other; where both are sound and differ, the first counts, unless it alone has
 * nothing. Of entries that lead to one place, the one has it that is the same in both sets, else
 * the first.
 */
#include <inttypes.h>
#include <string.h>
#include "format/vmdk/repair_tables.h"
#include "util/num.h"

/* ---- what entries lead to ---- */

/* The bytes that the grain at `at` takes in the file; *ok: they can be a grain's. */
static int look_at_grain(const struct vmdk_mend *mend, uint64_t grain, uint64_t at, uint64_t *len,
	bool *ok, struct vmimg_error *err)
{
	const struct vmdk_grains *g = mend->g;
	uint64_t guest = grain * g->grain, data_at = 0;
	struct vmimg_error why;
	uint32_t packed = 0;

	*len = vmimg_min(g->grain, g->capacity - guest);
	*ok = at >= VMDK_SECTOR &&
		vmimg_range_inside(at, g->packed ? VMDK_GRAIN_HEAD : *len, mend->size);
	if (!*ok || !g->packed)
		return 0;
	if (!vmimg_vmdk_packed_grain(g, mend->m->rw, at, guest, &data_at, &packed, &why)) {
		*len = data_at - at + (data_at > at ? packed : 1);
		return 0;
	}
	if (why.status != VMIMG_ECORRUPT) {
		*err = why;
		return -1;
	}
	*ok = false;
	return 0;
}

int vmimg_vmdk_count_bad(const struct vmdk_mend *mend, const uint8_t *table, uint64_t index,
	uint64_t *bad, struct vmimg_error *err)
{
	*bad = 0;
	for (uint64_t i = 0; i < vmdk_mend_table_len(mend, index) / 4; i++) {
		uint32_t entry = vmimg_get_le32(table + 4 * i);
		uint64_t len;
		bool ok = true;

		if (vmdk_mend_leads(mend, entry) &&
			look_at_grain(mend, index * mend->g->entries + i, entry * VMDK_SECTOR, &len,
				&ok, err))
			return -1;
		*bad += !ok;
	}
	return 0;
}

/* Gives the grain the place that the entry names. *ok: it can have it. */
static int claim(
	struct vmdk_mend *mend, uint64_t grain, uint32_t entry, bool *ok, struct vmimg_error *err)
{
	uint64_t at = entry * VMDK_SECTOR, len;

	if (look_at_grain(mend, grain, at, &len, ok, err))
		return -1;
	*ok = *ok && vmimg_vmdk_take(&mend->taken, at, len);
	return 0;
}

/* ---- one table ---- */

/* The value of entry i. *how: 0 as it was, 1 taken from the other table, 2 given up. */
static int choose_entry(struct vmdk_mend *mend, const struct vmdk_twins *pair, uint64_t i,
	uint32_t *value, int *how, struct vmimg_error *err)
{
	uint64_t grain = pair->index * mend->g->entries + i;
	uint32_t mine = vmimg_get_le32(pair->first + 4 * i);
	uint32_t other = pair->has_other ? vmimg_get_le32(pair->other + 4 * i) : mine;
	bool ok = !vmdk_mend_leads(mend, mine) || mend->agreed[grain / 8] >> grain % 8 & 1;

	*value = mine;
	*how = 0;
	if (!ok && claim(mend, grain, mine, &ok, err))
		return -1;
	if (ok &&
		(vmdk_mend_leads(mend, mine) || mend->g->unclean || !vmdk_mend_leads(mend, other)))
		return 0;
	if (other != mine) {
		bool other_ok = !vmdk_mend_leads(mend, other);

		if (!other_ok && claim(mend, grain, other, &other_ok, err))
			return -1;
		if (other_ok) {
			*value = other;
			*how = 1;
			return 0;
		}
	}
	if (ok)
		return 0;
	*value = mend->blank;
	*how = 2;
	return 0;
}

static void tell(const struct vmdk_mend *mend, const struct vmdk_twins *pair, uint64_t i, int how)
{
	uint64_t guest = (pair->index * mend->g->entries + i) * mend->g->grain;

	mend->m->fixed->given_up += how == 2;
	vmimg_report_add(mend->m->fixed, VMIMG_FINDING_CORRUPTION, "grain-entry", VMIMG_NOWHERE,
		"the grain table entry of guest offset 0x%" PRIx64 " was 0x%08" PRIx32 ": %s",
		mend->m->e->start + guest, vmimg_get_le32(pair->first + 4 * i),
		how == 1 ? "the other table's is taken" : "it leads nowhere: zeroes now");
}

int vmimg_vmdk_choose_entries(
	struct vmdk_mend *mend, struct vmdk_twins *pair, struct vmimg_error *err)
{
	for (uint64_t i = 0; i < vmdk_mend_table_len(mend, pair->index) / 4; i++) {
		uint32_t value;
		int how;

		if (choose_entry(mend, pair, i, &value, &how, err))
			return -1;
		if (!how)
			continue;
		tell(mend, pair, i, how);
		vmimg_put_le32(pair->first + 4 * i, value);
	}
	return 0;
}

int vmimg_vmdk_read_table(const struct vmdk_mend *mend, uint32_t sector, uint64_t index,
	uint8_t *bytes, struct vmimg_error *err)
{
	memset(bytes, 0, VMIMG_VMDK_TABLE_MOST);
	return vmimg_io_pread(mend->m->rw, bytes, (size_t)vmdk_mend_table_len(mend, index),
		sector * VMDK_SECTOR, err);
}

int vmimg_vmdk_read_pair(struct vmdk_mend *mend, struct vmdk_twins *pair, struct vmimg_error *err)
{
	uint32_t a = mend->sets[0].tables[pair->index], b = mend->sets[1].tables[pair->index];
	uint64_t bad = 0, other_bad = 0;

	pair->has_other = vmdk_mend_is_table(a) && vmdk_mend_is_table(b);
	if (vmimg_vmdk_read_table(
		    mend, vmdk_mend_is_table(a) ? a : b, pair->index, pair->first, err))
		return -1;
	if (!pair->has_other)
		return 0;
	if (vmimg_vmdk_read_table(mend, b, pair->index, pair->other, err))
		return -1;
	if (!memcmp(pair->first, pair->other, sizeof(pair->first))) {
		pair->has_other = false;
		return 0;
	}
	if (vmimg_vmdk_count_bad(mend, pair->first, pair->index, &bad, err) ||
		vmimg_vmdk_count_bad(mend, pair->other, pair->index, &other_bad, err))
		return -1;
	if (bad && !other_bad)
		memcpy(pair->first, pair->other, sizeof(pair->first));
	pair->has_other = !bad == !other_bad;
	return 0;
}

/* ---- before the others ---- */

int vmimg_vmdk_claim_agreed(struct vmdk_mend *mend, uint64_t index, struct vmimg_error *err)
{
	uint32_t a = mend->sets[0].tables[index], b = mend->sets[1].tables[index];
	uint8_t first[VMIMG_VMDK_TABLE_MOST], other[VMIMG_VMDK_TABLE_MOST];

	if (!vmdk_mend_is_table(a) || !vmdk_mend_is_table(b))
		return 0;
	if (vmimg_vmdk_read_table(mend, a, index, first, err) ||
		vmimg_vmdk_read_table(mend, b, index, other, err))
		return -1;
	for (uint64_t i = 0; i < vmdk_mend_table_len(mend, index) / 4; i++) {
		uint64_t grain = index * mend->g->entries + i;
		uint32_t entry = vmimg_get_le32(first + 4 * i);
		bool ok = false;

		if (vmdk_mend_leads(mend, entry) && entry == vmimg_get_le32(other + 4 * i) &&
			claim(mend, grain, entry, &ok, err))
			return -1;
		mend->agreed[grain / 8] |= (uint8_t)(ok << grain % 8);
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grain directories and tables, of which there are two sets. First all metadata is claimed, then the
 * tables of one index are looked at together: what one set has lost comes from the other; where both
 * are sound and differ, the first counts, unless it alone has nothing. A table whose entry is lost
 * is looked for where the layout would have it, and gets a new place at the end of the file
 * otherwise. Of entries that lead to one place, the one has it that is the same in both sets, else
 * the first.
 */
#include <inttypes.h>
#include <string.h>
#include "format/vmdk/repair.h"
#include "format/vmdk/taken.h"
#include "util/num.h"

#define BAD UINT32_MAX
/* 4 Mi tables of each set, 32 MiB. */
#define MOST_TABLES (UINT64_C(1) << 22)

struct set {
	uint64_t at;      /* of the directory, bytes */
	bool wanted;      /* the header has it */
	bool lost;        /* it was not in the file: what it says is of no meaning */
	uint32_t *tables; /* sectors; 0: none; BAD: it led nowhere */
	uint64_t regular; /* bytes; where the first lies when all lie one behind the other */
};

struct mend {
	struct vmdk_mending *m;
	const struct vmdk_grains *g;
	struct vmdk_taken taken;
	uint8_t *agreed; /* one bit a grain: both sets name the same place, and it has that */
	uint64_t size;      /* of the file, as it was found */
	uint64_t end;  /* where what is added goes */
	uint32_t blank;     /* of a grain that is lost: 0, or 1 where a parent may show through */
	struct set sets[2]; /* the first, the redundant */
};

static const char *const set_names[] = { "", "redundant " };

/* ---- what entries lead to ---- */

static uint64_t table_sectors(const struct mend *mend)
{
	return vmimg_div_up(4 * (uint64_t)mend->g->entries, VMDK_SECTOR);
}

static uint64_t table_len(const struct mend *mend, uint64_t index)
{
	return vmimg_vmdk_table_len(mend->g, index);
}

static bool is_table(uint32_t sector)
{
	return sector > 1 && sector != BAD;
}

/* The bytes that the grain at `at` takes in the file; *ok: they can be a grain's. */
static int look_at_grain(const struct mend *mend, uint64_t grain, uint64_t at, uint64_t *len,
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

static bool leads(const struct mend *mend, uint32_t entry)
{
	return entry > 1 || (entry == 1 && !mend->g->zeroed);
}

/* Entries of a table that cannot be right, whatever the others are. */
static int count_bad(const struct mend *mend, const uint8_t *table, uint64_t index, uint64_t *bad,
	struct vmimg_error *err)
{
	*bad = 0;
	for (uint64_t i = 0; i < table_len(mend, index) / 4; i++) {
		uint32_t entry = vmimg_get_le32(table + 4 * i);
		uint64_t len;
		bool ok = true;

		if (leads(mend, entry) &&
			look_at_grain(mend, index * mend->g->entries + i, entry * VMDK_SECTOR, &len,
				&ok, err))
			return -1;
		*bad += !ok;
	}
	return 0;
}

/* Gives the grain the place that the entry names. *ok: it can have it. */
static int claim(struct mend *mend, uint64_t grain, uint32_t entry, bool *ok,
	struct vmimg_error *err)
{
	uint64_t at = entry * VMDK_SECTOR, len;

	if (look_at_grain(mend, grain, at, &len, ok, err))
		return -1;
	*ok = *ok && vmimg_vmdk_take(&mend->taken, at, len);
	return 0;
}

/* ---- one table ---- */

struct pair {
	uint64_t index;
	uint8_t first[VMIMG_VMDK_TABLE_MOST], other[VMIMG_VMDK_TABLE_MOST];
	bool has_other; /* what first lacks may be taken from it */
};

/* The value of entry i. *how: 0 as it was, 1 taken from the other table, 2 given up. */
static int choose_entry(struct mend *mend, const struct pair *pair, uint64_t i, uint32_t *value,
	int *how, struct vmimg_error *err)
{
	uint64_t grain = pair->index * mend->g->entries + i;
	uint32_t mine = vmimg_get_le32(pair->first + 4 * i);
	uint32_t other = pair->has_other ? vmimg_get_le32(pair->other + 4 * i) : mine;
	bool ok = !leads(mend, mine) || mend->agreed[grain / 8] >> grain % 8 & 1;

	*value = mine;
	*how = 0;
	if (!ok && claim(mend, grain, mine, &ok, err))
		return -1;
	if (ok && (leads(mend, mine) || mend->g->unclean || !leads(mend, other)))
		return 0;
	if (other != mine) {
		bool other_ok = !leads(mend, other);

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

static void tell(const struct mend *mend, const struct pair *pair, uint64_t i, int how)
{
	uint64_t guest = (pair->index * mend->g->entries + i) * mend->g->grain;

	mend->m->fixed->given_up += how == 2;
	vmimg_report_add(mend->m->fixed, VMIMG_FINDING_CORRUPTION, "grain-entry", VMIMG_NOWHERE,
		"the grain table entry of guest offset 0x%" PRIx64 " was 0x%08" PRIx32 ": %s",
		mend->m->e->start + guest, vmimg_get_le32(pair->first + 4 * i),
		how == 1 ? "the other table's is taken" : "it leads nowhere: zeroes now");
}

/* What both tables are to say, in pair->first. */
static int choose_entries(struct mend *mend, struct pair *pair, struct vmimg_error *err)
{
	for (uint64_t i = 0; i < table_len(mend, pair->index) / 4; i++) {
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

static int read_table(const struct mend *mend, uint32_t sector, uint64_t index, uint8_t *bytes,
	struct vmimg_error *err)
{
	memset(bytes, 0, VMIMG_VMDK_TABLE_MOST);
	return vmimg_io_pread(
		mend->m->rw, bytes, (size_t)table_len(mend, index), sector * VMDK_SECTOR, err);
}

/* One table that alone has bad entries gives way to the other as a whole. */
static int read_pair(struct mend *mend, struct pair *pair, struct vmimg_error *err)
{
	uint32_t a = mend->sets[0].tables[pair->index], b = mend->sets[1].tables[pair->index];
	uint64_t bad = 0, other_bad = 0;

	pair->has_other = is_table(a) && is_table(b);
	if (read_table(mend, is_table(a) ? a : b, pair->index, pair->first, err))
		return -1;
	if (!pair->has_other)
		return 0;
	if (read_table(mend, b, pair->index, pair->other, err))
		return -1;
	if (!memcmp(pair->first, pair->other, sizeof(pair->first))) {
		pair->has_other = false;
		return 0;
	}
	if (count_bad(mend, pair->first, pair->index, &bad, err) ||
		count_bad(mend, pair->other, pair->index, &other_bad, err))
		return -1;
	if (bad && !other_bad)
		memcpy(pair->first, pair->other, sizeof(pair->first));
	pair->has_other = !bad == !other_bad;
	return 0;
}

/* ---- places ---- */

/* Where the layout would have the table; 0: nowhere. */
static uint32_t regular_place(const struct mend *mend, const struct set *set, uint64_t index)
{
	uint64_t at = vmimg_vmdk_regular_place(mend->g, mend->size, set->regular, index);

	return (uint32_t)vmimg_min(at / VMDK_SECTOR, BAD - 1);
}

/* Space at the end of the file, for the table or a directory. */
static int add_space(struct mend *mend, uint64_t len, uint64_t *at, struct vmimg_error *err)
{
	*at = mend->end;
	mend->end += vmimg_align_up(len, VMDK_SECTOR);
	if (mend->end / VMDK_SECTOR >= BAD)
		return vmimg_fail(err, VMIMG_ELIMIT, "the file would be larger than 2 TiB");
	return vmimg_io_resize(mend->m->rw, mend->end, err);
}

/* Set s has a table with these bytes from now on: the old one, if it is still there. */
static int place_table(struct mend *mend, unsigned s, const struct pair *pair, bool old,
	struct vmimg_error *err)
{
	struct set *set = &mend->sets[s];
	uint32_t sector = old ? regular_place(mend, set, pair->index) : 0;
	uint64_t at = sector * VMDK_SECTOR;
	uint8_t bytes[VMIMG_VMDK_TABLE_MOST], entry[4];

	if (sector && read_table(mend, sector, pair->index, bytes, err))
		return -1;
	if (!sector || memcmp(bytes, pair->first, sizeof(bytes)) ||
		!vmimg_vmdk_take(&mend->taken, at, table_len(mend, pair->index))) {
		if (add_space(mend, table_sectors(mend) * VMDK_SECTOR, &at, err) ||
			vmimg_io_pwrite(mend->m->rw, pair->first,
				(size_t)table_len(mend, pair->index), at, err))
			return -1;
	}
	set->tables[pair->index] = (uint32_t)(at / VMDK_SECTOR);
	vmimg_put_le32(entry, set->tables[pair->index]);
	vmimg_report_add(mend->m->fixed, VMIMG_FINDING_CORRUPTION, "directory-entry",
		set->at + 4 * pair->index,
		"entry %" PRIu64 " of the %sgrain directory leads to a table at 0x%" PRIx64 " now",
		pair->index, set_names[s], at);
	return vmimg_io_pwrite(mend->m->rw, entry, sizeof(entry), set->at + 4 * pair->index, err);
}

/* Set s says what pair->first says. */
static int settle(struct mend *mend, unsigned s, const struct pair *pair, struct vmimg_error *err)
{
	struct set *set = &mend->sets[s];
	uint32_t sector = set->tables[pair->index];
	uint8_t bytes[VMIMG_VMDK_TABLE_MOST];

	if (!set->wanted)
		return 0;
	if (!is_table(sector))
		return place_table(mend, s, pair, sector == BAD, err);
	if (read_table(mend, sector, pair->index, bytes, err))
		return -1;
	if (!memcmp(bytes, pair->first, sizeof(bytes)))
		return 0;
	vmimg_report_add(mend->m->fixed,
		mend->g->unclean ? VMIMG_FINDING_NOTE : VMIMG_FINDING_CORRUPTION, "grain-table",
		sector * VMDK_SECTOR, "the %sgrain table at 0x%" PRIx64 " says what it should now",
		set_names[s], sector * VMDK_SECTOR);
	return vmimg_io_pwrite(mend->m->rw, pair->first, (size_t)table_len(mend, pair->index),
		sector * VMDK_SECTOR, err);
}

static int clear_entry(struct mend *mend, unsigned s, uint64_t index, struct vmimg_error *err)
{
	struct set *set = &mend->sets[s];
	const uint8_t zero[4] = { 0 };

	if (!set->wanted || set->tables[index] != BAD)
		return 0;
	set->tables[index] = 0;
	vmimg_report_add(mend->m->fixed, VMIMG_FINDING_CORRUPTION, "directory-entry",
		set->at + 4 * index,
		"entry %" PRIu64 " of the %sgrain directory led nowhere: there is no table now",
		index, set_names[s]);
	return vmimg_io_pwrite(mend->m->rw, zero, sizeof(zero), set->at + 4 * index, err);
}

/* Neither entry leads to a table: the layout may. */
static int rescue(struct mend *mend, struct pair *pair, bool *found, struct vmimg_error *err)
{
	uint64_t at = 0, bad = 0;

	pair->has_other = false;
	*found = vmimg_vmdk_lost_table(mend->g, mend->m->rw, pair->index, &at);
	if (!*found)
		return 0;
	if (read_table(mend, (uint32_t)(at / VMDK_SECTOR), pair->index, pair->first, err) ||
		count_bad(mend, pair->first, pair->index, &bad, err))
		return -1;
	*found = !bad;
	return 0;
}

/* ---- one index ---- */

static int lose_table(struct mend *mend, struct pair *pair, struct vmimg_error *err)
{
	mend->m->fixed->given_up++;
	if (!mend->blank)
		return clear_entry(mend, 0, pair->index, err) ||
				clear_entry(mend, 1, pair->index, err)
			? -1
			: 0;
	memset(pair->first, 0, sizeof(pair->first));
	for (uint64_t i = 0; i < table_len(mend, pair->index) / 4; i++)
		vmimg_put_le32(pair->first + 4 * i, mend->blank);
	return place_table(mend, 0, pair, false, err) ||
			(mend->sets[1].wanted && place_table(mend, 1, pair, false, err))
		? -1
		: 0;
}

/* No table, as one of the directories says, or a lost one. */
static int mend_absent(struct mend *mend, struct pair *pair, struct vmimg_error *err)
{
	const struct set *a = &mend->sets[0], *b = &mend->sets[1];
	uint64_t i = pair->index;
	bool bad = a->tables[i] == BAD || (b->wanted && b->tables[i] == BAD), found;
	bool told = (!a->lost && a->tables[i] != BAD) ||
		(b->wanted && !b->lost && b->tables[i] != BAD);

	if (!bad)
		return 0;
	if (told)
		return clear_entry(mend, 0, i, err) || clear_entry(mend, 1, i, err) ? -1 : 0;
	if (rescue(mend, pair, &found, err))
		return -1;
	if (!found)
		return lose_table(mend, pair, err);
	return choose_entries(mend, pair, err) || settle(mend, 0, pair, err) ||
			settle(mend, 1, pair, err)
		? -1
		: 0;
}

/* Before the others: grains of which both tables say the same. */
static int claim_agreed(struct mend *mend, uint64_t index, struct vmimg_error *err)
{
	uint32_t a = mend->sets[0].tables[index], b = mend->sets[1].tables[index];
	uint8_t first[VMIMG_VMDK_TABLE_MOST], other[VMIMG_VMDK_TABLE_MOST];

	if (!is_table(a) || !is_table(b))
		return 0;
	if (read_table(mend, a, index, first, err) || read_table(mend, b, index, other, err))
		return -1;
	for (uint64_t i = 0; i < table_len(mend, index) / 4; i++) {
		uint64_t grain = index * mend->g->entries + i;
		uint32_t entry = vmimg_get_le32(first + 4 * i);
		bool ok = false;

		if (leads(mend, entry) && entry == vmimg_get_le32(other + 4 * i) &&
			claim(mend, grain, entry, &ok, err))
			return -1;
		mend->agreed[grain / 8] |= (uint8_t)(ok << grain % 8);
	}
	return 0;
}

static int mend_index(struct mend *mend, uint64_t index, struct vmimg_error *err)
{
	struct pair pair = { .index = index };

	if (!is_table(mend->sets[0].tables[index]) && !is_table(mend->sets[1].tables[index]))
		return mend_absent(mend, &pair, err);
	return read_pair(mend, &pair, err) || choose_entries(mend, &pair, err) ||
			settle(mend, 0, &pair, err) || settle(mend, 1, &pair, err)
		? -1
		: 0;
}

/* ---- directories ---- */

static int read_directory(struct mend *mend, struct set *set, uint64_t sector,
	struct vmimg_error *err)
{
	uint64_t len = 4 * mend->g->gd_count;
	VMIMG_AUTO(free) uint8_t *bytes = NULL;

	set->tables = vmimg_alloc_array((size_t)mend->g->gd_count + 1, sizeof(*set->tables), err);
	if (!set->tables || !set->wanted)
		return set->tables ? 0 : -1;
	set->lost = sector > UINT32_MAX ||
		!vmimg_range_inside(sector * VMDK_SECTOR, len, mend->size) ||
		!vmimg_vmdk_take(&mend->taken, sector * VMDK_SECTOR, len);
	if (set->lost)
		return 0;
	set->at = sector * VMDK_SECTOR;
	bytes = vmimg_alloc_array((size_t)len + 1, 1, err);
	if (!bytes || vmimg_io_pread(mend->m->rw, bytes, (size_t)len, set->at, err))
		return -1;
	for (uint64_t i = 0; i < mend->g->gd_count; i++)
		set->tables[i] = vmimg_get_le32(bytes + 4 * i);
	return 0;
}

/* Those that lie where the layout has them claim their places first. */
static void claim_tables(struct mend *mend, struct set *set, bool regular)
{
	for (uint64_t i = 0; i < mend->g->gd_count; i++) {
		uint32_t sector = set->tables[i];
		bool is_regular = sector == regular_place(mend, set, i);

		if (!leads(mend, sector) || sector == BAD || is_regular != regular)
			continue;
		if (!vmimg_range_inside(sector * VMDK_SECTOR, table_len(mend, i), mend->size) ||
			!vmimg_vmdk_take(&mend->taken, sector * VMDK_SECTOR, table_len(mend, i)))
			set->tables[i] = BAD;
	}
}

/* A directory that was lost gets a place, and none of its tables. */
static int place_directory(struct mend *mend, unsigned s, struct vmimg_error *err)
{
	struct set *set = &mend->sets[s];

	if (!set->wanted || !set->lost)
		return 0;
	if (add_space(mend, vmimg_max(4 * mend->g->gd_count, 1), &set->at, err))
		return -1;
	vmimg_report_add(mend->m->fixed, VMIMG_FINDING_CORRUPTION, "directory", set->at,
		"the %sgrain directory is at 0x%" PRIx64 " now", set_names[s], set->at);
	*(s ? &mend->m->header.rgd_offset : &mend->m->header.gd_offset) = set->at / VMDK_SECTOR;
	mend->m->header_changed = true;
	return 0;
}

static void take_fixed_places(struct mend *mend)
{
	const struct vmdk_grains *g = mend->g;

	vmimg_vmdk_take(&mend->taken, 0, VMDK_SECTOR);
	if (g->descriptor_at)
		vmimg_vmdk_take(&mend->taken, g->descriptor_at, g->descriptor_len);
}

static int read_sets(struct mend *mend, struct vmimg_error *err)
{
	const struct vmdk_header *header = &mend->m->header;
	uint64_t gd = mend->g->at_end ? mend->g->gd_at / VMDK_SECTOR : header->gd_offset;

	mend->sets[0].wanted = true;
	mend->sets[1].wanted = (header->flags & VMDK_FLAG_REDUNDANT) && header->rgd_offset;
	if (read_directory(mend, &mend->sets[0], gd, err) ||
		read_directory(mend, &mend->sets[1], header->rgd_offset, err))
		return -1;
	for (unsigned s = 0; s < 2; s++)
		if (mend->sets[s].at &&
			vmimg_vmdk_regular(mend->g, mend->m->rw, mend->sets[s].at,
				&mend->sets[s].regular, err))
			return -1;
	for (unsigned s = 0; s < 4; s++)
		claim_tables(mend, &mend->sets[s % 2], s < 2);
	return 0;
}

/* ---- the whole ---- */

static int mend_all(struct mend *mend, struct vmimg_error *err)
{
	mend->agreed = vmimg_alloc_array(
		(size_t)(mend->g->gd_count * mend->g->entries / 8 + 1), 1, err);
	if (!mend->agreed || vmimg_vmdk_taken_init(&mend->taken, mend->size, err))
		return -1;
	take_fixed_places(mend);
	if (read_sets(mend, err))
		return -1;
	if (mend->sets[0].lost && (mend->sets[1].lost || !mend->sets[1].wanted))
		return 0; /* check tells */
	if (place_directory(mend, 0, err) || place_directory(mend, 1, err))
		return -1;
	for (uint64_t i = 0; i < mend->g->gd_count; i++)
		if (claim_agreed(mend, i, err))
			return -1;
	for (uint64_t i = 0; i < mend->g->gd_count; i++)
		if (mend_index(mend, i, err))
			return -1;
	return 0;
}

/* A grain that is lost reads as zeroes, not as what a parent has there; an extent by itself does not
 * know whether there is one. */
static uint32_t choose_blank(const struct vmdk_mending *m)
{
	const struct vmdk *v = vmdk_of(m->disk);

	return m->e->g.packed || (v->has_descriptor && v->descriptor.parent_cid == VMDK_NO_PARENT) ? 0 : 1;
}

int vmimg_vmdk_repair_tables(struct vmdk_mending *m, struct vmimg_error *err)
{
	struct mend mend = { .m = m,
		.g = &m->e->g,
		.size = vmimg_io_size(m->rw),
		.end = vmimg_align_up(vmimg_io_size(m->rw), VMDK_SECTOR),
		.blank = choose_blank(m) };
	uint64_t given_up = m->fixed->given_up;
	int failed;

	if (mend.g->gd_count > MOST_TABLES)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"%" PRIu64 " grain tables are more than is repaired in place: name a new "
			"file with -o",
			mend.g->gd_count);
	failed = mend_all(&mend, err);
	if (mend.blank && m->fixed->given_up > given_up && !mend.g->zeroed) {
		m->header.flags |= VMDK_FLAG_ZEROED;
		m->header.version = (uint32_t)vmimg_max(m->header.version, 2);
		m->header_changed = true;
	}
	vmimg_vmdk_taken_done(&mend.taken);
	free(mend.agreed);
	free(mend.sets[0].tables);
	free(mend.sets[1].tables);
	return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grain directories and tables, of which there are two sets. First all metadata is claimed, then
 * the tables of one index are looked at together (repair_grains.c), and both sets get one that says
 * the same. A table whose entry is lost is looked for where the layout would have it, and gets a
 * new place at the end of the file otherwise.
 */
#include <inttypes.h>
#include <string.h>
#include "format/vmdk/repair_tables.h"
#include "util/num.h"

/* 4 Mi tables of each set, 32 MiB. */
#define MOST_TABLES (UINT64_C(1) << 22)

static const char *const set_names[] = { "", "redundant " };

/* ---- places ---- */

/* Where the layout would have the table; 0: nowhere. */
static uint32_t regular_place(
	const struct vmdk_mend *mend, const struct vmdk_set *set, uint64_t index)
{
	uint64_t at = vmimg_vmdk_regular_place(mend->g, mend->size, set->regular, index);

	return at / VMDK_SECTOR < VMDK_SET_BAD ? (uint32_t)(at / VMDK_SECTOR) : 0;
}

/* Space at the end of the file, for the table or a directory. */
static int add_space(struct vmdk_mend *mend, uint64_t len, uint64_t *at, struct vmimg_error *err)
{
	*at = mend->end;
	mend->end += vmimg_align_up(len, VMDK_SECTOR);
	if (mend->end / VMDK_SECTOR >= VMDK_SET_BAD)
		return vmimg_fail(err, VMIMG_ELIMIT, "the file would be larger than 2 TiB");
	return vmimg_io_resize(mend->m->rw, mend->end, err);
}

/* Set s has a table with these bytes from now on: the old one, if it is still there. */
static int place_table(struct vmdk_mend *mend, unsigned s, const struct vmdk_twins *pair, bool old,
	struct vmimg_error *err)
{
	struct vmdk_set *set = &mend->sets[s];
	uint32_t sector = old ? regular_place(mend, set, pair->index) : 0;
	uint64_t at = sector * VMDK_SECTOR;
	uint8_t bytes[VMIMG_VMDK_TABLE_MOST], entry[4];

	if (sector && vmimg_vmdk_read_table(mend, sector, pair->index, bytes, err))
		return -1;
	if (!sector || memcmp(bytes, pair->first, sizeof(bytes)) ||
		!vmimg_vmdk_take(&mend->taken, at, vmdk_mend_table_len(mend, pair->index))) {
		if (add_space(mend, vmdk_mend_table_sectors(mend) * VMDK_SECTOR, &at, err) ||
			vmimg_io_pwrite(mend->m->rw, pair->first,
				(size_t)vmdk_mend_table_len(mend, pair->index), at, err))
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
static int settle(
	struct vmdk_mend *mend, unsigned s, const struct vmdk_twins *pair, struct vmimg_error *err)
{
	struct vmdk_set *set = &mend->sets[s];
	uint32_t sector = set->tables[pair->index];
	uint8_t bytes[VMIMG_VMDK_TABLE_MOST];

	if (!set->wanted)
		return 0;
	if (!vmdk_mend_is_table(sector))
		return place_table(mend, s, pair, sector == VMDK_SET_BAD, err);
	if (vmimg_vmdk_read_table(mend, sector, pair->index, bytes, err))
		return -1;
	if (!memcmp(bytes, pair->first, sizeof(bytes)))
		return 0;
	vmimg_report_add(mend->m->fixed,
		mend->g->unclean ? VMIMG_FINDING_NOTE : VMIMG_FINDING_CORRUPTION, "grain-table",
		sector * VMDK_SECTOR, "the %sgrain table at 0x%" PRIx64 " says what it should now",
		set_names[s], sector * VMDK_SECTOR);
	return vmimg_io_pwrite(mend->m->rw, pair->first,
		(size_t)vmdk_mend_table_len(mend, pair->index), sector * VMDK_SECTOR, err);
}

static int clear_entry(struct vmdk_mend *mend, unsigned s, uint64_t index, struct vmimg_error *err)
{
	struct vmdk_set *set = &mend->sets[s];
	const uint8_t zero[4] = { 0 };

	if (!set->wanted || set->tables[index] != VMDK_SET_BAD)
		return 0;
	set->tables[index] = 0;
	vmimg_report_add(mend->m->fixed, VMIMG_FINDING_CORRUPTION, "directory-entry",
		set->at + 4 * index,
		"entry %" PRIu64 " of the %sgrain directory led nowhere: there is no table now",
		index, set_names[s]);
	return vmimg_io_pwrite(mend->m->rw, zero, sizeof(zero), set->at + 4 * index, err);
}

/* Neither entry leads to a table: the layout may. */
static int rescue(
	struct vmdk_mend *mend, struct vmdk_twins *pair, bool *found, struct vmimg_error *err)
{
	struct vmdk_grains g = *mend->g;
	uint64_t at = 0, bad = 0;

	pair->has_other = false;
	g.regular = mend->sets[0].regular;
	g.regular_rgd = mend->sets[1].regular;
	*found = vmimg_vmdk_lost_table(&g, mend->m->rw, pair->index, &at);
	if (!*found)
		return 0;
	if (vmimg_vmdk_read_table(
		    mend, (uint32_t)(at / VMDK_SECTOR), pair->index, pair->first, err) ||
		vmimg_vmdk_count_bad(mend, pair->first, pair->index, &bad, err))
		return -1;
	*found = !bad;
	return 0;
}

/* ---- one index ---- */

static int lose_table(struct vmdk_mend *mend, struct vmdk_twins *pair, struct vmimg_error *err)
{
	mend->m->fixed->given_up++;
	if (!mend->blank)
		return clear_entry(mend, 0, pair->index, err) ||
				clear_entry(mend, 1, pair->index, err)
			? -1
			: 0;
	memset(pair->first, 0, sizeof(pair->first));
	for (uint64_t i = 0; i < vmdk_mend_table_len(mend, pair->index) / 4; i++)
		vmimg_put_le32(pair->first + 4 * i, mend->blank);
	return place_table(mend, 0, pair, false, err) ||
			(mend->sets[1].wanted && place_table(mend, 1, pair, false, err))
		? -1
		: 0;
}

/* No table, as one of the directories says, or a lost one. */
static int mend_absent(struct vmdk_mend *mend, struct vmdk_twins *pair, struct vmimg_error *err)
{
	const struct vmdk_set *a = &mend->sets[0], *b = &mend->sets[1];
	uint64_t i = pair->index;
	bool bad = a->tables[i] == VMDK_SET_BAD || (b->wanted && b->tables[i] == VMDK_SET_BAD),
	     found;
	bool told = (!a->lost && a->tables[i] != VMDK_SET_BAD) ||
		(b->wanted && !b->lost && b->tables[i] != VMDK_SET_BAD);

	if (!bad)
		return 0;
	if (told)
		return clear_entry(mend, 0, i, err) || clear_entry(mend, 1, i, err) ? -1 : 0;
	if (rescue(mend, pair, &found, err))
		return -1;
	if (!found)
		return lose_table(mend, pair, err);
	return vmimg_vmdk_choose_entries(mend, pair, err) || settle(mend, 0, pair, err) ||
			settle(mend, 1, pair, err)
		? -1
		: 0;
}

static int mend_index(struct vmdk_mend *mend, uint64_t index, struct vmimg_error *err)
{
	struct vmdk_twins pair = { .index = index };

	if (!vmdk_mend_is_table(mend->sets[0].tables[index]) &&
		!vmdk_mend_is_table(mend->sets[1].tables[index]))
		return mend_absent(mend, &pair, err);
	return vmimg_vmdk_read_pair(mend, &pair, err) ||
			vmimg_vmdk_choose_entries(mend, &pair, err) ||
			settle(mend, 0, &pair, err) || settle(mend, 1, &pair, err)
		? -1
		: 0;
}

/* ---- directories ---- */

static int read_directory(
	struct vmdk_mend *mend, struct vmdk_set *set, uint64_t sector, struct vmimg_error *err)
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
static void claim_tables(struct vmdk_mend *mend, struct vmdk_set *set, bool regular)
{
	for (uint64_t i = 0; i < mend->g->gd_count; i++) {
		uint32_t sector = set->tables[i];
		bool is_regular = sector == regular_place(mend, set, i);

		if (!vmdk_mend_leads(mend, sector) || sector == VMDK_SET_BAD ||
			is_regular != regular)
			continue;
		if (!vmimg_range_inside(
			    sector * VMDK_SECTOR, vmdk_mend_table_len(mend, i), mend->size) ||
			!vmimg_vmdk_take(
				&mend->taken, sector * VMDK_SECTOR, vmdk_mend_table_len(mend, i)))
			set->tables[i] = VMDK_SET_BAD;
	}
}

/* A directory that was lost gets a place, and none of its tables. */
static int place_directory(struct vmdk_mend *mend, unsigned s, struct vmimg_error *err)
{
	struct vmdk_set *set = &mend->sets[s];

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

static void take_fixed_places(struct vmdk_mend *mend)
{
	const struct vmdk_grains *g = mend->g;

	vmimg_vmdk_take(&mend->taken, 0, VMDK_SECTOR);
	if (g->descriptor_at)
		vmimg_vmdk_take(&mend->taken, g->descriptor_at, g->descriptor_len);
}

static int read_sets(struct vmdk_mend *mend, struct vmimg_error *err)
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

static int mend_all(struct vmdk_mend *mend, struct vmimg_error *err)
{
	mend->agreed =
		vmimg_alloc_array((size_t)(mend->g->gd_count * mend->g->entries / 8 + 1), 1, err);
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
		if (vmimg_vmdk_claim_agreed(mend, i, err))
			return -1;
	for (uint64_t i = 0; i < mend->g->gd_count; i++)
		if (mend_index(mend, i, err))
			return -1;
	return 0;
}

/* A grain that is lost reads as zeroes, not as what a parent has there; an extent by itself does
 * not know whether there is one. */
static uint32_t choose_blank(const struct vmdk_mending *m)
{
	const struct vmdk *v = vmdk_of(m->disk);

	return m->e->g.packed || (v->has_descriptor && v->descriptor.parent_cid == VMDK_NO_PARENT)
		? 0
		: 1;
}

int vmimg_vmdk_repair_tables(struct vmdk_mending *m, struct vmimg_error *err)
{
	struct vmdk_mend mend = { .m = m,
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

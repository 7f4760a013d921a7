/* SPDX-License-Identifier: Apache-2.0 */
/* Directories and tables being mended: repair_grains.c says what a table is to say, repair_tables.c
 * sees that both directories lead to tables that say it. */
#pragma once
#include "format/vmdk/repair.h"
#include "format/vmdk/taken.h"
#include "util/num.h"

#define VMDK_SET_BAD UINT32_MAX

struct vmdk_set {
	uint64_t at;      /* of the directory, bytes */
	bool wanted;      /* the header has it */
	bool lost;        /* it was not in the file: what it says is of no meaning */
	uint32_t *tables; /* sectors; 0: none; VMDK_SET_BAD: it led nowhere */
	uint64_t regular; /* bytes; where the first lies when all lie one behind the other */
};

struct vmdk_mend {
	struct vmdk_mending *m;
	const struct vmdk_grains *g;
	struct vmdk_taken taken;
	uint8_t *agreed; /* one bit a grain: both sets name the same place, and it has that */
	uint64_t size;   /* of the file, as it was found */
	uint64_t end;    /* where what is added goes */
	uint32_t blank;  /* of a grain that is lost: 0, or 1 where a parent may show through */
	struct vmdk_set sets[2]; /* the first, the redundant */
};

/* The tables of one index, being looked at. */
struct vmdk_twins {
	uint64_t index;
	uint8_t first[VMIMG_VMDK_TABLE_MOST], other[VMIMG_VMDK_TABLE_MOST];
	bool has_other; /* what first lacks may be taken from it */
};

static inline uint64_t vmdk_mend_table_sectors(const struct vmdk_mend *mend)
{
	return vmimg_div_up(4 * (uint64_t)mend->g->entries, VMDK_SECTOR);
}

static inline uint64_t vmdk_mend_table_len(const struct vmdk_mend *mend, uint64_t index)
{
	return vmimg_vmdk_table_len(mend->g, index);
}

static inline bool vmdk_mend_is_table(uint32_t sector)
{
	return sector > 1 && sector != VMDK_SET_BAD;
}

static inline bool vmdk_mend_leads(const struct vmdk_mend *mend, uint32_t entry)
{
	return entry > 1 || (entry == 1 && !mend->g->zeroed);
}

/* ---- repair_grains.c ---- */

int vmimg_vmdk_read_table(const struct vmdk_mend *mend, uint32_t sector, uint64_t index,
	uint8_t *bytes, struct vmimg_error *err) VMIMG_CHECKED;
/* Entries of a table that cannot be right, whatever the others are. */
int vmimg_vmdk_count_bad(const struct vmdk_mend *mend, const uint8_t *table, uint64_t index,
	uint64_t *bad, struct vmimg_error *err) VMIMG_CHECKED;
/* Before the others: grains of which both tables of that index say the same have their places. */
int vmimg_vmdk_claim_agreed(
	struct vmdk_mend *mend, uint64_t index, struct vmimg_error *err) VMIMG_CHECKED;
/* Reads the tables that there are; one that alone has bad entries gives way to the other. */
int vmimg_vmdk_read_pair(
	struct vmdk_mend *mend, struct vmdk_twins *pair, struct vmimg_error *err) VMIMG_CHECKED;
/* What both tables are to say, in pair->first. */
int vmimg_vmdk_choose_entries(
	struct vmdk_mend *mend, struct vmdk_twins *pair, struct vmimg_error *err) VMIMG_CHECKED;

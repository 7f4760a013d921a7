/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small read cache for metadata tables: L1 and L2 tables, grain tables, BATs. A table of any size
 * is read through it in pieces of 64 KiB, so that memory stays the same whatever a header promises
 * and however many files an image consists of. Safe for any number of threads; what is read must
 * not change meanwhile.
 */
#pragma once
#include "io/io.h"

struct vmimg_table;

/* The io is shared (referenced); NULL: only vmimg_table_read_from is used. */
struct vmimg_table *vmimg_table_new(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
/* The same with pages of that size, a power of two: for what lies in small pieces far apart. */
struct vmimg_table *vmimg_table_new_paged(
	struct vmimg_io *io, size_t page_size, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_table_free(struct vmimg_table *table);
/* Copies len bytes at `at` to buf. len is meant to be small (a few KiB of entries). */
int vmimg_table_read(struct vmimg_table *table, void *buf, size_t len, uint64_t at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The same of another io, which outlives the table. */
int vmimg_table_read_from(struct vmimg_table *table, struct vmimg_io *io, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err) VMIMG_CHECKED;
/* Whoever goes through more than so many bytes from now on, each read counted as COST bytes more
 * than it has, fails with VMIMG_ELIMIT. */
#define VMIMG_TABLE_COST 64U
void vmimg_table_bound(struct vmimg_table *table, uint64_t bytes);
/* Whether somebody did. */
bool vmimg_table_spent(const struct vmimg_table *table);
/* Forgets what is cached: for those who edit the io. */
void vmimg_table_forget(struct vmimg_table *table);

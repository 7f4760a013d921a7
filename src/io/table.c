/* SPDX-License-Identifier: Apache-2.0 */
/* A handful of pages, mostly of 64 KiB, the least recently used one replaced. Sequential walks,
 * which is what conversions do, need two or three; random readers get half a MiB of table per
 * image. */
#include "io/table.h"
#include <pthread.h>
#include <string.h>
#include "util/num.h"

#define PAGE_SIZE UINT64_C(65536)
#define PAGES     8

struct page {
	uint8_t *bytes;      /* page_size, allocated on first use */
	struct vmimg_io *io; /* only compared */
	uint64_t at;
	size_t len; /* 0: empty */
	uint64_t used;
};

struct vmimg_table {
	struct vmimg_io *io;
	size_t page_size;
	pthread_mutex_t lock; /* guards all below */
	struct page page[PAGES];
	uint64_t clock;
	uint64_t left; /* bytes that may still be read */
	bool spent;    /* more were asked for */
};

struct vmimg_table *vmimg_table_new_paged(
	struct vmimg_io *io, size_t page_size, struct vmimg_error *err)
{
	struct vmimg_table *table = vmimg_new(struct vmimg_table, err);

	if (!table)
		return NULL;
	table->io = io ? vmimg_io_ref(io) : NULL;
	table->page_size = page_size;
	table->left = UINT64_MAX;
	pthread_mutex_init(&table->lock, NULL);
	return table;
}

struct vmimg_table *vmimg_table_new(struct vmimg_io *io, struct vmimg_error *err)
{
	return vmimg_table_new_paged(io, PAGE_SIZE, err);
}

void vmimg_table_free(struct vmimg_table *table)
{
	if (!table)
		return;
	for (unsigned i = 0; i < PAGES; i++)
		free(table->page[i].bytes);
	pthread_mutex_destroy(&table->lock);
	vmimg_io_unref(table->io);
	free(table);
}

void vmimg_table_forget(struct vmimg_table *table)
{
	pthread_mutex_lock(&table->lock);
	for (unsigned i = 0; i < PAGES; i++)
		table->page[i].len = 0;
	pthread_mutex_unlock(&table->lock);
}

void vmimg_table_bound(struct vmimg_table *table, uint64_t bytes)
{
	pthread_mutex_lock(&table->lock);
	table->left = bytes;
	pthread_mutex_unlock(&table->lock);
}

bool vmimg_table_spent(const struct vmimg_table *table)
{
	return table->spent;
}

/* Called with the lock held. */
static int spend(struct vmimg_table *table, uint64_t bytes, struct vmimg_error *err)
{
	if (table->left == UINT64_MAX)
		return 0;
	table->spent |= bytes > table->left;
	if (bytes > table->left)
		return vmimg_fail(
			err, VMIMG_ELIMIT, "its structures lead in circles, or on and on");
	table->left -= bytes;
	return 0;
}

static int load(struct page *page, size_t page_size, struct vmimg_io *io, uint64_t at,
	struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);
	size_t len = at < size ? (size_t)vmimg_min(page_size, size - at) : 0;

	page->len = 0;
	if (!page->bytes && !(page->bytes = vmimg_alloc_buffer(page_size, err)))
		return -1;
	if (vmimg_io_pread(io, page->bytes, len, at, err))
		return -1;
	page->io = io;
	page->at = at;
	page->len = len;
	return 0;
}

/* The page that starts at `at`, read if need be. Called with the lock held. */
static struct page *find_page(
	struct vmimg_table *table, struct vmimg_io *io, uint64_t at, struct vmimg_error *err)
{
	struct page *oldest = &table->page[0];

	for (unsigned i = 0; i < PAGES; i++) {
		struct page *page = &table->page[i];

		if (page->len && page->io == io && page->at == at) {
			page->used = ++table->clock;
			return page;
		}
		if (page->used < oldest->used)
			oldest = page;
	}
	if (load(oldest, table->page_size, io, at, err))
		return NULL;
	oldest->used = ++table->clock;
	return oldest;
}

static int copy_out(struct vmimg_table *table, struct vmimg_io *io, uint8_t *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	while (len) {
		uint64_t start = vmimg_align_down(at, table->page_size);
		size_t step = (size_t)vmimg_min(len, start + table->page_size - at);
		struct page *page = find_page(table, io, start, err);

		if (!page)
			return -1;
		memcpy(buf, page->bytes + (at - start), step);
		buf += step;
		at += step;
		len -= step;
	}
	return 0;
}

int vmimg_table_read_from(struct vmimg_table *table, struct vmimg_io *io, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);
	int result;

	if (!vmimg_range_inside(at, len, size)) /* the io words the error */
		return vmimg_io_pread(io, buf, len, at, err);
	pthread_mutex_lock(&table->lock);
	result = spend(table, len + VMIMG_TABLE_COST, err);
	if (!result)
		result = copy_out(table, io, buf, len, at, err);
	pthread_mutex_unlock(&table->lock);
	return result;
}

int vmimg_table_read(
	struct vmimg_table *table, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	return vmimg_table_read_from(table, table->io, buf, len, at, err);
}

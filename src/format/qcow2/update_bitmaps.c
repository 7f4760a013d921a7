/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bitmaps that record changes, while content is written. Data goes over old clusters before the
 * header turns, so a crash could leave changes that no bit tells of: the bitmaps are marked as in
 * use before ("Bitmap directory entry", flag 0), which says that they are not to be relied on, and
 * the directory that the header turns to has them whole and without the mark.
 */
#include <inttypes.h>
#include "format/qcow2/bitmaps.h"
#include "util/num.h"

#define MOST_MEMORY (UINT64_C(256) << 20) /* bytes of bits at hand */
#define FLAGS_AT    12U                   /* in a directory's entry */

struct vmimg_qcow2_marks {
	struct vmimg_qcow2_change *c;
	struct vmimg_qcow2_bits *list;
	size_t count;
	bool in_use;
};

static bool records(const struct vmimg_bitmap *bitmap)
{
	return bitmap->enabled && !bitmap->in_use;
}

int vmimg_qcow2_marks_new(
	struct vmimg_qcow2_change *c, struct vmimg_qcow2_marks **marks, struct vmimg_error *err)
{
	size_t count = 0;

	*marks = NULL;
	for (size_t i = 0; i < c->disk->bitmap_count; i++)
		count += records(&c->disk->bitmaps[i]);
	if (!count)
		return 0;
	if (count > MOST_MEMORY / (c->q->cluster * UINT64_C(2)))
		return vmimg_fail(err, VMIMG_ELIMIT,
			"%zu bitmaps record changes, more than are kept up to date at once", count);
	*marks = vmimg_new(struct vmimg_qcow2_marks, err);
	if (!*marks)
		return -1;
	(*marks)->c = c;
	(*marks)->list = vmimg_alloc_array(count, sizeof(*(*marks)->list), err);
	return (*marks)->list ? 0 : -1;
}

void vmimg_qcow2_marks_free(struct vmimg_qcow2_marks *m)
{
	for (size_t i = 0; m && i < m->count; i++)
		vmimg_qcow2_bits_done(&m->list[i]);
	if (m)
		free(m->list);
	free(m);
}

static int open_all(struct vmimg_qcow2_marks *m, struct vmimg_error *err)
{
	for (size_t i = 0; i < m->c->disk->bitmap_count; i++)
		if (records(&m->c->disk->bitmaps[i]) &&
			vmimg_qcow2_bits_open(&m->list[m->count++], m->c, i, err))
			return -1;
	return 0;
}

/* Each bitmap that records is said to be in use, in its place in the directory. */
static int begin(struct vmimg_qcow2_marks *m, struct vmimg_error *err)
{
	struct vmimg_qcow2_change *c = m->c;
	VMIMG_AUTO(free) uint8_t *directory = NULL;
	struct vmimg_qcow2_bitmap_entry entry;
	uint8_t flags[4];

	if (vmimg_qcow2_read_directory(c, &directory, err))
		return -1;
	for (size_t i = 0, at = 0, next; i < c->disk->bitmap_count; i++, at = next) {
		next = vmimg_qcow2_directory_next(directory, at, &entry);
		if (!records(&c->disk->bitmaps[i]))
			continue;
		vmimg_put_be32(flags, entry.flags | QCOW2_BITMAP_IN_USE);
		if (vmimg_io_pwrite(c->io, flags, sizeof(flags),
			    c->q->bitmaps.directory + at + FLAGS_AT, err))
			return -1;
	}
	m->in_use = true;
	return vmimg_io_sync(c->io, err);
}

static int mark_one(
	struct vmimg_qcow2_bits *b, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	uint64_t unit = b->c->disk->bitmaps[b->index].granularity;
	uint64_t per = (uint64_t)b->c->q->cluster * 8;
	uint64_t first = guest / unit, end = vmimg_min(vmimg_div_up(guest + len, unit), b->count);

	for (; first < end; first = (first / per + 1) * per) {
		if (vmimg_qcow2_bits_load(b, first / per, err))
			return -1;
		vmimg_qcow2_bits_set(b, first, end);
	}
	return 0;
}

int vmimg_qcow2_mark(
	struct vmimg_qcow2_marks *m, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	if (!m)
		return 0;
	if (!m->count && open_all(m, err))
		return -1;
	for (size_t i = 0; i < m->count; i++)
		if (mark_one(&m->list[i], guest, len, err))
			return -1;
	return m->in_use ? 0 : begin(m, err); /* what cannot be read is left as it is */
}

static int finish_one(void *ctx, size_t index, struct vmimg_qcow2_bitmap_entry *entry, bool *gone,
	struct vmimg_error *err)
{
	struct vmimg_qcow2_marks *m = ctx;

	(void)gone;
	for (size_t i = 0; i < m->count; i++)
		if (m->list[i].index == index) {
			entry->flags &= ~QCOW2_BITMAP_IN_USE;
			return vmimg_qcow2_bits_finish(&m->list[i], entry, err);
		}
	return 0;
}

int vmimg_qcow2_marks_finish(struct vmimg_qcow2_marks *m, struct vmimg_error *err)
{
	struct vmimg_qcow2_new_directory how = { .each = finish_one, .ctx = m };

	return m && m->in_use ? vmimg_qcow2_write_directory(m->c, &how, err) : 0;
}

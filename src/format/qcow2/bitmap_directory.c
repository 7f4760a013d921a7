/* SPDX-License-Identifier: Apache-2.0 */
/* The directory of the persistent bitmaps, written anew. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/bitmaps.h"
#include "util/num.h"

#define ENTRY_SIZE 24U

struct directory {
	uint8_t *bytes;
	size_t len, cap;
	uint32_t count;
};

int vmimg_qcow2_check_directory(const struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	return c->has_bitmaps && c->disk->bitmap_count != c->q->bitmaps.count
		? vmimg_fail(err, VMIMG_EUNSUPPORTED,
			  "its bitmaps are out of date or cannot be read: repair it first")
		: 0;
}

int vmimg_qcow2_read_directory(
	struct vmimg_qcow2_change *c, uint8_t **bytes, struct vmimg_error *err)
{
	size_t size = c->has_bitmaps ? (size_t)c->q->bitmaps.directory_size : 0;

	if (vmimg_qcow2_check_directory(c, err))
		return -1;
	*bytes = vmimg_alloc_array(size + 8, 1, err); /* the last entry may lack the padding */
	return !*bytes ||
			(size && vmimg_io_pread(c->io, *bytes, size, c->q->bitmaps.directory, err))
		? -1
		: 0;
}

size_t vmimg_qcow2_directory_next(
	const uint8_t *bytes, size_t at, struct vmimg_qcow2_bitmap_entry *entry)
{
	vmimg_qcow2_bitmap_entry_decode(entry, bytes + at);
	return (size_t)vmimg_align_up(at + ENTRY_SIZE + entry->extra_size + entry->name_size, 8);
}

/* rest: extra data, and the name. */
static int append(struct directory *d, const struct vmimg_qcow2_bitmap_entry *entry,
	const void *rest, struct vmimg_error *err)
{
	size_t len = ENTRY_SIZE + (size_t)entry->extra_size + entry->name_size;
	size_t size = (size_t)vmimg_align_up(len, 8);

	if (d->len + size > QCOW2_MAX_BITMAP_DIRECTORY || d->count == QCOW2_MAX_BITMAPS)
		return vmimg_fail(err, VMIMG_ELIMIT, "there are %" PRIu32 " bitmaps", d->count);
	if (vmimg_grow_array(&d->bytes, &d->cap, d->len + size, 1, err))
		return -1;
	memset(d->bytes + d->len, 0, size);
	vmimg_qcow2_bitmap_entry_encode(entry, d->bytes + d->len);
	memcpy(d->bytes + d->len + ENTRY_SIZE, rest, len - ENTRY_SIZE);
	d->len += size;
	d->count++;
	return 0;
}

/* All bitmaps, as they shall be. */
static int fill(struct directory *d, struct vmimg_qcow2_change *c,
	const struct vmimg_qcow2_new_directory *how, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *old = NULL;
	size_t at = 0, next;

	if (vmimg_qcow2_read_directory(c, &old, err))
		return -1;
	for (size_t i = 0; i < c->disk->bitmap_count; i++, at = next) {
		struct vmimg_qcow2_bitmap_entry entry;
		bool gone = false;

		next = vmimg_qcow2_directory_next(old, at, &entry);
		if (how->each(how->ctx, i, &entry, &gone, err) ||
			(!gone && append(d, &entry, old + at + ENTRY_SIZE, err)))
			return -1;
	}
	return how->more ? append(d, how->more, how->name, err) : 0;
}

static int write(const struct directory *d, struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t size = c->bitmaps.directory_size;

	if (c->has_bitmaps && size &&
		vmimg_qcow2_change_count(c, c->bitmaps.directory, size, -1, err))
		return -1;
	c->new_head = true;
	c->has_bitmaps = d->count;
	c->header.autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS;
	if (!d->count)
		return 0;
	c->header.autoclear |= QCOW2_AUTOCLEAR_BITMAPS;
	c->bitmaps = (struct vmimg_qcow2_bitmaps){ .count = d->count, .directory_size = d->len };
	return vmimg_qcow2_change_take(
		       c, vmimg_div_up(d->len, c->q->cluster), &c->bitmaps.directory, err) ||
			vmimg_io_pwrite(c->io, d->bytes, d->len, c->bitmaps.directory, err)
		? -1
		: 0;
}

int vmimg_qcow2_write_directory(struct vmimg_qcow2_change *c,
	const struct vmimg_qcow2_new_directory *how, struct vmimg_error *err)
{
	struct directory d = { 0 };
	int failed = fill(&d, c, how, err) || write(&d, c, err);

	free(d.bytes);
	return failed ? -1 : 0;
}

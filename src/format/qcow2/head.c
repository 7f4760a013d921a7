/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first cluster anew: header, extensions, backing file name. The first sector is written whole
 * or not at all, and says where the extensions begin; so what lies behind it is written before, to
 * where the old state has nothing. If both states need the same place, the new one is first put
 * behind the old one, with a long header that reaches there, and then moved to where it belongs.
 * Version 2 has no long headers; there the backing file's name goes where the old one is not.
 */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/change.h"
#include "util/num.h"

#define SECTOR        512U
#define HEADER_LENGTH 112U

struct head {
	struct vmimg_qcow2_change *c;
	const uint8_t *old; /* the cluster as it is */
	size_t old_end;     /* of what is used in it */
	uint8_t *page;      /* as it shall be */
	size_t len, cap;
	bool no_names; /* of features: they are optional */
	size_t rest;   /* where the page goes on behind the first sector */
};

static int add(struct head *h, const void *bytes, size_t len, struct vmimg_error *err)
{
	if (len > h->cap - h->len)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"the names of other files do not fit into the first cluster (%zu bytes)",
			h->cap);
	if (len)
		memcpy(h->page + h->len, bytes, len);
	h->len += len;
	return 0;
}

static int add_extension(
	struct head *h, uint32_t type, const void *bytes, size_t len, struct vmimg_error *err)
{
	static const uint8_t padding[8];
	struct vmimg_qcow2_extension ext = { type, (uint32_t)len };
	uint8_t raw[8];

	vmimg_qcow2_extension_encode(&ext, raw);
	return add(h, raw, sizeof(raw), err) || add(h, bytes, len, err) ||
			add(h, padding, vmimg_align_up(len, 8) - len, err)
		? -1
		: 0;
}

/* What the change says anew; the rest is taken over. */
static bool is_ours(const struct head *h, uint32_t type)
{
	return type == QCOW2_EXT_BACKING_FORMAT || type == QCOW2_EXT_DATA_FILE ||
		type == QCOW2_EXT_BITMAPS || (type == QCOW2_EXT_FEATURES && h->no_names);
}

static int add_ours(struct head *h, struct vmimg_error *err)
{
	const struct vmimg_qcow2_change *c = h->c;
	uint8_t raw[24] = { 0 };

	if (c->backing_name && c->backing_format &&
		add_extension(h, QCOW2_EXT_BACKING_FORMAT, c->backing_format,
			strlen(c->backing_format), err))
		return -1;
	if (c->data_name &&
		add_extension(h, QCOW2_EXT_DATA_FILE, c->data_name, strlen(c->data_name), err))
		return -1;
	if (!c->has_bitmaps)
		return 0;
	vmimg_qcow2_bitmaps_encode(&c->bitmaps, raw);
	return add_extension(h, QCOW2_EXT_BITMAPS, raw, sizeof(raw), err);
}

/* Walks the old extensions; *end is behind them. add: those that are not ours, to the page. */
static int old_extensions(struct head *h, bool take, size_t *end, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *old = &h->c->q->header;
	size_t at = old->header_length, limit = h->cap;
	struct vmimg_qcow2_extension ext;

	if (old->backing_offset && old->backing_offset < limit)
		limit = (size_t)old->backing_offset;
	*end = at;
	while (at + 8 <= limit) {
		vmimg_qcow2_extension_decode(&ext, h->old + at);
		*end = at += 8;
		if (ext.type == QCOW2_EXT_END || ext.length > limit - at)
			return 0;
		if (take && !is_ours(h, ext.type) &&
			add_extension(h, ext.type, h->old + at, ext.length, err))
			return -1;
		at += vmimg_align_up(ext.length, 8);
		*end = vmimg_min(at, limit);
	}
	return 0;
}

/* The page with extensions from length on. Fields that we do not know are kept. */
static int build(struct head *h, size_t length, struct vmimg_error *err)
{
	struct vmimg_qcow2_header *new = &h->c->header;
	size_t known = vmimg_min(h->c->q->header.header_length, vmimg_min(length, SECTOR));
	uint8_t raw[HEADER_LENGTH] = { 0 };
	size_t end;

	memset(h->page, 0, h->cap);
	if (new->version == 3 && h->c->q->header.version == 3)
		memcpy(h->page, h->old, known);
	h->len = length;
	new->header_length = (uint32_t)length;
	new->backing_offset = new->backing_size = 0;
	if (add_ours(h, err) || old_extensions(h, true, &end, err) ||
		add_extension(h, QCOW2_EXT_END, NULL, 0, err))
		return -1;
	if (h->rest > SECTOR && h->len > SECTOR)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"the first cluster has no room to change what it says in one step");
	if (h->c->backing_name) {
		h->len = h->rest > SECTOR ? h->rest : h->len;
		new->backing_offset = h->len;
		new->backing_size = (uint32_t)strlen(h->c->backing_name);
		if (add(h, h->c->backing_name, new->backing_size, err))
			return -1;
	}
	vmimg_qcow2_header_encode(new, raw);
	memcpy(h->page, raw, new->version == 3 ? QCOW2_V3_LENGTH : QCOW2_V2_LENGTH);
	return 0;
}

static int write_first(struct head *h, struct vmimg_error *err)
{
	return vmimg_io_sync(h->c->io, err) || vmimg_io_pwrite(h->c->io, h->page, SECTOR, 0, err)
		? -1
		: 0;
}

/* What of the page lies past the first sector. */
static int write_rest(struct head *h, size_t from, struct vmimg_error *err)
{
	return h->len > from ? vmimg_io_pwrite(h->c->io, h->page + from, h->len - from, from, err)
			     : 0;
}

static size_t normal_length(const struct vmimg_qcow2_change *c)
{
	if (c->header.version == 2)
		return QCOW2_V2_LENGTH;
	/* a long one is what a crash left of the move below */
	if (c->q->header.version == 2 || c->q->header.header_length > SECTOR)
		return HEADER_LENGTH;
	return c->q->header.header_length;
}

/* Where the old state has something that the new one would be written over. */
static bool collides(const struct head *h)
{
	size_t from = h->rest, to = vmimg_min(h->len, h->old_end);

	return to > from && memcmp(h->page + from, h->old + from, to - from);
}

/* Over the old state, by way of a place behind both. */
static int write_twice(struct head *h, struct vmimg_error *err)
{
	size_t behind = (size_t)vmimg_align_up(vmimg_max(h->old_end, h->len), SECTOR);

	if (build(h, behind, err) || write_rest(h, behind, err) || write_first(h, err) ||
		build(h, normal_length(h->c), err) || vmimg_io_sync(h->c->io, err) ||
		write_rest(h, h->rest, err))
		return -1;
	return write_first(h, err);
}

static int write_page(struct head *h, struct vmimg_error *err)
{
	size_t length = normal_length(h->c), behind;
	bool room;

	if (build(h, length, err))
		return -1;
	if (!collides(h))
		return write_rest(h, h->rest, err) ? -1 : write_first(h, err);
	behind = (size_t)vmimg_align_up(vmimg_max(h->old_end, h->len), SECTOR);
	room = behind + h->len - length <= h->cap;
	if (h->c->header.version == 3 && h->c->q->header.version == 3 && room)
		return write_twice(h, err);
	h->no_names = true;
	if (build(h, length, err))
		return -1;
	if (collides(h)) { /* only the name can be elsewhere */
		h->rest = vmimg_max(h->old_end, SECTOR + 1);
		if (build(h, length, err))
			return -1;
	}
	return write_rest(h, h->rest, err) ? -1 : write_first(h, err);
}

int vmimg_qcow2_write_head(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *now = &c->q->header;
	VMIMG_AUTO(free) uint8_t *old = vmimg_alloc_array(c->q->cluster, 1, err);
	VMIMG_AUTO(free) uint8_t *page = vmimg_alloc_array(c->q->cluster, 1, err);
	struct head h = { .c = c,
		.old = old,
		.page = page,
		.cap = c->q->cluster,
		.rest = SECTOR,
		.no_names = c->header.version == 2 };
	size_t len = (size_t)vmimg_min(h.cap, vmimg_io_size(c->io));

	if (!old || !page || vmimg_io_pread(c->io, old, len, 0, err) ||
		old_extensions(&h, false, &h.old_end, err))
		return -1;
	h.old_end = vmimg_max(h.old_end, now->backing_offset + now->backing_size);
	h.old_end = vmimg_min(h.old_end, h.cap);
	return write_page(&h, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New content in place. Data goes over the grain that has it, or into a new one that no entry leads
 * to; all is flushed; then come the redundant tables and the first ones (entries.c). In plain
 * extents data just takes its place.
 *
 * A grain is in an extent whole: where a parent shows through, whole grains are what can be written
 * without reading it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "disk/sink.h"
#include "format/vmdk/edit.h"
#include "util/guid.h"
#include "util/num.h"

#define CHUNK   (256U << 10)
#define GRANULE 4096U
/* Entries that wait, after which there is a flush: 32 MiB. */
#define MOST_WAITING (UINT32_C(1) << 21)

struct entry {
	uint32_t extent, grain, value, freed; /* freed: a sector, or 0 */
};

struct part {
	const struct vmdk_extent *e;
	struct vmdk_change c; /* c.io: NULL until it is needed */
};

struct update {
	struct vmimg_sink sink;
	struct vmimg_disk *disk;
	struct vmdk *v;
	struct part *parts;
	struct vmimg_chunk *chunk; /* being placed */
	bool hides;                /* there is a parent */
	bool same_content;
	uint64_t content;           /* folded digests */
	size_t current;             /* part in hand */
	struct vmimg_blocks blocks; /* of that part */
	bool mapped;                /* blocks are known */
	uint64_t old_end;           /* of its file; past it all is new and zero */
	/* the grain in hand */
	bool in_hand;
	uint64_t grain;
	uint32_t value, old; /* of its entry: 0, 1 or a sector */
	uint64_t zeroed;     /* bytes of it that were given as zeroes */
	/* what waits for the flush */
	struct entry *entries;
	size_t entry_count, entry_cap;
};

static struct update *update_of(struct vmimg_sink *sink)
{
	return (struct update *)sink;
}

/* ---- what waits ---- */

/* The entries from i on that go out in one write: neighbours in one table. */
static size_t neighbours(const struct update *u, size_t i, uint8_t bytes[VMIMG_VMDK_TABLE_MOST])
{
	const struct entry *first = &u->entries[i];
	uint32_t per = u->parts[first->extent].c.g.entries;
	size_t n = 0;

	for (; i + n < u->entry_count && first[n].extent == first->extent &&
		first[n].grain == first->grain + n && first[n].grain / per == first->grain / per;
		n++)
		vmimg_put_le32(bytes + 4 * n, first[n].value);
	return n;
}

static int write_entries(struct update *u, bool redundant, struct vmimg_error *err)
{
	uint8_t bytes[VMIMG_VMDK_TABLE_MOST];

	for (size_t i = 0, n; i < u->entry_count; i += n) {
		const struct vmdk_change *c = &u->parts[u->entries[i].extent].c;

		n = neighbours(u, i, bytes);
		if ((!redundant || c->g.rgd_at) &&
			vmimg_vmdk_put_entries(c, redundant, u->entries[i].grain, bytes, n, err))
			return -1;
	}
	return 0;
}

/* Grains that no entry leads to any more give their space back. */
static int free_grains(struct update *u, struct vmimg_error *err)
{
	for (size_t i = 0; i < u->entry_count; i++) {
		const struct entry *entry = &u->entries[i];
		const struct vmdk_change *c = &u->parts[entry->extent].c;
		uint64_t at = entry->freed * VMDK_SECTOR, size = vmimg_io_size(c->io);

		if (entry->freed && at < size &&
			vmimg_io_zero(c->io, at, vmimg_min(c->g.grain, size - at), err))
			return -1;
	}
	return 0;
}

/* What is done with every file that is open for writing. */
static int sync_parts(struct update *u, struct vmimg_error *err)
{
	for (size_t i = 0; i < u->v->extent_count; i++)
		if (u->parts[i].c.io && vmimg_io_sync(u->parts[i].c.io, err))
			return -1;
	return 0;
}

/* Before the entries: the headers say that tables are being changed, and know of zero grains. */
static int mark_parts(struct update *u, struct vmimg_error *err)
{
	for (size_t i = 0; i < u->entry_count; i++) {
		struct vmdk_change *c = &u->parts[u->entries[i].extent].c;
		bool zeroed = u->entries[i].value == 1 && !c->g.zeroed;

		if ((!c->marked || zeroed) && vmimg_vmdk_mark(c, true, zeroed, err))
			return -1;
	}
	return 0;
}

static int end_file(struct update *u, struct vmimg_error *err)
{
	struct vmimg_io *io = u->parts[u->current].c.io;
	uint64_t end = u->mapped ? u->blocks.end * VMDK_SECTOR : 0;

	return end > u->old_end && vmimg_io_size(io) < end ? vmimg_io_resize(io, end, err) : 0;
}

static int flush(struct update *u, struct vmimg_error *err)
{
	if (end_file(u, err) || sync_parts(u, err) || mark_parts(u, err) ||
		write_entries(u, true, err) || sync_parts(u, err) || write_entries(u, false, err) ||
		sync_parts(u, err) || free_grains(u, err))
		return -1;
	u->entry_count = 0;
	return 0;
}

static int flush_some(struct update *u, struct vmimg_error *err)
{
	return u->sink.in_order && !u->chunk->store_count && u->entry_count >= MOST_WAITING
		? flush(u, err)
		: 0;
}

/* ---- the part in hand ---- */

/* Opens the file of extent i for writing. After a crash its redundant tables are behind. */
static int open_part(struct update *u, size_t i, struct vmimg_error *err)
{
	struct part *p = &u->parts[i];

	if (p->c.io)
		return 0;
	p->c.io = vmimg_vmdk_writable(u->disk, p->e, err);
	if (!p->c.io)
		return -1;
	p->c.g = p->e->g;
	if (!p->e->sparse || !p->c.g.unclean)
		return 0;
	p->c.marked = true;
	return vmimg_vmdk_mirror(&p->c, err);
}

static int map_part(struct update *u, struct vmimg_error *err)
{
	struct vmdk_change *c = &u->parts[u->current].c;

	if (u->mapped)
		return 0;
	u->old_end = vmimg_io_size(c->io);
	u->mapped = true;
	return vmimg_vmdk_space(c, &u->blocks, err);
}

/* ---- the grain in hand ---- */

static uint64_t grain_len(const struct update *u)
{
	const struct vmdk_extent *e = u->parts[u->current].e;

	return vmimg_min(e->g.grain, e->len - u->grain * e->g.grain);
}

/* The grain has an entry of that value from now on. */
static int leave(struct update *u, struct vmimg_error *err)
{
	struct entry entry = { (uint32_t)u->current, (uint32_t)u->grain };

	if (!u->in_hand)
		return 0;
	u->in_hand = false;
	if (u->value > 1 && u->zeroed == grain_len(u))
		u->value = u->hides ? 1 : 0;
	if (u->value == u->old)
		return 0;
	if (vmimg_grow_array(
		    &u->entries, &u->entry_cap, u->entry_count + 1, sizeof(*u->entries), err))
		return -1;
	entry.value = u->value;
	entry.freed = u->old > 1 ? u->old : 0;
	u->entries[u->entry_count++] = entry;
	return 0;
}

static int enter_part(struct update *u, size_t i, struct vmimg_error *err)
{
	if (i == u->current && u->parts[i].c.io)
		return 0;
	if (leave(u, err) || end_file(u, err))
		return -1;
	if (u->mapped)
		vmimg_blocks_done(&u->blocks);
	u->mapped = false;
	u->current = i;
	return open_part(u, i, err);
}

static int read_value(struct update *u, struct vmimg_error *err)
{
	const struct vmdk_change *c = &u->parts[u->current].c;
	uint64_t at;
	uint8_t bytes[4] = { 0 };

	if (vmimg_vmdk_entry_place(c, c->g.gd_at, u->grain, &at, err) ||
		(at && vmimg_io_pread(c->io, bytes, sizeof(bytes), at, err)))
		return -1;
	u->value = u->old = vmimg_get_le32(bytes);
	if (u->value > 1 || !u->value || c->g.zeroed)
		return 0;
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"%s: the entry of grain %" PRIu64 " leads into the header: repair it first",
		vmimg_io_name(c->io), u->grain);
}

static int enter(struct update *u, uint64_t inside, struct vmimg_error *err)
{
	uint64_t grain = inside / u->parts[u->current].e->g.grain;

	if (u->in_hand && grain == u->grain)
		return 0;
	if (leave(u, err) || flush_some(u, err))
		return -1;
	u->grain = grain;
	u->zeroed = 0;
	if (read_value(u, err))
		return -1;
	u->in_hand = true;
	return 0;
}

/* A table for the entry of the grain in hand. */
static int need_table(struct update *u, struct vmimg_error *err)
{
	struct vmdk_change *c = &u->parts[u->current].c;
	uint64_t at, other = 1;

	if (vmimg_vmdk_entry_place(c, c->g.gd_at, u->grain, &at, err) ||
		(c->g.rgd_at && vmimg_vmdk_entry_place(c, c->g.rgd_at, u->grain, &other, err)))
		return -1;
	if (at && other)
		return 0;
	return map_part(u, err) || vmimg_vmdk_add_table(c, &u->blocks, u->grain, err) ? -1 : 0;
}

/* Gives the grain in hand a place in the file, if it has none. */
static int allocate(struct update *u, struct vmimg_error *err)
{
	const struct vmdk_change *c = &u->parts[u->current].c;
	uint64_t sector, at;

	if (u->value > 1)
		return 0;
	if (need_table(u, err) || map_part(u, err))
		return -1;
	sector = vmimg_blocks_take(&u->blocks);
	if (sector > UINT32_MAX - u->blocks.width)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"%s: its grains do not fit into the 2 TiB that tables can address",
			vmimg_io_name(c->io));
	u->value = (uint32_t)sector;
	at = sector * VMDK_SECTOR;
	if (at >= u->old_end)
		return 0;
	return vmimg_io_zero(c->io, at, vmimg_min(c->g.grain, u->old_end - at), err);
}

/* ---- pieces ---- */

/* Where guest bytes [inside, …) of the part are written; *len is cut to what lies together. */
static int writable_run(
	struct update *u, uint64_t inside, uint64_t *len, uint64_t *at, struct vmimg_error *err)
{
	const struct vmdk_extent *e = u->parts[u->current].e;
	uint64_t in_grain;

	if (!e->sparse) {
		*at = e->at + inside;
		return 0;
	}
	in_grain = inside % e->g.grain;
	*len = vmimg_min(*len, e->g.grain - in_grain);
	if (enter(u, inside, err) || allocate(u, err))
		return -1;
	*at = u->value * VMDK_SECTOR + in_grain;
	return 0;
}

static int zero_run(struct update *u, uint64_t inside, uint64_t *len, struct vmimg_error *err)
{
	const struct vmdk_extent *e = u->parts[u->current].e;
	struct vmimg_io *io = u->parts[u->current].c.io;
	uint64_t in_grain;

	if (!e->sparse)
		return vmimg_io_zero(io, e->at + inside, *len, err);
	in_grain = inside % e->g.grain;
	*len = vmimg_min(*len, e->g.grain - in_grain);
	if (enter(u, inside, err))
		return -1;
	u->zeroed += *len;
	if (u->value > 1)
		return vmimg_io_zero(io, u->value * VMDK_SECTOR + in_grain, *len, err);
	if (!u->hides || u->value == 1)
		return 0;
	u->value = 1;
	return need_table(u, err);
}

static size_t find_part(const struct update *u, uint64_t guest)
{
	size_t i = u->current;

	if (guest < u->parts[i].e->start)
		i = 0;
	while (guest - u->parts[i].e->start >= u->parts[i].e->len)
		i++;
	return i;
}

/* One run of bytes (NULL: zeroes), across extents and grains. */
static int place(struct update *u, uint64_t guest, uint64_t len, const uint8_t *bytes,
	struct vmimg_error *err)
{
	for (uint64_t step, at; len; guest += step, len -= step) {
		size_t i = find_part(u, guest);
		const struct vmdk_extent *e = u->parts[i].e;
		uint64_t inside = guest - e->start;

		step = vmimg_min(len, e->len - inside);
		if (e->zero && bytes)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"extent %zu is of zeroes, and can hold nothing else: convert it",
				i);
		if (!e->zero && enter_part(u, i, err))
			return -1;
		if (e->zero)
			continue;
		if (!bytes) {
			if (zero_run(u, inside, &step, err))
				return -1;
			continue;
		}
		if (writable_run(u, inside, &step, &at, err))
			return -1;
		vmimg_chunk_store(u->chunk, u->parts[i].c.io, at, bytes, (size_t)step);
		bytes += step;
	}
	return 0;
}

/* Zeroes change the content as data does: where they are counts, not how they are cut. */
static void fold_zeroes(struct update *u, uint64_t guest, uint64_t len)
{
	uint64_t first = guest / VMDK_SECTOR, count = vmimg_div_up(len, VMDK_SECTOR);

	u->content += (2 * first + count) * count * UINT64_C(0x9e3779b97f4a7c15);
}

static int update_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct update *u = update_of(sink);
	uint64_t guest = chunk->guest;

	u->chunk = chunk;
	u->content += chunk->digest;
	if (chunk->kind == VMIMG_PIECE_ZERO) {
		fold_zeroes(u, guest, chunk->len);
		return place(u, guest, chunk->len, NULL, err);
	}
	for (size_t i = 0; i < chunk->piece_count; i++) {
		const struct vmimg_piece *piece = &chunk->pieces[i];
		bool zero = piece->kind == VMIMG_PIECE_ZERO;

		if (zero)
			fold_zeroes(u, guest, piece->size);
		if ((zero || piece->kind == VMIMG_PIECE_DATA) &&
			place(u, guest, piece->size, zero ? NULL : piece->bytes, err))
			return -1;
		guest += piece->size;
	}
	return 0;
}

/* ---- the end ---- */

/* The CID, by which children know what they were made on, and the long content ID that ends in it.
 */
static int change_cid(struct update *u, struct vmimg_error *err)
{
	const struct vmdk_descriptor *d = &u->v->descriptor;
	const char *old = vmimg_vmdk_ddb(d, "ddb.longContentID");
	char cid[9], id[2 * VMIMG_GUID_SIZE + 1];
	struct vmdk_key keys[] = { { "CID", cid, true }, { "ddb.longContentID", id, false } };
	VMIMG_AUTO(free) char *text = NULL;
	VMIMG_AUTO(free) char *now = NULL;
	struct vmimg_guid guid;
	uint32_t new;

	if (u->same_content || !u->v->has_descriptor)
		return 0;
	if (vmimg_guid_make(&guid, false, u->content ^ d->cid * UINT64_C(0x9e3779b97f4a7c15),
		    "vmdk content", err))
		return -1;
	new = vmimg_get_be32(guid.bytes + 12) % UINT32_C(0xfffffffd) + 1;
	new = new == d->cid ? new ^ 1 : new;
	vmimg_put_be32(guid.bytes + 12, new);
	snprintf(cid, sizeof(cid), "%08" PRIx32, new);
	for (size_t i = 0; i < VMIMG_GUID_SIZE; i++)
		snprintf(id + 2 * i, 3, "%02x", guid.bytes[i]);
	text = vmimg_vmdk_read_text(u->disk, err);
	now = text ? vmimg_vmdk_keyed_text(text, keys, old ? 2 : 1, err) : NULL;
	return now ? vmimg_vmdk_put_text(u->disk, now, err) : -1;
}

static int update_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct update *u = update_of(sink);

	if (leave(u, err) || flush(u, err) || change_cid(u, err))
		return -1;
	for (size_t i = 0; i < u->v->extent_count; i++)
		if (u->parts[i].c.marked && vmimg_vmdk_mark(&u->parts[i].c, false, false, err))
			return -1;
	return 0;
}

static void update_close(struct vmimg_sink *sink)
{
	struct update *u = update_of(sink);

	if (u->mapped)
		vmimg_blocks_done(&u->blocks);
	for (size_t i = 0; u->parts && i < u->v->extent_count; i++)
		vmimg_io_unref(u->parts[i].c.io);
	free(u->parts);
	free(u->entries);
	free(u);
}

static const struct vmimg_sink_ops update_ops = {
	.place = update_place,
	.finish = update_finish,
	.close = update_close,
};

/* ---- making it ---- */

static int check_extent(const struct update *u, size_t i, struct vmimg_error *err)
{
	const struct vmdk_extent *e = u->parts[i].e;
	const char *name = e->io ? vmimg_io_name(e->io) : "";

	if (e->zero)
		return 0;
	if (!e->io)
		return vmimg_fail(err, VMIMG_EINVAL, "extent %zu is not there", i);
	if (e->sparse && vmimg_vmdk_check_kind(&e->g, err))
		return -1;
	if (e->line && e->line->access == VMDK_RDONLY)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"the descriptor says that extent %s is only read (RDONLY)", name);
	if (!e->sparse)
		return 0;
	if (e->g.through_rgd)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"%s: its grain directory is damaged: repair it before it is changed", name);
	if (u->hides && e->start % e->g.grain)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"%s does not begin with a whole grain of the disk: convert it", name);
	return 0;
}

static int check_update(const struct update *u, struct vmimg_error *err)
{
	const struct vmdk *v = u->v;

	if (u->disk->io->is_device)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "it lies on a device");
	if (v->missing || v->header_differs)
		return vmimg_fail(err, VMIMG_EREFUSED, "%s: repair it before it is changed",
			v->missing ? "some of its extents are missing"
				   : "its header and its descriptor state different sizes");
	if (v->has_descriptor && v->descriptor.track_path && !u->same_content)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"it has a record of changes, which would miss these");
	for (size_t i = 0; i < v->extent_count; i++)
		if (check_extent(u, i, err))
			return -1;
	return v->has_descriptor ? vmimg_vmdk_check_descriptor(u->disk, err) : 0;
}

static void set_sink(struct update *u)
{
	uint64_t grains = 0;
	uint32_t granule = GRANULE;

	for (size_t i = 0; i < u->v->extent_count; i++) {
		const struct vmdk_extent *e = u->parts[i].e;

		if (!e->sparse || e->zero)
			continue;
		grains += vmimg_div_up(e->len, e->g.grain);
		granule = u->hides ? (uint32_t)vmimg_max(granule, e->g.grain) : granule;
	}
	u->sink = (struct vmimg_sink){ .ops = &update_ops,
		.size = u->disk->size,
		.granule = granule,
		.chunk = (uint32_t)vmimg_align_up(CHUNK, granule),
		.unit = u->disk->block,
		/* a granule may lie in several extents, or small grains */
		.more_stores = vmimg_align_up(CHUNK, granule) / VMDK_SECTOR,
		.in_order = grains > MOST_WAITING,
		.keeps_absent = true,
		.wants_digest = !u->same_content,
		.splits_zeroes = true };
}

struct vmimg_sink *vmimg_vmdk_update(
	struct vmimg_disk *disk, const struct vmimg_update *update, struct vmimg_error *err)
{
	struct vmdk *v = vmdk_of(disk);
	struct update *u = vmimg_new(struct update, err);

	if (!u)
		return NULL;
	u->disk = disk;
	u->v = v;
	u->hides = v->has_descriptor && v->descriptor.parent_cid != VMDK_NO_PARENT;
	u->same_content = update && update->same_content;
	u->parts = vmimg_alloc_array(v->extent_count, sizeof(*u->parts), err);
	for (size_t i = 0; u->parts && i < v->extent_count; i++)
		u->parts[i].e = &v->extents[i];
	if (u->parts && !check_update(u, err)) {
		set_sink(u);
		return &u->sink;
	}
	update_close(&u->sink);
	return NULL;
}

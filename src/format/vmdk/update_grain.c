/* SPDX-License-Identifier: Apache-2.0 */
/* The extent and the grain in hand: guest order takes each once. */
#include <inttypes.h>
#include "format/vmdk/update.h"
#include "util/num.h"

/* ---- the part in hand ---- */

/* Opens the file of extent i for writing. After a crash its redundant tables are behind. */
static int open_part(struct vmdk_update *u, size_t i, struct vmimg_error *err)
{
	struct vmdk_part *p = &u->parts[i];

	if (p->c.io)
		return 0;
	p->c.io = vmimg_vmdk_writable(u->disk, p->e, err);
	if (!p->c.io)
		return -1;
	p->c.g = p->e->g;
	if (!p->e->sparse)
		return 0;
	if (vmimg_vmdk_verify(&p->c, err))
		return -1;
	if (!p->c.g.unclean)
		return 0;
	p->c.marked = true;
	return vmimg_vmdk_mirror(&p->c, err);
}

static int map_part(struct vmdk_update *u, struct vmimg_error *err)
{
	struct vmdk_change *c = &u->parts[u->current].c;

	if (u->mapped)
		return 0;
	u->old_end = vmimg_io_size(c->io);
	u->mapped = true;
	return vmimg_vmdk_space(c, &u->blocks, err);
}

/* ---- the grain in hand ---- */

static int flush_some(struct vmdk_update *u, struct vmimg_error *err)
{
	return u->sink.in_order && !u->chunk->store_count && u->entry_count >= VMDK_MOST_WAITING
		? vmimg_vmdk_flush(u, err)
		: 0;
}

static uint64_t grain_len(const struct vmdk_update *u)
{
	const struct vmdk_extent *e = u->parts[u->current].e;

	return vmimg_min(e->g.grain, e->len - u->grain * e->g.grain);
}

/* The grain has an entry of that value from now on. */
int vmimg_vmdk_leave_grain(struct vmdk_update *u, struct vmimg_error *err)
{
	struct vmdk_entry entry = { .extent = (uint32_t)u->current, .grain = u->grain };

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
	u->entries[u->entry_count++] = entry;
	return 0;
}

static int read_value(struct vmdk_update *u, struct vmimg_error *err)
{
	const struct vmdk_change *c = &u->parts[u->current].c;

	if (vmimg_vmdk_table_hold(&u->table, u->grain, err))
		return -1;
	u->value = u->old = vmimg_get_le32(u->table.bytes + 4 * (u->grain % c->g.entries));
	if (u->value > 1 || !u->value || c->g.zeroed)
		return 0;
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"%s: the entry of grain %" PRIu64 " leads into the header: repair it first",
		vmimg_io_name(c->io), u->grain);
}

static int enter(struct vmdk_update *u, uint64_t inside, struct vmimg_error *err)
{
	uint64_t grain = inside / u->parts[u->current].e->g.grain;

	if (u->in_hand && grain == u->grain)
		return 0;
	if (vmimg_vmdk_leave_grain(u, err) || flush_some(u, err))
		return -1;
	u->grain = grain;
	u->zeroed = 0;
	if (read_value(u, err))
		return -1;
	u->in_hand = true;
	return 0;
}

/* A table for the entry of the grain in hand. */
static int need_table(struct vmdk_update *u, struct vmimg_error *err)
{
	struct vmdk_change *c = &u->parts[u->current].c;
	uint64_t at, other = 1;

	if (u->both == u->table.index)
		return 0;
	if (vmimg_vmdk_entry_place(c, c->g.gd_at, u->grain, &at, err) ||
		(c->g.rgd_at && vmimg_vmdk_entry_place(c, c->g.rgd_at, u->grain, &other, err)))
		return -1;
	if ((!at || !other) &&
		(map_part(u, err) || vmimg_vmdk_add_table(c, &u->blocks, u->grain, err)))
		return -1;
	u->both = u->table.index;
	return 0;
}

/* Gives the grain in hand a place in the file, if it has none. */
static int allocate(struct vmdk_update *u, struct vmimg_error *err)
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

/* ---- runs ---- */

int vmimg_vmdk_enter_part(struct vmdk_update *u, size_t i, struct vmimg_error *err)
{
	if (i == u->current && u->parts[i].c.io)
		return 0;
	if (vmimg_vmdk_end_part(u, err))
		return -1;
	u->current = i;
	u->table = (struct vmdk_table){ .c = &u->parts[i].c };
	u->both = UINT64_MAX;
	if (open_part(u, i, err))
		return -1;
	u->table.directory_at = u->parts[i].c.g.gd_at;
	return 0;
}

size_t vmimg_vmdk_find_part(const struct vmdk_update *u, uint64_t guest)
{
	size_t i = u->current;

	if (guest < u->parts[i].e->start)
		i = 0;
	while (guest - u->parts[i].e->start >= u->parts[i].e->len)
		i++;
	return i;
}

/* Where guest bytes [inside, …) of the part are written; *len is cut to what lies together. */
int vmimg_vmdk_writable_run(struct vmdk_update *u, uint64_t inside, uint64_t *len, uint64_t *at,
	struct vmimg_error *err)
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

/* [from, end) of the grain in hand, which has a place in the file. What its last one has past the
 * disk's end is nobody's. */
static int punch(struct vmdk_update *u, uint64_t from, uint64_t end, struct vmimg_error *err)
{
	const struct vmdk_change *c = &u->parts[u->current].c;
	uint64_t at = u->value * VMDK_SECTOR + from, size = vmimg_io_size(c->io);

	if (end == grain_len(u))
		end = c->g.grain;
	if (at >= size)
		return 0;
	return vmimg_vmdk_punch(u, at, vmimg_min(end - from, size - at), err);
}

int vmimg_vmdk_zero_run(
	struct vmdk_update *u, uint64_t inside, uint64_t *len, struct vmimg_error *err)
{
	const struct vmdk_extent *e = u->parts[u->current].e;
	uint64_t in_grain;

	if (!e->sparse)
		return vmimg_vmdk_punch(u, e->at + inside, *len, err);
	in_grain = inside % e->g.grain;
	*len = vmimg_min(*len, e->g.grain - in_grain);
	if (enter(u, inside, err))
		return -1;
	u->zeroed += *len;
	if (u->value > 1)
		return punch(u, in_grain, in_grain + *len, err);
	if (!u->hides || u->value == 1)
		return 0;
	u->value = 1;
	return need_table(u, err);
}

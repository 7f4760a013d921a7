/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hosted sparse extent being written. Both directories and all tables have their place at the
 * front, as VMware lays them out; a table is written when the guest order has passed it, so only
 * one is in memory, and tables of nothing stay holes in the file.
 */
#include <inttypes.h>
#include "format/vmdk/write.h"
#include "util/num.h"

#define NO_TABLE UINT64_MAX

void vmimg_vmdk_layout(struct vmdk_place *p, uint64_t capacity, bool embedded)
{
	uint64_t directory;

	p->capacity = capacity;
	p->tables = vmimg_div_up(capacity * VMDK_SECTOR, VMDK_TABLE_SPAN);
	directory = vmimg_max(vmimg_div_up(p->tables * 4, VMDK_SECTOR), 1);
	p->rgd = 1 + (embedded ? VMDK_DESCRIPTOR_SECTORS : 0);
	p->rgt = p->rgd + directory;
	p->gd = p->rgt + p->tables * VMDK_TABLE_SECTORS;
	p->gt = p->gd + directory;
	p->overhead = vmimg_align_up(p->gt + p->tables * VMDK_TABLE_SECTORS, VMDK_GRAIN_SECTORS);
}

static int fail_full(struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ELIMIT,
		"a sparse extent holds 2 TiB at most (subformat=twoGbMaxExtentSparse holds more)");
}

int vmimg_vmdk_tables_init(struct vmdk_tables *t, struct vmimg_io *io, uint64_t capacity,
	bool embedded, struct vmimg_error *err)
{
	vmimg_vmdk_layout(&t->place, capacity, embedded);
	if (t->place.overhead > UINT32_MAX)
		return fail_full(err);
	t->io = vmimg_io_ref(io);
	t->next = t->place.overhead;
	t->table = NO_TABLE;
	return 0;
}

int vmimg_vmdk_tables_start(struct vmdk_tables *t, struct vmimg_error *err)
{
	uint64_t at = t->place.rgd * VMDK_SECTOR;

	return t->io->is_device
		? vmimg_io_zero(t->io, at, t->place.overhead * VMDK_SECTOR - at, err)
		: 0;
}

void vmimg_vmdk_tables_done(struct vmdk_tables *t)
{
	vmimg_io_unref(t->io);
}

/* Writes the table in hand, in both places. */
static int flush(struct vmdk_tables *t, struct vmimg_error *err)
{
	uint64_t ahead = t->table * VMDK_TABLE_SECTORS;
	uint8_t bytes[VMDK_TABLE_ENTRIES * 4];

	if (t->table == NO_TABLE || !t->used)
		return 0;
	for (unsigned i = 0; i < VMDK_TABLE_ENTRIES; i++)
		vmimg_put_le32(bytes + i * 4, t->entry[i]);
	t->used = false;
	return vmimg_io_pwrite(
		       t->io, bytes, sizeof(bytes), (t->place.rgt + ahead) * VMDK_SECTOR, err) ||
			vmimg_io_pwrite(t->io, bytes, sizeof(bytes),
				(t->place.gt + ahead) * VMDK_SECTOR, err)
		? -1
		: 0;
}

static int set_entry(struct vmdk_tables *t, uint64_t grain, uint32_t value, struct vmimg_error *err)
{
	uint64_t table = grain / VMDK_TABLE_ENTRIES;

	if (table != t->table) {
		if (flush(t, err))
			return -1;
		memset(t->entry, 0, sizeof(t->entry));
		t->table = table;
	}
	t->entry[grain % VMDK_TABLE_ENTRIES] = value;
	t->used = true;
	return 0;
}

int vmimg_vmdk_tables_add(
	struct vmdk_tables *t, uint64_t grain, uint64_t *at, struct vmimg_error *err)
{
	uint64_t sector = t->next;

	if (sector > UINT32_MAX - VMDK_GRAIN_SECTORS)
		return fail_full(err);
	t->next += VMDK_GRAIN_SECTORS;
	*at = sector * VMDK_SECTOR;
	return set_entry(t, grain, (uint32_t)sector, err);
}

int vmimg_vmdk_tables_zero(struct vmdk_tables *t, uint64_t grain, struct vmimg_error *err)
{
	return set_entry(t, grain, 1, err);
}

/* A directory of tables that lie one behind the other from sector first on. */
static int write_directory(
	struct vmdk_tables *t, uint64_t at, uint64_t first, struct vmimg_error *err)
{
	uint8_t window[4096];

	for (uint64_t i = 0; i < t->place.tables;) {
		uint64_t start = i;
		size_t len = 0;

		for (; i < t->place.tables && len < sizeof(window); i++, len += 4)
			vmimg_put_le32(window + len, (uint32_t)(first + i * VMDK_TABLE_SECTORS));
		if (vmimg_io_pwrite(t->io, window, len, at * VMDK_SECTOR + start * 4, err))
			return -1;
	}
	return 0;
}

int vmimg_vmdk_tables_finish(struct vmdk_tables *t, struct vmimg_error *err)
{
	if (flush(t, err) || write_directory(t, t->place.rgd, t->place.rgt, err) ||
		write_directory(t, t->place.gd, t->place.gt, err))
		return -1;
	return t->io->is_device ? 0 : vmimg_io_resize(t->io, t->next * VMDK_SECTOR, err);
}

int vmimg_vmdk_tables_header(struct vmdk_tables *t, const struct vmdk_settings *s, bool embedded,
	struct vmimg_error *err)
{
	struct vmdk_header h = { .magic = VMDK_MAGIC,
		.version = s->zeroed ? 2 : 1,
		.flags = VMDK_FLAG_NEWLINE | VMDK_FLAG_REDUNDANT |
			(s->zeroed ? VMDK_FLAG_ZEROED : 0),
		.capacity = t->place.capacity,
		.grain_size = VMDK_GRAIN_SECTORS,
		.descriptor_offset = embedded ? 1 : 0,
		.descriptor_size = embedded ? VMDK_DESCRIPTOR_SECTORS : 0,
		.entries_per_table = VMDK_TABLE_ENTRIES,
		.rgd_offset = t->place.rgd,
		.gd_offset = t->place.gd,
		.overhead = t->place.overhead };
	uint8_t bytes[512] = { 0 };

	memcpy(h.line_ends, VMDK_LINE_ENDS, 4);
	vmdk_header_encode(&h, bytes);
	return vmimg_io_pwrite(t->io, bytes, sizeof(bytes), 0, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The table of internal snapshots. */
#include <inttypes.h>
#include <string.h>
#include "disk/info.h"
#include "format/qcow2/qcow2.h"
#include "util/num.h"

static char *read_name(struct vmimg_qcow2 *q, uint64_t at, uint16_t len, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *name = vmimg_alloc_array((size_t)len + 1, 1, err);

	if (!name || vmimg_table_read(q->table, name, len, at, err))
		return NULL;
	return vmimg_take(name);
}

static int read_extra(struct vmimg_qcow2 *q, struct vmimg_qcow2_snapshot *snapshot, uint64_t at,
	struct vmimg_error *err)
{
	uint8_t raw[24] = { 0 };
	uint32_t len = snapshot->entry.extra_size;

	if (vmimg_table_read(q->table, raw, vmimg_min(len, sizeof(raw)), at, err))
		return -1;
	vmimg_qcow2_snapshot_extra_decode(&snapshot->extra, raw);
	if (len < 16)
		snapshot->extra.disk_size = 0;
	if (len < 8)
		snapshot->extra.vm_state_size = snapshot->entry.vm_state_size;
	snapshot->has_icount = len >= 24 && snapshot->extra.icount != UINT64_MAX;
	return 0;
}

/* Reads one entry at *at and moves *at past it. */
static int read_entry(struct vmimg_qcow2 *q, struct vmimg_qcow2_snapshot *snapshot, uint64_t *at,
	struct vmimg_error *err)
{
	uint8_t raw[40];
	uint64_t end;

	if (vmimg_table_read(q->table, raw, sizeof(raw), *at, err))
		return -1;
	vmimg_qcow2_snapshot_entry_decode(&snapshot->entry, raw);
	end = *at + sizeof(raw) + snapshot->entry.extra_size + snapshot->entry.id_size +
		snapshot->entry.name_size;
	if (end - q->header.snapshots_offset > QCOW2_MAX_SNAPSHOT_TABLE)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the snapshot table is larger than %" PRIu64 " bytes",
			QCOW2_MAX_SNAPSHOT_TABLE);
	if (read_extra(q, snapshot, *at + sizeof(raw), err))
		return -1;
	*at += sizeof(raw) + snapshot->entry.extra_size;
	snapshot->id = read_name(q, *at, snapshot->entry.id_size, err);
	*at += snapshot->entry.id_size;
	snapshot->name = read_name(q, *at, snapshot->entry.name_size, err);
	*at = vmimg_align_up(end, 8);
	return snapshot->id && snapshot->name ? 0 : -1;
}

int vmimg_qcow2_read_snapshots(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t at = q->header.snapshots_offset;
	size_t cap = 0;

	for (uint32_t i = 0; i < q->header.snapshot_count; i++) {
		if (vmimg_grow_array(
			    &q->snapshots, &cap, q->snapshot_count + 1, sizeof(*q->snapshots), err))
			return -1;
		q->snapshot_count++;
		if (read_entry(q, &q->snapshots[i], &at, err)) {
			free(q->snapshots[i].id);
			free(q->snapshots[i].name);
			q->snapshot_count--;
			return vmimg_within(err, "snapshot %" PRIu32 " of %" PRIu32, i + 1,
				q->header.snapshot_count);
		}
	}
	return 0;
}

const struct vmimg_qcow2_snapshot *vmimg_qcow2_find_snapshot(
	const struct vmimg_qcow2 *q, const char *name)
{
	for (size_t i = 0; i < q->snapshot_count; i++)
		if (!strcmp(q->snapshots[i].id, name))
			return &q->snapshots[i];
	for (size_t i = 0; i < q->snapshot_count; i++)
		if (!strcmp(q->snapshots[i].name, name))
			return &q->snapshots[i];
	return NULL;
}

json_t *vmimg_qcow2_describe_snapshots(const struct vmimg_qcow2 *q)
{
	json_t *list = json_array();

	for (size_t i = 0; i < q->snapshot_count; i++) {
		const struct vmimg_qcow2_snapshot *s = &q->snapshots[i];
		json_t *item = json_object();

		vmimg_json_bytes(item, "id", s->id, s->entry.id_size);
		vmimg_json_bytes(item, "name", s->name, s->entry.name_size);
		vmimg_json_uint(item, "vm-state-size", s->extra.vm_state_size);
		vmimg_json_uint(item, "date-sec", s->entry.date_sec);
		vmimg_json_uint(item, "date-nsec", s->entry.date_nsec);
		vmimg_json_uint(item, "vm-clock-sec", s->entry.vm_clock_nsec / 1000000000);
		vmimg_json_uint(item, "vm-clock-nsec", s->entry.vm_clock_nsec % 1000000000);
		if (s->has_icount)
			vmimg_json_uint(item, "icount", s->extra.icount);
		vmimg_json_uint(item, "virtual-size",
			s->extra.disk_size ? s->extra.disk_size : q->header.size);
		json_array_append_new(list, item);
	}
	return list;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One grain table in memory, so that many entries are one read and one write. */
#include <inttypes.h>
#include <string.h>
#include "format/vmdk/edit.h"
#include "util/num.h"

int vmimg_vmdk_table_leave(struct vmdk_table *t, struct vmimg_error *err)
{
	uint32_t first = t->first, count = t->end - t->first;

	t->held = false;
	if (!count)
		return 0;
	t->first = t->end = 0;
	return vmimg_io_pwrite(t->c->io, t->bytes + 4 * first, (size_t)count * 4,
		t->at + 4 * (uint64_t)first, err);
}

int vmimg_vmdk_table_hold(struct vmdk_table *t, uint64_t grain, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &t->c->g;
	uint64_t index = grain / g->entries;

	if (t->held && t->index == index)
		return 0;
	if (vmimg_vmdk_table_leave(t, err) ||
		vmimg_vmdk_entry_place(t->c, t->directory_at, index * g->entries, &t->at, err))
		return -1;
	memset(t->bytes, 0, sizeof(t->bytes));
	if (t->at &&
		vmimg_io_pread(
			t->c->io, t->bytes, (size_t)vmimg_vmdk_table_len(g, index), t->at, err))
		return -1;
	t->index = index;
	t->held = true;
	return 0;
}

int vmimg_vmdk_table_put(
	struct vmdk_table *t, uint64_t grain, uint32_t value, struct vmimg_error *err)
{
	uint32_t i = (uint32_t)(grain % t->c->g.entries);

	if (vmimg_vmdk_table_hold(t, grain, err))
		return -1;
	if (!t->at)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"%s: grain %" PRIu64 " has no table: repair it first",
			vmimg_io_name(t->c->io), grain);
	vmimg_put_le32(t->bytes + 4 * i, value);
	t->first = t->end ? (uint32_t)vmimg_min(t->first, i) : i;
	t->end = (uint32_t)vmimg_max(t->end, i + 1);
	return 0;
}

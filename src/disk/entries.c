/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/entries.h"
#include "util/auto.h"
#include "util/bytes.h"

int vmimg_entries_keep(
	struct vmimg_entries *entries, uint64_t index, uint32_t value, struct vmimg_error *err)
{
	if (vmimg_grow_array(&entries->items, &entries->cap, entries->count + 1,
		    sizeof(*entries->items), err))
		return -1;
	entries->items[entries->count++] = (struct vmimg_entry){ (uint32_t)index, value };
	return 0;
}

int vmimg_entries_write(struct vmimg_entries *entries, struct vmimg_io *io, uint64_t table_at,
	void (*put)(void *, uint32_t), struct vmimg_error *err)
{
	uint8_t bytes[4096];

	for (size_t i = 0, count; i < entries->count; i += count) {
		const struct vmimg_entry *first = &entries->items[i];

		for (count = 0; i + count < entries->count && count < sizeof(bytes) / 4 &&
			first[count].index == first->index + count;
			count++)
			put(bytes + 4 * count, first[count].value);
		if (vmimg_io_pwrite(
			    io, bytes, 4 * count, table_at + 4 * (uint64_t)first->index, err))
			return -1;
	}
	entries->count = 0;
	return 0;
}

void vmimg_entries_done(struct vmimg_entries *entries)
{
	free(entries->items);
	*entries = (struct vmimg_entries){ 0 };
}

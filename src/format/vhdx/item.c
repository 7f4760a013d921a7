/* SPDX-License-Identifier: Apache-2.0 */
/* Items of the metadata region ([MS-VHDX] 2.6.1), looked up and changed one by one. */
#include <inttypes.h>
#include <string.h>
#include "format/vhdx/vhdx.h"
#include "util/num.h"

#define ENTRY_SIZE 32U

struct table {
	uint8_t *bytes; /* all of it */
	struct vhdx_metadata_head head;
};

static int load(struct vmimg_io *io, const struct vhdx_range *metadata, struct table *table,
	struct vmimg_error *err)
{
	table->bytes = vmimg_alloc_buffer(VHDX_METADATA_TABLE_SIZE, err);
	if (!table->bytes ||
		vmimg_io_pread(io, table->bytes, VHDX_METADATA_TABLE_SIZE, metadata->at, err))
		return -1;
	vhdx_metadata_head_decode(&table->head, table->bytes);
	return 0;
}

static struct vhdx_metadata_entry entry_at(const struct table *table, unsigned index)
{
	struct vhdx_metadata_entry entry;

	vhdx_metadata_entry_decode(&entry, table->bytes + ENTRY_SIZE * (index + 1));
	return entry;
}

static bool find(const struct table *table, const char *guid, struct vhdx_item *item)
{
	for (unsigned i = 0; i < table->head.count; i++) {
		struct vhdx_metadata_entry entry = entry_at(table, i);

		if ((entry.flags & VHDX_METADATA_USER) || !vmimg_vhdx_is_guid(entry.guid, guid))
			continue;
		*item = (struct vhdx_item){ i, entry };
		return true;
	}
	return false;
}

int vmimg_vhdx_find_item(struct vmimg_io *io, const struct vhdx_range *metadata, const char *guid,
	struct vhdx_item *item, bool *found, struct vmimg_error *err)
{
	struct table table = { 0 };
	int result = load(io, metadata, &table, err);

	if (!result)
		*found = find(&table, guid, item);
	free(table.bytes);
	return result;
}

/* The item, but for the one at `but`, that has a byte of [at, at + len); where it ends. */
static bool is_taken(
	const struct table *table, unsigned but, uint64_t at, size_t len, uint64_t *end)
{
	for (unsigned i = 0; i < table->head.count; i++) {
		struct vhdx_metadata_entry entry = entry_at(table, i);

		*end = (uint64_t)entry.at + entry.length;
		if (i != but && entry.at<at + len && * end> at)
			return true;
	}
	return false;
}

/* The lowest place behind the table where len bytes are nobody's, or the item's own. */
static int find_place(const struct table *table, const struct vhdx_range *metadata, unsigned own,
	size_t len, uint32_t *place, struct vmimg_error *err)
{
	uint64_t at = VHDX_METADATA_TABLE_SIZE, end = 0;

	while (is_taken(table, own, at, len, &end))
		at = vmimg_align_up(end, 8);
	if (len > VHDX_METADATA_ITEM_MAX || at + len > metadata->len)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"the metadata region, of 0x%" PRIx64
			" bytes, has no room for an item of %zu bytes",
			metadata->len, len);
	*place = (uint32_t)at;
	return 0;
}

static int put_entry(struct vmimg_io *io, const struct vhdx_range *metadata,
	const struct vhdx_item *item, struct vmimg_error *err)
{
	uint8_t bytes[ENTRY_SIZE] = { 0 };

	vhdx_metadata_entry_encode(&item->entry, bytes);
	return vmimg_io_pwrite(
		io, bytes, sizeof(bytes), metadata->at + ENTRY_SIZE * (item->index + 1), err);
}

static int put_count(struct vmimg_io *io, const struct vhdx_range *metadata, unsigned count,
	struct vmimg_error *err)
{
	uint8_t bytes[2];

	vmimg_put_le16(bytes, (uint16_t)count);
	return vmimg_io_pwrite(io, bytes, sizeof(bytes), metadata->at + 10, err);
}

static int put(struct vmimg_io *io, const struct vhdx_range *metadata, const struct table *table,
	const char *guid, uint32_t flags, const void *bytes, size_t len, struct vmimg_error *err)
{
	struct vhdx_item item = { .index = table->head.count };
	bool there = find(table, guid, &item);

	if (!there) {
		if (table->head.count == VHDX_METADATA_MAX)
			return vmimg_fail(err, VMIMG_ELIMIT, "its metadata table is full");
		vmimg_vhdx_put_guid(item.entry.guid, guid);
		item.entry.flags = flags;
	}
	if (item.entry.length != len &&
		find_place(table, metadata, item.index, len, &item.entry.at, err))
		return -1;
	item.entry.length = (uint32_t)len;
	if (vmimg_io_pwrite(io, bytes, len, metadata->at + item.entry.at, err) ||
		put_entry(io, metadata, &item, err))
		return -1;
	return there ? 0 : put_count(io, metadata, table->head.count + 1U, err);
}

int vmimg_vhdx_put_item(struct vmimg_io *io, const struct vhdx_range *metadata, const char *guid,
	uint32_t flags, const void *bytes, size_t len, struct vmimg_error *err)
{
	struct table table = { 0 };
	int result = load(io, metadata, &table, err) ||
		put(io, metadata, &table, guid, flags, bytes, len, err);

	free(table.bytes);
	return result ? -1 : 0;
}

/* The last entry takes the place of the one that goes. */
static int drop(struct vmimg_io *io, const struct vhdx_range *metadata, const struct table *table,
	unsigned index, struct vmimg_error *err)
{
	struct vhdx_item none = { .index = table->head.count - 1U };
	struct vhdx_item last = { index, entry_at(table, none.index) };

	if (put_entry(io, metadata, &last, err) || put_entry(io, metadata, &none, err))
		return -1;
	return put_count(io, metadata, none.index, err);
}

int vmimg_vhdx_drop_item(struct vmimg_io *io, const struct vhdx_range *metadata, const char *guid,
	struct vmimg_error *err)
{
	struct table table = { 0 };
	struct vhdx_item item;
	int result = load(io, metadata, &table, err);

	if (!result && find(&table, guid, &item))
		result = drop(io, metadata, &table, item.index, err);
	free(table.bytes);
	return result;
}

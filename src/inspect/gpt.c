/* SPDX-License-Identifier: Apache-2.0 */
/* GUID partition tables: reading both copies, and which of them to go by. */
#include "inspect/gpt.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include "inspect/tables.h"
#include "util/num.h"
#include "util/utf16.h"

#define MAX_TABLE (UINT32_C(4) << 20) /* bytes of entries that are read */

static const char *judge_header(
	const struct gpt_header *h, const uint8_t *raw, uint32_t sector, uint64_t at)
{
	uint8_t cleared[4096];
	uint64_t bytes = (uint64_t)h->count * h->entry_size;

	if (h->header_size < 92 || h->header_size > sector)
		return "its header has an impossible size";
	memcpy(cleared, raw, h->header_size);
	memset(cleared + 16, 0, 4);
	if (crc32(0, cleared, h->header_size) != h->header_crc)
		return "the checksum of its header is wrong";
	if (h->here != at / sector)
		return "its header says it is elsewhere";
	if (h->entry_size < GPT_ENTRY_SIZE || h->entry_size > 4096 || h->entry_size % 8 ||
		!h->count || bytes > MAX_TABLE)
		return "its entries have an impossible size or number";
	return NULL;
}

int vmimg_gpt_read_copy(struct vmimg_io *io, uint32_t sector, uint64_t at,
	struct vmimg_gpt_copy *copy, struct vmimg_error *err)
{
	uint8_t raw[4096];
	uint64_t start;

	if (!vmimg_range_inside(at, sector, vmimg_io_size(io)))
		return 0;
	if (vmimg_io_pread(io, raw, sector, at, err))
		return -1;
	gpt_header_decode(&copy->header, raw);
	copy->there = !memcmp(copy->header.signature, "EFI PART", 8);
	if (!copy->there)
		return 0;
	copy->wrong = judge_header(&copy->header, raw, sector, at);
	if (copy->wrong)
		return 0;
	copy->bytes = (size_t)copy->header.count * copy->header.entry_size;
	if (!vmimg_mul(copy->header.entries, sector, &start) ||
		!vmimg_range_inside(start, copy->bytes, vmimg_io_size(io))) {
		copy->wrong = "its entries lie past the end of the disk";
		return 0;
	}
	copy->entries = vmimg_alloc_buffer(copy->bytes, err);
	if (!copy->entries || vmimg_io_pread(io, copy->entries, copy->bytes, start, err))
		return -1;
	if (crc32(0, copy->entries, (unsigned)copy->bytes) != copy->header.entries_crc)
		copy->wrong = "the checksum of its entries is wrong";
	return 0;
}

static int set_name(struct vmimg_part *part, const struct gpt_entry *entry, struct vmimg_error *err)
{
	VMIMG_AUTO(free)
	char *name = vmimg_utf16_decode(entry->name, sizeof(entry->name), false, err);

	if (!name)
		return -1;
	snprintf(part->name, sizeof(part->name), "%s", name);
	return 0;
}

static int add(struct vmimg_parts *parts, unsigned index, const struct gpt_entry *entry,
	struct vmimg_error *err)
{
	struct vmimg_part *part;
	uint64_t end;

	if (entry->first > entry->last || entry->last == UINT64_MAX ||
		!vmimg_mul(entry->last + 1, parts->sector_size, &end)) {
		vmimg_parts_warn(parts,
			"partition %u: first sector %" PRIu64 ", last %" PRIu64 " make no sense",
			index, entry->first, entry->last);
		return 0;
	}
	part = vmimg_parts_add(parts, err);
	if (!part)
		return -1;
	part->index = index;
	part->scheme = VMIMG_SCHEME_GPT;
	part->start = entry->first * parts->sector_size;
	part->len = end - part->start;
	vmimg_guid_get_mixed(&part->type, entry->type);
	vmimg_guid_get_mixed(&part->guid, entry->guid);
	part->type_name = vmimg_gpt_type_name(&part->type);
	part->attributes = entry->attributes;
	part->bootable = (entry->attributes & 4) != 0;
	return set_name(part, entry, err);
}

static int add_all(struct vmimg_parts *parts, const struct vmimg_gpt_copy *copy, uint32_t sector,
	struct vmimg_error *err)
{
	static const uint8_t unused[16];

	parts->scheme = VMIMG_SCHEME_GPT;
	parts->sector_size = sector;
	vmimg_guid_get_mixed(&parts->guid, copy->header.guid);
	for (uint32_t i = 0; i < copy->header.count; i++) {
		struct gpt_entry entry;

		gpt_entry_decode(&entry, copy->entries + (size_t)i * copy->header.entry_size);
		if (memcmp(entry.type, unused, 16) && add(parts, i + 1, &entry, err))
			return -1;
	}
	return 1;
}

/* The copy to go by, and warnings about the other. */
static const struct vmimg_gpt_copy *choose(struct vmimg_parts *parts,
	const struct vmimg_gpt_copy *head, const struct vmimg_gpt_copy *tail)
{
	const char *head_fault = !head->there ? "missing" : head->wrong;
	const char *tail_fault =
		!tail->there ? "missing: is the disk cut short or grown?" : tail->wrong;

	if (!head_fault && tail_fault)
		vmimg_parts_warn(parts, "the second copy of the GPT: %s", tail_fault);
	if (head_fault)
		vmimg_parts_warn(parts, "the first copy of the GPT: %s%s", head_fault,
			tail_fault ? "" : "; the second is used");
	if (head_fault && tail_fault && tail->there)
		vmimg_parts_warn(parts, "the second copy of the GPT: %s", tail_fault);
	if (!head_fault && !tail_fault && head->header.entries_crc != tail->header.entries_crc)
		vmimg_parts_warn(parts, "the two copies of the GPT differ; the first is used");
	return !head_fault ? head : !tail_fault ? tail : NULL;
}

int vmimg_parts_read_gpt(struct vmimg_io *io, uint32_t sector_size, struct vmimg_parts *parts,
	struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);
	struct vmimg_gpt_copy head = { 0 }, tail = { 0 };
	const struct vmimg_gpt_copy *best;
	uint64_t last;
	int result = -1;

	if (size < 3 * (uint64_t)sector_size || sector_size > 4096)
		return 0;
	last = vmimg_align_down(size, sector_size) - sector_size;
	if (vmimg_gpt_read_copy(io, sector_size, sector_size, &head, err))
		goto done;
	if (head.there && !head.wrong && vmimg_mul(head.header.other, sector_size, &last) &&
		!vmimg_range_inside(last, sector_size, size))
		last = vmimg_align_down(size, sector_size) - sector_size;
	if (vmimg_gpt_read_copy(io, sector_size, last, &tail, err))
		goto done;
	result = 0;
	if (head.there || (tail.there && !tail.wrong)) {
		best = choose(parts, &head, &tail);
		if (best)
			result = add_all(parts, best, sector_size, err);
	}
done:
	free(head.entries);
	free(tail.entries);
	return result;
}

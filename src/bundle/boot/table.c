/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing here can fail: the plan is our own. Cylinder-head-sector addresses are filled in as far
 * as they reach, for BIOSes that look at them. */
#include "bundle/boot/table.h"
#include <assert.h>
#include <string.h>
#include <zlib.h>
#include "disk/gpt_layout.h"
#include "util/num.h"

#define MBR_ENTRY(F, B)    \
	F(u8, active, 0)   \
	B(3, chs_first, 1) \
	F(u8, type, 4)     \
	B(3, chs_last, 5)  \
	F(le32, first, 8)  \
	F(le32, count, 12)
VMIMG_LAYOUT(mbr_entry, 16, MBR_ENTRY);

#define ENTRIES_BYTES   (VMIMG_GPT_ENTRIES * GPT_ENTRY_SIZE)
#define ENTRIES_SECTORS (ENTRIES_BYTES / VMIMG_SECTOR)

/* The usual geometry of a BIOS: 255 heads, 63 sectors. */
static void put_chs(uint8_t out[3], uint64_t sector)
{
	uint64_t cylinder = sector / (255 * 63);

	if (cylinder > 1023) {
		memcpy(out, "\xfe\xff\xff", 3);
		return;
	}
	out[0] = (uint8_t)(sector / 63 % 255);
	out[1] = (uint8_t)(sector % 63 + 1) | (uint8_t)(cylinder >> 8 << 6);
	out[2] = (uint8_t)cylinder;
}

static void put_mbr_entry(uint8_t *sector, const struct vmimg_slot *slot)
{
	struct mbr_entry entry = { .active = slot->active ? 0x80 : 0,
		.type = slot->mbr_type,
		.first = (uint32_t)slot->first,
		.count = (uint32_t)vmimg_min(slot->count, UINT32_MAX) };

	assert(slot->number >= 1 && slot->number <= 4 && slot->first <= UINT32_MAX);
	put_chs(entry.chs_first, slot->first);
	put_chs(entry.chs_last, slot->first + slot->count - 1);
	mbr_entry_encode(&entry, sector + 446 + 16 * (slot->number - 1));
}

static void put_boot_sector(const struct vmimg_table_plan *plan, uint8_t out[VMIMG_SECTOR])
{
	memset(out, 0, VMIMG_SECTOR);
	if (plan->boot_code)
		memcpy(out, plan->boot_code, VMIMG_BOOT_CODE);
	vmimg_put_le32(out + VMIMG_BOOT_CODE, plan->mbr_id);
	out[510] = 0x55;
	out[511] = 0xaa;
}

void vmimg_mbr_write(const struct vmimg_table_plan *plan, uint8_t out[VMIMG_SECTOR])
{
	put_boot_sector(plan, out);
	for (unsigned i = 0; i < plan->count; i++)
		put_mbr_entry(out, &plan->slots[i]);
}

static void put_gpt_entry(uint8_t *entries, const struct vmimg_slot *slot)
{
	struct gpt_entry entry = { .first = slot->first,
		.last = slot->first + slot->count - 1,
		.attributes = slot->attributes };
	struct vmimg_guid type;
	bool parsed = vmimg_guid_parse(&type, slot->type, strlen(slot->type));

	assert(parsed && slot->number >= 1 && slot->number <= VMIMG_GPT_ENTRIES);
	(void)parsed;
	vmimg_guid_put_mixed(&type, entry.type);
	vmimg_guid_put_mixed(&slot->guid, entry.guid);
	for (size_t i = 0; slot->name[i] && i < sizeof(entry.name) / 2; i++)
		entry.name[2 * i] = (uint8_t)slot->name[i];
	gpt_entry_encode(&entry, entries + (size_t)GPT_ENTRY_SIZE * (slot->number - 1));
}

static void put_gpt_header(
	uint8_t *out, const struct vmimg_table_plan *plan, uint32_t entries_crc, bool backup)
{
	uint64_t last = plan->sectors - 1;
	struct gpt_header header = { .signature = "EFI PART",
		.revision = 0x10000,
		.header_size = GPT_HEADER_SIZE,
		.here = backup ? last : 1,
		.other = backup ? 1 : last,
		.first = 2 + ENTRIES_SECTORS,
		.last = last - 1 - ENTRIES_SECTORS,
		.entries = backup ? last - ENTRIES_SECTORS : 2,
		.count = VMIMG_GPT_ENTRIES,
		.entry_size = GPT_ENTRY_SIZE,
		.entries_crc = entries_crc };

	vmimg_guid_put_mixed(&plan->guid, header.guid);
	gpt_header_encode(&header, out);
	header.header_crc = (uint32_t)crc32(0, out, GPT_HEADER_SIZE);
	gpt_header_encode(&header, out);
}

void vmimg_gpt_write(const struct vmimg_table_plan *plan, uint8_t head[VMIMG_GPT_HEAD],
	uint8_t tail[VMIMG_GPT_TAIL])
{
	const struct vmimg_slot guard = {
		.number = 1, .first = 1, .count = plan->sectors - 1, .mbr_type = 0xee
	};
	uint8_t *entries = head + 2 * (size_t)VMIMG_SECTOR;
	uint32_t crc;

	memset(head, 0, VMIMG_GPT_HEAD);
	memset(tail, 0, VMIMG_GPT_TAIL);
	put_boot_sector(plan, head);
	put_mbr_entry(head, &guard);
	for (unsigned i = 0; i < plan->count; i++)
		put_gpt_entry(entries, &plan->slots[i]);
	crc = (uint32_t)crc32(0, entries, ENTRIES_BYTES);
	put_gpt_header(head + VMIMG_SECTOR, plan, crc, false);
	memcpy(tail, entries, ENTRIES_BYTES);
	put_gpt_header(tail + ENTRIES_BYTES, plan, crc, true);
}

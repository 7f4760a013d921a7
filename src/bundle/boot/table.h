/* SPDX-License-Identifier: Apache-2.0 */
/* Writing partition tables of the two kinds, for sectors of 512 bytes. Sources: UEFI 2.10, 5.2 and
 * 5.3; the Discoverable Partitions Specification. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "util/guid.h"

#define VMIMG_SECTOR      512U
#define VMIMG_BOOT_CODE   440U
#define VMIMG_GPT_ENTRIES 128U
#define VMIMG_GPT_HEAD    (34 * VMIMG_SECTOR) /* MBR, header, entries */
#define VMIMG_GPT_TAIL    (33 * VMIMG_SECTOR) /* entries, header */

struct vmimg_slot {
	uint32_t number;       /* from 1: its place in the table */
	uint64_t first, count; /* sectors */
	const char *type;      /* GPT: its GUID as text */
	uint8_t mbr_type;
	struct vmimg_guid guid;
	const char *name; /* ASCII, at most 36 */
	uint64_t attributes;
	bool active; /* MBR */
};
#define VMIMG_GPT_LEGACY_BOOT 4U /* attribute: started by the BIOS */

struct vmimg_table_plan {
	uint64_t sectors; /* of the disk */
	struct vmimg_guid guid;
	uint32_t mbr_id;
	const uint8_t *boot_code; /* VMIMG_BOOT_CODE bytes; NULL: none */
	const struct vmimg_slot *slots;
	unsigned count;
};

/* Sector 0 with up to four partitions. */
void vmimg_mbr_write(const struct vmimg_table_plan *plan, uint8_t out[VMIMG_SECTOR]);
void vmimg_gpt_write(const struct vmimg_table_plan *plan, uint8_t head[VMIMG_GPT_HEAD],
	uint8_t tail[VMIMG_GPT_TAIL]);

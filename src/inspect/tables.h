/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that read one kind of partition table each. */
#pragma once
#include "inspect/parts.h"

#define VMIMG_MBR_ENTRIES  446
#define VMIMG_MBR_GPT_TYPE 0xee

/* Each returns whether the table is there, with the list filled; -1: a read failed. sector0 is 512
 * bytes. */
int vmimg_parts_read_mbr(struct vmimg_io *io, const uint8_t *sector0, uint32_t sector_size,
	struct vmimg_parts *parts, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_parts_read_gpt(struct vmimg_io *io, uint32_t sector_size, struct vmimg_parts *parts,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_parts_read_apm(struct vmimg_io *io, const uint8_t *sector0, struct vmimg_parts *parts,
	struct vmimg_error *err) VMIMG_CHECKED;

/* Whether sector 0 has a table of the MBR kind that makes sense. */
bool vmimg_mbr_is_sane(const uint8_t *sector0);
/* One more in the list, zeroed; NULL with err set. Full: a warning, and *err is ELIMIT. */
struct vmimg_part *vmimg_parts_add(
	struct vmimg_parts *parts, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_parts_warn(struct vmimg_parts *parts, const char *fmt, ...) VMIMG_PRINTF(2, 3);

const char *vmimg_mbr_type_name(uint8_t type);
const char *vmimg_gpt_type_name(const struct vmimg_guid *type);

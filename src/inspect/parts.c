/* SPDX-License-Identifier: Apache-2.0 */
/* Which table a disk has, and the list that all kinds fill. */
#include "inspect/parts.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "inspect/tables.h"
#include "io/window.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/zero.h"

void vmimg_parts_done(struct vmimg_parts *parts)
{
	free(parts->list);
	memset(parts, 0, sizeof(*parts));
}

void vmimg_parts_warn(struct vmimg_parts *parts, const char *fmt, ...)
{
	va_list args;

	if (parts->warning_count >= VMIMG_ARRAY_LEN(parts->warnings))
		return;
	va_start(args, fmt);
	vsnprintf(parts->warnings[parts->warning_count++], sizeof(parts->warnings[0]), fmt, args);
	va_end(args);
}

struct vmimg_part *vmimg_parts_add(struct vmimg_parts *parts, struct vmimg_error *err)
{
	if (parts->count >= VMIMG_MAX_PARTS) {
		vmimg_fail(err, VMIMG_ELIMIT, "more than %d partitions", VMIMG_MAX_PARTS);
		return NULL;
	}
	if (vmimg_grow_array(
		    &parts->list, &parts->cap, parts->count + 1, sizeof(*parts->list), err))
		return NULL;
	return &parts->list[parts->count++];
}

const struct vmimg_part *vmimg_parts_find(const struct vmimg_parts *parts, unsigned index)
{
	for (size_t i = 0; i < parts->count; i++)
		if (parts->list[i].index == index)
			return &parts->list[i];
	return NULL;
}

struct vmimg_io *vmimg_part_open(
	struct vmimg_io *io, const struct vmimg_part *part, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);

	if (part->start >= size) {
		vmimg_fail(err, VMIMG_ECORRUPT,
			"partition %u begins at 0x%" PRIx64 ", past the disk's end (0x%" PRIx64 ")",
			part->index, part->start, size);
		return NULL;
	}
	return vmimg_window_open(
		io, part->start, vmimg_min(part->len, size - part->start), NULL, err);
}

const char *vmimg_scheme_name(enum vmimg_scheme scheme)
{
	static const char *const names[] = { "none", "mbr", "gpt", "apm" };

	return names[scheme];
}

static void warn_past_end(struct vmimg_parts *parts, uint64_t size)
{
	for (size_t i = 0; i < parts->count; i++)
		if (!vmimg_range_inside(parts->list[i].start, parts->list[i].len, size))
			vmimg_parts_warn(parts,
				"partition %u reaches past the end of the disk (0x%" PRIx64
				"): truncated?",
				parts->list[i].index, size);
}

/* What the MBR of a disk with a GPT says besides. */
static void note_mbr_of_gpt(const uint8_t *sector0, struct vmimg_parts *parts)
{
	unsigned guards = 0, others = 0;

	if (!vmimg_mbr_is_sane(sector0)) {
		vmimg_parts_warn(parts, "there is no protective MBR before the GPT");
		return;
	}
	for (unsigned i = 0; i < 4; i++) {
		uint8_t type = sector0[VMIMG_MBR_ENTRIES + 16 * i + 4];

		guards += type == VMIMG_MBR_GPT_TYPE;
		others += type != 0 && type != VMIMG_MBR_GPT_TYPE;
	}
	parts->protective = guards && !others;
	parts->hybrid = others != 0;
}

static int read_gpt(struct vmimg_io *io, uint32_t sector_size, struct vmimg_parts *parts,
	struct vmimg_error *err)
{
	int found;

	if (sector_size > 512)
		return vmimg_parts_read_gpt(io, sector_size, parts, err);
	found = vmimg_parts_read_gpt(io, 512, parts, err);
	return found ? found : vmimg_parts_read_gpt(io, 4096, parts, err);
}

/* The tables in the order of their authority. */
static int read_table(struct vmimg_io *io, const uint8_t *sector0, uint32_t sector_size,
	struct vmimg_parts *parts, struct vmimg_error *err)
{
	int found = read_gpt(io, sector_size, parts, err);

	if (found > 0)
		note_mbr_of_gpt(sector0, parts);
	if (found)
		return found;
	found = vmimg_parts_read_mbr(io, sector0, sector_size, parts, err);
	return found ? found : vmimg_parts_read_apm(io, sector0, parts, err);
}

int vmimg_parts_read(struct vmimg_io *io, uint32_t sector_size, struct vmimg_parts *parts,
	struct vmimg_error *err)
{
	uint8_t sector0[512];
	int found;

	memset(parts, 0, sizeof(*parts));
	parts->sector_size = sector_size ? sector_size : 512;
	if (vmimg_io_size(io) < sizeof(sector0))
		return 0;
	if (vmimg_io_pread(io, sector0, sizeof(sector0), 0, err))
		return -1;
	if (sector0[510] == 0x55 && sector0[511] == 0xaa) {
		parts->mbr_id = vmimg_get_le32(sector0 + 440);
		parts->boot_code = !vmimg_is_zero(sector0, 440);
	}
	found = read_table(io, sector0, sector_size, parts, err);
	if (found < 0)
		return -1;
	if (parts->scheme != VMIMG_SCHEME_APM && sector0[0] == 'E' && sector0[1] == 'R')
		parts->also_apm = true;
	warn_past_end(parts, vmimg_io_size(io));
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "packed.h"
#include <string.h>
#include "io/memory.h"
#include "io/overlay.h"
#include "util/bytes.h"
#include "util/num.h"

#define MOST_PARTS 4096

bool packed_is(const uint8_t *input, size_t len)
{
	return len >= PACKED_HEAD && !memcmp(input, "VMIMGPK1", 8);
}

uint64_t packed_size(const uint8_t *input)
{
	return vmimg_min(vmimg_get_le64(input + 8), PACKED_MAX);
}

bool packed_next(uint8_t *input, size_t len, size_t *next, struct packed_part *part)
{
	size_t head = *next;

	if (head > len || len - head < PACKED_PART)
		return false;
	part->head = head;
	part->at = vmimg_get_le64(input + head);
	part->bytes = input + head + PACKED_PART;
	part->len = (uint32_t)vmimg_min(vmimg_get_le32(input + head + 8), len - head - PACKED_PART);
	*next = head + PACKED_PART + part->len;
	return true;
}

size_t packed_parts(uint8_t *input, size_t len, struct packed_part *parts, size_t cap)
{
	size_t next = PACKED_HEAD, count = 0;

	while (count < cap && packed_next(input, len, &next, &parts[count]))
		count++;
	return count;
}

/* Copies what a part and [at, at + count) have in common, one way or the other. */
static void copy(struct packed_part *part, uint64_t at, uint8_t *buf, size_t count, bool out)
{
	uint64_t from = vmimg_max(part->at, at), end;

	if (part->at > PACKED_MAX)
		return;
	end = vmimg_min(part->at + part->len, at + count);
	if (from >= end)
		return;
	if (out)
		memcpy(buf + (from - at), part->bytes + (from - part->at), (size_t)(end - from));
	else
		memcpy(part->bytes + (from - part->at), buf + (from - at), (size_t)(end - from));
}

void packed_read(uint8_t *input, size_t len, uint64_t at, uint8_t *buf, size_t count)
{
	struct packed_part part;
	size_t next = PACKED_HEAD;

	memset(buf, 0, count);
	while (packed_next(input, len, &next, &part))
		copy(&part, at, buf, count, true);
}

void packed_write(uint8_t *input, size_t len, uint64_t at, const uint8_t *buf, size_t count)
{
	struct packed_part part;
	size_t next = PACKED_HEAD;

	while (packed_next(input, len, &next, &part))
		copy(&part, at, (uint8_t *)(uintptr_t)buf, count, false);
}

struct vmimg_io *packed_open(const uint8_t *input, size_t len, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *nothing = NULL;
	VMIMG_AUTO(free) struct packed_part *parts = NULL;
	VMIMG_AUTO(free) struct vmimg_patch *patches = NULL;
	size_t count, kept = 0;
	uint64_t size;

	if (!packed_is(input, len))
		return vmimg_memory_view(input, len, "fuzz", err);
	nothing = vmimg_memory_view("", 0, "fuzz", err);
	parts = vmimg_alloc_array(MOST_PARTS, sizeof(*parts), err);
	patches = vmimg_alloc_array(MOST_PARTS, sizeof(*patches), err);
	if (!nothing || !parts || !patches)
		return NULL;
	size = packed_size(input);
	count = packed_parts((uint8_t *)(uintptr_t)input, len, parts, MOST_PARTS);
	for (size_t i = 0; i < count; i++)
		if (parts[i].at < size && parts[i].len)
			patches[kept++] = (struct vmimg_patch){ parts[i].at,
				vmimg_min(parts[i].len, size - parts[i].at), parts[i].bytes };
	return vmimg_overlay_open(nothing, size, patches, kept, NULL, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of two letters, a length and a version. An area that is too small goes on elsewhere (CE),
 * and that elsewhere again: not without end. */
#include "inspect/rockridge.h"
#include <string.h>
#include "inspect/iso9660.h"
#include "util/bytes.h"
#include "util/num.h"

#define MAX_CONTINUED 32
#define MAX_AREA      65536U

/* Where an area goes on. */
struct next {
	bool there;
	uint64_t at;
	uint32_t len;
};

int64_t vmimg_iso_time(const uint8_t *t)
{
	static const uint16_t before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
	int64_t year = 1900 + t[0], days;

	if (!t[1] || t[1] > 12 || !t[2] || t[2] > 31)
		return 0;
	days = (year - 1970) * 365 + (year - 1) / 4 - 492 - ((year - 1) / 100 - 19) +
		((year - 1) / 400 - 4) + before[t[1] - 1] + t[2] - 1;
	days += t[1] > 2 && year % 4 == 0 && (year % 100 || year % 400 == 0);
	return days * 86400 + t[3] * 3600 + t[4] * 60 + t[5] - (int64_t)(int8_t)t[6] * 900;
}

bool vmimg_rock_begins(const uint8_t *bytes, size_t len, size_t *skip)
{
	if (len < 7 || memcmp(bytes, "SP", 2) || bytes[4] != 0xbe || bytes[5] != 0xef)
		return false;
	*skip = bytes[6];
	return true;
}

static void append(char *to, size_t cap, size_t *used, const void *text, size_t len)
{
	size_t take = vmimg_min(len, cap - 1 - *used);

	memcpy(to + *used, text, take);
	*used += take;
	to[*used] = '\0';
}

static void take_name(const uint8_t *entry, size_t len, struct vmimg_rock *rock)
{
	if (len >= 5 && !(entry[4] & 6))
		append(rock->name, sizeof(rock->name), &rock->name_len, entry + 5, len - 5);
}

/* A link's target comes in components, each perhaps in several pieces. */
static void take_link(const uint8_t *entry, size_t len, struct vmimg_rock *rock)
{
	size_t at = 5;

	rock->is_link = true;
	while (at + 2 <= len && at + 2 + entry[at + 1] <= len) {
		unsigned flags = entry[at];

		if (flags & 8)
			append(rock->link, sizeof(rock->link), &rock->link_len, "/", 1);
		else if (flags & 4)
			append(rock->link, sizeof(rock->link), &rock->link_len, "..", 2);
		else if (flags & 2)
			append(rock->link, sizeof(rock->link), &rock->link_len, ".", 1);
		else
			append(rock->link, sizeof(rock->link), &rock->link_len, entry + at + 2,
				entry[at + 1]);
		if (!(flags & (1 | 8)))
			append(rock->link, sizeof(rock->link), &rock->link_len, "/", 1);
		at += 2 + (size_t)entry[at + 1];
	}
}

/* Time stamps in a fixed order, those present told by bits; modification is the second. */
static void take_times(const uint8_t *entry, size_t len, struct vmimg_rock *rock)
{
	size_t at;

	if (len < 5 || !(entry[4] & 2) || entry[4] & 0x80)
		return;
	at = 5 + (entry[4] & 1 ? 7 : 0);
	if (at + 7 > len)
		return;
	rock->has_time = true;
	rock->mtime = vmimg_iso_time(entry + at);
}

static void take(const uint8_t *e, size_t len, struct vmimg_rock *rock, struct next *next)
{
	rock->any |= !memcmp(e, "PX", 2) || !memcmp(e, "NM", 2) || !memcmp(e, "RR", 2);
	if (!memcmp(e, "CE", 2) && len >= 28) {
		next->there = true;
		next->at =
			(uint64_t)vmimg_get_le32(e + 4) * VMIMG_ISO_SECTOR + vmimg_get_le32(e + 12);
		next->len = vmimg_get_le32(e + 20);
	} else if (!memcmp(e, "PX", 2) && len >= 36) {
		rock->has_mode = true;
		rock->mode = vmimg_get_le32(e + 4);
		rock->uid = vmimg_get_le32(e + 20);
		rock->gid = vmimg_get_le32(e + 28);
	} else if (!memcmp(e, "NM", 2)) {
		take_name(e, len, rock);
	} else if (!memcmp(e, "SL", 2) && len >= 5) {
		take_link(e, len, rock);
	} else if (!memcmp(e, "TF", 2)) {
		take_times(e, len, rock);
	} else if (!memcmp(e, "CL", 2) && len >= 12) {
		rock->child = vmimg_get_le32(e + 4);
	} else if (!memcmp(e, "RE", 2)) {
		rock->relocated = true;
	} else if (!memcmp(e, "ZF", 2) && len >= 16 && !memcmp(e + 4, "pz", 2)) {
		rock->packed = true;
		rock->unpacked = vmimg_get_le32(e + 8);
	}
}

static int read_area(const uint8_t *bytes, size_t len, struct vmimg_rock *rock, struct next *next,
	struct vmimg_error *err)
{
	size_t at = 0;

	next->there = false;
	while (at + 4 <= len) {
		size_t size = bytes[at + 2];

		if (!bytes[at] && !bytes[at + 1]) /* padding */
			return 0;
		if (!memcmp(bytes + at, "ST", 2))
			return 0;
		if (size < 4 || size > len - at)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"a System Use entry has an impossible length of %zu", size);
		take(bytes + at, size, rock, next);
		at += size;
	}
	return 0;
}

int vmimg_rock_read(struct vmimg_table *table, const uint8_t *bytes, size_t len, size_t skip,
	struct vmimg_rock *rock, uint64_t *left, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *more = NULL;
	struct next next;

	memset(rock, 0, sizeof(*rock));
	if (skip > len)
		return 0;
	if (read_area(bytes + skip, len - skip, rock, &next, err))
		return -1;
	for (unsigned n = 0; next.there; n++) {
		uint32_t size = next.len;

		if (n == MAX_CONTINUED)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"a System Use area goes on %d times: a loop?", n);
		if (size > MAX_AREA)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"a System Use area goes on for %u bytes", size);
		if (size > *left)
			return vmimg_fail(err, VMIMG_ELIMIT,
				"the System Use areas of a folder are longer than it may be");
		*left -= size;
		free(more);
		more = vmimg_alloc_buffer(size, err);
		if (!more || vmimg_table_read(table, more, size, next.at, err) ||
			read_area(more, size, rock, &next, err))
			return -1;
	}
	if (rock->link_len > 1 && rock->link[rock->link_len - 1] == '/')
		rock->link[--rock->link_len] = '\0';
	return 0;
}

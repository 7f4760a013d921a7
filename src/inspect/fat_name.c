/* SPDX-License-Identifier: Apache-2.0 */
/* Names in FAT folders: 8.3 in the code page of the first PCs, and long ones in UTF-16. And what
 * recognises a FAT, which has its label among them. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "inspect/fat.h"
#include "inspect/look.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/utf16.h"

#define PIECE_UNITS 13U
#define MAX_PIECES  20U

/* Code page 437 from 0x80 on. */
static const uint16_t high[128] = { 0x00c7, 0x00fc, 0x00e9, 0x00e2, 0x00e4, 0x00e0, 0x00e5, 0x00e7,
	0x00ea, 0x00eb, 0x00e8, 0x00ef, 0x00ee, 0x00ec, 0x00c4, 0x00c5, 0x00c9, 0x00e6, 0x00c6,
	0x00f4, 0x00f6, 0x00f2, 0x00fb, 0x00f9, 0x00ff, 0x00d6, 0x00dc, 0x00a2, 0x00a3, 0x00a5,
	0x20a7, 0x0192, 0x00e1, 0x00ed, 0x00f3, 0x00fa, 0x00f1, 0x00d1, 0x00aa, 0x00ba, 0x00bf,
	0x2310, 0x00ac, 0x00bd, 0x00bc, 0x00a1, 0x00ab, 0x00bb, 0x2591, 0x2592, 0x2593, 0x2502,
	0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255d, 0x255c, 0x255b,
	0x2510, 0x2514, 0x2534, 0x252c, 0x251c, 0x2500, 0x253c, 0x255e, 0x255f, 0x255a, 0x2554,
	0x2569, 0x2566, 0x2560, 0x2550, 0x256c, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559, 0x2558,
	0x2552, 0x2553, 0x256b, 0x256a, 0x2518, 0x250c, 0x2588, 0x2584, 0x258c, 0x2590, 0x2580,
	0x03b1, 0x00df, 0x0393, 0x03c0, 0x03a3, 0x03c3, 0x00b5, 0x03c4, 0x03a6, 0x0398, 0x03a9,
	0x03b4, 0x221e, 0x03c6, 0x03b5, 0x2229, 0x2261, 0x00b1, 0x2265, 0x2264, 0x2320, 0x2321,
	0x00f7, 0x2248, 0x00b0, 0x2219, 0x00b7, 0x221a, 0x207f, 0x00b2, 0x25a0, 0x00a0 };

size_t vmimg_fat_text(char *out, const uint8_t *text, size_t len)
{
	size_t used = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned c = text[i] < 0x80 ? text[i] : high[text[i] - 0x80];

		if (c < 0x80) {
			out[used++] = (char)c;
		} else if (c < 0x800) {
			out[used++] = (char)(0xc0 | c >> 6);
			out[used++] = (char)(0x80 | (c & 0x3f));
		} else {
			out[used++] = (char)(0xe0 | c >> 12);
			out[used++] = (char)(0x80 | (c >> 6 & 0x3f));
			out[used++] = (char)(0x80 | (c & 0x3f));
		}
	}
	out[used] = '\0';
	return used;
}

void vmimg_fat_name_add(struct vmimg_fat_name *name, const uint8_t entry[32])
{
	unsigned number = entry[0] & 0x1f;
	uint8_t *to;

	if (entry[0] & 0x40) {
		name->pieces = number;
		name->expect = (uint8_t)number;
		name->sum = entry[13];
	}
	if (!number || number > MAX_PIECES || number != name->expect || entry[13] != name->sum) {
		name->expect = 0;
		name->pieces = 0;
		return;
	}
	to = name->units + 2 * PIECE_UNITS * (number - 1);
	memcpy(to, entry + 1, 10);
	memcpy(to + 10, entry + 14, 12);
	memcpy(to + 22, entry + 28, 4);
	name->expect--;
}

static uint8_t checksum(const uint8_t *entry)
{
	uint8_t sum = 0;

	for (unsigned i = 0; i < 11; i++)
		sum = (uint8_t)((sum >> 1 | sum << 7) + entry[i]);
	return sum;
}

static size_t trimmed(const uint8_t *text, size_t len)
{
	while (len && text[len - 1] == ' ')
		len--;
	return len;
}

/* Names that fit 8.3 but for their case are kept with two bits that say so. */
static size_t short_name(char *out, const uint8_t *entry)
{
	uint8_t raw[12];
	size_t base = trimmed(entry, 8), suffix = trimmed(entry + 8, 3), len = base;

	memcpy(raw, entry, base);
	if (raw[0] == 0x05)
		raw[0] = 0xe5;
	if (suffix) {
		raw[len++] = '.';
		memcpy(raw + len, entry + 8, suffix);
		len += suffix;
	}
	for (size_t i = 0; i < len; i++)
		if (raw[i] < 0x80 && entry[12] & (i < base ? 0x08 : 0x10))
			raw[i] = (uint8_t)tolower(raw[i]);
	return vmimg_fat_text(out, raw, len);
}

size_t vmimg_fat_name_take(struct vmimg_fat_name *name, const uint8_t entry[32])
{
	VMIMG_AUTO(free) char *text = NULL;
	struct vmimg_error ignored;
	bool whole = name->pieces && !name->expect && name->sum == checksum(entry);

	if (whole)
		text = vmimg_utf16_decode(
			name->units, 2 * PIECE_UNITS * name->pieces, false, &ignored);
	name->pieces = 0;
	if (!text || !*text)
		return short_name(name->text, entry);
	return (size_t)snprintf(name->text, sizeof(name->text), "%s", text);
}

/* As in names, 0x05 stands for 0xe5, which would say that the entry is deleted. */
static void set_label(struct vmimg_fs_info *info, uint8_t label[11])
{
	char text[34];

	if (label[0] == 0x05)
		label[0] = 0xe5;
	vmimg_info_label(
		info, (const uint8_t *)text, vmimg_fat_text(text, label, trimmed(label, 11)));
}

/* The label is that of the root folder. Its copy in the boot sector goes stale: only some programs
 * keep it. */
static int fill(const struct vmimg_look *look, const struct vmimg_fat_shape *shape,
	struct vmimg_fs_info *info, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_fs_close) struct vmimg_fs *fs = vmimg_fat_open(look->io, err);
	struct vmimg_error damaged;
	uint64_t left = VMIMG_UNKNOWN;
	uint8_t label[11];
	bool found = false;

	if (!fs)
		return -1;
	/* a damaged volume is still a FAT: it then has no label, and nobody knows what is used */
	if (!vmimg_fat_label(fs, label, &found, &damaged) && found)
		set_label(info, label);
	if (!vmimg_fat_free(fs, &left, &damaged) && left != VMIMG_UNKNOWN)
		info->used = (uint64_t)(shape->clusters - left) * shape->cluster;
	return 0;
}

int vmimg_recognise_fat(
	const struct vmimg_look *look, struct vmimg_fs_info *info, struct vmimg_error *err)
{
	const uint8_t *s = look->head;
	struct vmimg_fat_shape shape;
	size_t more;

	if (look->size < 512 || !vmimg_fat_parse(s, &shape))
		return 0;
	more = shape.bits == 32 ? 64 : 36;
	info->type = "vfat";
	info->variant = shape.bits == 12 ? "FAT12" : shape.bits == 16 ? "FAT16" : "FAT32";
	info->size = shape.size;
	info->block = shape.cluster;
	if (s[more + 2] == 0x28 || s[more + 2] == 0x29)
		snprintf(info->uuid, sizeof(info->uuid), "%04X-%04X", vmimg_get_le16(s + more + 5),
			vmimg_get_le16(s + more + 3));
	return fill(look, &shape, info, err) ? -1 : 1;
}

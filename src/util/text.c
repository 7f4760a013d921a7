/* SPDX-License-Identifier: Apache-2.0 */
/* Escaping follows the Unicode rules for well-formed UTF-8 (The Unicode Standard, table 3-7). */
#include "util/text.h"
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The length of the well-formed sequence at s, or 0. */
static size_t utf8_len(const uint8_t *s, size_t left, uint32_t *code)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = s[0] < 0x80 ? 1
		: s[0] < 0xc2    ? 0
		: s[0] < 0xe0    ? 2
		: s[0] < 0xf0    ? 3
		: s[0] < 0xf5    ? 4
				 : 0;

	if (!len || len > left)
		return 0;
	*code = len == 1 ? s[0] : s[0] & (0x7fU >> len);
	for (size_t i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		*code = *code << 6 | (s[i] & 0x3f);
	}
	if (len > 1 && (*code < least[len] || *code > 0x10ffff || (*code & ~0x7ffU) == 0xd800))
		return 0;
	return len;
}

static bool is_showable(uint32_t c)
{
	bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
	bool line_or_bidi = (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ||
		c == 0x200e || c == 0x200f || c == 0x61c || c == 0xfeff;

	return !control && !line_or_bidi;
}

char *vmimg_escape(char *out, size_t cap, const char *text, size_t len)
{
	const uint8_t *s = (const uint8_t *)text;
	size_t used = 0;

	for (size_t i = 0; i < len;) {
		uint32_t code = 0;
		size_t take = utf8_len(s + i, len - i, &code);
		char piece[20];
		size_t size = 0;

		if (take && is_showable(code) && code != '\\') {
			memcpy(piece, s + i, take);
			size = take;
		} else if (take && code == '\\') {
			memcpy(piece, "\\\\", 2);
			size = 2;
		} else {
			take = take ? take : 1;
			for (size_t j = 0; j < take; j++)
				size += (size_t)snprintf(
					piece + size, sizeof(piece) - size, "\\x%02x", s[i + j]);
		}
		if (used + size + 1 > cap)
			break;
		memcpy(out + used, piece, size);
		used += size;
		i += take;
	}
	out[used] = '\0';
	return out;
}

void vmimg_mask(char *text)
{
	size_t len = strlen(text), take;

	for (size_t i = 0; i < len; i += take) {
		uint32_t code = 0;

		take = utf8_len((const uint8_t *)text + i, len - i, &code);
		if (take && is_showable(code))
			continue;
		take = take ? take : 1;
		memset(text + i, '?', take);
	}
}

char *vmimg_escape_dup(const char *text, size_t len)
{
	char *out = malloc(len * 4 + 1);

	return out ? vmimg_escape(out, len * 4 + 1, text, len) : NULL;
}

/* The power of 1024 that the suffix names, or -1. */
static int unit_of(const char *suffix)
{
	static const char units[] = "bkmgtpe";
	const char *unit;

	if (!*suffix)
		return 0;
	unit = strchr(units, tolower((unsigned char)*suffix));
	if (!unit)
		return -1;
	suffix++;
	if (unit != units && (!strcasecmp(suffix, "ib") || !strcasecmp(suffix, "b")))
		return (int)(unit - units);
	return *suffix ? -1 : (int)(unit - units);
}

int vmimg_parse_size(const char *text, uint64_t *bytes, struct vmimg_error *err)
{
	unsigned __int128 whole = 0, part = 0, scale = 1;
	const char *p = text;
	int unit;

	for (; isdigit((unsigned char)*p); p++)
		whole = whole >> 64 ? whole : whole * 10 + (unsigned)(*p - '0');
	if (p != text && *p == '.' && isdigit((unsigned char)p[1]))
		for (p++; isdigit((unsigned char)*p); p++) {
			if (scale >= 1000000000)
				continue;
			part = part * 10 + (unsigned)(*p - '0');
			scale *= 10;
		}
	unit = p == text ? -1 : unit_of(p);
	if (unit < 0 || (part && !unit))
		return vmimg_fail(err, VMIMG_EINVAL,
			"'%.40s' is not a size: a number, then nothing or one of k M G T P E",
			text);
	if (whole >> 64 || (whole << (10 * unit)) >> 64)
		return vmimg_fail(err, VMIMG_ELIMIT, "size %.40s is more than 2^64 bytes", text);
	*bytes = (uint64_t)((whole << (10 * unit)) + ((part << (10 * unit)) + scale / 2) / scale);
	return 0;
}

char *vmimg_format_size(char out[16], uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	unsigned unit = 0;

	while (value >= 1000 && unit < 6) {
		value /= 1024;
		unit++;
	}
	snprintf(out, 16, "%.3g %s", value, units[unit]);
	return out;
}

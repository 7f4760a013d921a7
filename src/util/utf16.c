/* SPDX-License-Identifier: Apache-2.0 */
/* One code point at a time (The Unicode Standard, 3.9). */
#include "util/utf16.h"
#include <string.h>
#include "util/auto.h"
#include "util/bytes.h"

#define REPLACEMENT 0xfffdU

static uint32_t unit_at(const uint8_t *text, size_t i, bool big_endian)
{
	return big_endian ? vmimg_get_be16(text + 2 * i) : vmimg_get_le16(text + 2 * i);
}

/* The code point at unit *i, which moves past it. */
static uint32_t next_point(const uint8_t *text, size_t *i, size_t units, bool big_endian)
{
	uint32_t high = unit_at(text, (*i)++, big_endian), low;

	if ((high & 0xf800) != 0xd800)
		return high;
	if ((high & 0x0400) || *i == units)
		return REPLACEMENT;
	low = unit_at(text, *i, big_endian);
	if ((low & 0xfc00) != 0xdc00)
		return REPLACEMENT;
	(*i)++;
	return 0x10000 + ((high & 0x3ff) << 10 | (low & 0x3ff));
}

static char *put_utf8(char *p, uint32_t point)
{
	unsigned more = point < 0x80 ? 0 : point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
	static const uint8_t lead[] = { 0, 0xc0, 0xe0, 0xf0 };

	*p++ = (char)(lead[more] | point >> 6 * more);
	while (more--)
		*p++ = (char)(0x80 | (point >> 6 * more & 0x3f));
	return p;
}

char *vmimg_utf16_decode(const uint8_t *text, size_t len, bool big_endian, struct vmimg_error *err)
{
	size_t units = len / 2, i = 0;
	char *out = vmimg_alloc_array(units + 1, 3, err), *p = out;

	while (out && i < units) {
		uint32_t point = next_point(text, &i, units, big_endian);

		if (!point)
			break;
		p = put_utf8(p, point);
	}
	return out;
}

/* The code point at *p, which moves past it; 0 for what is not well-formed. */
static uint32_t get_utf8(const uint8_t **p)
{
	static const uint32_t least[] = { 0, 0x80, 0x800, 0x10000 };
	uint32_t point = *(*p)++;
	unsigned more = point < 0x80 ? 0 : point < 0xe0 ? 1 : point < 0xf0 ? 2 : 3;

	if (point >= 0xf8 || (point & 0xc0) == 0x80)
		return 0;
	point &= more ? 0x3fU >> more : 0x7f;
	for (unsigned i = 0; i < more; i++) {
		if ((**p & 0xc0) != 0x80)
			return 0;
		point = point << 6 | (*(*p)++ & 0x3f);
	}
	if (point < least[more] || point > 0x10ffff || (point & ~0x7ffU) == 0xd800)
		return 0;
	return point;
}

static uint8_t *put_unit(uint8_t *to, uint32_t unit, bool big_endian)
{
	if (big_endian)
		vmimg_put_be16(to, (uint16_t)unit);
	else
		vmimg_put_le16(to, (uint16_t)unit);
	return to + 2;
}

uint8_t *vmimg_utf16_encode(const char *text, bool big_endian, size_t *len, struct vmimg_error *err)
{
	const uint8_t *p = (const uint8_t *)text;
	VMIMG_AUTO(free) uint8_t *out = vmimg_alloc_array(strlen(text) + 1, 2, err);
	uint8_t *to = out;

	while (out && *p) {
		uint32_t point = get_utf8(&p);

		if (!point) {
			vmimg_fail(err, VMIMG_EINVAL,
				"a name that is not UTF-8 cannot be written as UTF-16");
			return NULL;
		}
		if (point >= 0x10000) {
			to = put_unit(to, 0xd7c0 + (point >> 10), big_endian);
			point = 0xdc00 | (point & 0x3ff);
		}
		to = put_unit(to, point, big_endian);
	}
	if (out)
		*len = (size_t)(to - out);
	return vmimg_take(out);
}

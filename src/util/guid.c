/* SPDX-License-Identifier: Apache-2.0 */
/* The mixed order swaps the same bytes both ways. */
#include "util/guid.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include "util/bytes.h"

/* Where, in the mixed order, each byte of the text is found; and the reverse. */
static const uint8_t mixed[VMIMG_GUID_SIZE] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14,
	15 };

void vmimg_guid_get_mixed(struct vmimg_guid *guid, const uint8_t from[VMIMG_GUID_SIZE])
{
	for (unsigned i = 0; i < VMIMG_GUID_SIZE; i++)
		guid->bytes[i] = from[mixed[i]];
}

void vmimg_guid_put_mixed(const struct vmimg_guid *guid, uint8_t to[VMIMG_GUID_SIZE])
{
	for (unsigned i = 0; i < VMIMG_GUID_SIZE; i++)
		to[mixed[i]] = guid->bytes[i];
}

/* Whether a dash stands before byte i of the text. */
static bool is_after_dash(unsigned i)
{
	return i == 4 || i == 6 || i == 8 || i == 10;
}

char *vmimg_guid_format(char out[VMIMG_GUID_TEXT], const struct vmimg_guid *guid)
{
	char *p = out;

	for (unsigned i = 0; i < VMIMG_GUID_SIZE; i++) {
		if (is_after_dash(i))
			*p++ = '-';
		p += snprintf(p, 3, "%02x", guid->bytes[i]);
	}
	return out;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool vmimg_guid_parse(struct vmimg_guid *guid, const char *text, size_t len)
{
	struct vmimg_guid read;

	if (len == VMIMG_GUID_TEXT + 1 && text[0] == '{' && text[len - 1] == '}') {
		text++;
		len -= 2;
	}
	if (len != VMIMG_GUID_TEXT - 1)
		return false;
	for (unsigned i = 0; i < VMIMG_GUID_SIZE; i++) {
		int high, low;

		if (is_after_dash(i) && *text++ != '-')
			return false;
		high = hex_digit(*text++);
		low = hex_digit(*text++);
		if (high < 0 || low < 0)
			return false;
		read.bytes[i] = (uint8_t)(high << 4 | low);
	}
	*guid = read;
	return true;
}

bool vmimg_guid_is_nil(const struct vmimg_guid *guid)
{
	static const struct vmimg_guid nil;

	return vmimg_guid_equal(guid, &nil);
}

bool vmimg_guid_equal(const struct vmimg_guid *a, const struct vmimg_guid *b)
{
	return !memcmp(a->bytes, b->bytes, VMIMG_GUID_SIZE);
}

/* Spreads every bit of v over all of the result. The constants are those of SplitMix64. */
static uint64_t mix(uint64_t v)
{
	v += 0x9e3779b97f4a7c15;
	v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9;
	v = (v ^ v >> 27) * 0x94d049bb133111eb;
	return v ^ v >> 31;
}

static void derive(struct vmimg_guid *guid, uint64_t content, const char *what)
{
	uint64_t high, low = mix(content);

	for (const char *p = what; *p; p++)
		low = mix(low ^ (uint8_t)*p);
	high = mix(low ^ content);
	vmimg_put_be64(guid->bytes, high);
	vmimg_put_be64(guid->bytes + 8, low);
}

int vmimg_guid_make(struct vmimg_guid *guid, bool unique, uint64_t content, const char *what,
	struct vmimg_error *err)
{
	struct vmimg_guid made;
	unsigned version = unique ? 4 : 8;

	if (!unique)
		derive(&made, content, what);
	else if (getrandom(&made, sizeof(made), 0) != (ssize_t)sizeof(made))
		return vmimg_fail_sys(err, errno, "random bytes for an identity");
	made.bytes[6] = (uint8_t)((made.bytes[6] & 0x0f) | version << 4);
	made.bytes[8] = (uint8_t)((made.bytes[8] & 0x3f) | 0x80);
	*guid = made;
	return 0;
}

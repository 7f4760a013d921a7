/* SPDX-License-Identifier: Apache-2.0 */
/* GUIDs, CRC-32C and UTF-16: what metadata is signed and named with. */
#include <stdlib.h>
#include "check.h"
#include "util/guid.h"
#include "util/sum.h"
#include "util/utf16.h"

static struct vmimg_error err;

static void guids_have_two_orders(void)
{
	static const char text[] = "2dc27766-f623-4200-9d64-115e9bfd4a08";
	static const uint8_t mixed[] = "\x66\x77\xc2\x2d\x23\xf6\x00\x42\x9d\x64\x11\x5e\x9b\xfd"
				       "\x4a\x08";
	struct vmimg_guid guid, back;
	uint8_t on_disk[16];
	char out[VMIMG_GUID_TEXT];

	CHECK(vmimg_guid_parse(&guid, text, 36) && guid.bytes[0] == 0x2d && guid.bytes[15] == 8);
	vmimg_guid_put_mixed(&guid, on_disk);
	CHECK(!memcmp(on_disk, mixed, 16));
	vmimg_guid_get_mixed(&back, on_disk);
	CHECK(vmimg_guid_equal(&guid, &back) && !vmimg_guid_is_nil(&back));
	CHECK_TEXT(vmimg_guid_format(out, &back), text);
}

static void guids_are_parsed_strictly(void)
{
	static const char *const bad[] = { "", "{}", "2dc27766-f623-4200-9d64-115e9bfd4a0",
		"2dc27766-f623-4200-9d64-115e9bfd4a088", "2dc27766-f623-4200-9d64-115e9bfd4a0g",
		"2dc27766xf623-4200-9d64-115e9bfd4a08", "{2dc27766-f623-4200-9d64-115e9bfd4a08",
		"(2dc27766-f623-4200-9d64-115e9bfd4a08)", "2dc27766-f623-4200-9d64-115e9bfd4a@8" };
	struct vmimg_guid guid = { { 7 } }, same = guid;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK(!vmimg_guid_parse(&guid, bad[i], strlen(bad[i])));
	CHECK(vmimg_guid_equal(&guid, &same));
	CHECK(vmimg_guid_parse(&guid, "{2DC27766-F623-4200-9D64-115E9BFD4A08}", 38));
	CHECK(guid.bytes[1] == 0xc2);
}

static void guids_are_derived_or_random(void)
{
	struct vmimg_guid a, b;

	CHECK(!vmimg_guid_make(&a, false, 1, "one", &err));
	CHECK(!vmimg_guid_make(&b, false, 1, "one", &err) && vmimg_guid_equal(&a, &b));
	CHECK(a.bytes[6] >> 4 == 8 && a.bytes[8] >> 6 == 2);
	CHECK(!vmimg_guid_make(&b, false, 1, "two", &err) && !vmimg_guid_equal(&a, &b));
	CHECK(!vmimg_guid_make(&b, false, 2, "one", &err) && !vmimg_guid_equal(&a, &b));
	CHECK(!vmimg_guid_make(&a, true, 1, "one", &err) && a.bytes[6] >> 4 == 4);
	CHECK(!vmimg_guid_make(&b, true, 1, "one", &err) && !vmimg_guid_equal(&a, &b));
}

/* The check value of the catalogue of CRCs, and the one of RFC 3720 (32 zeroes). */
static void crc32c_has_the_known_values(void)
{
	static const uint8_t zeroes[32];

	CHECK(vmimg_crc32c(0, "123456789", 9) == 0xe3069283);
	CHECK(vmimg_crc32c(0, zeroes, 32) == 0x8a9136aa);
	CHECK(vmimg_crc32c(0, "", 0) == 0);
	for (size_t cut = 0; cut <= 9; cut++)
		CHECK(vmimg_crc32c(vmimg_crc32c(0, "123456789", cut), &"123456789"[cut], 9 - cut) ==
			0xe3069283);
}

static void check_both_ways(const char *text, const char *little, size_t len)
{
	for (int big = 0; big < 2; big++) {
		size_t got_len = 0;
		uint8_t *units = vmimg_utf16_encode(text, big, &got_len, &err);
		char *back;

		CHECK(units && got_len == len);
		for (size_t i = 0; units && i < len; i++)
			CHECK(units[i ^ (size_t)big] == (uint8_t)little[i]);
		back = vmimg_utf16_decode(units, got_len, big, &err);
		CHECK_TEXT(back ? back : "", text);
		free(units);
		free(back);
	}
}

static void utf16_goes_both_ways(void)
{
	check_both_ways("", "", 0);
	check_both_ways("a\\b", "a\0\\\0b", 6);
	check_both_ways("\xc3\xa9\xe2\x82\xac", "\xe9\0\xac\x20", 4);
	check_both_ways("\xef\xbf\xbf", "\xff\xff", 2);
	check_both_ways("\xf0\x9f\x98\x80!", "\x3d\xd8\x00\xde!", 6);
	check_both_ways("\xf4\x8f\xbf\xbf", "\xff\xdb\xff\xdf", 4);
}

static void check_decoded(const char *units, size_t len, const char *want)
{
	char *text = vmimg_utf16_decode((const uint8_t *)units, len, false, &err);

	CHECK_TEXT(text ? text : "(none)", want);
	free(text);
}

static void bad_utf16_is_replaced(void)
{
	check_decoded("a\0\0\0b", 6, "a");              /* ends at NUL */
	check_decoded("a\0b", 3, "a");                  /* an odd byte */
	check_decoded("\x3d\xd8", 2, "\xef\xbf\xbd");   /* half a pair, at the end */
	check_decoded("\x3d\xd8x", 4, "\xef\xbf\xbdx"); /* half a pair */
	check_decoded("\0\xdex", 4, "\xef\xbf\xbdx");   /* the other half */
	check_decoded("\x3d\xd8\x3d\xd8", 4, "\xef\xbf\xbd\xef\xbf\xbd"); /* two first halves */
}

static void bad_utf8_is_refused(void)
{
	static const char *const bad[] = { "\xff", "a\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xe2\x82",
		"\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xc3" };
	size_t len = 99;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		CHECK(!vmimg_utf16_encode(bad[i], false, &len, &err));
		CHECK(err.status == VMIMG_EINVAL && len == 99);
	}
}

UNIT_TESTS(TEST(guids_have_two_orders), TEST(guids_are_parsed_strictly),
	TEST(guids_are_derived_or_random), TEST(crc32c_has_the_known_values),
	TEST(utf16_goes_both_ways), TEST(bad_utf16_is_replaced), TEST(bad_utf8_is_refused));
UNIT_MAIN()

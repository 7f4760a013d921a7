/* SPDX-License-Identifier: Apache-2.0 */
/* Text, numbers, layouts, zeroes, errors, and creation options. */
#include "check.h"
#include "disk/options.h"
#include "util/auto.h"
#include "util/layout.h"
#include "util/num.h"
#include "util/text.h"
#include "util/zero.h"

static const char *escaped(const char *text, size_t len)
{
	static char out[200];

	return vmimg_escape(out, sizeof(out), text, len);
}

static void escape_shows_plain_text(void)
{
	CHECK_TEXT(escaped("disk.qcow2", 10), "disk.qcow2");
	CHECK_TEXT(escaped("\xc3\xa9\xe2\x82\xac", 5), "\xc3\xa9\xe2\x82\xac");
	CHECK_TEXT(escaped("", 0), "");
}

static void escape_hides_controls(void)
{
	CHECK_TEXT(escaped("a\x1b]0;x\x07", 7), "a\\x1b]0;x\\x07");
	CHECK_TEXT(escaped("a\0b", 3), "a\\x00b");
	CHECK_TEXT(escaped("\x7f\n", 2), "\\x7f\\x0a");
	CHECK_TEXT(escaped("\\", 1), "\\\\");
	CHECK_TEXT(escaped("\xc2\x9b", 2), "\\xc2\\x9b");          /* a C1 control */
	CHECK_TEXT(escaped("\xe2\x80\xae", 3), "\\xe2\\x80\\xae"); /* right-to-left override */
}

static void escape_refuses_bad_utf8(void)
{
	CHECK_TEXT(escaped("\xff", 1), "\\xff");
	CHECK_TEXT(escaped("\xc0\xaf", 2), "\\xc0\\xaf");                   /* overlong */
	CHECK_TEXT(escaped("\xed\xa0\x80", 3), "\\xed\\xa0\\x80");          /* surrogate */
	CHECK_TEXT(escaped("\xe2\x82", 2), "\\xe2\\x82");                   /* cut short */
	CHECK_TEXT(escaped("\xf4\x90\x80\x80", 4), "\\xf4\\x90\\x80\\x80"); /* past U+10FFFF */
}

static void escape_cuts_at_whole_escapes(void)
{
	char out[8];

	for (size_t cap = 1; cap <= sizeof(out); cap++) {
		memset(out, 'X', sizeof(out));
		vmimg_escape(out, cap, "\x01\x02\x03", 3);
		CHECK(strlen(out) < cap);
		CHECK(strlen(out) % 4 == 0);
	}
}

static void mask_leaves_what_can_be_shown(void)
{
	char text[] = "\xc3\xa9 a\\b\n\x1b[1m\xe2\x80\xae\x9b\xe2\x82";

	vmimg_mask(text);
	CHECK_TEXT(text, "\xc3\xa9 a\\b??[1m??????");
}

static uint64_t parsed(const char *text)
{
	struct vmimg_error err = { 0 };
	uint64_t bytes = 12345;

	return vmimg_parse_size(text, &bytes, &err) ? UINT64_MAX : bytes;
}

static void sizes_are_parsed(void)
{
	CHECK(parsed("0") == 0);
	CHECK(parsed("512") == 512);
	CHECK(parsed("10G") == UINT64_C(10) << 30);
	CHECK(parsed("1.5G") == UINT64_C(3) << 29);
	CHECK(parsed("1.1M") == 1153434); /* the nearest, as qemu-img has it */
	CHECK(parsed("64k") == 65536 && parsed("64K") == 65536 && parsed("64KiB") == 65536);
	CHECK(parsed("2T") == UINT64_C(2) << 40);
	CHECK(parsed("7E") == UINT64_C(7) << 60);
}

static void bad_sizes_are_refused(void)
{
	static const char *const bad[] = { "", " 1", "1 ", "-1", "+1", "1x", "k", "1.5", "0x10",
		"16E", "99999999999999999999", "1KK", "1e9", "nan", ".", "1..5G" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(bad); i++) {
		if (parsed(bad[i]) != UINT64_MAX)
			printf("# \"%s\" was taken\n", bad[i]);
		CHECK(parsed(bad[i]) == UINT64_MAX);
	}
}

static void sizes_are_shown(void)
{
	char out[16];

	CHECK_TEXT(vmimg_format_size(out, UINT64_C(3) << 29), "1.5 GiB");
	CHECK(strlen(vmimg_format_size(out, UINT64_MAX)) < sizeof(out));
	CHECK(strlen(vmimg_format_size(out, 0)) > 0);
}

static void arithmetic_does_not_wrap(void)
{
	uint64_t out = 7;

	CHECK(!vmimg_add(UINT64_MAX, 1, &out) && out == 7);
	CHECK(vmimg_add(UINT64_MAX - 1, 1, &out) && out == UINT64_MAX);
	CHECK(!vmimg_mul(UINT64_C(1) << 32, UINT64_C(1) << 32, &out));
	CHECK(vmimg_mul(3, 4, &out) && out == 12);
	CHECK(vmimg_range_inside(0, 0, 0) && vmimg_range_inside(5, 5, 10));
	CHECK(!vmimg_range_inside(5, 6, 10) && !vmimg_range_inside(11, 0, 10));
	CHECK(!vmimg_range_inside(UINT64_MAX, 2, 10) && !vmimg_range_inside(2, UINT64_MAX, 10));
	CHECK(vmimg_is_pow2(1) && vmimg_is_pow2(UINT64_C(1) << 63) && !vmimg_is_pow2(0));
	CHECK(vmimg_div_up(UINT64_MAX, 2) == UINT64_C(1) << 63);
	CHECK(vmimg_align_up(1, 512) == 512 && vmimg_align_down(1023, 512) == 512);
	CHECK(vmimg_log2(1) == 0 && vmimg_log2(65536) == 16 && vmimg_log2(UINT64_MAX) == 63);
}

#define SAMPLE(F, B)      \
	F(be32, magic, 0) \
	F(le16, small, 4) \
	B(3, name, 6)     \
	F(be64, size, 9)
VMIMG_LAYOUT(sample, 17, SAMPLE);

static void layouts_go_both_ways(void)
{
	static const uint8_t bytes[17] = { 1, 2, 3, 4, 5, 6, 'a', 'b', 'c', 9, 8, 7, 6, 5, 4, 3,
		2 };
	uint8_t again[17] = { 0 };
	struct sample sample;

	sample_decode(&sample, bytes);
	CHECK(sample.magic == 0x01020304 && sample.small == 0x0605);
	CHECK(!memcmp(sample.name, "abc", 3) && sample.size == UINT64_C(0x0908070605040302));
	sample_encode(&sample, again);
	CHECK(!memcmp(bytes, again, sizeof(bytes)));
}

static void one_byte_anywhere_is_not_zero(void)
{
	static uint8_t buf[600];

	for (size_t start = 0; start < 70; start++)
		for (size_t len = 0; len < 300; len++) {
			if (!vmimg_is_zero(buf + start, len))
				CHECK_NEVER("zero found to be data");
			if (!len)
				continue;
			buf[start + len - 1] = 1;
			if (vmimg_is_zero(buf + start, len))
				CHECK_NEVER("the last byte was missed");
			buf[start + len - 1] = 0;
			buf[start] = 0x80;
			if (vmimg_is_zero(buf + start, len))
				CHECK_NEVER("the first byte was missed");
			buf[start] = 0;
		}
}

static void errors_carry_context(void)
{
	struct vmimg_error err = { 0 };
	char name[400];

	CHECK(vmimg_fail(&err, VMIMG_ECORRUPT, "bad %d", 7) == -1);
	CHECK(vmimg_within(&err, "disk") == -1);
	CHECK_TEXT(err.text, "disk: bad 7");
	CHECK(err.status == VMIMG_ECORRUPT);
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = 0;
	vmimg_within(&err, "%s", name);
	CHECK(strlen(err.text) < sizeof(err.text));
	vmimg_fail(&err, VMIMG_ELIMIT, "the reason");
	for (int i = 0; i < 300; i++)
		vmimg_within(&err, "layer \xc3\xa9 %d", i);
	CHECK(!strncmp(err.text, "layer \xc3\xa9 299: ...", 16) && strstr(err.text, ": the reason"));
	CHECK(((uint8_t)strstr(err.text, "...")[3] & 0xc0) != 0x80);
	vmimg_fail_sys(&err, 28 /* ENOSPC */, "cannot write");
	CHECK(err.status == VMIMG_ESYSTEM && err.sys == 28 && strstr(err.text, "cannot write: "));
}

static const struct vmimg_option_spec specs[] = {
	{ "cluster_size", VMIMG_OPTION_SIZE, NULL, "" },
	{ "lazy", VMIMG_OPTION_BOOL, NULL, "" },
	{ "mode", VMIMG_OPTION_CHOICE, "off|full", "" },
	{ "label", VMIMG_OPTION_TEXT, NULL, "" },
	{ 0 },
};

static void options_are_split_and_read(void)
{
	struct vmimg_options options = { 0 };
	struct vmimg_error err = { 0 };

	CHECK(!vmimg_options_add(&options, "cluster_size=64k,label=a,,b,lazy", &err));
	CHECK(!vmimg_options_add(&options, "mode=off,mode=full", &err));
	CHECK(!vmimg_options_verify(&options, specs, "sample", &err));
	CHECK(vmimg_options_size(&options, "cluster_size", 1) == 65536);
	CHECK(vmimg_options_size(&options, "absent", 1) == 1);
	CHECK_TEXT(vmimg_options_text(&options, "label", ""), "a,b");
	CHECK_TEXT(vmimg_options_text(&options, "mode", ""), "full");
	CHECK(vmimg_options_bool(&options, "lazy", false));
	vmimg_options_done(&options);
}

static void wrong_options_are_refused(void)
{
	static const char *const bad[] = { "unknown=1", "cluster_size=big", "lazy=maybe", "mode=of",
		"mode=off|full", "mode=" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(bad); i++) {
		struct vmimg_options options = { 0 };
		struct vmimg_error err = { 0 };

		CHECK(!vmimg_options_add(&options, bad[i], &err));
		CHECK(vmimg_options_verify(&options, specs, "sample", &err) == -1);
		CHECK(err.status == VMIMG_EINVAL && err.text[0]);
		vmimg_options_done(&options);
	}
}

static void arrays_grow_and_take_hands_over(void)
{
	struct vmimg_error err = { 0 };
	uint32_t *items = NULL, *taken;
	size_t cap = 0;

	CHECK(!vmimg_grow_array(&items, &cap, 1, sizeof(*items), &err) && cap >= 1);
	CHECK(!vmimg_grow_array(&items, &cap, 1000, sizeof(*items), &err) && cap >= 1000);
	CHECK(vmimg_grow_array(&items, &cap, SIZE_MAX / 2, sizeof(*items), &err) == -1);
	CHECK(!vmimg_alloc_array(SIZE_MAX, 2, &err) && err.status == VMIMG_ENOMEM);
	taken = vmimg_take(items);
	CHECK(taken && !items);
	free(taken);
}

UNIT_TESTS(TEST(escape_shows_plain_text), TEST(escape_hides_controls),
	TEST(escape_refuses_bad_utf8), TEST(escape_cuts_at_whole_escapes),
	TEST(mask_leaves_what_can_be_shown), TEST(sizes_are_parsed), TEST(bad_sizes_are_refused),
	TEST(sizes_are_shown), TEST(arithmetic_does_not_wrap), TEST(layouts_go_both_ways),
	TEST(one_byte_anywhere_is_not_zero), TEST(errors_carry_context),
	TEST(options_are_split_and_read), TEST(wrong_options_are_refused),
	TEST(arrays_grow_and_take_hands_over));
UNIT_MAIN()

/* SPDX-License-Identifier: Apache-2.0 */
/* Registry hives made by hand, each wrong in one way: what is said of it. */
#include "check.h"
#include "inspect/hive.h"
#include "io/memory.h"
#include "util/bytes.h"

#define BASE  4096U
#define SIZE  (4U * BASE)
#define ROOT  0x20U /* cells, from the first bin on */
#define LIST  0x100U
#define CHILD 0x200U
#define TABLE 0x300U
#define VALUE 0x400U

static struct vmimg_error err;

static void cell(uint8_t *bytes, uint32_t at, uint32_t size, const char *magic)
{
	vmimg_put_le32(bytes + BASE + at, 0U - size);
	memcpy(bytes + BASE + at + 4, magic, strlen(magic));
}

static void key(uint8_t *bytes, uint32_t at, const char *name, uint32_t keys, uint32_t values)
{
	uint8_t *head = bytes + BASE + at + 4;

	cell(bytes, at, 0xa0, "nk");
	vmimg_put_le16(head + 2, 0x20); /* its name is ASCII */
	vmimg_put_le32(head + 20, keys);
	vmimg_put_le32(head + 28, LIST);
	vmimg_put_le32(head + 36, values);
	vmimg_put_le32(head + 40, TABLE);
	vmimg_put_le16(head + 72, (uint16_t)strlen(name));
	memcpy(head + 76, name, strlen(name));
}

/* A root with a key "Sub", which has a number "n" of 7. */
static uint8_t *make(void)
{
	uint8_t *bytes = calloc(1, SIZE), *value;

	CHECK(bytes != NULL);
	memcpy(bytes, "regf", 4);
	vmimg_put_le32(bytes + 36, ROOT);
	key(bytes, ROOT, "root", 1, 0);
	cell(bytes, LIST, 0x20, "lf");
	vmimg_put_le16(bytes + BASE + LIST + 6, 1);
	vmimg_put_le32(bytes + BASE + LIST + 8, CHILD);
	key(bytes, CHILD, "Sub", 0, 1);
	cell(bytes, TABLE, 0x10, "");
	vmimg_put_le32(bytes + BASE + TABLE + 4, VALUE);
	cell(bytes, VALUE, 0x40, "vk");
	value = bytes + BASE + VALUE + 4;
	vmimg_put_le16(value + 2, 1);
	vmimg_put_le32(value + 4, 0x80000004);
	vmimg_put_le32(value + 8, 7);
	vmimg_put_le32(value + 12, 4);
	vmimg_put_le16(value + 16, 1);
	value[20] = 'n';
	return bytes;
}

/* What comes of looking for Sub's number: 0 with it, or -1 with err. */
static int look_for(const uint8_t *bytes, size_t len, const char *path, uint32_t *number)
{
	struct vmimg_io *io = vmimg_memory_view(bytes, len, "hive", &err);
	struct vmimg_hive *hive = vmimg_hive_open(io, &err);
	uint32_t at = 0;
	bool found = false;
	int failed = !hive || vmimg_hive_find(hive, path, &at, &found, &err) ||
		(found && vmimg_hive_number(hive, at, "n", number, &found, &err));

	vmimg_hive_close(hive);
	vmimg_io_unref(io);
	return failed ? -1 : 0;
}

static void refuse(uint32_t at, uint32_t value, enum vmimg_status status, const char *words)
{
	uint8_t *bytes = make();
	uint32_t number = 0;

	vmimg_put_le32(bytes + at, value);
	CHECK(look_for(bytes, SIZE, "Sub", &number) == -1 && err.status == status);
	CHECK(strstr(err.text, words) != NULL);
	free(bytes);
}

static void a_number_is_found(void)
{
	uint8_t *bytes = make();
	uint32_t number = 0;

	CHECK(!look_for(bytes, SIZE, "sub", &number) && number == 7);
	free(bytes);
}

static void what_is_wrong_is_said(void)
{
	refuse(0, 0, VMIMG_EFORMAT, "no registry hive");
	refuse(36, 0x7ffffff0, VMIMG_ECORRUPT, "past the end");
	refuse(BASE + ROOT, 0xa0, VMIMG_ECORRUPT, "is not in use");
	refuse(BASE + ROOT, 0U - 0x10, VMIMG_ECORRUPT, "is too short");
	refuse(BASE + ROOT, 0U - 1, VMIMG_ECORRUPT, "is too short");
	refuse(BASE + LIST, 0U - 0x8, VMIMG_ECORRUPT, "is too short");
	refuse(BASE + ROOT + 4, 0, VMIMG_ECORRUPT, "is no key");
	refuse(BASE + CHILD + 4, 0, VMIMG_ECORRUPT, "is no key");
	refuse(BASE + LIST + 4, 0, VMIMG_ECORRUPT, "is no list of keys");
	refuse(BASE + CHILD + 4 + 40, 0x7ffffff0, VMIMG_ECORRUPT, "past the end");
}

static void too_short_for_one(void)
{
	uint32_t number;

	CHECK(look_for((const uint8_t *)"regf", 4, "Sub", &number) == -1);
	CHECK(err.status == VMIMG_EFORMAT);
}

static void a_name_has_a_limit(void)
{
	uint8_t *bytes = make();
	char name[3000];
	uint32_t number;

	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	CHECK(look_for(bytes, SIZE, name, &number) == -1 && strstr(err.text, "no such name"));
	free(bytes);
}

/* A list of lists that all are the same list of many: each cell is cheap, and there is an end. */
static void cells_have_a_limit(void)
{
	const uint32_t lists = 60000, size = BASE + 0x100000;
	uint8_t *bytes = calloc(1, size);
	uint32_t number, outer = 0x1000, inner = 0x80000;

	CHECK(bytes != NULL);
	memcpy(bytes, "regf", 4);
	vmimg_put_le32(bytes + 36, ROOT);
	key(bytes, ROOT, "root", 1, 0);
	vmimg_put_le32(bytes + BASE + ROOT + 4 + 28, outer);
	key(bytes, CHILD, "Other", 0, 0);
	cell(bytes, outer, 4 + 4 * lists + 4, "ri");
	vmimg_put_le16(bytes + BASE + outer + 6, (uint16_t)lists);
	cell(bytes, inner, 4 + 4 * lists + 4, "li");
	vmimg_put_le16(bytes + BASE + inner + 6, (uint16_t)lists);
	for (uint32_t i = 0; i < lists; i++) {
		vmimg_put_le32(bytes + BASE + outer + 8 + 4 * i, inner);
		vmimg_put_le32(bytes + BASE + inner + 8 + 4 * i, CHILD);
	}
	CHECK(look_for(bytes, size, "Sub", &number) == -1 && err.status == VMIMG_ELIMIT);
	free(bytes);
}

UNIT_TESTS(TEST(a_number_is_found), TEST(what_is_wrong_is_said), TEST(too_short_for_one),
	TEST(a_name_has_a_limit), TEST(cells_have_a_limit));
UNIT_MAIN()

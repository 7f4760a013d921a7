/* SPDX-License-Identifier: Apache-2.0 */
/* What makes a disk start: partition tables, the EFI system partition and the program on it, byte
 * by byte. That firmware starts them is shown in tests/boot. */
#include <stdlib.h>
#include "bundle/boot/table.h"
#include "bundle/fat.h"
#include "bundle/uki.h"
#include "check.h"
#include "io/memory.h"
#include "util/bytes.h"
#include "util/num.h"

static struct vmimg_error err;

/* ---- partition tables ---- */

/* The CRC of GPTs, bit by bit, so that it is not the writer's own that judges it. */
static uint32_t crc_of(const uint8_t *bytes, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= bytes[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320U : 0);
	}
	return ~crc;
}

static struct vmimg_guid guid_of(const char *text)
{
	struct vmimg_guid guid = { { 0 } };

	CHECK(vmimg_guid_parse(&guid, text, strlen(text)));
	return guid;
}

static void a_crc_is_the_known_one(void)
{
	CHECK(crc_of((const uint8_t *)"123456789", 9) == 0xcbf43926U);
}

static void an_mbr_has_its_entries(void)
{
	static uint8_t code[VMIMG_BOOT_CODE], out[VMIMG_SECTOR];
	const struct vmimg_slot slots[] = {
		{ .number = 1, .first = 2048, .count = 4096, .mbr_type = 0xef, .active = true },
		{ .number = 3, .first = UINT64_C(1) << 31, .count = 8, .mbr_type = 0x83 },
	};
	const struct vmimg_table_plan plan = { .sectors = UINT64_C(1) << 32,
		.mbr_id = 0x11223344,
		.boot_code = code,
		.slots = slots,
		.count = 2 };

	memset(code, 0xc0, sizeof(code));
	vmimg_mbr_write(&plan, out);
	CHECK(out[0] == 0xc0 && out[439] == 0xc0);
	CHECK(vmimg_get_le32(out + 440) == 0x11223344 && vmimg_get_le16(out + 444) == 0);
	/* 2048 is cylinder 0, head 32, sector 33; 6143 is 0, 97, 33 */
	CHECK(!memcmp(out + 446, "\x80\x20\x21\x00\xef\x61\x21\x00", 8));
	CHECK(vmimg_get_le32(out + 454) == 2048 && vmimg_get_le32(out + 458) == 4096);
	CHECK(vmimg_get_le64(out + 462) == 0 && vmimg_get_le64(out + 470) == 0);
	CHECK(!memcmp(out + 478, "\x00\xfe\xff\xff\x83\xfe\xff\xff", 8));
	CHECK(vmimg_get_le32(out + 486) == 0x80000000U && vmimg_get_le32(out + 490) == 8);
	CHECK(vmimg_get_le64(out + 494) == 0 && vmimg_get_le16(out + 510) == 0xaa55);
}

#define DISK_GUID "00112233-4455-6677-8899-aabbccddeeff"
#define ESP_TYPE  "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"

static void write_gpt(uint64_t sectors, uint8_t head[VMIMG_GPT_HEAD], uint8_t tail[VMIMG_GPT_TAIL])
{
	const struct vmimg_slot slot = { .number = 2,
		.first = 2048,
		.count = 100,
		.type = ESP_TYPE,
		.guid = guid_of("ffeeddcc-bbaa-9988-7766-554433221100"),
		.name = "EFI",
		.attributes = VMIMG_GPT_LEGACY_BOOT };
	const struct vmimg_table_plan plan = {
		.sectors = sectors, .guid = guid_of(DISK_GUID), .slots = &slot, .count = 1
	};

	vmimg_gpt_write(&plan, head, tail);
}

static uint8_t head[VMIMG_GPT_HEAD], tail[VMIMG_GPT_TAIL];

/* A header at its place, the other's, and where its entries are. */
static void check_gpt_header(const uint8_t *header, uint64_t self, uint64_t other, uint64_t entries)
{
	uint8_t copy[92];

	CHECK(!memcmp(header, "EFI PART\0\0\1\0\x5c\0\0\0", 16));
	CHECK(vmimg_get_le64(header + 24) == self && vmimg_get_le64(header + 32) == other);
	CHECK(vmimg_get_le64(header + 40) == 34 && vmimg_get_le64(header + 48) == 9966);
	CHECK(!memcmp(header + 56,
		"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff", 16));
	CHECK(vmimg_get_le64(header + 72) == entries);
	CHECK(vmimg_get_le32(header + 80) == 128 && vmimg_get_le32(header + 84) == 128);
	CHECK(vmimg_get_le32(header + 88) == crc_of(head + 1024, (size_t)128 * 128));
	memcpy(copy, header, sizeof(copy));
	memset(copy + 16, 0, 4);
	CHECK(vmimg_get_le32(header + 16) == crc_of(copy, sizeof(copy)));
	for (size_t i = sizeof(copy); i < VMIMG_SECTOR; i++)
		CHECK(!header[i]);
}

static void a_gpt_has_two_headers(void)
{
	write_gpt(10000, head, tail);
	check_gpt_header(head + 512, 1, 9999, 2);
	check_gpt_header(tail + VMIMG_GPT_TAIL - 512, 9999, 1, 9967);
	CHECK(!memcmp(head + 1024, tail, (size_t)128 * 128));
}

static void a_gpt_has_its_entry(void)
{
	const uint8_t *entry = head + 1024 + 128;
	static const uint8_t none[128];

	write_gpt(10000, head, tail);
	CHECK(!memcmp(head + 1024, none, 128) && !memcmp(entry + 128, none, 128));
	CHECK(!memcmp(
		entry, "\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b", 16));
	CHECK(!memcmp(entry + 16, "\xcc\xdd\xee\xff\xaa\xbb\x88\x99\x77\x66", 10));
	CHECK(vmimg_get_le64(entry + 32) == 2048 && vmimg_get_le64(entry + 40) == 2147);
	CHECK(vmimg_get_le64(entry + 48) == 4);
	CHECK(!memcmp(entry + 56, "E\0F\0I\0\0\0", 8));
}

static void a_gpt_is_guarded_by_an_mbr(void)
{
	static const uint8_t none[48];

	write_gpt(10000, head, tail);
	CHECK(!memcmp(head + 446, "\x00\x00\x02\x00\xee", 5));
	CHECK(vmimg_get_le32(head + 454) == 1 && vmimg_get_le32(head + 458) == 9999);
	CHECK(!memcmp(head + 462, none, sizeof(none)) && vmimg_get_le16(head + 510) == 0xaa55);
	/* beyond what 32 bits can say, it says all that they can */
	write_gpt(UINT64_C(1) << 33, head, tail);
	CHECK(!memcmp(head + 451, "\xfe\xff\xff", 3));
	CHECK(vmimg_get_le32(head + 458) == UINT32_MAX);
}

/* ---- FAT32 ---- */

static struct vmimg_io *io_of(const void *bytes, size_t len, const char *name)
{
	struct vmimg_io *io = vmimg_memory_view(bytes, len, name, &err);

	CHECK(io != NULL);
	return io;
}

static void read_at(struct vmimg_io *io, void *to, size_t len, uint64_t at)
{
	CHECK(!vmimg_io_pread(io, to, len, at, &err));
}

#define FAT_SIZE (UINT64_C(40) << 20)
/* of 81920 sectors: 32 in front, twice 640 of tables, and a cluster for each of the others */
#define FAT_TABLE   (UINT64_C(32) * 512)
#define FAT_DATA    ((32 + 2 * UINT64_C(640)) * 512)
#define FAT_CLUSTER UINT64_C(512)

static struct vmimg_io *write_fat(uint64_t size, struct vmimg_io *content)
{
	const struct vmimg_fat_file files[] = {
		{ .name = "EFI" },
		{ .name = "linux.efi", .io = content, .folder = 1 },
	};
	const struct vmimg_fat_plan plan = { .size = size,
		.hidden = 2048,
		.volume_id = 0x12345678,
		.label = "ESP",
		.epoch = 1000000000, /* 2001-09-09 01:46:40 */
		.files = files,
		.count = 2 };

	return vmimg_fat_write(&plan, &err);
}

static void fat_says_what_it_is(void)
{
	struct vmimg_io *content = io_of("abc", 3, "content");
	struct vmimg_io *io = write_fat(FAT_SIZE, content);
	uint8_t boot[512], other[512];

	CHECK(io && vmimg_io_size(io) == FAT_SIZE);
	read_at(io, boot, 512, 0);
	CHECK(boot[0] == 0xeb && boot[2] == 0x90 && vmimg_get_le16(boot + 510) == 0xaa55);
	CHECK(vmimg_get_le16(boot + 11) == 512 && boot[13] == 1 && vmimg_get_le16(boot + 14) == 32);
	/* two tables; what only FAT12 and FAT16 have is zero */
	CHECK(boot[16] == 2 && vmimg_get_le32(boot + 17) == 0 && boot[21] == 0xf8);
	CHECK(vmimg_get_le16(boot + 22) == 0 && vmimg_get_le32(boot + 28) == 2048);
	CHECK(vmimg_get_le32(boot + 32) == 81920 && vmimg_get_le32(boot + 36) == 640);
	CHECK(vmimg_get_le32(boot + 44) == 2 && vmimg_get_le16(boot + 48) == 1);
	CHECK(vmimg_get_le16(boot + 50) == 6 && boot[64] == 0x80 && boot[66] == 0x29);
	CHECK(vmimg_get_le32(boot + 67) == 0x12345678);
	CHECK(!memcmp(boot + 71, "ESP        FAT32   ", 19));
	read_at(io, other, 512, UINT64_C(6) * 512);
	CHECK(!memcmp(boot, other, 512));
	read_at(io, boot, 512, 512);
	CHECK(vmimg_get_le32(boot) == 0x41615252 && vmimg_get_le32(boot + 484) == 0x61417272);
	/* root and folder have 8 clusters each, the file one, of 80608; numbers begin at 2 */
	CHECK(vmimg_get_le32(boot + 488) == 80608 - 17 && vmimg_get_le32(boot + 492) == 19);
	vmimg_io_unref(io);
	vmimg_io_unref(content);
}

static void fat_has_its_chains(void)
{
	struct vmimg_io *content = io_of("abc", 3, "content");
	struct vmimg_io *io = write_fat(FAT_SIZE, content);
	uint8_t table[80], other[80];

	read_at(io, table, sizeof(table), FAT_TABLE);
	read_at(io, other, sizeof(other), FAT_TABLE + UINT64_C(640) * 512);
	CHECK(!memcmp(table, other, sizeof(table)));
	CHECK(vmimg_get_le32(table) == 0x0ffffff8 && vmimg_get_le32(table + 4) == 0x0fffffff);
	for (uint32_t i = 2; i < 9; i++)
		CHECK(vmimg_get_le32(table + 4 * i) == i + 1);
	CHECK(vmimg_get_le32(table + 36) == 0x0fffffff);
	CHECK(vmimg_get_le32(table + 40) == 11 && vmimg_get_le32(table + 68) == 0x0fffffff);
	CHECK(vmimg_get_le32(table + 72) == 0x0fffffff && vmimg_get_le32(table + 76) == 0);
	vmimg_io_unref(io);
	vmimg_io_unref(content);
}

static void fat_has_its_files(void)
{
	struct vmimg_io *content = io_of("abc", 3, "content");
	struct vmimg_io *io = write_fat(FAT_SIZE, content);
	uint8_t entries[128], bytes[4];

	read_at(io, entries, sizeof(entries), FAT_DATA);
	CHECK(!memcmp(entries, "ESP        \x08", 12));
	CHECK(!memcmp(entries + 32, "EFI        \x10\x00", 13));
	CHECK(vmimg_get_le16(entries + 32 + 26) == 10 && vmimg_get_le32(entries + 32 + 28) == 0);
	CHECK(!entries[64]);
	read_at(io, entries, sizeof(entries), FAT_DATA + 8 * FAT_CLUSTER);
	CHECK(!memcmp(entries, ".          \x10", 12) && vmimg_get_le16(entries + 26) == 10);
	CHECK(!memcmp(entries + 32, "..         \x10", 12) && vmimg_get_le16(entries + 58) == 0);
	/* in lower case both, of three bytes, in cluster 18 */
	CHECK(!memcmp(entries + 64, "LINUX   EFI\x20\x18", 13));
	CHECK(vmimg_get_le16(entries + 64 + 22) == (1 << 11 | 46 << 5 | 20));
	CHECK(vmimg_get_le16(entries + 64 + 24) == (21 << 9 | 9 << 5 | 9));
	CHECK(vmimg_get_le16(entries + 64 + 26) == 18 && vmimg_get_le32(entries + 64 + 28) == 3);
	read_at(io, bytes, sizeof(bytes), FAT_DATA + 16 * FAT_CLUSTER);
	CHECK(!memcmp(bytes, "abc\0", 4));
	vmimg_io_unref(io);
	vmimg_io_unref(content);
}

static void fat_needs_room(void)
{
	size_t len = (size_t)FAT_SIZE;
	uint8_t *bytes = calloc(1, len);
	struct vmimg_io *content = io_of("abc", 3, "content"), *large = io_of(bytes, len, "large");

	CHECK(bytes != NULL);
	/* FAT32 is what has more clusters than FAT16 can count */
	CHECK(!write_fat(UINT64_C(32) << 20, content) && err.status == VMIMG_EINVAL);
	CHECK(!write_fat(FAT_SIZE, large) && err.status == VMIMG_EINVAL);
	CHECK(vmimg_fat_size(1) == FAT_SIZE && vmimg_fat_size(FAT_SIZE) > FAT_SIZE);
	vmimg_io_unref(large);
	vmimg_io_unref(content);
	free(bytes);
}

/* ---- unified kernel images ---- */

enum { PE_AT = 0x40, TABLE_AT = PE_AT + 24 + 240, TEXT_AT = 1024, STUB_LEN = 1536 };

/* A stub as small as can be: PE32+, one section of code at 0x1000, alignments of 512 and 4096. */
static void make_stub(uint8_t stub[STUB_LEN], unsigned sections)
{
	uint8_t *optional = stub + PE_AT + 24, *section = stub + TABLE_AT;

	memset(stub, 0, STUB_LEN);
	memcpy(stub, "MZ", 2);
	vmimg_put_le32(stub + 0x3c, PE_AT);
	memcpy(stub + PE_AT, "PE\0\0", 4);
	vmimg_put_le16(stub + PE_AT + 4, 0x8664);
	vmimg_put_le16(stub + PE_AT + 6, (uint16_t)sections);
	vmimg_put_le32(stub + PE_AT + 12, 1400); /* symbols, which are dropped */
	vmimg_put_le32(stub + PE_AT + 16, 3);
	vmimg_put_le16(stub + PE_AT + 20, 240);
	vmimg_put_le16(optional, 0x20b);
	vmimg_put_le32(optional + 32, 4096);
	vmimg_put_le32(optional + 36, 512);
	vmimg_put_le32(optional + 56, 0x2000);
	vmimg_put_le32(optional + 60, TEXT_AT);
	vmimg_put_le32(optional + 64, 0xdeadbeef);
	for (unsigned i = 0; i < sections; i++, section += 40) {
		memcpy(section, ".text\0\0", 8);
		vmimg_put_le32(section + 8, 100);
		vmimg_put_le32(section + 12, 0x1000);
		vmimg_put_le32(section + 16, 512);
		vmimg_put_le32(section + 20, TEXT_AT);
	}
	memset(stub + TEXT_AT, 0x90, 512);
}

static struct vmimg_io *write_uki(const uint8_t *stub, size_t len, struct vmimg_io *kernel)
{
	struct vmimg_io *program = io_of(stub, len, "stub");
	struct vmimg_io *ramdisk = io_of("the ramdisk", 11, "ramdisk"), *io;
	const struct vmimg_uki uki = { .stub = program,
		.kernel = kernel,
		.ramdisk = ramdisk,
		.cmdline = "root=/dev/vda2",
		.os_release = "ID=x\n" };

	io = vmimg_uki_write(&uki, &err);
	vmimg_io_unref(program);
	vmimg_io_unref(ramdisk);
	return io;
}

static const uint8_t kernel_bytes[5000] = { 'K' };

static void check_section(const uint8_t *section, const char *name, uint32_t len, uint32_t address,
	uint32_t raw_len, uint32_t raw_at)
{
	char shown[9] = { 0 };

	memcpy(shown, section, 8);
	CHECK_TEXT(shown, name);
	CHECK(vmimg_get_le32(section + 8) == len && vmimg_get_le32(section + 12) == address);
	CHECK(vmimg_get_le32(section + 16) == raw_len && vmimg_get_le32(section + 20) == raw_at);
	CHECK(vmimg_get_le32(section + 36) == 0x40000040);
}

static void a_uki_has_its_sections(void)
{
	struct vmimg_io *kernel = io_of(kernel_bytes, sizeof(kernel_bytes), "kernel"), *io;
	uint8_t stub[STUB_LEN], bytes[TEXT_AT];

	make_stub(stub, 1);
	io = write_uki(stub, sizeof(stub), kernel);
	CHECK(io != NULL);
	read_at(io, bytes, sizeof(bytes), 0);
	CHECK(vmimg_get_le16(bytes + PE_AT + 6) == 5);
	CHECK(!memcmp(bytes + TABLE_AT, stub + TABLE_AT, 40));
	check_section(bytes + TABLE_AT + 40, ".osrel", 5, 0x2000, 512, 1536);
	check_section(bytes + TABLE_AT + 80, ".cmdline", 14, 0x3000, 512, 2048);
	check_section(bytes + TABLE_AT + 120, ".linux", 5000, 0x4000, 5120, 2560);
	check_section(bytes + TABLE_AT + 160, ".initrd", 11, 0x6000, 512, 7680);
	CHECK(vmimg_io_size(io) == 8192);
	/* the image ends where its last page does; no symbols and no checksum */
	CHECK(vmimg_get_le32(bytes + PE_AT + 24 + 56) == 0x7000);
	CHECK(vmimg_get_le64(bytes + PE_AT + 12) == 0);
	CHECK(vmimg_get_le32(bytes + PE_AT + 24 + 64) == 0);
	vmimg_io_unref(io);
	vmimg_io_unref(kernel);
}

static void a_uki_comes_apart(void)
{
	struct vmimg_io *kernel = io_of(kernel_bytes, sizeof(kernel_bytes), "kernel"), *io, *part;
	uint8_t stub[STUB_LEN], bytes[16];

	make_stub(stub, 1);
	io = write_uki(stub, sizeof(stub), kernel);
	CHECK(!vmimg_uki_section(io, ".cmdline", &part, &err) && part);
	CHECK(vmimg_io_size(part) == 14);
	read_at(part, bytes, 14, 0);
	CHECK(!memcmp(bytes, "root=/dev/vda2", 14));
	vmimg_io_unref(part);
	CHECK(!vmimg_uki_section(io, ".linux", &part, &err) && part);
	CHECK(vmimg_io_size(part) == sizeof(kernel_bytes));
	vmimg_io_unref(part);
	CHECK(!vmimg_uki_section(io, ".splash", &part, &err) && !part);
	vmimg_io_unref(io);
	vmimg_io_unref(kernel);
}

/* 1024 bytes of headers, of which the table has 680: 17 entries. */
static void a_uki_needs_room(void)
{
	struct vmimg_io *kernel = io_of(kernel_bytes, sizeof(kernel_bytes), "kernel"), *io;
	uint8_t stub[STUB_LEN];

	make_stub(stub, 13);
	io = write_uki(stub, sizeof(stub), kernel);
	CHECK(io != NULL);
	vmimg_io_unref(io);
	make_stub(stub, 14);
	CHECK(!write_uki(stub, sizeof(stub), kernel) && err.status == VMIMG_EUNSUPPORTED);
	vmimg_io_unref(kernel);
}

static void check_refused(const uint8_t *stub, size_t len, enum vmimg_status status)
{
	struct vmimg_io *kernel = io_of(kernel_bytes, sizeof(kernel_bytes), "kernel");
	struct vmimg_io *io = write_uki(stub, len, kernel);

	CHECK(!io && err.status == status);
	vmimg_io_unref(io);
	vmimg_io_unref(kernel);
}

static void what_is_no_stub_is_refused(void)
{
	static const struct {
		size_t at;
		uint8_t byte;
	} changes[] = {
		{ 0, 'X' }, { 0x3f, 0xff }, { PE_AT, 'X' }, { PE_AT + 6, 97 }, /* sections */
		{ PE_AT + 20, 60 },        /* of an optional header that ends too soon */
		{ PE_AT + 24 + 33, 0x30 }, /* pages of 12 KiB */
		{ PE_AT + 24 + 36, 1 },    /* files of odd alignment */
		{ TABLE_AT + 23, 0x7f },   /* a section behind the end */
		{ PE_AT + 24 + 61, 0 },    /* headers of no bytes */
	};
	uint8_t stub[STUB_LEN];

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(changes); i++) {
		make_stub(stub, 1);
		stub[changes[i].at] = changes[i].byte;
		check_refused(stub, sizeof(stub), VMIMG_EFORMAT);
	}
	make_stub(stub, 1);
	check_refused(stub, 63, VMIMG_EFORMAT);
	check_refused(stub, PE_AT + 30, VMIMG_EFORMAT);
}

static void nothing_is_no_kernel(void)
{
	struct vmimg_io *kernel = io_of("", 0, "kernel");
	uint8_t stub[STUB_LEN];

	make_stub(stub, 1);
	CHECK(!write_uki(stub, sizeof(stub), kernel) && err.status == VMIMG_EINVAL);
	vmimg_io_unref(kernel);
}

UNIT_TESTS(TEST(a_crc_is_the_known_one), TEST(an_mbr_has_its_entries), TEST(a_gpt_has_two_headers),
	TEST(a_gpt_has_its_entry), TEST(a_gpt_is_guarded_by_an_mbr), TEST(fat_says_what_it_is),
	TEST(fat_has_its_chains), TEST(fat_has_its_files), TEST(fat_needs_room),
	TEST(a_uki_has_its_sections), TEST(a_uki_comes_apart), TEST(a_uki_needs_room),
	TEST(what_is_no_stub_is_refused), TEST(nothing_is_no_kernel));
UNIT_MAIN()

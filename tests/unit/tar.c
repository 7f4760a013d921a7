/* SPDX-License-Identifier: Apache-2.0 */
/* Tar archives: what is written, what is read back, and what is refused. The real programs'
 * archives are read in tests/bundle. */
#include <stdlib.h>
#include "bundle/tar_header.h"
#include "check.h"
#include "io/digest.h"
#include "io/memory.h"
#include "io/sparse.h"

static struct vmimg_error err;

static struct vmimg_tar_writer *writer_of(struct vmimg_io **io)
{
	*io = vmimg_memory_new("tar", &err);
	return vmimg_tar_writer_new(*io, 1234567890, &err);
}

static void finish(struct vmimg_tar_writer *writer)
{
	CHECK(!vmimg_tar_finish(writer, &err));
	vmimg_tar_writer_free(writer);
}

/* Writes the checksum of a header that a test has changed. */
static void mend(struct vmimg_io *io, uint64_t at)
{
	uint8_t block[VMIMG_TAR_BLOCK];
	char sum[8];

	CHECK(!vmimg_io_pread(io, block, sizeof(block), at, &err));
	snprintf(sum, sizeof(sum), "%06o", vmimg_tar_sum(block, false));
	CHECK(!vmimg_io_pwrite(io, sum, 7, at + 148, &err));
}

static void members_come_back(void)
{
	char name[] = "folder/a-name-of-more-than-a-hundred-bytes-in-all-0123456789"
		      "-0123456789-0123456789/0123456789-0123456789-0123456789";
	const struct vmimg_tar_member *member;
	struct vmimg_tar_writer *writer;
	struct vmimg_tar *tar;
	struct vmimg_io *io, *file;
	char buf[3];
	uint64_t at;

	writer = writer_of(&io);
	CHECK(!vmimg_tar_put(writer, "one", "abc", 3, &err));
	CHECK(!vmimg_tar_begin(writer, name, VMIMG_TAR_SIZE_LATER, &at, &err) && at == 1536);
	CHECK(!vmimg_io_pwrite(io, "xyz", 3, at, &err) && !vmimg_tar_end(writer, 3, &err));
	CHECK(!vmimg_tar_put(writer, "empty", "", 0, &err));
	finish(writer);
	tar = vmimg_tar_open(io, &err);
	CHECK(tar && vmimg_tar_count(tar) == 3 && vmimg_io_size(io) == 3584);
	member = vmimg_tar_find(tar, name);
	CHECK(member && member->size == 3);
	file = vmimg_tar_open_member(tar, member, &err);
	CHECK(!vmimg_io_pread(file, buf, 3, 0, &err) && !memcmp(buf, "xyz", 3));
	vmimg_io_unref(file);
	CHECK(!vmimg_tar_find(tar, "two"));
	vmimg_tar_free(tar);
	vmimg_io_unref(io);
}

static void eight_gigabytes_are_base_256(void)
{
	const uint64_t sizes[] = { (UINT64_C(1) << 33) - 1, UINT64_C(1) << 33, UINT64_C(1) << 40 };
	uint8_t block[VMIMG_TAR_BLOCK];

	for (size_t i = 0; i < 3; i++) {
		struct vmimg_tar_writer *writer;
		struct vmimg_io *io;
		uint64_t at, size;

		writer = writer_of(&io);
		CHECK(!vmimg_tar_begin(writer, "big", sizes[i], &at, &err));
		CHECK(!vmimg_io_pread(io, block, sizeof(block), 0, &err));
		CHECK(vmimg_tar_probe(block, sizeof(block)));
		CHECK((block[124] & 0x80) == (i ? 0x80 : 0));
		CHECK(!memcmp(block + 257, i ? "ustar  " : "ustar\0", 6));
		CHECK(vmimg_tar_number(block + 124, 12, &size) && size == sizes[i]);
		vmimg_tar_writer_free(writer);
		vmimg_io_unref(io);
	}
}

static void numbers_are_bounded(void)
{
	uint64_t value = 7;
	uint8_t huge[12] = { 0x80, 0, 0, 0, 0x80 }, negative[12], more[12] = { 0x80, 0, 0, 1 };

	memset(negative, 0xff, sizeof(negative));
	CHECK(!vmimg_tar_number(negative, 12, &value) && !vmimg_tar_number(more, 12, &value));
	CHECK(vmimg_tar_number((const uint8_t *)"0000644 ", 8, &value) && value == 0644);
	CHECK(vmimg_tar_number((const uint8_t *)"  17\0abc", 8, &value) && value == 15);
	CHECK(!vmimg_tar_number((const uint8_t *)"0009999\0", 8, &value));
	CHECK(!vmimg_tar_number(huge, 12, &value) && value == 15);
}

/* An archive of one member, changed by the caller, that must not open. */
/* A disk whose bytes happen to sum up to nothing, or to a number in base 256, is no archive. */
static void what_has_no_sum_is_none(void)
{
	uint8_t block[512] = { 'X', 'F', 'S', 'B' };
	int sum = 'X' + 'F' + 'S' + 'B' + 8 * ' ';

	for (size_t i = 0; sum > 0; i++) { /* signed */
		int step = sum > 128 ? 128 : sum;

		block[200 + i] = (uint8_t)-step;
		sum -= step;
	}
	CHECK(!vmimg_tar_probe(block, sizeof(block)));
	block[148] = 0x80;
	block[154] = (uint8_t)(vmimg_tar_sum(block, false) >> 8);
	block[155] = (uint8_t)vmimg_tar_sum(block, false);
	CHECK(!vmimg_tar_probe(block, sizeof(block)));
}

static void refuse(uint64_t at, const void *bytes, size_t len, enum vmimg_status status)
{
	struct vmimg_tar_writer *writer;
	struct vmimg_tar *tar;
	struct vmimg_io *io;

	writer = writer_of(&io);
	CHECK(!vmimg_tar_put(writer, "one", "abc", 3, &err));
	finish(writer);
	CHECK(!vmimg_io_pwrite(io, bytes, len, at, &err));
	mend(io, 0);
	tar = vmimg_tar_open(io, &err);
	CHECK(!tar && err.status == status);
	vmimg_tar_free(tar);
	vmimg_io_unref(io);
}

static void what_is_wrong_is_refused(void)
{
	refuse(124, "\x80\0\0\0\x80\0\0\0\0\0\0\0", 12, VMIMG_ECORRUPT);
	refuse(124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, VMIMG_ECORRUPT);
	refuse(124, "00000100000", 12, VMIMG_ECORRUPT); /* past the end */
	refuse(0, "../x", 5, VMIMG_EREFUSED);
	refuse(0, "/etc/passwd", 12, VMIMG_EREFUSED);
	refuse(0, "a/../../x", 10, VMIMG_EREFUSED);
	refuse(0, "a//b", 5, VMIMG_EREFUSED);
}

static void nothing_lies_behind_a_link(void)
{
	struct vmimg_tar_writer *writer;
	struct vmimg_tar *tar;
	struct vmimg_io *io;

	writer = writer_of(&io);
	CHECK(!vmimg_tar_put(writer, "x", "", 0, &err));
	CHECK(!vmimg_tar_put(writer, "x/f", "abc", 3, &err));
	finish(writer);
	tar = vmimg_tar_open(io, &err);
	CHECK(tar);
	vmimg_tar_free(tar);
	CHECK(!vmimg_io_pwrite(io, "2../../", 7, 156, &err));
	mend(io, 0);
	tar = vmimg_tar_open(io, &err);
	CHECK(!tar && err.status == VMIMG_EREFUSED);
	vmimg_io_unref(io);
}

static void pax_records_are_held_to_their_length(void)
{
	struct vmimg_tar_pax pax = { .size = VMIMG_TAR_NONE };
	char good[] = "12 size=123\n14 path=a/b c\n", negative[] = "11 size=-1\n";
	char longer[] = "99 size=1\n", shorter[] = "2 size=1\n", bare[] = "10 size 1\n";

	CHECK(!vmimg_tar_pax_parse(&pax, good, sizeof(good) - 1, &err) && pax.size == 123);
	CHECK_TEXT(pax.path, "a/b c");
	pax = (struct vmimg_tar_pax){ .size = VMIMG_TAR_NONE };
	CHECK(vmimg_tar_pax_parse(&pax, negative, sizeof(negative) - 1, &err) == -1);
	CHECK(vmimg_tar_pax_parse(&pax, longer, sizeof(longer) - 1, &err) == -1);
	CHECK(vmimg_tar_pax_parse(&pax, shorter, sizeof(shorter) - 1, &err) == -1);
	CHECK(vmimg_tar_pax_parse(&pax, bare, sizeof(bare) - 1, &err) == -1);
	CHECK(pax.size == VMIMG_TAR_NONE);
}

static void sparse_files_have_their_holes(void)
{
	const struct vmimg_sparse_run runs[] = { { 2, 3 }, { 5, 1 }, { 8, 2 } };
	const struct vmimg_sparse_run wrong[] = { { 2, 3 }, { 4, 1 } };
	struct vmimg_io *stored = vmimg_memory_view("##abcdef", 8, "m", &err);
	struct vmimg_io *io = vmimg_sparse_open(stored, 2, runs, 3, 12, "s", &err);
	char buf[12];
	uint64_t len;
	bool hole;

	CHECK(!vmimg_io_pread(io, buf, 12, 0, &err));
	CHECK(!memcmp(buf, "\0\0abcd\0\0ef\0\0", 12));
	for (size_t at = 0; at < 12; at++)
		CHECK(!vmimg_io_pread(io, buf, 1, at, &err) && buf[0] == "\0\0abcd\0\0ef\0\0"[at]);
	CHECK(!vmimg_io_extent(io, 0, &hole, &len, &err) && hole && len == 2);
	CHECK(!vmimg_io_extent(io, 3, &hole, &len, &err) && !hole && len == 2);
	CHECK(!vmimg_io_extent(io, 10, &hole, &len, &err) && hole && len == 2);
	vmimg_io_unref(io);
	CHECK(!vmimg_sparse_open(stored, 2, wrong, 2, 12, "s", &err));
	CHECK(!vmimg_sparse_open(stored, 2, runs, 3, 9, "s", &err));
	CHECK(!vmimg_sparse_open(stored, 4, runs, 3, 12, "s", &err));
	vmimg_io_unref(stored);
}

static void digests_count_the_gaps(void)
{
	struct vmimg_hash *hash = vmimg_hash_new("sha256", &err);
	struct vmimg_io *memory = vmimg_memory_new("m", &err);
	struct vmimg_io *io = vmimg_digest_open(memory, 100, hash, "d", &err);
	uint8_t digest[VMIMG_HASH_MAX], again[VMIMG_HASH_MAX];

	CHECK(io->in_order && !vmimg_io_pwrite(io, "ab", 2, 0, &err));
	CHECK(!vmimg_io_pwrite(io, "c", 1, 5, &err) && vmimg_io_size(io) == 6);
	CHECK(vmimg_io_pwrite(io, "x", 1, 3, &err) == -1 && err.status == VMIMG_EUNSUPPORTED);
	CHECK(!memcmp(vmimg_memory_bytes(memory) + 100, "ab\0\0\0c", 6));
	vmimg_hash_final(hash, digest);
	vmimg_hash_update(hash, "ab\0\0\0c", 6);
	vmimg_hash_final(hash, again);
	CHECK(!memcmp(digest, again, 32));
	vmimg_io_unref(io);
	vmimg_io_unref(memory);
	vmimg_hash_free(hash);
}

UNIT_TESTS(TEST(members_come_back), TEST(eight_gigabytes_are_base_256), TEST(numbers_are_bounded),
	TEST(what_is_wrong_is_refused), TEST(nothing_lies_behind_a_link),
	TEST(pax_records_are_held_to_their_length), TEST(sparse_files_have_their_holes),
	TEST(digests_count_the_gaps), TEST(what_has_no_sum_is_none));
UNIT_MAIN()

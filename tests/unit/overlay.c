/* SPDX-License-Identifier: Apache-2.0 */
/* Patches over an io, against the same patches applied to plain memory. */
#include <stdlib.h>
#include "check.h"
#include "io/memory.h"
#include "io/overlay.h"

#define INNER 300U
#define SIZE  400U

static struct vmimg_error err;

static void applies_patches(uint8_t *bytes, const struct vmimg_patch *patches, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (patches[i].bytes)
			memcpy(bytes + patches[i].at, patches[i].bytes, patches[i].len);
		else
			memset(bytes + patches[i].at, 0, patches[i].len);
	}
}

/* Every stretch, whole and from every place, reads as it should; a hole is zero. */
static void compare(struct vmimg_io *io, const uint8_t *want)
{
	uint8_t got[SIZE];
	uint64_t len = 0;
	bool hole = false;

	CHECK(vmimg_io_size(io) == SIZE);
	for (size_t at = 0; at < SIZE; at += 7) {
		CHECK(!vmimg_io_pread(io, got, SIZE - at, at, &err));
		CHECK(!memcmp(got, want + at, SIZE - at));
		CHECK(!vmimg_io_pread(io, got, SIZE - at < 13 ? SIZE - at : 13, at, &err));
		CHECK(!memcmp(got, want + at, SIZE - at < 13 ? SIZE - at : 13));
	}
	for (uint64_t at = 0; at < SIZE; at += len) {
		CHECK(!vmimg_io_extent(io, at, &hole, &len, &err) && len && at + len <= SIZE);
		for (uint64_t i = at; hole && i < at + len; i++)
			CHECK(!want[i]);
	}
}

static void random_patches_agree_with_a_model(void)
{
	static uint8_t below[INNER];

	srand(1);
	memset(below, 0xee, sizeof(below));
	for (int round = 0; round < 300; round++) {
		struct vmimg_io *inner = vmimg_memory_view(below, INNER, "below", &err), *io;
		uint8_t want[SIZE] = { 0 }, *own = malloc(SIZE);
		struct vmimg_patch patches[40];
		size_t count = (size_t)(rand() % 40);

		memcpy(want, below, INNER);
		for (size_t i = 0; i < SIZE; i++)
			own[i] = (uint8_t)(1 + rand() % 200);
		for (size_t i = 0; i < count; i++) {
			uint64_t at = (uint64_t)rand() % SIZE;
			uint64_t len = (uint64_t)rand() % (round % 2 ? SIZE - at + 1 : 20);

			len = len > SIZE - at ? SIZE - at : len;
			patches[i] = (struct vmimg_patch){ at, len,
				rand() % 3 ? own + (uint64_t)rand() % (SIZE - len + 1) : NULL };
		}
		applies_patches(want, patches, count);
		io = vmimg_overlay_open(inner, SIZE, patches, count, own, &err);
		CHECK(io);
		compare(io, want);
		vmimg_io_unref(inner);
		vmimg_io_unref(io);
	}
}

static void a_long_stretch_of_zeroes_is_a_range(void)
{
	static const uint8_t below[] = "below";
	const uint64_t size = UINT64_C(1) << 60;
	struct vmimg_patch patch = { 2, size - 2, NULL };
	struct vmimg_io *inner = vmimg_memory_view(below, 5, "below", &err);
	struct vmimg_io *io = vmimg_overlay_open(inner, size, &patch, 1, NULL, &err);
	uint64_t len = 0;
	bool hole = false;
	char got[4];

	CHECK(io && !vmimg_io_pread(io, got, 4, 0, &err) && !memcmp(got, "be\0\0", 4));
	CHECK(!vmimg_io_pread(io, got, 4, size - 4, &err) && !memcmp(got, "\0\0\0\0", 4));
	CHECK(!vmimg_io_extent(io, 2, &hole, &len, &err) && hole && len == size - 2);
	CHECK(vmimg_io_pwrite(io, "x", 1, 0, &err) == -1);
	vmimg_io_unref(inner);
	vmimg_io_unref(io);
}

UNIT_TESTS(TEST(random_patches_agree_with_a_model), TEST(a_long_stretch_of_zeroes_is_a_range));
UNIT_MAIN()

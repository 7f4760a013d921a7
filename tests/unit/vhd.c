/* SPDX-License-Identifier: Apache-2.0 */
/* What VHD and VDI lean on: claims to space, joined files, geometry. */
#include "check.h"
#include "format/vhd/vhd.h"
#include "io/joined.h"
#include "io/memory.h"
#include "util/claims.h"
#include "util/num.h"
#include "util/spots.h"

static struct vmimg_error err;

/* How many overlaps there are between ranges of that width; *room is what fits between them. */
static unsigned overlaps(const uint32_t *starts, size_t count, uint32_t width, uint64_t *room)
{
	struct vmimg_claims claims = { .width = width };
	unsigned found = 0;
	uint32_t start;
	size_t next = 0;

	for (size_t i = 0; i < count; i++)
		CHECK(!vmimg_claims_add(&claims, starts[i], &err));
	while (vmimg_claims_overlap(&claims, &next, &start))
		found++;
	found += (unsigned)claims.clashes;
	*room = vmimg_claims_room(&claims);
	vmimg_claims_done(&claims);
	return found;
}

static void claims_find_overlaps(void)
{
	static const uint32_t apart[] = { 0, 10, 25, 40, 100 }, twice[] = { 40, 10, 40 },
			      touching[] = { 20, 10, 0 }, inside[] = { 0, 14, 28, 19 },
			      last[] = { UINT32_MAX - 1, 0, UINT32_MAX - 1 };
	uint64_t room;

	CHECK(overlaps(apart, 5, 10, &room) == 0 && room == 5);
	CHECK(overlaps(twice, 3, 10, &room) == 1 && room == 2);
	CHECK(overlaps(touching, 3, 10, &room) == 0 && room == 0);
	CHECK(overlaps(inside, 4, 10, &room) == 1 && room == 0);
	CHECK(overlaps(last, 3, 10, &room) == 1);
	CHECK(overlaps(apart, 0, 10, &room) == 0 && room == 0);
}

static void claims_in_order_cost_nothing(void)
{
	struct vmimg_claims claims = { .width = 4097 };

	for (uint32_t i = 0; i < 100000; i++)
		CHECK(!vmimg_claims_add(&claims, i * 4104, &err));
	CHECK(claims.count == 1);
	CHECK(vmimg_claims_room(&claims) == 0);
	vmimg_claims_done(&claims);
}

static void claims_that_must_overlap_cost_nothing(void)
{
	struct vmimg_claims claims = { .width = 1, .most = 10 };

	for (uint32_t i = 0; i < 100000; i++)
		CHECK(!vmimg_claims_add(&claims, i % 2 * 5, &err));
	CHECK(claims.count <= 10 && claims.clashes == 100000 - claims.count);
	vmimg_claims_done(&claims);
	claims = (struct vmimg_claims){ .width = 1 };
	for (uint32_t i = 0; i < 100000; i++)
		CHECK(!vmimg_claims_add(&claims, 7, &err));
	CHECK(claims.count == 1 && claims.clashes == 99999);
	vmimg_claims_done(&claims);
}

static void joined_files_read_as_one(void)
{
	struct vmimg_io *parts[3] = { vmimg_memory_view("abc", 3, "a", &err),
		vmimg_memory_view("", 0, "b", &err), vmimg_memory_view("defgh", 5, "c", &err) };
	struct vmimg_io *io = vmimg_joined_open(parts, 3, "all", &err);
	char text[9] = "";
	uint64_t len;
	bool hole;

	for (size_t i = 0; i < 3; i++)
		vmimg_io_unref(parts[i]);
	CHECK(io && vmimg_io_size(io) == 8);
	CHECK(!vmimg_io_pread(io, text, 8, 0, &err));
	CHECK_TEXT(text, "abcdefgh");
	CHECK(!vmimg_io_pread(io, text, 2, 2, &err) && text[0] == 'c' && text[1] == 'd');
	CHECK(vmimg_io_pread(io, text, 2, 7, &err) == -1 && err.status == VMIMG_ECORRUPT);
	CHECK(!vmimg_io_extent(io, 4, &hole, &len, &err) && !hole && len == 4);
	vmimg_io_unref(io);
}

/* Examples worked out from the specification's appendix. */
static void geometry_is_the_specifications(void)
{
	static const struct {
		uint64_t bytes;
		struct vmimg_vhd_geometry want;
	} cases[] = {
		{ 4 << 20, { 120, 4, 17 } },
		{ 100 << 20, { 1003, 12, 17 } },
		{ UINT64_C(504) << 20, { 1024, 16, 63 } },
		{ UINT64_C(40) << 30, { 20560, 16, 255 } },
		{ UINT64_C(60) << 30, { 30840, 16, 255 } },
		{ UINT64_C(2040) << 30, { 65535, 16, 255 } },
	};

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(cases); i++) {
		struct vmimg_vhd_geometry got = vmimg_vhd_geometry_for(cases[i].bytes / 512);

		CHECK(got.cylinders == cases[i].want.cylinders &&
			got.heads == cases[i].want.heads && got.sectors == cases[i].want.sectors);
		CHECK(vmimg_vhd_geometry_bytes(&got) <= cases[i].bytes);
	}
}

static void rounding_never_makes_smaller(void)
{
	CHECK(vmimg_vhd_round_to_geometry(104857600) == 104865792);
	for (uint64_t size = 512; size < UINT64_C(200) << 30; size = size * 3 + 512) {
		uint64_t rounded = vmimg_vhd_round_to_geometry(size);
		struct vmimg_vhd_geometry geometry = vmimg_vhd_geometry_for(rounded / 512);

		CHECK(rounded >= size);
		CHECK(rounded == size || vmimg_vhd_geometry_bytes(&geometry) == rounded);
	}
}

static bool is_free(const uint32_t *taken, size_t count, uint32_t start, uint32_t width)
{
	for (size_t i = 0; i < count; i++)
		if (taken[i] < start ? start - taken[i] < width : taken[i] - start < width)
			return false;
	return true;
}

static void spots_are_taken_once(void)
{
	static const uint32_t widths[] = { 1, 2, 7, 129, 4097, 600000 };
	uint32_t taken[3000], random = 1;

	for (size_t w = 0; w < VMIMG_ARRAY_LEN(widths); w++) {
		struct vmimg_spots spots = { .width = widths[w] };
		size_t count = 0;

		for (int i = 0; i < 3000; i++) {
			uint32_t start;
			bool vacant;

			random = random * 1103515245 + 12345;
			start = (uint32_t)((uint64_t)random * (widths[w] * 2000) >> 32);
			if (!(i % 100))
				start = UINT32_MAX - 1 - (uint32_t)i;
			CHECK(!vmimg_spots_take(&spots, start, &vacant, &err));
			CHECK(vacant == is_free(taken, count, start, widths[w]));
			if (vacant)
				taken[count++] = start;
		}
		CHECK(count == spots.count && count > 500);
		vmimg_spots_done(&spots);
	}
}

UNIT_TESTS(TEST(claims_find_overlaps), TEST(claims_in_order_cost_nothing),
	TEST(claims_that_must_overlap_cost_nothing), TEST(spots_are_taken_once),
	TEST(joined_files_read_as_one), TEST(geometry_is_the_specifications),
	TEST(rounding_never_makes_smaller));
UNIT_MAIN()

/* SPDX-License-Identifier: Apache-2.0 */
/* Free space among equal blocks: against a map of every unit, on files of many shapes. */
#include "check.h"
#include "disk/blocks.h"
#include "fake.h"
#include "util/num.h"

#define UNITS 400

static struct vmimg_error err;

struct shape {
	uint64_t width, starts[UNITS];
	size_t count;
	bool used[2 * UNITS];
};

static bool is_free(const struct shape *s, uint64_t at, uint64_t len)
{
	for (uint64_t i = at; i < at + len; i++)
		if (s->used[i])
			return false;
	return true;
}

static void set_used(struct shape *s, uint64_t at, uint64_t len, bool used)
{
	memset(s->used + at, used, len * sizeof(bool));
}

static void fill(struct shape *s, struct vmimg_blocks *blocks, uint64_t seed)
{
	uint64_t wanted = fake_random(&seed) % 40, step = 1 + fake_random(&seed) % 3;

	*s = (struct shape){ .width = 1 + fake_random(&seed) % 9 };
	vmimg_blocks_init(blocks, s->width, step, fake_random(&seed) % step);
	set_used(s, 0, 3, true);
	set_used(s, 50, 2, true); /* a table amid the blocks */
	CHECK(!vmimg_blocks_add(blocks, 0, 3, &err) && !vmimg_blocks_add(blocks, 50, 2, &err));
	for (uint64_t i = 0; i < wanted; i++) {
		uint64_t at = fake_random(&seed) % (UNITS - 10);

		if (!is_free(s, at, s->width))
			continue;
		set_used(s, at, s->width, true);
		s->starts[s->count++] = at;
		CHECK(!vmimg_blocks_add(blocks, at, s->width, &err));
	}
	vmimg_blocks_room(blocks, 3);
}

static void places_are_free(void)
{
	for (uint64_t seed = 0; seed < 300; seed++) {
		struct vmimg_blocks blocks;
		struct shape s;
		uint64_t end;

		fill(&s, &blocks, seed);
		end = blocks.end;
		for (unsigned i = 0; i < 20; i++) {
			uint64_t at = vmimg_blocks_take(&blocks);

			CHECK(is_free(&s, at, s.width));
			set_used(&s, at, s.width, true);
			/* nothing between is left out but what is no room for blocks in order */
			if (at < end || blocks.step != 1)
				continue;
			for (uint64_t k = 3; k + s.width <= end; k++)
				CHECK(!is_free(&s, k, s.width));
		}
		vmimg_blocks_done(&blocks);
	}
}

static int count_from(void *ctx, uint64_t limit, uint64_t *count, struct vmimg_error *unused)
{
	const struct shape *s = ctx;

	(void)unused;
	*count = 0;
	for (size_t i = 0; i < s->count; i++)
		*count += s->starts[i] >= limit;
	return 0;
}

static void moves_close_the_gaps(void)
{
	for (uint64_t seed = 0; seed < 300; seed++) {
		struct vmimg_blocks blocks;
		struct shape s;
		uint64_t moves, moved = 0, first = 0;

		fill(&s, &blocks, seed);
		CHECK(!vmimg_blocks_plan(&blocks, count_from, &s, &moves, &err));
		for (size_t i = 0; i < s.count; i++) {
			uint64_t to;

			if (!vmimg_blocks_moves(&blocks, s.starts[i]))
				continue;
			to = vmimg_blocks_take(&blocks);
			CHECK(is_free(&s, to, s.width) && to + s.width <= blocks.limit);
			set_used(&s, to, s.width, true);
			first = moved++ ? first : to;
		}
		CHECK(moved == moves);
		vmimg_blocks_rewind(&blocks);
		CHECK(!moves || vmimg_blocks_take(&blocks) == first);
		/* one more block would have found no place below */
		for (uint64_t k = 3;
			blocks.step == 1 && s.width == 1 && moves && k < blocks.limit - 1; k++)
			CHECK(!is_free(&s, k, 1));
		vmimg_blocks_done(&blocks);
	}
}

static void order_costs_no_memory(void)
{
	struct vmimg_blocks blocks;

	vmimg_blocks_init(&blocks, 4097, 8, 7);
	for (uint64_t i = 0; i < 100000; i++)
		CHECK(!vmimg_blocks_add(&blocks, 7 + i * 4104, 4097, &err));
	CHECK(blocks.count == 1);
	vmimg_blocks_room(&blocks, 0);
	CHECK(vmimg_blocks_take(&blocks) == 7 + UINT64_C(100000) * 4104);
	vmimg_blocks_done(&blocks);
}

/* Even blocks first, then the odd ones: runs that become one when there are too many. */
static void disorder_costs_bounded_memory(void)
{
	struct vmimg_blocks blocks;
	const uint64_t count = UINT64_C(1) << 22;

	vmimg_blocks_init(&blocks, 1, 1, 0);
	for (uint64_t i = 0; i < 3 * count; i++)
		CHECK(!vmimg_blocks_add(&blocks, i % count * 2, 1, &err));
	CHECK(blocks.cap * sizeof(*blocks.runs) <= 64 << 20);
	vmimg_blocks_room(&blocks, 0);
	CHECK(blocks.blind && vmimg_blocks_take(&blocks) == 2 * count - 1);
	vmimg_blocks_done(&blocks);
}

UNIT_TESTS(TEST(places_are_free), TEST(moves_close_the_gaps), TEST(order_costs_no_memory),
	TEST(disorder_costs_bounded_memory));
UNIT_MAIN()

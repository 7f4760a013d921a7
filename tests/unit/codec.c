/* SPDX-License-Identifier: Apache-2.0 */
/* Every codec at every level: what goes in comes out, and garbage does no harm. */
#include "check.h"
#include "codec/codec.h"
#include "fake.h"
#include "util/auto.h"

#define ROOM (1 << 20)

static const struct vmimg_codec *const codecs[] = { &vmimg_codec_deflate, &vmimg_codec_zlib,
	&vmimg_codec_zstd };
static const enum vmimg_level levels[] = { VMIMG_LEVEL_FAST, VMIMG_LEVEL_DEFAULT,
	VMIMG_LEVEL_BEST };

/* Content of several kinds: zero, text-like, random, both. */
static void fill(uint8_t *to, size_t len, unsigned kind, uint64_t *seed)
{
	for (size_t i = 0; i < len; i++) {
		bool noise = kind == 2 || (kind == 3 && i % 4096 < 2048);

		if (noise)
			to[i] = (uint8_t)fake_random(seed);
		else
			to[i] = kind == 0   ? 0
				: kind == 1 ? (uint8_t) "abcdefgh\n "[fake_random(seed) % 10]
					    : (uint8_t)(i / 7);
	}
}

static void round_trip(const struct vmimg_codec *codec, enum vmimg_level level, size_t len,
	unsigned kind, uint8_t *room[3])
{
	struct vmimg_error err = { 0 };
	struct vmimg_packer *packer = codec->packer_new(level, &err);
	struct vmimg_unpacker *unpacker = codec->unpacker_new(&err);
	uint64_t seed = len * 4 + kind;
	size_t size, used, got;

	/* Twice: the state is reused. */
	for (int round = 0; round < 2; round++) {
		fill(room[0], len, kind, &seed);
		size = packer->pack(packer, room[0], len, room[1], 2 * len + 100);
		CHECK(size > 0 && size <= 2 * len + 100);
		memset(room[1] + size, 0xee, 700); /* what follows in a sector */
		memset(room[2], 0xcc, len + 1);
		CHECK(!unpacker->unpack(
			unpacker, room[1], size + 700, room[2], len, &used, &got, &err));
		CHECK(got == len && used == size && !memcmp(room[0], room[2], len));
		CHECK(room[2][len] == 0xcc);
		if (len > 64 && kind == 2)
			CHECK(packer->pack(packer, room[0], len, room[1], len / 2) == 0);
	}
	vmimg_packer_free(packer);
	vmimg_unpacker_free(unpacker);
}

static void every_level_round_trips(void)
{
	static const size_t lens[] = { 512, 4096, 65536, 65535, 1 << 18 };
	uint8_t *room[3] = { malloc(ROOM), malloc(ROOM), malloc(ROOM) };

	for (size_t c = 0; c < VMIMG_ARRAY_LEN(codecs); c++)
		for (size_t l = 0; l < VMIMG_ARRAY_LEN(levels); l++)
			for (size_t i = 0; i < VMIMG_ARRAY_LEN(lens); i++)
				for (unsigned kind = 0; kind < 4; kind++)
					round_trip(codecs[c], levels[l], lens[i], kind, room);
	for (int i = 0; i < 3; i++)
		free(room[i]);
}

/* Every length about the first bytes that some packers treat by themselves. */
static void short_blocks_round_trip(void)
{
	uint8_t *room[3] = { malloc(ROOM), malloc(ROOM), malloc(ROOM) };

	for (size_t c = 0; c < VMIMG_ARRAY_LEN(codecs); c++)
		for (size_t len = 1; len < 300; len++)
			round_trip(codecs[c], VMIMG_LEVEL_FAST, len, 1 + (unsigned)len % 3, room);
	for (int i = 0; i < 3; i++)
		free(room[i]);
}

/* The same block gives the same bytes, wherever in memory the packer lies and whatever it packed
 * before. (16 random bytes that come again: whether the third is found depends on its own hash
 * only.) */
static void packers_agree(const struct vmimg_codec *codec, enum vmimg_level level)
{
	struct vmimg_error err = { 0 };
	struct vmimg_packer *one = codec->packer_new(level, &err);
	struct vmimg_packer *other = codec->packer_new(level, &err);
	uint64_t seed = 11;
	uint8_t in[160], out[2][400];
	size_t differ = 0;

	for (int round = 0; round < 40000; round++) {
		size_t size[2];

		fill(in, sizeof in, 3, &seed);
		memcpy(in + 100, in, 16);
		if (round % 3 == 0)
			(void)!other->pack(other, in + 7, sizeof in - 7, out[1], sizeof out[1]);
		size[0] = one->pack(one, in, sizeof in, out[0], sizeof out[0]);
		size[1] = other->pack(other, in, sizeof in, out[1], sizeof out[1]);
		differ += size[0] != size[1] || memcmp(out[0], out[1], size[0]) != 0;
	}
	CHECK(differ == 0);
	vmimg_packer_free(one);
	vmimg_packer_free(other);
}

static void same_bytes_from_every_packer(void)
{
	for (size_t c = 0; c < VMIMG_ARRAY_LEN(codecs); c++)
		packers_agree(codecs[c], VMIMG_LEVEL_FAST);
}

/* Unpacks into exactly cap bytes of their own, so that a byte too many is seen. */
static int unpack_exact(struct vmimg_unpacker *unpacker, const uint8_t *in, size_t len, size_t cap,
	struct vmimg_error *err)
{
	uint8_t *out = malloc(cap), *copy = malloc(len ? len : 1);
	size_t used = 0, got = 0;
	int result;

	memcpy(copy, in, len);
	result = unpacker->unpack(unpacker, copy, len, out, cap, &used, &got, err);
	if (!result)
		CHECK(got <= cap && used <= len);
	else
		CHECK(err->text[0] && err->status == VMIMG_ECORRUPT);
	free(out);
	free(copy);
	return result;
}

static void garbage_is_corrupt_or_short(void)
{
	for (size_t c = 0; c < VMIMG_ARRAY_LEN(codecs); c++) {
		struct vmimg_error err = { 0 };
		struct vmimg_unpacker *unpacker = codecs[c]->unpacker_new(&err);
		uint8_t in[600];
		uint64_t seed = 7;

		for (int round = 0; round < 3000; round++) {
			size_t len = fake_random(&seed) % sizeof(in);

			fill(in, len, 2, &seed);
			(void)!unpack_exact(unpacker, in, len, 4096, &err);
		}
		memset(in, 0xff, sizeof(in));
		CHECK(unpack_exact(unpacker, in, sizeof(in), 4096, &err));
		vmimg_unpacker_free(unpacker);
	}
}

/* Cut anywhere, or with one bit turned: an error, or (bare deflate) other bytes; never a crash. */
static void damaged_blocks_do_no_harm(void)
{
	static uint8_t in[4096], packed[8192];

	for (size_t c = 0; c < VMIMG_ARRAY_LEN(codecs); c++) {
		struct vmimg_error err = { 0 };
		struct vmimg_packer *packer = codecs[c]->packer_new(VMIMG_LEVEL_DEFAULT, &err);
		struct vmimg_unpacker *unpacker = codecs[c]->unpacker_new(&err);
		uint64_t seed = 3;
		size_t size;

		fill(in, sizeof(in), 3, &seed);
		size = packer->pack(packer, in, sizeof(in), packed, sizeof(packed));
		for (size_t len = 0; len < size; len += 1 + len / 50)
			CHECK(unpack_exact(unpacker, packed, len, sizeof(in), &err) == -1);
		for (size_t bit = 0; bit < size * 8; bit += 13) {
			packed[bit / 8] ^= (uint8_t)(1U << bit % 8);
			(void)!unpack_exact(unpacker, packed, size, sizeof(in), &err);
			packed[bit / 8] ^= (uint8_t)(1U << bit % 8);
		}
		CHECK(!unpack_exact(unpacker, packed, size, sizeof(in), &err));
		vmimg_packer_free(packer);
		vmimg_unpacker_free(unpacker);
	}
}

UNIT_TESTS(TEST(every_level_round_trips), TEST(short_blocks_round_trip),
	TEST(same_bytes_from_every_packer), TEST(garbage_is_corrupt_or_short),
	TEST(damaged_blocks_do_no_harm));
UNIT_MAIN()

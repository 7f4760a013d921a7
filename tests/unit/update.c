/* SPDX-License-Identifier: Apache-2.0 */
/* New content in place, of every format that takes it: patches of data, zeroes and nothing, laid
 * one over the other; identities; the space that is given back; layers emptied and given other
 * parents. */
#include "image.h"

#define GUEST ((UINT64_C(3) << 20) + 1536)

struct way {
	const char *name, *format, *options;
	bool child;
};

/* What a layer is made of: blocks of the children. */
static uint64_t unit_of(const struct way *way)
{
	return way->child && !strcmp(way->format, "vmdk") ? 65536 : 16384;
}

static const struct way ways[] = {
	{ "vhd", "vhd", NULL, false },
	{ "vhd, small blocks", "vhd", "block_size=64k", false },
	{ "vhd, fixed", "vhd", "subformat=fixed", false },
	{ "vhd, differencing", "vhd", "block_size=64k", true },
	{ "vdi", "vdi", NULL, false },
	{ "vdi, small blocks", "vdi", "block_size=16k", false },
	{ "vdi, fixed", "vdi", "static=on", false },
	{ "vdi, differencing", "vdi", "block_size=16k", true },
	{ "vmdk", "vmdk", NULL, false },
	{ "vmdk, zero grains", "vmdk", "zeroed_grain=on", false },
	{ "vmdk, child", "vmdk", NULL, true },
	{ "vmdk, child without zero grains", "vmdk", "zeroed_grain=off", true },
	{ "vhdx", "vhdx", "block_size=1M", false },
	{ "vhdx, one block", "vhdx", NULL, false },
	{ "vhdx, sectors of 4096 bytes", "vhdx", "block_size=2M,logical_sector_size=4096", false },
	{ "vhdx, fixed", "vhdx", "block_size=1M,subformat=fixed", false },
	{ "vhdx, differencing", "vhdx", "block_size=1M", true },
	{ "vhdx, differencing, one block", "vhdx", "block_size=4M", true },
};

static struct vmimg_error err;
static const char *doing;
static int before; /* checks that had failed until then */

static void tell(const char *what)
{
	if (unit_failed != before)
		printf("# %s: %s: %s\n", doing, what, err.text);
	before = unit_failed;
}

static bool is(const struct way *way, const char *word)
{
	return !strcmp(way->format, word) || strstr(way->name, word);
}

/* Sectors may be larger than the guest's last one. */
static bool holds(struct image *image, const uint8_t *guest)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = image_open(image, &err);
	VMIMG_AUTO(free) uint8_t *bytes = calloc(1, GUEST);

	return disk && disk->size == vmimg_align_up(GUEST, disk->sector_size) &&
		!vmimg_disk_pread(disk, bytes, GUEST, 0, &err) && !memcmp(bytes, guest, GUEST);
}

/* An image, on a parent or not, and what its guest sees. */
static void begin(const struct way *way, struct image *image, uint8_t *guest)
{
	struct image below = { .format = way->format, .options = way->options };
	struct fake fake;

	*image = (struct image){ .format = way->format, .options = way->options };
	memset(guest, 0, GUEST);
	if (way->child) {
		fake_open_aligned(&fake, GUEST, 512, 1);
		CHECK(!image_make(&below, &fake, &err));
		fake_lay_over(&fake, guest);
		fake_done(&fake);
		image->parent = below.io;
	}
	fake_open_aligned(&fake, GUEST, unit_of(way), 2);
	CHECK(!image_make(image, &fake, &err));
	fake_lay_over(&fake, guest);
	fake_done(&fake);
	CHECK(holds(image, guest));
}

static void patch(struct image *image, uint64_t seed, bool same_content, uint8_t *guest)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = image_open(image, &err);
	struct vmimg_update update = { 0 };
	struct vmimg_sink *sink = disk ? disk->format->edit->update(disk, &update, &err) : NULL;
	struct fake fake;

	CHECK(sink);
	if (!sink)
		return;
	fake_open_aligned(&fake, GUEST, sink->granule, seed);
	vmimg_sink_close(sink);
	CHECK(!image_patch(disk, &fake, same_content, &err));
	fake_lay_over(&fake, guest);
	fake_done(&fake);
}

static void patches(void)
{
	VMIMG_AUTO(free) uint8_t *guest = malloc(GUEST);

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		struct image image;

		doing = ways[i].name;
		begin(&ways[i], &image, guest);
		tell("made");
		for (uint64_t seed = 3; seed < 12; seed++) {
			patch(&image, seed, true, guest);
			tell("patched");
			CHECK(holds(&image, guest));
			tell("content");
			CHECK(image_check(image.io, image.format, &err) < 2);
			tell("check");
		}
		image_done(&image);
	}
}

/* A sink that is closed without finish has changed nothing that can be seen. */
static void given_up(void)
{
	VMIMG_AUTO(free) uint8_t *guest = malloc(GUEST);

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		struct vmimg_update update = { 0 };
		struct vmimg_disk *disk;
		struct vmimg_sink *sink;
		struct image image;

		doing = ways[i].name;
		begin(&ways[i], &image, guest);
		disk = image_open(&image, &err);
		sink = disk ? disk->format->edit->update(disk, &update, &err) : NULL;
		CHECK(sink && sink->keeps_absent && sink->size == disk->size);
		vmimg_sink_close(sink);
		vmimg_disk_close(disk);
		CHECK(holds(&image, guest) && !image_check(image.io, image.format, &err));
		tell("closed");
		image_done(&image);
	}
}

/* A layer of nothing at all leaves the file as it is, byte for byte. */
static void nothing_given(void)
{
	VMIMG_AUTO(free) uint8_t *guest = malloc(GUEST);

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		VMIMG_AUTO(free) uint8_t *bytes = NULL;
		struct fake fake = { .count = 1, .ends = { GUEST }, .fail_at = UINT64_MAX };
		struct vmimg_disk *disk;
		struct image image;
		uint64_t size;

		if (is(&ways[i], "4096")) /* what the last sector has past the layer is given */
			continue;
		doing = ways[i].name;
		begin(&ways[i], &image, guest);
		size = vmimg_io_size(image.io);
		bytes = malloc((size_t)size);
		memcpy(bytes, vmimg_memory_bytes(image.io), (size_t)size);
		fake.kinds[0] = VMIMG_RUN_ABSENT;
		fake.disk = (struct vmimg_disk){
			.format = &fake_format, .size = GUEST, .state = &fake
		};
		disk = image_open(&image, &err);
		CHECK(disk && !image_patch(disk, &fake, true, &err));
		vmimg_disk_close(disk);
		CHECK(vmimg_io_size(image.io) == size &&
			!memcmp(bytes, vmimg_memory_bytes(image.io), (size_t)size));
		tell("given nothing");
		image_done(&image);
	}
}

/* Zeroes all over, without a parent: no block is left. */
static void zeroes_give_back(void)
{
	VMIMG_AUTO(free) uint8_t *guest = malloc(GUEST);

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		struct image image;
		struct vmimg_disk *disk;
		struct vmimg_run run = { 0 };
		struct fake fake = { .bytes = calloc(1, GUEST + 1), .fail_at = UINT64_MAX };

		if (ways[i].child || is(&ways[i], "fixed")) {
			free(fake.bytes);
			continue;
		}
		doing = ways[i].name;
		begin(&ways[i], &image, guest);
		fake_add(&fake, VMIMG_RUN_ZERO, GUEST);
		fake.disk = (struct vmimg_disk){
			.format = &fake_format, .size = GUEST, .state = &fake
		};
		disk = image_open(&image, &err);
		CHECK(disk && !image_patch(disk, &fake, true, &err));
		vmimg_disk_close(disk);
		memset(guest, 0, GUEST);
		CHECK(holds(&image, guest));
		disk = image_open(&image, &err);
		for (uint64_t at = 0; disk && at < disk->size; at += run.len) {
			CHECK(!vmimg_disk_map(disk, at, &run, &err) && run.len);
			CHECK(run.kind != VMIMG_RUN_DATA);
		}
		vmimg_disk_close(disk);
		tell("zeroed");
		fake_done(&fake);
		image_done(&image);
	}
}

/* Squeezed after a patch that gave up blocks, an image has no gaps. */
static void squeezed(void)
{
	VMIMG_AUTO(free) uint8_t *guest = malloc(GUEST);

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		struct image image;
		struct vmimg_disk *disk;
		uint64_t saved = 0, size;

		doing = ways[i].name;
		begin(&ways[i], &image, guest);
		for (uint64_t seed = 20; seed < 24; seed++)
			patch(&image, seed, true, guest);
		size = vmimg_io_size(image.io);
		disk = image_open(&image, &err);
		if (disk && disk->format->edit->squeeze && !is(&ways[i], "vhd, fixed")) {
			CHECK(!disk->format->edit->squeeze(disk, &saved, &err));
			CHECK(vmimg_io_size(image.io) + saved == size);
			CHECK(holds(&image, guest));
			CHECK(!image_check(image.io, image.format, &err));
			tell("squeezed");
		}
		vmimg_disk_close(disk);
		image_done(&image);
	}
}

/* So many entries that not all may wait: chunks are stored in order, with flushes between. */
static void more_than_waits(void)
{
	static const struct way large[] = { { "vhd, large", "vhd", "block_size=4k", false },
		{ "vdi child, large", "vdi", "block_size=4k", true } };
	const uint64_t size = UINT64_C(9) << 30;

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(large); i++) {
		struct image image = { .format = large[i].format, .options = large[i].options };
		struct image below = image;
		struct fake empty = { .count = 1, .ends = { size }, .fail_at = UINT64_MAX }, some;
		struct vmimg_run run = { 0 };
		struct vmimg_disk *disk;
		uint8_t bytes[4096];

		doing = large[i].name;
		empty.kinds[0] = VMIMG_RUN_ABSENT;
		empty.disk = (struct vmimg_disk){
			.format = &fake_format, .size = size, .state = &empty
		};
		CHECK(!image_make(&below, &empty, &err));
		image.parent = large[i].child ? vmimg_io_ref(below.io) : NULL;
		CHECK(!image_make(&image, &empty, &err));
		fake_open_aligned(&some, 3 << 20, 4096, 7);
		some.kinds[some.count] = large[i].child ? VMIMG_RUN_ZERO : VMIMG_RUN_ABSENT;
		some.ends[some.count++] = size;
		some.disk.size = size;
		disk = image_open(&image, &err);
		CHECK(disk && !image_patch(disk, &some, true, &err));
		vmimg_disk_close(disk);
		tell("patched");
		disk = image_open(&image, &err);
		CHECK(disk && !vmimg_disk_map(disk, size - 4096, &run, &err));
		CHECK(run.kind == some.kinds[some.count - 1]);
		for (uint64_t at = 0; disk && at < 3 << 20; at += sizeof(bytes)) {
			CHECK(!vmimg_disk_pread(disk, bytes, sizeof(bytes), at, &err));
			CHECK(!memcmp(bytes, some.bytes + at, sizeof(bytes)));
		}
		vmimg_disk_close(disk);
		CHECK(!image_check(image.io, image.format, &err));
		tell("content");
		fake_done(&some);
		image_done(&below);
		image_done(&image);
	}
}

/* What changes with the content: of a VMDK the CID, of a VHDX the data write GUID. */
static struct vmimg_guid modified_of(struct image *image)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = image_open(image, &err);
	struct vmimg_identity identity = { 0 };

	CHECK(disk);
	if (disk)
		disk->format->identity(disk, &identity);
	if (!strcmp(image->format, "vmdk"))
		memcpy(&identity.modified, &identity.cid, sizeof(identity.cid));
	if (!strcmp(image->format, "vhdx"))
		identity.modified = identity.uuid;
	return identity.modified;
}

static void content_changes_identity(void)
{
	VMIMG_AUTO(free) uint8_t *guest = malloc(GUEST);

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		struct vmimg_guid old, same, new;
		struct image image;

		if (!strcmp(ways[i].format, "vhd"))
			continue;
		doing = ways[i].name;
		begin(&ways[i], &image, guest);
		old = modified_of(&image);
		patch(&image, 30, true, guest);
		same = modified_of(&image);
		patch(&image, 31, false, guest);
		new = modified_of(&image);
		CHECK(vmimg_guid_equal(&old, &same) && !vmimg_guid_equal(&old, &new));
		tell("identity");
		image_done(&image);
	}
}

/* What a child shows when it is empty is its parent. */
static void emptied(void)
{
	VMIMG_AUTO(free) uint8_t *guest = malloc(GUEST);

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		struct vmimg_guid old, new;
		struct image image;
		struct vmimg_disk *disk;

		if (is(&ways[i], "fixed"))
			continue;
		doing = ways[i].name;
		begin(&ways[i], &image, guest);
		patch(&image, 40, true, guest);
		old = modified_of(&image);
		disk = image_open(&image, &err);
		CHECK(disk && !disk->format->edit->empty(disk, &err));
		tell("emptied");
		memset(guest, 0, GUEST);
		if (disk && disk->parent)
			CHECK(!vmimg_disk_pread(disk->parent, guest, GUEST, 0, &err));
		vmimg_disk_close(disk);
		CHECK(holds(&image, guest) && !image_check(image.io, image.format, &err));
		CHECK(vmimg_io_size(image.io) <= (is(&ways[i], "vhdx") ? 4 << 20 : 65536));
		new = modified_of(&image);
		CHECK(!is(&ways[i], "vhdx") || vmimg_guid_equal(&old, &new) == ways[i].child);
		patch(&image, 41, true, guest);
		CHECK(holds(&image, guest) && image_check(image.io, image.format, &err) < 2);
		tell("used again");
		image_done(&image);
	}
}

/* Another parent: what the child has stays, what it lacks is the new parent's. */
static void other_parents(void)
{
	VMIMG_AUTO(free) uint8_t *guest = malloc(GUEST);

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		struct image image, below = { .format = ways[i].format };
		struct vmimg_disk *disk, *parent;
		struct vmimg_parent value = { .name = "folder/new parent", .format = below.format };
		struct fake fake, layer;
		uint64_t size;

		if (!ways[i].child)
			continue;
		doing = ways[i].name;
		begin(&ways[i], &image, guest);
		fake_open_aligned(&fake, GUEST, 512, 50);
		CHECK(!image_make(&below, &fake, &err));
		memset(guest, 0, GUEST);
		fake_lay_over(&fake, guest);
		fake_open_aligned(&layer, GUEST, unit_of(&ways[i]), 2);
		fake_lay_over(&layer, guest);
		parent = image_open(&below, &err);
		size = vmimg_io_size(image.io);
		for (unsigned times = 0; times < 3; times++) {
			value.disk = times ? NULL : parent; /* by name alone, later */
			disk = image_open(&image, &err);
			CHECK(disk && !disk->format->edit->set_parent(disk, &value, &err));
			vmimg_disk_close(disk);
			image.other = image.other ? image.other : vmimg_io_ref(below.io);
			CHECK(holds(&image, guest));
			CHECK(!image_check(image.io, image.format, &err));
			CHECK(vmimg_io_size(image.io) == size);
			tell("another parent");
		}
		disk = image_open(&image, &err);
		CHECK(disk && !disk->format->edit->set_parent(disk, NULL, &err));
		vmimg_disk_close(disk);
		vmimg_io_unref(image.parent);
		image.parent = NULL;
		memset(guest, 0, GUEST);
		fake_lay_over(&layer, guest);
		CHECK(holds(&image, guest) && !image_check(image.io, image.format, &err));
		tell("no parent");
		disk = image_open(&image, &err);
		value.disk = parent;
		CHECK(disk && !disk->format->edit->set_parent(disk, &value, &err));
		vmimg_disk_close(disk);
		image.parent = vmimg_io_ref(below.io);
		patch(&image, 51, true, memset(guest, 0, GUEST));
		CHECK(!image_check(image.io, image.format, &err));
		tell("a parent again");
		vmimg_disk_close(parent);
		fake_done(&fake);
		fake_done(&layer);
		image_done(&below);
		image_done(&image);
	}
}

UNIT_TESTS(TEST(emptied), TEST(other_parents), TEST(patches), TEST(given_up), TEST(nothing_given),
	TEST(zeroes_give_back), TEST(squeezed), TEST(more_than_waits),
	TEST(content_changes_identity));
UNIT_MAIN()

/* SPDX-License-Identifier: Apache-2.0 */
/* The public interface as another program has it: this one is linked with the shared library, and
 * sees nothing but vmimg.h. */
#include "check.h"
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmimg.h>

#define SIZE (3U << 20)

static struct vmimg_error err;

/* A disk of SIZE bytes, kept by the program: a number in every sector of its second MiB. */
static int pattern_pread(void *ctx, void *buf, size_t len, uint64_t at, struct vmimg_error *e)
{
	uint8_t *bytes = buf;

	(void)e;
	for (size_t i = 0; i < len; i++) {
		uint64_t place = at + i;

		bytes[i] = place >> 20 == 1 ? (uint8_t)(place / 512 + *(const uint8_t *)ctx) : 0;
	}
	return 0;
}

static struct vmimg_disk *pattern(const uint8_t *seed, uint64_t size)
{
	struct vmimg_user_io user = {
		.ctx = (void *)(uintptr_t)seed, .size = size, .pread = pattern_pread
	};
	struct vmimg_io *io = vmimg_io_open_user(&user, &err);
	struct vmimg_open raw = { .format = "raw" };
	struct vmimg_disk *disk = io ? vmimg_disk_open(io, &raw, &err) : NULL;

	vmimg_io_close(io);
	CHECK(disk);
	return disk;
}

static struct vmimg_disk *opened(const char *path)
{
	struct vmimg_open how = { .resolver = vmimg_resolver_beside() };
	struct vmimg_io *io = vmimg_io_open_file(path, &err);
	struct vmimg_disk *disk = io ? vmimg_disk_open(io, &how, &err) : NULL;

	vmimg_io_close(io);
	if (!disk)
		printf("# %s: %s\n", path, err.text);
	CHECK(disk);
	return disk;
}

static char folder[] = "/tmp/vmimg-api-XXXXXX";

static const char *in_folder(const char *name)
{
	static char path[2][200];
	static unsigned turn;

	turn ^= 1;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", folder, name);
	return path[turn];
}

static void same(struct vmimg_disk *a, struct vmimg_disk *b)
{
	struct vmimg_compared compared = { 0 };

	CHECK(!vmimg_disk_compare(a, b, NULL, &compared, &err) && compared.same);
}

static void count_finding(void *ctx, const struct vmimg_finding *finding)
{
	++*(unsigned *)ctx;
	CHECK(finding->text[0] && finding->code[0]);
}

static void sound(struct vmimg_disk *disk)
{
	struct vmimg_checked checked;
	unsigned told = 0;

	CHECK(!vmimg_disk_check(disk, NULL, count_finding, &told, &checked, &err));
	CHECK(!checked.count[VMIMG_FINDING_CORRUPTION] && !checked.count[VMIMG_FINDING_ERROR]);
	CHECK(!told);
}

static void every_format_is_converted_to(void)
{
	static const char *const formats[] = { "raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi" };
	const uint8_t seed = 3;

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		char path[200];
		struct vmimg_new image = { .path = path, .format = formats[i] };
		struct vmimg_disk *source = pattern(&seed, SIZE), *made;

		snprintf(path, sizeof(path), "%s/new.%s", folder, formats[i]);
		CHECK(!vmimg_image_convert(source, &image, NULL, &err));
		CHECK(vmimg_image_convert(source, &image, NULL, &err) &&
			err.status == VMIMG_EEXIST);
		made = opened(path);
		if (made) {
			same(source, made);
			if (strcmp(formats[i], "raw"))
				sound(made);
		}
		vmimg_disk_close(made);
		vmimg_disk_close(source);
	}
}

static void extents_tell_where_bytes_are(void)
{
	const uint8_t seed = 3;
	struct vmimg_new image = { .path = in_folder("extents.qcow2"),
		.options = "cluster_size=64k" };
	struct vmimg_disk *source = pattern(&seed, SIZE), *made;
	struct vmimg_extent extent;
	struct vmimg_io *io;
	const char *format = "none";
	uint64_t data = 0;

	CHECK(!vmimg_image_convert(source, &image, NULL, &err));
	io = vmimg_io_open_file(image.path, &err);
	CHECK(io && !vmimg_detect(io, &format, &err));
	CHECK_TEXT(format, "qcow2");
	vmimg_io_close(io);
	made = opened(image.path);
	for (uint64_t at = 0; made && at < SIZE; at += extent.len) {
		if (vmimg_disk_extent(made, at, &extent, &err)) {
			CHECK_NEVER(err.text);
			break;
		}
		if (extent.kind == VMIMG_EXTENT_DATA) {
			CHECK(extent.placed && extent.at >= 65536 && at >> 20 == 1);
			data += extent.len;
		}
	}
	CHECK(data == 1 << 20);
	CHECK(made && vmimg_disk_extent(made, SIZE, &extent, &err) && err.status == VMIMG_EINVAL);
	vmimg_disk_close(made);
	vmimg_disk_close(source);
}

static int refuse_at_once(void *ctx, uint64_t done, uint64_t total)
{
	(void)done, (void)total;
	++*(unsigned *)ctx;
	return 1;
}

static void progress_may_end_it(void)
{
	const uint8_t seed = 3;
	unsigned calls = 0;
	struct vmimg_new image = { .path = in_folder("cancelled.vhdx") };
	struct vmimg_work work = { .threads = 2, .progress = refuse_at_once, .ctx = &calls };
	struct vmimg_disk *source = pattern(&seed, UINT64_C(64) << 20);

	CHECK(vmimg_image_convert(source, &image, &work, &err));
	CHECK(err.status == VMIMG_ECANCELLED && calls);
	CHECK(access(image.path, F_OK));
	vmimg_disk_close(source);
}

static void digests_are_of_the_content(void)
{
	static const char zero_mib[] =
		"30e14955ebf1352266dc2ff8067e68104607e750abb9d3b36582b8af909fcb58";
	struct vmimg_new image = { .path = in_folder("empty.vdi") };
	char hex[VMIMG_DIGEST_TEXT];
	struct vmimg_disk *disk;

	CHECK(!vmimg_image_create(&image, 1 << 20, &err));
	disk = opened(image.path);
	CHECK(disk && !vmimg_disk_digest(disk, "sha256", NULL, hex, &err));
	CHECK_TEXT(hex, zero_mib);
	CHECK(disk && vmimg_disk_digest(disk, "no-such", NULL, hex, &err));
	vmimg_disk_close(disk);
}

static void children_lie_over_their_parents(void)
{
	const uint8_t seed = 3;
	struct vmimg_disk *source = pattern(&seed, SIZE), *parent, *child;
	struct vmimg_new base = { .path = in_folder("base.vhdx") };
	struct vmimg_new over = { .path = in_folder("over.vhdx"), .parent_name = "base.vhdx" };

	CHECK(!vmimg_image_convert(source, &base, NULL, &err));
	parent = opened(base.path);
	CHECK(vmimg_image_create(&over, SIZE, &err) && err.status == VMIMG_EINVAL);
	over.parent = parent;
	CHECK(parent && !vmimg_image_create(&over, SIZE, &err));
	child = opened(over.path);
	if (child)
		same(source, child);
	vmimg_disk_close(child);
	vmimg_disk_close(parent);
	vmimg_disk_close(source);
}

static void written_over(struct vmimg_change *change)
{
	const uint8_t other = 99;
	struct vmimg_disk *small = pattern(&other, 2 << 20);
	uint8_t byte = 0;

	CHECK(!vmimg_change_write(change, small, 1 << 20, NULL, &err));
	CHECK(vmimg_change_write(change, small, 2 << 20, NULL, &err) && err.status == VMIMG_EINVAL);
	CHECK(!vmimg_disk_pread(vmimg_change_disk(change), &byte, 1, 2 << 20, &err));
	CHECK(byte == (uint8_t)((1 << 20) / 512 + other));
	vmimg_disk_close(small);
}

static void images_change_in_place(void)
{
	const uint8_t seed = 3;
	struct vmimg_disk *source = pattern(&seed, SIZE);
	struct vmimg_new image = { .path = in_folder("change.qcow2") };
	struct vmimg_change *change;
	uint64_t saved;

	CHECK(!vmimg_image_convert(source, &image, NULL, &err));
	change = vmimg_change_open(image.path, NULL, &err);
	CHECK(change);
	if (!change)
		return;
	CHECK(!vmimg_change_open(image.path, NULL, &err) && err.status == VMIMG_ELOCKED);
	image.replace = true;
	CHECK(vmimg_image_convert(source, &image, NULL, &err) && err.status == VMIMG_ELOCKED);
	CHECK(!vmimg_change_snapshot(change, VMIMG_SNAPSHOT_CREATE, "before", &err));
	written_over(change);
	CHECK(!vmimg_change_resize(change, 2 * SIZE, &err));
	CHECK(vmimg_disk_size(vmimg_change_disk(change)) == 2 * SIZE);
	CHECK(!vmimg_change_compact(change, NULL, &saved, &err));
	CHECK(!vmimg_change_snapshot(change, VMIMG_SNAPSHOT_APPLY, "before", &err));
	CHECK(vmimg_change_snapshot(change, VMIMG_SNAPSHOT_DELETE, "other", &err));
	same(source, vmimg_change_disk(change));
	sound(vmimg_change_disk(change));
	vmimg_change_close(change);
	vmimg_disk_close(source);
}

static void what_a_format_has_not_is_said(void)
{
	struct vmimg_new image = { .path = in_folder("small.vdi") };
	struct vmimg_change *change;

	CHECK(!vmimg_image_create(&image, 1 << 20, &err));
	change = vmimg_change_open(image.path, NULL, &err);
	CHECK(change);
	if (!change)
		return;
	CHECK(vmimg_change_snapshot(change, VMIMG_SNAPSHOT_CREATE, "x", &err) &&
		err.status == VMIMG_EUNSUPPORTED);
	CHECK(!vmimg_change_set(change, "uuid=new", &err));
	CHECK(vmimg_change_set(change, "no-such-key=1", &err) && err.status == VMIMG_EINVAL);
	sound(vmimg_change_disk(change));
	vmimg_change_close(change);
}

static uint64_t be64(const uint8_t *bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | bytes[i];
	return value;
}

/* Takes the reference away that the first cluster has: QCOW2, "Host cluster management". */
static void spoil(const char *path)
{
	FILE *file = fopen(path, "r+b");
	uint8_t place[8] = { 0 };

	CHECK(file && !fseek(file, 48, SEEK_SET) && fread(place, 8, 1, file) == 1);
	CHECK(file && !fseek(file, (long)be64(place), SEEK_SET) && fread(place, 8, 1, file) == 1);
	CHECK(file && !fseek(file, (long)be64(place), SEEK_SET) && fwrite("\0", 2, 1, file) == 1);
	CHECK(file && !fclose(file));
}

static void repair_makes_it_sound(void)
{
	const uint8_t seed = 3;
	struct vmimg_disk *source = pattern(&seed, SIZE), *repaired;
	struct vmimg_new image = { .path = in_folder("spoilt.qcow2") };
	struct vmimg_checked left;
	unsigned fixed = 0;

	CHECK(!vmimg_image_convert(source, &image, NULL, &err));
	spoil(image.path);
	CHECK(!vmimg_image_repair(image.path, NULL, NULL, count_finding, &fixed, &left, &err));
	CHECK(fixed && !left.count[VMIMG_FINDING_CORRUPTION]);
	repaired = opened(image.path);
	if (repaired) {
		same(source, repaired);
		sound(repaired);
	}
	vmimg_disk_close(repaired);
	vmimg_disk_close(source);
}

static void mistakes_leave_nothing(void)
{
	struct vmimg_new image = { .path = in_folder("none.qcow2"), .options = "no_such=1" };

	CHECK(vmimg_image_create(&image, 1 << 20, &err) && err.status == VMIMG_EINVAL);
	image.options = NULL;
	CHECK(vmimg_image_create(&image, UINT64_MAX, &err) && err.status == VMIMG_ELIMIT);
	image.format = "no-such";
	CHECK(vmimg_image_create(&image, 1 << 20, &err) && err.status == VMIMG_EINVAL);
	image.format = "iso";
	CHECK(vmimg_image_create(&image, 1 << 20, &err));
	CHECK(access(image.path, F_OK));
}

UNIT_TESTS(TEST(every_format_is_converted_to), TEST(extents_tell_where_bytes_are),
	TEST(progress_may_end_it), TEST(digests_are_of_the_content),
	TEST(children_lie_over_their_parents), TEST(images_change_in_place),
	TEST(what_a_format_has_not_is_said), TEST(repair_makes_it_sound),
	TEST(mistakes_leave_nothing));

int main(void)
{
	char command[100];
	int bad;

	if (!mkdtemp(folder))
		return 1;
	bad = unit_run(unit_tests, sizeof(unit_tests) / sizeof(unit_tests[0]));
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	return system(command) || bad;
}

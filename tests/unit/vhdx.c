/* SPDX-License-Identifier: Apache-2.0 */
/* VHDX written over old bytes, as on a device: what is not written there is not zero. */
#include <stdlib.h>
#include "check.h"
#include "disk/sink.h"
#include "engine/convert.h"
#include "fake.h"

#define DEVICE (40U << 20)
#define DISK   (6U << 20)

static struct vmimg_error err;

static struct vmimg_io *old_device(void)
{
	struct vmimg_io *io = vmimg_memory_new("device", &err);
	uint8_t *bytes = malloc(DEVICE);

	memset(bytes, 0xff, DEVICE);
	CHECK(!vmimg_io_pwrite(io, bytes, DEVICE, 0, &err));
	free(bytes);
	io->is_device = true;
	return io;
}

static void check_reads_back(struct vmimg_io *io, const struct fake *fake)
{
	struct vmimg_open how = { .format = "vhdx" };
	struct vmimg_disk *disk = vmimg_disk_open(io, &how, &err);
	uint8_t *bytes = malloc(DISK);

	CHECK(disk && vmimg_disk_size(disk) == DISK);
	if (disk) {
		CHECK(!vmimg_disk_pread(disk, bytes, DISK, 0, &err));
		CHECK(!memcmp(bytes, fake->bytes, DISK));
	}
	vmimg_disk_close(disk);
	free(bytes);
}

static void write_over(const char *options_text, uint64_t seed)
{
	struct vmimg_options options = { 0 };
	struct vmimg_create create = { .size = DISK, .options = &options };
	struct vmimg_io *io = old_device();
	struct vmimg_convert convert = { .how = { .threads = 1 } };
	struct vmimg_converted done;
	struct fake fake;

	fake_open(&fake, DISK, seed);
	CHECK(!vmimg_options_add(&options, options_text, &err));
	convert.disk = &fake.disk;
	convert.sink = vmimg_sink_create(vmimg_format_find("vhdx"), io, &create, &err);
	CHECK(convert.sink && !vmimg_convert_run(&convert, &done, &err));
	vmimg_sink_close(convert.sink);
	CHECK(vmimg_io_size(io) == DEVICE);
	check_reads_back(io, &fake);
	vmimg_options_done(&options);
	vmimg_io_unref(io);
	fake_done(&fake);
}

static void a_dynamic_disk_over_old_bytes(void)
{
	for (uint64_t seed = 0; seed < 4; seed++)
		write_over("block_size=1M", seed);
}

static void a_fixed_disk_over_old_bytes(void)
{
	for (uint64_t seed = 0; seed < 4; seed++)
		write_over("subformat=fixed,block_size=2M", seed);
}

UNIT_TESTS(TEST(a_dynamic_disk_over_old_bytes), TEST(a_fixed_disk_over_old_bytes));
UNIT_MAIN()

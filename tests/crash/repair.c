/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crash leaves of a repair in place: the image in any state between the old and the new one,
 * and the undo file as it was before the first of its writes. Going back from there must give the
 * old bytes, each of them; and once all is written and synced, the new ones.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "../unit/image.h"
#include "engine/repair.h"
#include "io/file.h"
#include "io/journal.h"
#include "io/stage.h"
#include "util/bytes.h"
#include "states.h"

#define GUEST (UINT64_C(9) << 20)
#define MOST  40 /* states an epoch beyond the prefixes */

static struct vmimg_error err;

/* ---- damage ---- */

static uint64_t read_number(struct vmimg_io *io, uint64_t at, unsigned len)
{
	uint8_t bytes[8] = { 0 };

	CHECK(!vmimg_io_pread(io, bytes, len, at, &err));
	return vmimg_get_le64(bytes);
}

static void poke(struct vmimg_io *io, uint64_t at, uint32_t value)
{
	uint8_t bytes[4];

	vmimg_put_le32(bytes, value);
	CHECK(!vmimg_io_pwrite(io, bytes, sizeof(bytes), at, &err));
}

/* Entries of both directories, of a table, and two on one grain. */
static void damage_tables(struct vmimg_io *io)
{
	uint64_t redundant = read_number(io, 48, 8) * 512, first = read_number(io, 56, 8) * 512;
	uint64_t table = read_number(io, first, 4) * 512;

	for (unsigned i = 0; i < 100; i++)
		if (read_number(io, table + 4 * i, 4) > 1)
			poke(io, table + 4 * i, i % 2 ? 0x7fffffff : 130);
	poke(io, redundant, 0x7fffffff);
	poke(io, 72, UINT32_C(0x0d200a01)); /* not closed; the line ends begin */
}

static void damage_directories(struct vmimg_io *io)
{
	poke(io, 56, UINT32_C(0x7fffff)); /* gdOffset */
}

static void damage_stream(struct vmimg_io *io)
{
	CHECK(!vmimg_io_resize(io, vmimg_io_size(io) - 1000, &err));
}

static void damage_directory(struct vmimg_io *io)
{
	poke(io, vmimg_io_size(io) - 2048, UINT32_MAX);
	poke(io, vmimg_io_size(io) - 1024, 0);
}

static void damage_map(struct vmimg_io *io)
{
	poke(io, read_number(io, 0x154, 4), 0x01000000);
	poke(io, read_number(io, 0x154, 4) + 8, 1);
}

static void damage_vhd(struct vmimg_io *io)
{
	poke(io, 0, 0);
	poke(io, 1536 + 4, 0x01000000);
}

/* A header, the first region table, and entries of the BAT: a state that is none, and a place that
 * another block has. */
static void damage_vhdx(struct vmimg_io *io)
{
	poke(io, 128 << 10, 0);
	poke(io, (192 << 10) + 60000, 1);
	poke(io, 3 << 20, 4);
	poke(io, (3 << 20) + 8 * 4, (4 << 20) + 6);
	poke(io, (3 << 20) + 8 * 5, (4 << 20) + 6);
}

static const struct way {
	const char *name, *format, *options;
	void (*damage)(struct vmimg_io *);
} ways[] = {
	{ "vmdk-tables", "vmdk", NULL, damage_tables },
	{ "vmdk-directory", "vmdk", NULL, damage_directories },
	{ "vmdk-stream-cut", "vmdk", "subformat=streamOptimized", damage_stream },
	{ "vmdk-stream-directory", "vmdk", "subformat=streamOptimized", damage_directory },
	{ "vdi", "vdi", NULL, damage_map },
	{ "vhd", "vhd", NULL, damage_vhd },
	{ "vhdx", "vhdx", "block_size=1M", damage_vhdx },
};

/* ---- the image's file, and the undo file beside it ---- */

struct job {
	const struct way *way;
	char path[64], undo_path[80];
	struct vmimg_io *io; /* the file */
	uint8_t *old, *new, *undo;
	uint64_t old_size, new_size, undo_size;
	unsigned is_old, is_new, bad;
};

static uint8_t *bytes_of(struct vmimg_io *io, uint64_t *size)
{
	uint8_t *bytes = malloc((size_t)vmimg_io_size(io) + 1);

	*size = vmimg_io_size(io);
	CHECK(!vmimg_io_pread(io, bytes, (size_t)*size, 0, &err));
	return bytes;
}

static uint8_t *bytes_at(const char *path, uint64_t *size)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_file_open(path, false, &err);

	return io ? bytes_of(io, size) : NULL;
}

static bool holds(struct vmimg_io *io, const uint8_t *bytes, uint64_t size)
{
	uint64_t found_size;
	VMIMG_AUTO(free) uint8_t *found = bytes_of(io, &found_size);

	return found_size == size && !memcmp(found, bytes, (size_t)size);
}

/* Before the image's first write the undo file is whole, in storage, and stays as it is. */
struct spy {
	struct vmimg_io io;
	struct vmimg_io *inner;
	struct job *job;
};

static int spy_pread(struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *e)
{
	return vmimg_io_pread(((struct spy *)io)->inner, buf, len, at, e);
}

static void look_at_undo(struct job *job)
{
	if (!job->undo)
		job->undo = bytes_at(job->undo_path, &job->undo_size);
	CHECK(job->undo);
}

static int spy_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *e)
{
	look_at_undo(((struct spy *)io)->job);
	return vmimg_io_pwrite(((struct spy *)io)->inner, buf, len, at, e);
}

static int spy_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *e)
{
	look_at_undo(((struct spy *)io)->job);
	return vmimg_io_resize(((struct spy *)io)->inner, size, e);
}

static int spy_sync(struct vmimg_io *io, struct vmimg_error *e)
{
	return vmimg_io_sync(((struct spy *)io)->inner, e);
}

static void spy_close(struct vmimg_io *io)
{
	vmimg_io_unref(((struct spy *)io)->inner);
	free(io);
}

static const struct vmimg_io_ops spy_ops = {
	.pread = spy_pread,
	.pwrite = spy_pwrite,
	.resize = spy_resize,
	.sync = spy_sync,
	.close = spy_close,
};

static struct vmimg_io *spy_open(struct job *job, struct vmimg_io *inner)
{
	struct spy *spy = calloc(1, sizeof(*spy));

	CHECK(!vmimg_io_init(&spy->io, &spy_ops, "spy", &err));
	atomic_init(&spy->io.size, vmimg_io_size(inner));
	memcpy(spy->io.id, inner->id, sizeof(inner->id));
	spy->inner = inner;
	spy->job = job;
	return &spy->io;
}

/* ---- repairing, and judging what a crash leaves ---- */

static int repair(struct job *job, struct vmimg_io *io)
{
	VMIMG_AUTO(vmimg_journal_close)
	struct vmimg_journal *journal = vmimg_journal_open(job->path, io, &err);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *stage = vmimg_stage_open(io, &err);
	VMIMG_AUTO(free) struct vmimg_repair *did = calloc(1, sizeof(*did));
	struct vmimg_run_how how = { .threads = 1 };
	int failed = !journal || !stage ||
		vmimg_repair_run(stage, job->way->format, &how, did, &err) ||
		vmimg_journal_apply(journal, stage, &err);

	CHECK(did->fixed.count[VMIMG_FINDING_CORRUPTION]);
	CHECK(!did->left.count[VMIMG_FINDING_CORRUPTION]);
	vmimg_repair_done(did);
	return failed;
}

static void put_file(const char *path, const uint8_t *bytes, uint64_t size)
{
	FILE *file = fopen(path, "wb");

	CHECK(file && fwrite(bytes, 1, (size_t)size, file) == size);
	if (file)
		CHECK(!fclose(file));
}

static void put_image(struct job *job, const uint8_t *bytes, uint64_t size)
{
	CHECK(!vmimg_io_resize(job->io, 0, &err) &&
		!vmimg_io_pwrite(job->io, bytes, (size_t)size, 0, &err));
}

static void judge(void *ctx, const struct state *state)
{
	struct job *job = ctx;
	VMIMG_AUTO(vmimg_journal_close) struct vmimg_journal *journal = NULL;
	bool done = false, fine;

	put_image(job, state->files[0].bytes, state->files[0].size);
	if (state->whole) {
		fine = holds(job->io, job->new, job->new_size) &&
			image_check(job->io, job->way->format, &err) < 2;
		job->is_new++;
	} else {
		put_file(job->undo_path, job->undo, job->undo_size);
		journal = vmimg_journal_open(job->path, job->io, &err);
		fine = journal && !vmimg_journal_roll_back(journal, &done, &err) && done &&
			holds(job->io, job->old, job->old_size) && access(job->undo_path, F_OK);
		job->is_old++;
	}
	if (fine)
		return;
	if (job->bad++ < 3)
		printf("# %s, epoch %zu: %s: %s\n", job->way->name, state->epoch,
			state->whole ? "not the new image" : "not the old image", err.text);
	unit_failed++;
}

/* An undo file that was not finished is of no image that was written to. */
static void cut_undo(struct job *job)
{
	for (uint64_t len = 0; len < job->undo_size; len += vmimg_max(job->undo_size / 40, 1)) {
		VMIMG_AUTO(vmimg_journal_close) struct vmimg_journal *journal = NULL;
		bool done = true;

		put_image(job, job->old, job->old_size);
		put_file(job->undo_path, job->undo, len);
		journal = vmimg_journal_open(job->path, job->io, &err);
		CHECK(journal && !vmimg_journal_roll_back(journal, &done, &err) && !done);
		CHECK(holds(job->io, job->old, job->old_size) && access(job->undo_path, F_OK));
	}
}

static void make_damaged(struct job *job)
{
	struct image image = { .format = job->way->format, .options = job->way->options };
	struct fake fake;

	fake_open_aligned(&fake, GUEST, 65536, 21);
	CHECK(!image_make(&image, &fake, &err));
	job->way->damage(image.io);
	CHECK(image_check(image.io, image.format, &err) == 2);
	job->old = bytes_of(image.io, &job->old_size);
	put_file(job->path, job->old, job->old_size);
	fake_done(&fake);
	image_done(&image);
}

static void try_way(const struct way *way, const char *folder)
{
	struct job job = { .way = way };
	struct vmimg_recording recording = { 0 };
	struct states states = {
		.recording = &recording, .seed = 5, .most = MOST, .judge = judge, .ctx = &job
	};
	struct vmimg_io *io, *spy;
	long count;

	snprintf(job.path, sizeof(job.path), "%s/image", folder);
	snprintf(job.undo_path, sizeof(job.undo_path), "%s.vmimg-undo", job.path);
	make_damaged(&job);
	job.io = vmimg_file_open(job.path, true, &err);
	spy = spy_open(&job, vmimg_io_ref(job.io));
	io = vmimg_recorder_open(spy, 0, &recording, &err);
	vmimg_io_unref(spy);
	memcpy(io->id, job.io->id, sizeof(io->id));
	if (repair(&job, io)) {
		CHECK_NEVER("not repaired");
		printf("# %s: %s\n", way->name, err.text);
	} else {
		job.new = bytes_of(io, &job.new_size);
		CHECK(access(job.undo_path, F_OK));
		states.before[0] = (struct state_file){ job.old, job.old_size };
		count = states_run(&states);
		cut_undo(&job);
		printf("# crash %s: states %ld old %u new %u bad %u\n", way->name, count,
			job.is_old, job.is_new, job.bad);
		CHECK(count > 4 && job.is_new);
	}
	vmimg_io_unref(io);
	vmimg_io_unref(job.io);
	vmimg_recording_done(&recording);
	unlink(job.path);
	free(job.old);
	free(job.new);
	free(job.undo);
}

static void repairs(void)
{
	char folder[] = "/tmp/vmimg-crash-XXXXXX";

	CHECK(mkdtemp(folder));
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++)
		try_way(&ways[i], folder);
	CHECK(!rmdir(folder));
}

UNIT_TESTS(TEST(repairs));
UNIT_MAIN()

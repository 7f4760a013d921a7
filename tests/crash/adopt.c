/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crash leaves of a raw disk that becomes an image where it is: whatever part of the writes
 * arrived, the undo file, which was whole before the first of them, makes it the raw disk again,
 * and so it does when that is cut off in its turn; and with all of them it is the image.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "../unit/check.h"
#include "../unit/fake.h"
#include "../unit/sound.h"
#include "engine/adopt.h"
#include "io/file.h"
#include "states.h"

#define MIB    (UINT64_C(1) << 20)
#define MOST   60 /* states beyond the prefixes */
#define UNDONE 40 /* this state, and the last, have their undoing cut off in all ways */

struct way {
	const char *name, *format, *options;
	uint64_t size, data; /* bytes; from data on it is a hole */
};

static const struct way ways[] = {
	{ "qcow2", "qcow2", NULL, 3 * MIB + 512, 3 * MIB + 512 },
	{ "qcow2-sparse", "qcow2", NULL, 4 * MIB, MIB + 4096 },
	{ "qcow2-small", "qcow2", "cluster_size=512", MIB + 100, MIB + 100 },
	{ "qcow2-old", "qcow2", "compat=0.10,cluster_size=4096", MIB, MIB },
	{ "qcow2-subclusters", "qcow2", "extended_l2=on", 2 * MIB, 2 * MIB },
	{ "vhdx", "vhdx", NULL, 2 * MIB, 2 * MIB },
	{ "vhdx-sparse", "vhdx", "block_size=2M", 5 * MIB + 512, 2 * MIB + 4096 },
	{ "vhdx-tiny", "vhdx", NULL, 5000, 5000 },
	{ "vdi", "vdi", NULL, 2 * MIB + 1000, 2 * MIB + 1000 },
	{ "vdi-sparse", "vdi", "block_size=4096", 4 * MIB, 2 * MIB },
	{ "vdi-tiny", "vdi", NULL, 1, 1 },
};

struct job {
	const struct way *way;
	char path[200], undo_path[220];
	uint8_t *raw; /* way->size bytes */
	uint8_t *undo;
	size_t undo_len;
	bool ended; /* the undo file is gone */
	unsigned seen, undone, bad;
};

static struct vmimg_error err;

/* ---- files ---- */

static void put_file(const char *path, const uint8_t *bytes, uint64_t size)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600); /* the same inode, when it is there */

	CHECK(fd >= 0 && !ftruncate(fd, 0));
	CHECK(pwrite(fd, bytes, (size_t)size, 0) == (ssize_t)size && !ftruncate(fd, (off_t)size));
	close(fd);
}

static uint8_t *get_file(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY);
	off_t end = lseek(fd, 0, SEEK_END);
	uint8_t *bytes = calloc(1, (size_t)end + 1);

	CHECK(fd >= 0 && pread(fd, bytes, (size_t)end, 0) == end);
	close(fd);
	*size = (size_t)end;
	return bytes;
}

/* ---- a file that notes what is done to it, and the undo file before the first write ---- */

struct spy {
	struct vmimg_io io;
	struct vmimg_io *file, *recorder;
	struct job *job; /* NULL: nothing is noted but what is done */
};

/* The image is synced before the undo file goes: what comes then is another epoch. */
static void note_undo(struct spy *spy)
{
	struct job *job = spy->job;
	bool there = job && !access(job->undo_path, F_OK);

	if (there && !job->undo)
		job->undo = get_file(job->undo_path, &job->undo_len);
	if (job && !there && !job->ended) {
		job->ended = true;
		CHECK(!vmimg_io_sync(spy->recorder, &err));
	}
	CHECK(!job || job->undo);
}

static int spy_pread(struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *e)
{
	return vmimg_io_pread(((struct spy *)io)->file, buf, len, at, e);
}

static int spy_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *e)
{
	note_undo((struct spy *)io);
	return vmimg_io_pwrite(((struct spy *)io)->recorder, buf, len, at, e);
}

static int spy_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *e)
{
	note_undo((struct spy *)io);
	return vmimg_io_resize(((struct spy *)io)->recorder, size, e);
}

static int spy_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *e)
{
	return vmimg_io_extent(((struct spy *)io)->file, at, hole, len, e);
}

static int spy_sync(struct vmimg_io *io, struct vmimg_error *e)
{
	return vmimg_io_sync(((struct spy *)io)->recorder, e);
}

static void spy_close(struct vmimg_io *io)
{
	vmimg_io_unref(((struct spy *)io)->recorder);
	vmimg_io_unref(((struct spy *)io)->file);
	free(io);
}

static const struct vmimg_io_ops spy_ops = {
	.pread = spy_pread,
	.pwrite = spy_pwrite,
	.extent = spy_extent,
	.resize = spy_resize,
	.sync = spy_sync,
	.close = spy_close,
};

static struct vmimg_io *spy_open(
	const char *path, struct job *job, struct vmimg_recording *recording)
{
	struct spy *spy = calloc(1, sizeof(*spy));

	CHECK(!vmimg_io_init(&spy->io, &spy_ops, path, &err));
	spy->file = vmimg_file_open(path, true, &err);
	spy->recorder = vmimg_recorder_open(spy->file, 0, recording, &err);
	spy->job = job;
	spy->io.id[0] = spy->file->id[0];
	spy->io.id[1] = spy->file->id[1];
	atomic_init(&spy->io.size, vmimg_io_size(spy->file));
	return &spy->io;
}

/* ---- judging ---- */

static void tell(struct job *job, const char *what)
{
	if (job->bad++ < 3)
		printf("# %s, state %u: %s: %s\n", job->way->name, job->seen, what, err.text);
	unit_failed++;
}

static void check_raw(struct job *job, const char *when)
{
	size_t size;
	VMIMG_AUTO(free) uint8_t *bytes = get_file(job->path, &size);

	if (size != job->way->size || memcmp(bytes, job->raw, size))
		tell(job, when);
}

static bool undo(struct vmimg_io *io, struct job *job)
{
	VMIMG_AUTO(vmimg_journal_close)
	struct vmimg_journal *journal = vmimg_journal_open(job->path, io, &err);
	bool done = false;

	return journal && !vmimg_journal_roll_back(journal, &done, &err) && done;
}

static bool undo_file(struct job *job)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_file_open(job->path, true, &err);

	return io && undo(io, job);
}

static void judge_undoing(void *ctx, const struct state *state)
{
	struct job *job = ctx;

	put_file(job->path, state->files[0].bytes, state->files[0].size);
	put_file(job->undo_path, job->undo, job->undo_len);
	job->undone++;
	if (!undo_file(job))
		tell(job, "it was undone in part, and now cannot be");
	check_raw(job, "it was undone in part, and then not back to the raw disk");
}

/* The undoing of a state, cut off in all ways. */
static void cut_off_undoing(struct job *job, const struct state *state)
{
	struct vmimg_recording recording = { 0 };
	struct vmimg_io *io = spy_open(job->path, NULL, &recording);
	struct states states = { .recording = &recording,
		.before = { state->files[0] },
		.seed = 7,
		.most = MOST / 4,
		.judge = judge_undoing,
		.ctx = job };

	if (!undo(io, job))
		tell(job, "it cannot be undone");
	vmimg_io_unref(io);
	CHECK(states_run(&states) > 2);
	vmimg_recording_done(&recording);
}

static void check_image(struct job *job, const struct state *state)
{
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *io = vmimg_memory_view(
		state->files[0].bytes, (size_t)state->files[0].size, "state", &err);
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = vmimg_disk_open(io, NULL, &err);
	VMIMG_AUTO(free) uint8_t *bytes = calloc(1, (size_t)job->way->size + 512);
	uint64_t size = job->way->size;

	if (!disk || strcmp(disk->format->name, job->way->format)) {
		tell(job, "it is no image, and all was written");
		return;
	}
	CHECK(disk->size >= size && disk->size < size + 512);
	if (vmimg_disk_pread(disk, bytes, (size_t)disk->size, 0, &err) ||
		memcmp(bytes, job->raw, (size_t)size))
		tell(job, "another content");
	for (uint64_t i = size; i < disk->size; i++)
		CHECK(!bytes[i]);
	if (image_check(io, job->way->format, &err))
		tell(job, "not sound");
}

static void judge(void *ctx, const struct state *state)
{
	struct job *job = ctx;

	job->seen++;
	if (state->whole || state->epoch)
		check_image(job, state);
	if (state->epoch)
		return;
	put_file(job->path, state->files[0].bytes, state->files[0].size);
	put_file(job->undo_path, job->undo, job->undo_len);
	if (!undo_file(job))
		tell(job, "it cannot be undone");
	check_raw(job, "not the raw disk after it was undone");
	if (job->seen != UNDONE && !state->whole)
		return;
	put_file(job->path, state->files[0].bytes, state->files[0].size);
	put_file(job->undo_path, job->undo, job->undo_len);
	cut_off_undoing(job, state);
}

/* ---- the change ---- */

static int adopt(struct job *job, struct vmimg_io *io)
{
	struct vmimg_open raw = { .format = "raw" };
	struct vmimg_options options = { 0 };
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = vmimg_disk_open(io, &raw, &err);
	VMIMG_AUTO(vmimg_journal_close)
	struct vmimg_journal *journal = vmimg_journal_open(job->path, io, &err);
	struct vmimg_adopt how = { .raw = disk,
		.format = vmimg_format_find(job->way->format),
		.options = &options,
		.journal = journal };
	int failed = !disk || !journal ||
		(job->way->options && vmimg_options_add(&options, job->way->options, &err)) ||
		vmimg_adopt_run(&how, &err);

	vmimg_options_done(&options);
	return failed;
}

/* With a hole in it, and zeroes that are no hole. */
static void make_raw(struct job *job)
{
	uint64_t seed = 99, data = job->way->data, hole = data / 3 / 4096 * 4096;
	int fd = open(job->path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	for (uint64_t i = 0; i < data; i++)
		job->raw[i] = (uint8_t)(fake_random(&seed) >> 8);
	if (hole)
		memset(job->raw + data - 2 * hole, 0, (size_t)hole / 4 * 5);
	CHECK(fd >= 0 && pwrite(fd, job->raw, (size_t)(data - 2 * hole), 0) >= 0);
	CHECK(pwrite(fd, job->raw + data - hole, (size_t)hole, (off_t)(data - hole)) >= 0);
	CHECK(!ftruncate(fd, (off_t)job->way->size));
	close(fd);
}

static void try_way(const struct way *way, const char *folder)
{
	struct vmimg_recording recording = { 0 };
	struct job job = { .way = way, .raw = calloc(1, (size_t)way->size + 1) };
	struct states states = { .recording = &recording,
		.before = { { job.raw, way->size } },
		.seed = 20260101,
		.most = MOST,
		.judge = judge,
		.ctx = &job };
	struct vmimg_io *io;

	snprintf(job.path, sizeof(job.path), "%s/%s", folder, way->name);
	snprintf(job.undo_path, sizeof(job.undo_path), "%s.vmimg-undo", job.path);
	make_raw(&job);
	io = spy_open(job.path, &job, &recording);
	if (adopt(&job, io)) {
		CHECK_NEVER("not done");
		printf("# %s: %s\n", way->name, err.text);
	} else {
		CHECK(access(job.undo_path, F_OK));
		CHECK(states_run(&states) > 4);
		printf("# crash adopt %s: states %u, of undoing %u, bad %u\n", way->name, job.seen,
			job.undone, job.bad);
	}
	vmimg_io_unref(io);
	vmimg_recording_done(&recording);
	unlink(job.path);
	unlink(job.undo_path);
	free(job.raw);
	free(job.undo);
}

static void adopted(void)
{
	/* in memory, where there is such a place: a thousand times each file is synced */
	char memory[] = "/dev/shm/vmimg-adopt-XXXXXX", disk[] = "/tmp/vmimg-adopt-XXXXXX";
	const char *folder = mkdtemp(memory) ? memory : mkdtemp(disk);

	CHECK(folder);
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++)
		try_way(&ways[i], folder);
	rmdir(folder);
}

UNIT_TESTS(TEST(adopted));
UNIT_MAIN()

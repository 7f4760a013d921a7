/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crash leaves, for each operation that writes where something else may look: new images on
 * devices, which must be nothing until they are whole, and changes in place, which must be the old
 * image or the new one. VMIMG_CRASH_KEEP names a folder for a sample of the states that are images,
 * for other programs to judge.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "../unit/check.h"
#include "../unit/fake.h"
#include "../unit/sound.h"
#include "disk/edit.h"
#include "disk/info.h"
#include "engine/convert.h"
#include "states.h"

#define GUEST (1U << 20)
#define MOST  60 /* states an epoch beyond the prefixes */
#define KEEP  17 /* one of as many is kept for others to judge, and the last */

struct outcome {
	unsigned nothing;  /* not recognised as an image */
	unsigned unread;   /* recognised, and an error to open or to read */
	unsigned old, new; /* whole, with that content */
	unsigned leaks;    /* of those, with space lost */
	unsigned bad;      /* recognised, and neither; or check finds corruption */
};

struct job {
	const char *name, *format;
	uint8_t *old_guest, *new_guest; /* contents that may be found; NULL: none */
	uint64_t old_size, new_size;
	bool in_place;                       /* there must always be an image */
	bool mixed;                          /* each sector may be old or new until the end */
	const char *old_parent, *new_parent; /* names that may be found; both NULL: not looked at */
	struct outcome outcome;
	unsigned kept;
};

/* ---- judging a state ---- */

static bool has_content(
	struct vmimg_disk *disk, const uint8_t *guest, uint64_t size, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = calloc(1, (size_t)disk->size + 1);

	if (!guest || disk->size < size ||
		vmimg_disk_pread(disk, bytes, (size_t)disk->size, 0, err))
		return false;
	for (uint64_t i = size; i < disk->size; i++)
		if (bytes[i])
			return false;
	return !memcmp(bytes, guest, (size_t)size);
}

static bool has_either(struct vmimg_disk *disk, const struct job *job, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = calloc(1, (size_t)disk->size + 1);

	if (disk->size != job->new_size ||
		vmimg_disk_pread(disk, bytes, (size_t)disk->size, 0, err))
		return false;
	for (uint64_t at = 0; at < disk->size; at += 512)
		if (memcmp(bytes + at, job->old_guest + at, 512) &&
			memcmp(bytes + at, job->new_guest + at, 512))
			return false;
	return true;
}

/* The parent's name is the old one or, where that is asked for, the new one. */
static bool has_parent(const struct vmimg_disk *disk, const struct job *job, bool new)
{
	const char *name = disk->ref_count ? disk->refs[0].ref.name : "";

	if (!job->new_parent)
		return true;
	return !strcmp(name, job->new_parent) || (!new && !strcmp(name, job->old_parent));
}

static void tell(
	struct job *job, const struct state *state, const char *what, const struct vmimg_error *err)
{
	if (job->outcome.bad++ < 3)
		printf("# %s, epoch %zu: %s: %s\n", job->name, state->epoch, what, err->text);
	unit_failed++;
}

static void keep(struct job *job, const struct state *state, const char *kind)
{
	const char *folder = getenv("VMIMG_CRASH_KEEP");
	char path[400];
	FILE *file;

	if (!folder || (job->kept++ % KEEP && !state->whole))
		return;
	snprintf(path, sizeof(path), "%s/%s-%s-%u.%s", folder, job->name, kind, job->kept,
		job->format);
	file = fopen(path, "wb");
	if (!file)
		return;
	CHECK(fwrite(state->files[0].bytes, 1, (size_t)state->files[0].size, file) ==
		state->files[0].size);
	fclose(file);
}

/* Whether the bytes are taken for an image of a format with a header. */
static bool is_recognised(struct vmimg_io *io, const char *format)
{
	struct vmimg_error err;
	const struct vmimg_format *found = vmimg_disk_probe(io, &err);

	return !strcmp(format, "raw") || (found && strcmp(found->name, "raw")) ||
		(!found && err.status == VMIMG_EREFUSED);
}

static void judge(void *ctx, const struct state *state)
{
	struct job *job = ctx;
	struct vmimg_error err = { 0 };
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *io = vmimg_memory_view(
		state->files[0].bytes, (size_t)state->files[0].size, "state", &err);
	struct vmimg_open options = { .format = job->format, .alone = job->new_parent };
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = NULL;
	bool is_new, is_old;
	int found;

	if (!is_recognised(io, job->format)) {
		job->outcome.nothing++;
		if (job->in_place || state->whole)
			tell(job, state, "no image any more", &err);
		return;
	}
	disk = vmimg_disk_open(io, &options, &err);
	is_new = disk && has_content(disk, job->new_guest, job->new_size, &err) &&
		has_parent(disk, job, true);
	is_old = disk && !is_new && has_parent(disk, job, false) &&
		(has_content(disk, job->old_guest, job->old_size, &err) ||
			(job->mixed && has_either(disk, job, &err)));
	if (!is_new && (!is_old || state->whole)) {
		job->outcome.unread += !disk;
		tell(job, state, disk ? "neither the old content nor the new" : "not to be opened",
			&err);
		return;
	}
	/* On a device the copies of a footer come and go one after the other. */
	found = image_check(io, job->format, &err);
	if (found == 2 && (job->in_place || state->whole)) {
		tell(job, state, is_new ? "new, damaged" : "old, damaged", &err);
		return;
	}
	job->outcome.leaks += found == 1;
	job->outcome.new += is_new;
	job->outcome.old += is_old;
	keep(job, state, is_new ? "new" : "old");
}

static void enumerate(
	struct job *job, const struct vmimg_recording *recording, uint8_t *before, uint64_t size)
{
	struct states states = { .recording = recording,
		.before = { { before, size } },
		.seed = 20240607,
		.most = MOST,
		.judge = judge,
		.ctx = job };
	long count = states_run(&states);
	const struct outcome *o = &job->outcome;

	printf("# crash %s: states %ld nothing %u old %u new %u leaks %u bad %u\n", job->name,
		count, o->nothing, o->old, o->new, o->leaks, o->bad);
	fflush(stdout);
	CHECK(count > (job->in_place ? 4 : 10) && o->new);
}

/* ---- new images on devices ---- */

struct way {
	const char *name, *format, *options;
	bool compress;
	uint64_t device; /* bytes */
};

static const struct way ways[] = {
	{ "qcow2", "qcow2", "cluster_size=4096", false, 4 << 20 },
	{ "qcow2-packed", "qcow2", "cluster_size=4096", true, 4 << 20 },
	{ "qcow2-old", "qcow2", "compat=0.10,cluster_size=65536", false, 4 << 20 },
	{ "qcow2-subclusters", "qcow2", "extended_l2=on", false, 4 << 20 },
	{ "vmdk", "vmdk", "subformat=monolithicSparse", false, 4 << 20 },
	{ "vmdk-stream", "vmdk", "subformat=streamOptimized", false, 4 << 20 },
	{ "vdi", "vdi", NULL, false, 4 << 20 },
	{ "vhd", "vhd", "force_size=on", false, 6 << 20 },
	{ "vhd-fixed", "vhd", "subformat=fixed,force_size=on", false, GUEST + 512 },
	{ "vhdx", "vhdx", "block_size=1M", false, 12 << 20 },
};

static int write_image(
	const struct way *way, struct vmimg_io *io, struct fake *fake, struct vmimg_error *err)
{
	struct vmimg_options options = { 0 };
	struct vmimg_create create = { .size = GUEST, .compress = way->compress };
	VMIMG_AUTO(vmimg_sink_close) struct vmimg_sink *sink = NULL;
	struct vmimg_convert convert = { .disk = &fake->disk, .how = { .threads = 1 } };
	struct vmimg_converted done;

	int failed;

	failed = way->options && vmimg_options_add(&options, way->options, err);
	create.options = &options;
	if (!failed)
		sink = vmimg_sink_create(vmimg_format_find(way->format), io, &create, err);
	convert.sink = sink;
	failed = !sink || vmimg_convert_run(&convert, &done, err) || vmimg_io_sync(io, err);
	vmimg_options_done(&options);
	return failed ? -1 : 0;
}

/* A device of that size over bytes that are there already; NULL: zeroes. */
static struct vmimg_io *device(uint64_t size, const uint8_t *bytes)
{
	struct vmimg_error err;
	struct vmimg_io *io = vmimg_memory_new("device", &err);

	CHECK(io && !vmimg_io_resize(io, size, &err));
	CHECK(!bytes || !vmimg_io_pwrite(io, bytes, (size_t)size, 0, &err));
	io->is_device = true;
	return io;
}

static void try_way(const struct way *way, const char *name, uint8_t *before, struct fake *old,
	struct fake *new, uint8_t *after)
{
	struct vmimg_recording recording = { 0 };
	struct vmimg_error err = { 0 };
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *inner = device(way->device, before);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;
	struct job job = { .name = name,
		.format = way->format,
		.old_guest = old ? old->bytes : NULL,
		.new_guest = new->bytes,
		.old_size = GUEST,
		.new_size = GUEST };

	io = vmimg_recorder_open(inner, 0, &recording, &err);
	if (!io || write_image(way, io, new, &err)) {
		CHECK_NEVER("not written");
		printf("# %s: %s\n", name, err.text);
	} else {
		enumerate(&job, &recording, before, way->device);
	}
	if (after)
		memcpy(after, vmimg_memory_bytes(inner), (size_t)way->device);
	vmimg_recording_done(&recording);
}

/* On a device that is zero, and then another disk over what is there now. */
static void new_images(void)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		uint8_t *blank = calloc(1, (size_t)ways[i].device);
		uint8_t *used = calloc(1, (size_t)ways[i].device);
		struct fake first, second;
		char name[80];

		fake_open(&first, GUEST, 11);
		fake_open(&second, GUEST, 12);
		try_way(&ways[i], ways[i].name, blank, NULL, &first, used);
		snprintf(name, sizeof(name), "%s-over-old", ways[i].name);
		try_way(&ways[i], name, used, &first, &second, NULL);
		fake_done(&first);
		fake_done(&second);
		free(blank);
		free(used);
	}
}

/* ---- changes in place ---- */

enum change { GROW, GROW_FAR, SHRINK, SNAPSHOT, APPLY, DELETE, UPDATE, EMPTY, PARENT, SQUEEZE };

static const char long_name[] =
	"a/name/that/takes/more/than/a/sector/by/itself/is/made/of/many/folders/0123456789/"
	"a/name/that/takes/more/than/a/sector/by/itself/is/made/of/many/folders/0123456789/"
	"a/name/that/takes/more/than/a/sector/by/itself/is/made/of/many/folders/0123456789/"
	"a/name/that/takes/more/than/a/sector/by/itself/is/made/of/many/folders/0123456789/"
	"a/name/that/takes/more/than/a/sector/by/itself/is/made/of/many/folders/0123456789/"
	"a/name/that/takes/more/than/a/sector/by/itself/is/made/of/many/folders/0123456789/"
	"a/name/that/takes/more/than/a/sector/by/itself/is/made/of/many/folders/0123456789";
static const char *const parents[2] = { "the/old/one.raw", long_name };

static int update(struct vmimg_disk *disk, struct fake *new, struct vmimg_error *err)
{
	struct vmimg_update how = { 0 };
	VMIMG_AUTO(vmimg_sink_close)
	struct vmimg_sink *sink = disk->format->edit->update(disk, &how, err);
	struct vmimg_convert convert = { .disk = &new->disk, .how = { .threads = 1 } };
	struct vmimg_converted done;

	convert.sink = sink;
	return sink ? vmimg_convert_run(&convert, &done, err) : -1;
}

static int set_parent(struct vmimg_disk *disk, const char *name, struct vmimg_error *err)
{
	struct vmimg_parent parent = { .name = name, .format = "raw" };

	return disk->format->edit->set_parent(disk, &parent, err);
}

static int change(struct vmimg_io *io, const char *format, enum change kind, struct fake *new,
	struct vmimg_error *err)
{
	struct vmimg_open options = { .format = format, .alone = kind == PARENT };
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = vmimg_disk_open(io, &options, err);
	const struct vmimg_edit_ops *edit = disk ? disk->format->edit : NULL;
	uint64_t saved;

	if (!edit)
		return -1;
	switch (kind) {
	case GROW:
		return edit->resize(disk, GUEST + 65536, err);
	case GROW_FAR:
		return edit->resize(disk, UINT64_C(64) << 20, err);
	case SHRINK:
		return edit->resize(disk, GUEST / 2, err);
	case SNAPSHOT:
		return edit->snapshot_create(disk, "two", 1700000000, 0, err);
	case APPLY:
		return edit->snapshot_apply(disk, "one", err);
	case DELETE:
		return edit->snapshot_delete(disk, "one", err);
	case UPDATE:
		return update(disk, new, err);
	case EMPTY:
		return edit->empty(disk, err);
	case PARENT:
		return set_parent(disk, parents[1], err);
	case SQUEEZE:
		return edit->squeeze(disk, &saved, err);
	}
	return -1;
}

/* An image in a file of its own size, with a snapshot "one". */
/* Gaps where the snapshot alone had clusters. */
static void make_gaps(struct vmimg_io *io, const char *format, struct fake *fake)
{
	static const enum change steps[] = { UPDATE, SNAPSHOT, DELETE };
	struct vmimg_error err = { 0 };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(steps); i++)
		CHECK(!change(io, format, steps[i], fake, &err));
}

static struct vmimg_io *image_to_change(const struct way *way, struct fake *fake, enum change kind)
{
	struct vmimg_error err = { 0 };
	struct vmimg_io *io = vmimg_memory_new("image", &err);
	struct vmimg_open options = { .format = way->format };
	struct vmimg_disk *disk;

	CHECK(io && !write_image(way, io, fake, &err));
	disk = vmimg_disk_open(io, &options, &err);
	CHECK(disk);
	if (disk && disk->format->edit && disk->format->edit->snapshot_create)
		CHECK(!disk->format->edit->snapshot_create(disk, "one", 1600000000, 0, &err));
	vmimg_disk_close(disk);
	if (kind == SQUEEZE)
		make_gaps(io, way->format, fake);
	if (kind == PARENT) {
		disk = vmimg_disk_open(io, &options, &err);
		CHECK(disk && !set_parent(disk, parents[0], &err));
		vmimg_disk_close(disk);
	}
	return io;
}

static void try_change(const struct way *way, const char *what, enum change kind)
{
	static const uint64_t sizes[] = { [GROW] = GUEST,
		[GROW_FAR] = GUEST,
		[SHRINK] = GUEST / 2,
		[SNAPSHOT] = GUEST,
		[APPLY] = GUEST,
		[DELETE] = GUEST,
		[UPDATE] = GUEST,
		[EMPTY] = GUEST,
		[PARENT] = GUEST,
		[SQUEEZE] = GUEST };
	struct vmimg_recording recording = { 0 };
	struct vmimg_error err = { 0 };
	struct fake fake, new;
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *inner = NULL;
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;
	uint64_t size;
	uint8_t *before;
	char name[80];
	struct job job = { .name = name, .format = way->format, .in_place = true };

	fake_open(&fake, GUEST, 13);
	fake_open(&new, GUEST, 14);
	inner = image_to_change(way, &fake, kind);
	size = vmimg_io_size(inner);
	before = malloc((size_t)size);
	memcpy(before, vmimg_memory_bytes(inner), (size_t)size);
	snprintf(name, sizeof(name), "%s-%s", way->name, what);
	job.old_guest = job.new_guest = fake.bytes;
	if (kind == EMPTY)
		memset(new.bytes, 0, GUEST);
	if (kind == EMPTY || kind == UPDATE)
		job.new_guest = new.bytes;
	job.mixed = kind == UPDATE;
	job.old_parent = kind == PARENT ? parents[0] : NULL;
	job.new_parent = kind == PARENT ? parents[1] : NULL;
	job.old_size = GUEST;
	job.new_size = sizes[kind];
	io = vmimg_recorder_open(inner, 0, &recording, &err);
	if (!io || change(io, way->format, kind, &new, &err) || vmimg_io_sync(io, &err)) {
		CHECK_NEVER("not changed");
		printf("# %s: %s\n", name, err.text);
	} else {
		enumerate(&job, &recording, before, size);
	}
	vmimg_recording_done(&recording);
	fake_done(&fake);
	fake_done(&new);
	free(before);
}

static void changes(void)
{
	static const struct {
		const char *name;
		enum change kind;
	} all[] = { { "grow", GROW }, { "grow-far", GROW_FAR }, { "shrink", SHRINK },
		{ "snapshot-create", SNAPSHOT }, { "snapshot-apply", APPLY },
		{ "snapshot-delete", DELETE }, { "update", UPDATE }, { "empty", EMPTY },
		{ "parent", PARENT }, { "squeeze", SQUEEZE } };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		bool qcow2 = !strcmp(ways[i].format, "qcow2");

		if (!strcmp(ways[i].name, "vmdk-stream"))
			continue; /* is never changed */
		for (size_t k = 0; k < (qcow2 ? VMIMG_ARRAY_LEN(all) : 3); k++)
			try_change(&ways[i], all[k].name, all[k].kind);
		if (strcmp(ways[i].format, "vhdx"))
			continue;
		try_change(&ways[i], "update", UPDATE); /* its log is one that others replay, too */
		try_change(&ways[i], "empty", EMPTY);
	}
}

UNIT_TESTS(TEST(new_images), TEST(changes));
UNIT_MAIN()

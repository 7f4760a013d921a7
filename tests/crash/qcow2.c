/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crash leaves of changes that QCOW2 alone knows: of bitmaps, of new content that bitmaps
 * record, of how the image is kept, and of the passphrases that open it. Bitmaps are the old ones
 * or the new ones and say so of the content that is there, or they say of themselves that they are
 * not to be relied on; of the passphrases at least one that must open the image does.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "../unit/check.h"
#include "../unit/fake.h"
#include "../unit/sound.h"
#include "disk/edit.h"
#include "engine/convert.h"
#include "states.h"
#include "util/bytes.h"

#define GUEST (1U << 20)
#define UNIT  4096U /* the bitmaps' granularity */
#define BITS  (GUEST / UNIT)
#define MOST  40 /* states an epoch beyond the prefixes */

static const struct vmimg_secret one = { "one", 3 }, two = { "two", 3 };

/* What is found of an image, so that it can be compared. */
struct seen {
	uint8_t guest[GUEST];
	char bitmaps[200 + 4 * (BITS / 4)]; /* names, flags and bits, as text */
	bool in_use;                        /* one of them at least */
	bool opens[2];                      /* by one, by two */
	uint32_t version, order;            /* of the format, and of the refcounts' width */
};

struct job {
	const char *name, *options;
	int (*change)(struct vmimg_disk *, struct vmimg_error *);
	struct seen old, new, now;
	bool encrypted, mixed;
	unsigned is_old, is_new, between, leaks, bad;
};

/* ---- what can be seen ---- */

static int describe_bitmap(struct vmimg_disk *disk, size_t i, char *to, struct vmimg_error *err)
{
	const struct vmimg_bitmap *bitmap = &disk->bitmaps[i];
	uint8_t bits[BITS / 8];
	char *end = to + sprintf(to, "%s %d ", bitmap->name, bitmap->enabled);

	if (disk->format->bitmap_read(disk, i, 0, BITS, bits, err))
		return -1;
	for (size_t k = 0; k < sizeof(bits); k++)
		end += sprintf(end, "%02x", bits[k]);
	strcpy(end, "\n");
	return 0;
}

static int look(struct vmimg_io *io, bool encrypted, struct seen *seen, struct vmimg_error *err)
{
	const struct vmimg_secret *secrets[2] = { &one, &two };
	uint8_t head[100];

	*seen = (struct seen){ 0 };
	if (vmimg_io_pread(io, head, sizeof(head), 0, err))
		return -1;
	seen->version = vmimg_get_be32(head + 4);
	seen->order = seen->version == 3 ? vmimg_get_be32(head + 96) : 4;
	for (size_t s = 0; s < 2; s++) {
		struct vmimg_open options = {
			.format = "qcow2", .secrets = secrets[s], .secret_count = encrypted
		};
		VMIMG_AUTO(vmimg_disk_close)
		struct vmimg_disk *disk = vmimg_disk_open(io, &options, err);

		if (!disk && (!encrypted || err->status != VMIMG_EREFUSED))
			return -1;
		seen->opens[s] = disk;
		if (!disk || (s && seen->opens[0]))
			continue;
		if (disk->size != GUEST || vmimg_disk_pread(disk, seen->guest, GUEST, 0, err))
			return -1;
		for (size_t i = 0; i < disk->bitmap_count; i++) {
			seen->in_use |= disk->bitmaps[i].in_use;
			if (describe_bitmap(disk, i, seen->bitmaps + strlen(seen->bitmaps), err))
				return -1;
		}
	}
	return 0;
}

static bool same(const struct seen *a, const struct seen *b)
{
	return !memcmp(a->guest, b->guest, GUEST) && !strcmp(a->bitmaps, b->bitmaps) &&
		a->in_use == b->in_use && a->version == b->version && a->order == b->order &&
		a->opens[0] == b->opens[0] && a->opens[1] == b->opens[1];
}

/* On the way from the old to the new: content by the sector while the bitmaps are in use, and keys
 * that open it before and after. */
static bool is_between(const struct job *job)
{
	bool kept = (job->old.opens[0] && job->new.opens[0] && job->now.opens[0]) ||
		(job->old.opens[1] && job->new.opens[1] && job->now.opens[1]);

	if (!kept || (!job->mixed && memcmp(job->now.guest, job->old.guest, GUEST) != 0) ||
		(job->mixed && !job->now.in_use))
		return false;
	for (uint64_t at = 0; at < GUEST; at += 512)
		if (memcmp(job->now.guest + at, job->old.guest + at, 512) &&
			memcmp(job->now.guest + at, job->new.guest + at, 512))
			return false;
	return job->mixed || job->encrypted;
}

/* ---- judging ---- */

static void tell(struct job *job, const struct state *state, const char *what, const char *more)
{
	if (job->bad++ < 3)
		printf("# %s, epoch %zu: %s: %s\n", job->name, state->epoch, what, more);
	unit_failed++;
}

static void judge(void *ctx, const struct state *state)
{
	struct job *job = ctx;
	struct vmimg_error err = { 0 };
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *io = vmimg_memory_view(
		state->files[0].bytes, (size_t)state->files[0].size, "state", &err);
	bool is_old, is_new;
	int found;

	if (look(io, job->encrypted, &job->now, &err)) {
		tell(job, state, "not to be read", err.text);
		return;
	}
	is_new = same(&job->now, &job->new);
	is_old = !is_new && same(&job->now, &job->old);
	if (state->whole ? !is_new : !is_new && !is_old && !is_between(job)) {
		tell(job, state, "neither old nor new", job->now.bitmaps);
		return;
	}
	found = image_check(io, "qcow2", &err);
	if (found == 2)
		tell(job, state, "damaged", err.text);
	job->is_old += is_old;
	job->is_new += is_new;
	job->between += !is_old && !is_new;
	job->leaks += found == 1;
}

/* ---- the images ---- */

static int pour(struct vmimg_sink *sink, struct fake *fake, struct vmimg_error *err)
{
	struct vmimg_convert convert = {
		.disk = &fake->disk, .sink = sink, .how = { .threads = 1 }
	};
	struct vmimg_converted done;

	return sink ? vmimg_convert_run(&convert, &done, err) : -1;
}

static int edit(struct vmimg_io *io, bool encrypted,
	int (*change)(struct vmimg_disk *, struct vmimg_error *), struct vmimg_error *err)
{
	struct vmimg_open options = {
		.format = "qcow2", .secrets = &one, .secret_count = encrypted
	};
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = vmimg_disk_open(io, &options, err);

	return disk ? change(disk, err) : -1;
}

static int snapshot(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return disk->format->edit->snapshot_create(disk, "one", 1600000000, 0, err);
}

static int change_bitmap(struct vmimg_disk *disk, enum vmimg_bitmap_act act, const char *name,
	const char *source, struct vmimg_error *err)
{
	struct vmimg_bitmap_change change = { .act = act,
		.name = name,
		.granularity = act == VMIMG_BITMAP_ADD ? UNIT : 0,
		.source = source,
		.source_disk = source ? disk : NULL };

	return disk->format->edit->bitmap(disk, &change, err);
}

static int add_a(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return change_bitmap(disk, VMIMG_BITMAP_ADD, "a", NULL, err);
}

static int add_b(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return change_bitmap(disk, VMIMG_BITMAP_ADD, "b", NULL, err);
}

static int add_c(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return change_bitmap(disk, VMIMG_BITMAP_ADD, "c", NULL, err);
}

static int merge(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return change_bitmap(disk, VMIMG_BITMAP_MERGE, "b", "a", err);
}

static int clear(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return change_bitmap(disk, VMIMG_BITMAP_CLEAR, "a", NULL, err);
}

static int drop(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return change_bitmap(disk, VMIMG_BITMAP_REMOVE, "a", NULL, err);
}

static int apply(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return disk->format->edit->snapshot_apply(disk, "one", err);
}

/* The first half of the disk, other content with holes and zeroes in it. */
static int update(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_update how = { 0 };
	VMIMG_AUTO(vmimg_sink_close)
	struct vmimg_sink *sink = disk->format->edit->update(disk, &how, err);
	struct fake fake;
	int failed;

	fake_open(&fake, GUEST, 22);
	for (size_t i = 0; i < fake.count; i++)
		if (fake.ends[i] > GUEST / 2)
			fake.kinds[i] = VMIMG_RUN_ABSENT;
	failed = pour(sink, &fake, err);
	fake_done(&fake);
	return failed;
}

static int amend(struct vmimg_disk *disk, const char *text, struct vmimg_error *err)
{
	struct vmimg_options options = { 0 };
	int failed = vmimg_options_add(&options, text, err) ||
		disk->format->edit->amend(disk, &options, err);

	vmimg_options_done(&options);
	return failed ? -1 : 0;
}

static int widen(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return amend(disk, "refcount_bits=64", err);
}

static int narrow(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return amend(disk, "refcount_bits=2", err);
}

static int downgrade(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return amend(disk, "compat=0.10", err);
}

static int upgrade(struct vmimg_disk *disk, struct vmimg_error *err)
{
	return amend(disk, "compat=1.1,lazy_refcounts=on", err);
}

static int add_key(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_rekey rekey = {
		.new_secret = &two, .slot = -1, .secrets = &one, .secret_count = 1, .iter_time = 1
	};

	return disk->format->edit->rekey(disk, &rekey, err);
}

static int drop_key(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_rekey rekey = { .slot = -1, .old_secret = &one };

	return disk->format->edit->rekey(disk, &rekey, err);
}

/* ---- the changes ---- */

static const struct way {
	const char *name, *options;
	int (*before[4])(struct vmimg_disk *, struct vmimg_error *);
	int (*change)(struct vmimg_disk *, struct vmimg_error *);
	bool encrypted, mixed;
} ways[] = {
	{ "bitmap-add", "cluster_size=4k", { add_a, update, add_b }, add_c, false, false },
	{ "bitmap-first", "cluster_size=512", { 0 }, add_a, false, false },
	{ "bitmap-merge", "cluster_size=512", { add_a, update, add_b }, merge, false, false },
	{ "bitmap-clear", "cluster_size=4k", { add_a, update, add_b }, clear, false, false },
	{ "bitmap-remove", "cluster_size=4k", { add_a, update, add_b }, drop, false, false },
	{ "bitmap-last", "cluster_size=512", { add_a, update }, drop, false, false },
	{ "record", "cluster_size=4k", { add_a, add_b }, update, false, true },
	{ "record-shared", "cluster_size=4k", { add_a, snapshot }, update, false, true },
	{ "record-subclusters", "extended_l2=on,cluster_size=16k", { add_a }, update, false, true },
	{ "apply", "cluster_size=4k", { snapshot, update, add_a }, apply, false, false },
	{ "widen", "cluster_size=4k", { snapshot, update }, widen, false, false },
	{ "narrow", "cluster_size=512,refcount_bits=32", { snapshot, update }, narrow, false,
		false },
	{ "downgrade", "cluster_size=4k,lazy_refcounts=on", { snapshot, update }, downgrade, false,
		false },
	{ "downgrade-small", "cluster_size=512", { update }, downgrade, false, false },
	{ "upgrade", "cluster_size=4k,compat=0.10", { snapshot, update }, upgrade, false, false },
	{ "key-add", "cluster_size=4k", { 0 }, add_key, true, false },
	{ "key-drop", "cluster_size=4k", { add_key }, drop_key, true, false },
};

static struct vmimg_io *make(const struct way *way, struct vmimg_error *err)
{
	struct vmimg_io *io = vmimg_memory_new("image", err);
	struct vmimg_options options = { 0 };
	struct vmimg_create create = {
		.size = GUEST, .options = &options, .secret = way->encrypted ? &one : NULL
	};
	struct vmimg_sink *sink = NULL;
	struct fake fake;
	int failed;

	fake_open(&fake, GUEST, 21);
	failed = !io || vmimg_options_add(&options, way->options, err) ||
		(way->encrypted &&
			vmimg_options_add(
				&options, "encrypt.format=luks,encrypt.iter-time=1", err)) ||
		!(sink = vmimg_sink_create(vmimg_format_find("qcow2"), io, &create, err)) ||
		pour(sink, &fake, err);
	vmimg_sink_close(sink);
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(way->before) && way->before[i]; i++)
		failed = failed || edit(io, way->encrypted, way->before[i], err);
	CHECK(!failed);
	fake_done(&fake);
	vmimg_options_done(&options);
	return io;
}

static void enumerate(
	struct job *job, const struct vmimg_recording *recording, uint8_t *before, uint64_t size)
{
	struct states states = { .recording = recording,
		.before = { { before, size } },
		.seed = 20260607,
		.most = MOST,
		.judge = judge,
		.ctx = job };
	long count = states_run(&states);

	printf("# crash %s: states %ld old %u between %u new %u leaks %u bad %u\n", job->name,
		count, job->is_old, job->between, job->is_new, job->leaks, job->bad);
	fflush(stdout);
	CHECK(count > 4 && job->is_new && job->is_old && (job->between || !job->mixed));
}

static void try_way(const struct way *way, struct job *job)
{
	struct vmimg_recording recording = { 0 };
	struct vmimg_error err = { 0 };
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *inner = make(way, &err);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;
	uint64_t size = vmimg_io_size(inner);
	VMIMG_AUTO(free) uint8_t *before = malloc((size_t)size);

	*job = (struct job){ .name = way->name, .encrypted = way->encrypted, .mixed = way->mixed };
	memcpy(before, vmimg_memory_bytes(inner), (size_t)size);
	io = vmimg_recorder_open(inner, 0, &recording, &err);
	if (!io || look(inner, way->encrypted, &job->old, &err) ||
		edit(io, way->encrypted, way->change, &err) || vmimg_io_sync(io, &err) ||
		look(inner, way->encrypted, &job->new, &err)) {
		CHECK_NEVER("not changed");
		printf("# %s: %s\n", way->name, err.text);
	} else {
		enumerate(job, &recording, before, size);
	}
	vmimg_recording_done(&recording);
}

static void changes(void)
{
	struct job *job = malloc(sizeof(*job));

	for (size_t i = 0; job && i < VMIMG_ARRAY_LEN(ways); i++)
		try_way(&ways[i], job);
	free(job);
}

UNIT_TESTS(TEST(changes));
UNIT_MAIN()

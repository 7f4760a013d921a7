/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a crash leaves of the changes that layers go through: new content, emptied, squeezed,
 * what is unused given back, another parent or none, settings, growth of a child. New content, and
 * the zeroes of what is unused, appear sector by sector, and a disk in several files is emptied
 * file by file; all else is the old guest or the new one.
 */
#include <stdio.h>
#include <stdlib.h>
#include "../unit/image.h"
#include "engine/in_place.h"
#include "states.h"

#define SMALL ((UINT64_C(512) << 10) + 1536)
#define LARGE ((UINT64_C(3) << 20) + 1536) /* of blocks that are not smaller than 1 MiB */
#define MORE  UINT64_C(199680)             /* what a disk grows by */
#define MOST  40                           /* states an epoch beyond the prefixes */

enum change { UPDATE, FILL, EMPTY, SQUEEZE, PARENT, NO_PARENT, SET, GROW, COMPACT };

static const char *const change_names[] = { "update", "fill", "empty", "squeeze", "parent",
	"no-parent", "set", "grow", "compact" };

struct way {
	const char *name, *format, *options;
	bool child, split;      /* split: a descriptor, and two files of grains */
	const char *setting;    /* NULL: there is none */
	uint64_t unit;          /* of what a layer is made of */
	uint64_t guest, parent; /* bytes of the disk, and of its parent's */
};

static const struct way ways[] = {
	{ "vhd", "vhd", "block_size=32k", false, false, "creator", 16384, SMALL, 0 },
	{ "vhd-child", "vhd", "block_size=32k", true, false, "creator", 16384, SMALL, SMALL },
	{ "vdi", "vdi", "block_size=16k", false, false, "uuid", 16384, SMALL, 0 },
	{ "vdi-child", "vdi", "block_size=16k", true, false, "uuid", 16384, SMALL, SMALL },
	{ "vmdk", "vmdk", NULL, false, false, "uuid", 16384, SMALL, 0 },
	{ "vmdk-child", "vmdk", NULL, true, false, "uuid", 65536, LARGE, LARGE },
	{ "vmdk-small-child", "vmdk", NULL, true, false, "uuid", 65536, LARGE, LARGE + MORE },
	{ "vmdk-split", "vmdk", NULL, false, true, NULL, 65536, LARGE, 0 },
	{ "vmdk-split-child", "vmdk", NULL, true, true, NULL, 65536, LARGE, LARGE },
	{ "vhdx", "vhdx", "block_size=1M", false, false, "uuid", 4096, LARGE, 0 },
	{ "vhdx-child", "vhdx", "block_size=1M", true, false, "uuid", 4096, LARGE, LARGE + MORE },
};

struct job {
	const char *name;
	struct image *image;
	uint8_t old[LARGE + MORE], new[LARGE + MORE];
	uint64_t old_size, new_size;
	bool by_sector;
	unsigned is_old, is_new, mixed, leaks, bad;
};

static struct vmimg_error err;

/* ---- judging ---- */

/* Each sector as before or as given. *all_new, *all_old: nothing else was seen. */
static bool is_mixture(const struct job *job, const uint8_t *bytes, bool *all_old, bool *all_new)
{
	for (uint64_t at = 0; at < job->old_size; at += 512) {
		bool old = !memcmp(bytes + at, job->old + at, 512);
		bool new = !memcmp(bytes + at, job->new + at, 512);

		if (!old && !new)
			return false;
		*all_old &= old;
		*all_new &= new;
	}
	return true;
}

static struct vmimg_io *view(const struct state_file *file)
{
	return vmimg_memory_view(file->bytes, (size_t)file->size, "state", &err);
}

/* image: its files are those of the state. */
static const char *verdict(struct job *job, struct image *image, const struct state *state)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = view(&state->files[0]);
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = image_open_io(image, io, &err);
	VMIMG_AUTO(free) uint8_t *bytes = calloc(1, sizeof(job->old));
	bool all_old, all_new;
	int found;

	if (!disk)
		return "not to be opened";
	if (vmimg_disk_pread(disk, bytes, (size_t)disk->size, 0, &err))
		return "not to be read";
	all_old = disk->size == job->old_size;
	all_new = disk->size == job->new_size;
	if (job->by_sector) {
		if (!is_mixture(job, bytes, &all_old, &all_new))
			return "a sector that was never there";
	} else {
		all_old = all_old && !memcmp(bytes, job->old, job->old_size);
		all_new = all_new && !memcmp(bytes, job->new, job->new_size);
	}
	if (!all_old && !all_new && !job->by_sector)
		return "neither the old content nor the new";
	if (state->whole && !all_new)
		return "not the new content, though all was written";
	found = image_check_whole(
		io, image->format, image->more[0].io ? &image->resolver : NULL, &err);
	job->is_new += all_new;
	job->is_old += all_old && !all_new;
	job->mixed += !all_old && !all_new;
	job->leaks += found == 1;
	return found == 2 ? "damaged" : NULL;
}

static void judge(void *ctx, const struct state *state)
{
	struct job *job = ctx;
	struct image image = *job->image;
	const char *wrong;

	for (size_t i = 0; i < IMAGE_FILES && image.more[i].io; i++)
		image.more[i].io = view(&state->files[1 + i]);
	wrong = verdict(job, &image, state);
	for (size_t i = 0; i < IMAGE_FILES; i++)
		vmimg_io_unref(image.more[i].io);
	if (!wrong)
		return;
	if (job->bad++ < 3)
		printf("# %s, epoch %zu: %s: %s\n", job->name, state->epoch, wrong, err.text);
	unit_failed++;
}

/* ---- making and changing ---- */

/* A parent full of data of that seed, so that whatever the layer lacks shows it. */
static struct vmimg_io *make_parent(const struct way *way, uint64_t seed, uint8_t *guest)
{
	struct image below = { .format = way->format, .options = way->options };
	struct fake fake;

	fake_open_aligned(&fake, way->parent, 512, seed);
	for (size_t i = 0; i < fake.count; i++)
		fake.kinds[i] = VMIMG_RUN_DATA;
	for (uint64_t at = 0; at < way->parent; at++)
		fake.bytes[at] = (uint8_t)(fake.bytes[at] ? fake.bytes[at] : 1 + (at + seed) % 255);
	CHECK(!image_make(&below, &fake, &err));
	if (guest) {
		fake_lay_over(&fake, guest);
		memset(guest + way->guest, 0, MORE);
	}
	fake_done(&fake);
	return below.io;
}

/* An extent without a grain, of a disk of that size. */
static struct vmimg_io *make_extent(const struct way *way, uint64_t size)
{
	struct image image = { .format = way->format, .options = "subformat=twoGbMaxExtentSparse" };
	struct fake fake = { .bytes = calloc(1, (size_t)size), .fail_at = UINT64_MAX };
	struct vmimg_io *io;

	fake_add(&fake, VMIMG_RUN_ABSENT, size);
	fake.disk = (struct vmimg_disk){
		.format = &fake_format, .size = size, .sector_size = 512, .state = &fake
	};
	CHECK(!image_make(&image, &fake, &err));
	io = vmimg_io_ref(image.more[0].io);
	image_done(&image);
	fake_done(&fake);
	return io;
}

/* What the descriptor of a VMDK in one file says. */
static unsigned cid_of(struct vmimg_io *io)
{
	char text[4096];
	const char *line;

	CHECK(!vmimg_io_pread(io, text, sizeof(text) - 1, 0, &err));
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = text[i] ? text[i] : ' ';
	text[sizeof(text) - 1] = '\0';
	line = strstr(text, "\nCID=");
	CHECK(line);
	return line ? (unsigned)strtoul(line + strlen("\nCID="), NULL, 16) : 0;
}

/* Written by hand: two extents of a disk that small no program makes. The first is short, so that
 * the changes of one chunk go to both. */
static void make_split(struct image *image, const struct way *way)
{
	static const char *const names[] = { "first.vmdk", "second.vmdk" };
	uint64_t first = 7 * way->unit, sizes[] = { first, way->guest - first };
	char text[600];

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(names); i++)
		image->more[i] = (struct image_file){ names[i], make_extent(way, sizes[i]) };
	snprintf(text, sizeof(text),
		"# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=%08x\n"
		"createType=\"twoGbMaxExtentSparse\"\n%s"
		"RW %u SPARSE \"%s\"\nRW %u SPARSE \"%s\"\n",
		image->parent ? cid_of(image->parent) : UINT32_MAX,
		image->parent ? "parentFileNameHint=\"parent\"\n" : "", (unsigned)(sizes[0] / 512),
		names[0], (unsigned)(sizes[1] / 512), names[1]);
	image->io = vmimg_memory_new("descriptor", &err);
	CHECK(!vmimg_io_pwrite(image->io, text, strlen(text), 0, &err));
}

static void lay_over(struct fake *fake, const struct way *way, uint64_t seed, uint8_t *guest)
{
	fake_open_aligned(fake, way->guest, way->unit, seed);
	fake_lay_over(fake, guest);
}

/* New content before the change in hand, so that there are gaps to be closed. */
static void wear(struct job *job, const struct way *way, uint64_t seed)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = image_open(job->image, &err);
	struct fake fake;

	lay_over(&fake, way, seed, job->old);
	CHECK(disk && !image_patch(disk, &fake, true, &err));
	fake_done(&fake);
}

/* A third of the disk becomes zero, so that what lies behind it in the file can move up. */
static void make_gap(struct job *job, const struct way *way)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = image_open(job->image, &err);
	uint64_t len = vmimg_align_down(way->guest / 3, way->unit);
	struct fake fake = { .bytes = calloc(1, way->guest + 1), .fail_at = UINT64_MAX };

	fake_add(&fake, VMIMG_RUN_ZERO, len);
	fake_add(&fake, VMIMG_RUN_ABSENT, way->guest - len);
	fake.disk = (struct vmimg_disk){
		.format = &fake_format, .size = way->guest, .sector_size = 512, .state = &fake
	};
	CHECK(disk && !image_patch(disk, &fake, true, &err));
	memset(job->old, 0, len);
	fake_done(&fake);
}

/* Over a parent VHD writes zeroes down, and gives up no block: here its footer lies further on than
 * need be, as other writers leave it. */
static void make_footer_gap(struct vmimg_io *io)
{
	const uint8_t nothing[512] = { 0 };
	uint64_t at = vmimg_io_size(io) - 512;
	uint8_t footer[512];

	CHECK(!vmimg_io_pread(io, footer, 512, at, &err) &&
		!vmimg_io_pwrite(io, footer, 512, at + 4096, &err) &&
		!vmimg_io_pwrite(io, nothing, 512, at, &err));
}

static int set(struct vmimg_disk *disk, const char *key)
{
	struct vmimg_options options = { 0 };
	int failed = vmimg_options_set(&options, key,
			     !strcmp(key, "uuid") ? "11111111-2222-3333-4444-555555555555" : "abc",
			     &err) ||
		disk->format->edit->set(disk, &options, &err);

	vmimg_options_done(&options);
	return failed;
}

static int set_parent(struct job *job, struct vmimg_disk *disk)
{
	struct image below = { .format = job->image->format, .io = job->image->other };
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *parent = image_open(&below, &err);
	struct vmimg_parent value = { .name = "new parent", .disk = parent };

	return parent ? disk->format->edit->set_parent(disk, &value, &err) : -1;
}

/* Every other stretch of the first two thirds is not used: whole blocks, and parts of some. */
static int compact(const struct way *way, struct vmimg_disk *disk)
{
	static const struct vmimg_run_how how = { .threads = 1 };
	struct vmimg_trim trim;
	struct vmimg_converted done;
	uint64_t step = 3 * way->unit / 2;
	int failed = 0;

	vmimg_trim_init(&trim, disk, true);
	for (uint64_t at = 0; !failed && at + step <= way->guest * 2 / 3; at += 2 * step)
		failed = vmimg_trim_add(&trim, at, step, &err);
	failed = failed || vmimg_compact_run(&trim, &how, &done, &err);
	vmimg_trim_done(&trim);
	return failed ? -1 : 0;
}

/* The guest as it is: what is not used became zero, or what the parent has there. */
static int look(struct job *job, const struct way *way, struct vmimg_io *io)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = image_open_io(job->image, io, &err);
	uint64_t kept = way->guest * 2 / 3;

	if (!disk || vmimg_disk_pread(disk, job->new, (size_t)disk->size, 0, &err))
		return -1;
	CHECK(memcmp(job->new, job->old, kept));
	CHECK(!memcmp(job->new + kept, job->old + kept, way->guest - kept));
	for (uint64_t at = 0; at < kept; at++)
		if (job->new[at] && job->new[at] != job->old[at])
			return vmimg_fail(&err, VMIMG_ECORRUPT, "other content");
	return 0;
}

static int apply(struct job *job, const struct way *way, enum change change, struct vmimg_io *io)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = image_open_io(job->image, io, &err);
	const struct vmimg_edit_ops *edit = disk ? disk->format->edit : NULL;
	struct fake fake;
	uint64_t saved;
	int result;

	if (!edit)
		return -1;
	switch (change) {
	case UPDATE:
	case FILL:
		lay_over(&fake, way, 9, job->new);
		result = image_patch(disk, &fake, way->split, &err); /* as commit does */
		fake_done(&fake);
		return result;
	case EMPTY:
		return edit->empty(disk, &err);
	case SQUEEZE:
		return edit->squeeze(disk, &saved, &err);
	case PARENT:
		return set_parent(job, disk);
	case NO_PARENT:
		return edit->set_parent(disk, NULL, &err);
	case SET:
		return set(disk, way->setting);
	case GROW:
		return edit->resize(disk, job->new_size, &err);
	case COMPACT:
		return compact(way, disk);
	}
	return -1;
}

/* What the guest shall see. The layer is the patches of the seeds 2 (its making), 3 and 4. */
static void expect(struct job *job, const struct way *way, enum change change)
{
	static const uint64_t layers[] = { 2, 3, 4 };
	struct fake fake;

	memcpy(job->new, job->old, sizeof(job->new));
	if (change != EMPTY && change != PARENT && change != NO_PARENT)
		return;
	memset(job->new, 0, sizeof(job->new));
	if (way->child && change != NO_PARENT)
		vmimg_io_unref(make_parent(way, change == PARENT ? 5 : 8, job->new));
	for (size_t i = 0; change != EMPTY && i < VMIMG_ARRAY_LEN(layers); i++) {
		lay_over(&fake, way, layers[i], job->new);
		fake_done(&fake);
	}
}

/* The layer of the patches 2, 3 and 4; of the first alone where it is to be filled: it lacks much
 * that the change brings. */
static void make_layer(struct job *job, const struct way *way, enum change change)
{
	struct image *image = job->image;
	struct fake fake;

	image->parent = way->child ? make_parent(way, 8, job->old) : NULL;
	image->other = change == PARENT ? make_parent(way, 5, NULL) : NULL;
	if (way->split) {
		make_split(image, way);
		wear(job, way, 2);
	} else {
		lay_over(&fake, way, 2, job->old);
		CHECK(!image_make(image, &fake, &err));
		fake_done(&fake);
	}
	if (change != FILL) {
		wear(job, way, 3);
		wear(job, way, 4);
	}
	if (change == SQUEEZE)
		make_gap(job, way);
	if (change == SQUEEZE && way->child && !strcmp(way->format, "vhd"))
		make_footer_gap(image->io);
}

/* Each file of the image behind a recorder, and as it is now, to be freed. */
static void begin_recording(
	struct image *image, struct states *states, struct vmimg_recording *recording)
{
	struct vmimg_io **files[1 + IMAGE_FILES] = { &image->io, &image->more[0].io,
		&image->more[1].io };

	for (unsigned i = 0; i <= IMAGE_FILES && *files[i]; i++) {
		struct vmimg_io *io = *files[i];
		struct state_file *before = &states->before[i];

		before->size = vmimg_io_size(io);
		before->bytes = malloc((size_t)before->size);
		memcpy(before->bytes, vmimg_memory_bytes(io), (size_t)before->size);
		*files[i] = vmimg_recorder_open(io, i, recording, &err);
		vmimg_io_unref(io);
		CHECK(*files[i]);
	}
}

static void try_change(const struct way *way, enum change change)
{
	struct image image = { .format = way->format, .options = way->options };
	VMIMG_AUTO(free) struct job *job = calloc(1, sizeof(*job));
	struct vmimg_recording recording = { 0 };
	struct states states = {
		.recording = &recording, .seed = 7, .most = MOST, .judge = judge, .ctx = job
	};
	char name[80];
	long count;

	snprintf(name, sizeof(name), "%s-%s", way->name, change_names[change]);
	job->name = name;
	job->image = &image;
	job->old_size = way->guest;
	job->new_size = way->guest + (change == GROW ? MORE : 0);
	job->by_sector = change == UPDATE || change == FILL || change == COMPACT ||
		(change == EMPTY && way->split);
	make_layer(job, way, change);
	expect(job, way, change);
	CHECK(!memcmp(job->old, job->new, sizeof(job->old)) ==
		(change == UPDATE || change == FILL || change == SQUEEZE || change == SET ||
			change == GROW || change == COMPACT));
	begin_recording(&image, &states, &recording);
	if (apply(job, way, change, image.io) || vmimg_io_sync(image.io, &err) ||
		(change == COMPACT && look(job, way, image.io))) {
		CHECK_NEVER("not changed");
		printf("# %s: %s\n", name, err.text);
	} else {
		count = states_run(&states);
		printf("# crash %s: states %ld old %u new %u mixed %u leaks %u bad %u\n", name,
			count, job->is_old, job->is_new, job->mixed, job->leaks, job->bad);
		fflush(stdout);
		CHECK(count > 2 && job->is_new);
	}
	vmimg_recording_done(&recording);
	for (size_t i = 0; i < STATES_FILES; i++)
		free(states.before[i].bytes);
	image_done(&image);
}

/* What leads to a descriptor of its own ends with a new file in its place: nothing lies between
 * (tests/edit/vmdk_size.py). */
static bool applies(const struct way *way, enum change change)
{
	if (change == PARENT || change == NO_PARENT)
		return way->child && !way->split;
	return !way->split || (change != SET && change != GROW);
}

static void layers(void)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++)
		for (enum change change = UPDATE; change <= COMPACT; change++)
			if (applies(&ways[i], change))
				try_change(&ways[i], change);
}

UNIT_TESTS(TEST(layers));
UNIT_MAIN()

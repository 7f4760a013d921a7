/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New content for an image as it is: a layer of runs of all kinds, laid over the image itself, is
 * written into it, as commit does. What the layer lacks stays, down to the byte.
 */
#include <stdio.h>
#include <stdlib.h>
#include "check.h"
#include "disk/edit.h"
#include "disk/info.h"
#include "engine/check.h"
#include "engine/convert.h"
#include "fake.h"

#define GUEST ((11U << 20) + 512 * 9)

struct way {
	const char *name, *format, *options;
	bool child;
};

static const struct way ways[] = {
	{ "vhdx", "vhdx", "block_size=1M", false },
	{ "vhdx-large", "vhdx", NULL, false },
	{ "vhdx-4k", "vhdx", "block_size=2M,logical_sector_size=4096", false },
	{ "vhdx-fixed", "vhdx", "block_size=1M,subformat=fixed", false },
	{ "vhdx-child", "vhdx", "block_size=1M", true },
	{ "vhdx-child-large", "vhdx", "block_size=4M", true },
};

/* The image's content as the guest sees it, through the parent (if any). */
struct stack {
	const struct way *way;
	struct vmimg_io *parent_io, *io;
	struct vmimg_disk *disk;
	uint8_t *guest; /* what it ought to be */
};

static struct vmimg_disk *open_alone(const struct way *way, struct vmimg_io *io)
{
	struct vmimg_open options = { .format = way->format, .alone = true };
	struct vmimg_error err = { 0 };
	struct vmimg_disk *disk = vmimg_disk_open(io, &options, &err);

	if (!disk)
		printf("# %s: %s\n", way->name, err.text);
	CHECK(disk);
	return disk;
}

static void reopen(struct stack *s)
{
	vmimg_disk_close(s->disk);
	s->disk = open_alone(s->way, s->io);
	if (s->disk && s->parent_io)
		s->disk->parent = open_alone(s->way, s->parent_io);
}

static void run(const struct way *way, struct vmimg_disk *source, struct vmimg_sink *sink)
{
	struct vmimg_convert convert = { .disk = source, .sink = sink, .how = { .threads = 1 } };
	struct vmimg_converted done;
	struct vmimg_error err = { 0 };
	int failed = !sink || vmimg_convert_run(&convert, &done, &err);

	if (failed)
		printf("# %s: %s\n", way->name, err.text);
	CHECK(!failed);
}

static struct vmimg_io *new_image(
	const struct way *way, struct fake *fake, struct vmimg_disk *parent)
{
	struct vmimg_options options = { 0 };
	struct vmimg_create create = { .size = fake->disk.size,
		.options = &options,
		.parent = parent,
		.parent_name = parent ? "parent" : NULL,
		.parent_format = parent ? way->format : NULL };
	struct vmimg_error err = { 0 };
	struct vmimg_io *io = vmimg_memory_new("image", &err);
	VMIMG_AUTO(vmimg_sink_close) struct vmimg_sink *sink = NULL;

	CHECK(io && (!way->options || !vmimg_options_add(&options, way->options, &err)));
	sink = vmimg_sink_create(vmimg_format_find(way->format), io, &create, &err);
	if (!sink)
		printf("# %s: %s\n", way->name, err.text);
	run(way, &fake->disk, sink);
	vmimg_options_done(&options);
	return io;
}

/* The bytes that the layer has go over the others. */
static void lay_over(uint8_t *guest, const struct fake *layer)
{
	uint64_t at = 0;

	for (size_t i = 0; i < layer->count; at = layer->ends[i++])
		if (layer->kinds[i] != VMIMG_RUN_ABSENT)
			memcpy(guest + at, layer->bytes + at, layer->ends[i] - at);
}

static void make_stack(struct stack *s, const struct way *way, uint64_t seed)
{
	struct fake base, top;

	*s = (struct stack){ .way = way, .guest = calloc(1, GUEST) };
	fake_open(&base, GUEST, seed);
	lay_over(s->guest, &base);
	s->io = new_image(way, &base, NULL);
	reopen(s);
	if (way->child && s->disk) {
		fake_open(&top, GUEST, seed + 1000);
		lay_over(s->guest, &top);
		s->parent_io = s->io;
		top.disk.parent = s->disk;
		s->io = new_image(way, &top, s->disk);
		reopen(s);
		fake_done(&top);
	}
	fake_done(&base);
}

static void stack_done(struct stack *s)
{
	vmimg_disk_close(s->disk);
	vmimg_io_unref(s->io);
	vmimg_io_unref(s->parent_io);
	free(s->guest);
}

/* The content through the chain, and a clean check. */
static void verify(struct stack *s, const char *when)
{
	VMIMG_AUTO(free) uint8_t *bytes = calloc(1, GUEST);
	struct vmimg_error err = { 0 };
	VMIMG_AUTO(free) struct vmimg_report *report = vmimg_new(struct vmimg_report, &err);
	VMIMG_AUTO(vmimg_reader_free) struct vmimg_reader *reader = vmimg_reader_new(&err);
	struct vmimg_run_how how = { .threads = 1 };
	int failed = !s->disk || vmimg_reader_pread(reader, s->disk, bytes, GUEST, 0, &err);

	CHECK(!failed && !memcmp(bytes, s->guest, GUEST));
	if (failed || memcmp(bytes, s->guest, GUEST))
		printf("# %s, %s: %s\n", s->way->name, when, failed ? err.text : "content");
	failed = !s->disk || vmimg_check_run(s->disk, &how, report, &err) ||
		report->count[VMIMG_FINDING_CORRUPTION] || report->count[VMIMG_FINDING_ERROR] ||
		report->count[VMIMG_FINDING_LEAK];
	CHECK(!failed);
	if (failed)
		printf("# %s, %s: check: %s%s\n", s->way->name, when, err.text,
			report->kept_count ? report->kept[0].text : "");
}

static void identity_of(const struct stack *s, struct vmimg_identity *identity)
{
	*identity = (struct vmimg_identity){ 0 };
	s->disk->format->identity(s->disk, identity);
}

/* Writes the layer into the image that it lies over. */
static void commit(struct stack *s, struct fake *layer, bool same_content)
{
	struct vmimg_update how = { .same_content = same_content };
	struct vmimg_error err = { 0 };
	struct vmimg_identity before, after;
	struct vmimg_sink *sink;

	if (!s->disk)
		return;
	identity_of(s, &before);
	sink = s->disk->format->edit->update(s->disk, &how, &err);
	if (!sink)
		printf("# %s: %s\n", s->way->name, err.text);
	layer->disk.parent = s->disk;
	run(s->way, &layer->disk, sink);
	vmimg_sink_close(sink);
	lay_over(s->guest, layer);
	reopen(s);
	identity_of(s, &after);
	CHECK(memcmp(&before, &after, sizeof(before)) ? !same_content : same_content);
}

static void layers(void)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		struct stack s;

		make_stack(&s, &ways[i], 70 + i);
		verify(&s, "new");
		for (unsigned round = 0; round < 4; round++) {
			struct fake layer;

			fake_open(&layer, GUEST, 500 + 10 * i + round);
			commit(&s, &layer, round % 2);
			verify(&s, "updated");
			fake_done(&layer);
		}
		stack_done(&s);
	}
}

static void tell(const struct way *way, bool holds, const char *what)
{
	CHECK(holds);
	if (!holds)
		printf("# %s: %s\n", way->name, what);
}

/* One run of a kind from `at` on; the rest is absent. */
static void one_run(struct fake *fake, enum vmimg_run_kind kind, uint64_t at, uint64_t len)
{
	fake_open(fake, GUEST, 3);
	fake->count = 0;
	if (at)
		fake_add(fake, VMIMG_RUN_ABSENT, at);
	fake_add(fake, kind, len);
	if (at + len < GUEST)
		fake_add(fake, VMIMG_RUN_ABSENT, GUEST - at - len);
}

/* Nothing leaves the file as it is, byte for byte; zeroes everywhere give its space back. */
static void extremes(void)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		VMIMG_AUTO(free) uint8_t *before = NULL;
		struct stack s;
		struct fake layer;
		uint64_t size;

		make_stack(&s, &ways[i], 90 + i);
		size = vmimg_io_size(s.io);
		before = malloc((size_t)size);
		memcpy(before, vmimg_memory_bytes(s.io), (size_t)size);
		one_run(&layer, VMIMG_RUN_ABSENT, 0, GUEST);
		commit(&s, &layer, true);
		tell(&ways[i],
			s.disk->size != GUEST || /* rounded up: what is past the layer is given */
				!memcmp(before, vmimg_memory_bytes(s.io), (size_t)size),
			"nothing was given, and the file changed");
		fake_done(&layer);
		one_run(&layer, VMIMG_RUN_ZERO, 0, GUEST);
		commit(&s, &layer, false);
		verify(&s, "all zero");
		tell(&ways[i],
			strstr(ways[i].name, "fixed") || ways[i].child /* its bitmap is last */
				? vmimg_io_size(s.io) == size
				: vmimg_io_size(s.io) < size,
			"size after zeroes");
		fake_done(&layer);
		one_run(&layer, VMIMG_RUN_DATA, 3 << 20, 5 << 20);
		commit(&s, &layer, false);
		verify(&s, "data again");
		fake_done(&layer);
		stack_done(&s);
	}
}

/* What an empty layer shows is its parent, or nothing; and it can be written again. */
static void emptied(void)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++) {
		struct vmimg_error err = { 0 };
		struct vmimg_identity before, after;
		struct stack s;
		struct fake layer;

		if (strstr(ways[i].name, "fixed"))
			continue;
		make_stack(&s, &ways[i], 120 + i);
		identity_of(&s, &before);
		CHECK(s.disk && !s.disk->format->edit->empty(s.disk, &err));
		reopen(&s);
		identity_of(&s, &after);
		CHECK(vmimg_guid_equal(&before.uuid, &after.uuid) == ways[i].child);
		memset(s.guest, 0, GUEST);
		if (s.disk && s.disk->parent)
			CHECK(!vmimg_disk_pread(s.disk->parent, s.guest, GUEST, 0, &err));
		verify(&s, "emptied");
		CHECK(vmimg_io_size(s.io) == 4 << 20);
		fake_open(&layer, GUEST, 130 + i);
		commit(&s, &layer, false);
		verify(&s, "used again");
		fake_done(&layer);
		stack_done(&s);
	}
}

UNIT_TESTS(TEST(layers), TEST(extremes), TEST(emptied));
UNIT_MAIN()

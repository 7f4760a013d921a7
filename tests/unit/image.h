/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images in memory for tests of changes in place: made from fake disks, on a parent or without,
 * opened with that parent wherever they look for it, changed by patches, and held against a copy of
 * the guest's bytes.
 */
#pragma once
#include "check.h"
#include "disk/edit.h"
#include "disk/sink.h"
#include "engine/convert.h"
#include "fake.h"
#include "sound.h"

#define IMAGE_FILES 2

struct image_file {
	const char *name; /* NULL: there is no such file */
	struct vmimg_io *io;
};

struct image {
	const char *format, *options;        /* of making it; NULL: the defaults */
	struct vmimg_io *io, *parent;        /* parent: a whole image, or NULL */
	struct vmimg_io *other;              /* one that it may have instead: "new parent" */
	struct image_file more[IMAGE_FILES]; /* that it consists of, beside io */
	struct vmimg_resolver resolver;
};

static struct vmimg_io *image_resolve(const struct vmimg_resolver *resolver,
	const struct vmimg_reference *ref, const struct vmimg_io *from, struct vmimg_error *err)
{
	const struct image *image =
		(const struct image *)((const char *)resolver - offsetof(struct image, resolver));

	(void)from;
	for (size_t i = 0; i < IMAGE_FILES; i++)
		if (image->more[i].name && !strcmp(ref->name, image->more[i].name))
			return vmimg_io_ref(image->more[i].io);
	if (image->other && strstr(ref->name, "new"))
		return vmimg_io_ref(image->other);
	if (image->parent)
		return vmimg_io_ref(image->parent);
	vmimg_fail(err, VMIMG_EREFUSED, "there is no parent");
	return NULL;
}

static int image_search(const struct vmimg_resolver *resolver, const char *suffix,
	const struct vmimg_io *from, bool (*each)(void *ctx, const char *name), void *ctx,
	struct vmimg_error *err)
{
	(void)resolver;
	(void)suffix;
	(void)from;
	(void)err;
	if (!each(ctx, "old.vdi"))
		each(ctx, "new.vdi");
	return 0;
}

static inline struct vmimg_disk *image_open_io(
	struct image *image, struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_open options = { .format = image->format, .resolver = &image->resolver };

	image->resolver.open = image_resolve;
	image->resolver.search = image_search;
	return vmimg_disk_open(io, &options, err);
}

static inline struct vmimg_disk *image_open(struct image *image, struct vmimg_error *err)
{
	return image_open_io(image, image->io, err);
}

struct image_siblings {
	struct vmimg_siblings siblings;
	struct image *image;
};

/* The one file that is made beside image->io, by whatever name. */
static inline struct vmimg_io *image_sibling(
	struct vmimg_siblings *siblings, const char *name, struct vmimg_error *err)
{
	struct image *image = ((struct image_siblings *)siblings)->image;

	image->more[0].io = vmimg_memory_new(name, err);
	return vmimg_io_ref(image->more[0].io);
}

/* Into a new io, image->io. What the fake lacks is left to the parent. */
static inline int image_make(struct image *image, struct fake *fake, struct vmimg_error *err)
{
	struct vmimg_options options = { 0 };
	struct image below = { .format = image->format, .io = image->parent };
	VMIMG_AUTO(vmimg_disk_close)
	struct vmimg_disk *parent = image->parent ? image_open(&below, err) : NULL;
	struct image_siblings beside = { { image_sibling, "image" }, image };
	struct vmimg_create create = { .size = fake->disk.size,
		.options = &options,
		.siblings = &beside.siblings,
		.parent = parent,
		.parent_name = parent ? "parent" : NULL,
		.parent_format = image->format };
	VMIMG_AUTO(vmimg_sink_close) struct vmimg_sink *sink = NULL;
	struct vmimg_convert convert = {
		.disk = &fake->disk, .layer = parent, .how = { .threads = 1 }
	};
	struct vmimg_converted done;
	int failed = image->options && vmimg_options_add(&options, image->options, err);

	image->io = vmimg_memory_new("image", err);
	if (!failed && image->io)
		sink = vmimg_sink_create(vmimg_format_find(image->format), image->io, &create, err);
	convert.sink = sink;
	failed = !sink || vmimg_convert_run(&convert, &done, err);
	vmimg_options_done(&options);
	return failed ? -1 : 0;
}

static inline void image_done(struct image *image)
{
	vmimg_io_unref(image->io);
	vmimg_io_unref(image->parent);
	vmimg_io_unref(image->other);
	for (size_t i = 0; i < IMAGE_FILES; i++)
		vmimg_io_unref(image->more[i].io);
}

/* Runs of any kind, all of them multiples of unit bytes long but the last. */
static inline void fake_open_aligned(struct fake *fake, uint64_t size, uint64_t unit, uint64_t seed)
{
	struct vmimg_error err;

	*fake = (struct fake){ .bytes = calloc(1, size + 1), .fail_at = UINT64_MAX, .seed = seed };
	for (uint64_t i = 0; i < size; i++)
		fake->bytes[i] = (uint8_t)(1 + fake_random(&fake->seed) % 255);
	for (uint64_t at = 0, len; at < size; at += len) {
		static const enum vmimg_run_kind kinds[] = { VMIMG_RUN_DATA, VMIMG_RUN_ZERO,
			VMIMG_RUN_ABSENT };
		uint64_t most = vmimg_max(size / unit / 12, 1);

		len = vmimg_min((1 + fake_random(&fake->seed) % most) * unit, size - at);
		if (fake->count + 1 == FAKE_RUNS)
			len = size - at;
		fake_add(fake, kinds[fake_random(&fake->seed) % 3], len);
	}
	fake->disk = (struct vmimg_disk){ .format = &fake_format,
		.io = vmimg_memory_view(fake->bytes, size, "fake", &err),
		.size = size,
		.sector_size = 512,
		.state = fake };
}

/* What the guest sees when the fake is laid over guest. */
static inline void fake_lay_over(const struct fake *fake, uint8_t *guest)
{
	for (uint64_t i = 0, start = 0; i < fake->count; start = fake->ends[i++])
		if (fake->kinds[i] != VMIMG_RUN_ABSENT)
			memcpy(guest + start, fake->bytes + start, (size_t)(fake->ends[i] - start));
}

/* The fake's runs, into the image that is there. A granule that they have in part is read from it.
 */
static inline int image_patch(
	struct vmimg_disk *disk, struct fake *fake, bool same_content, struct vmimg_error *err)
{
	struct vmimg_update update = { .same_content = same_content };
	VMIMG_AUTO(vmimg_sink_close)
	struct vmimg_sink *sink = disk->format->edit->update(disk, &update, err);
	struct vmimg_convert convert = {
		.disk = &fake->disk, .sink = sink, .layer = true, .how = { .threads = 1 }
	};
	struct vmimg_converted done;
	int failed;

	fake->disk.parent = disk;
	failed = !sink || vmimg_convert_run(&convert, &done, err);
	fake->disk.parent = NULL;
	return failed ? -1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing disks, their references and parents, and walking the chain's maps. */
#include "disk/disk.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

static struct vmimg_disk *open_below(struct vmimg_io *io, const struct vmimg_open *options,
	const struct vmimg_disk *child, struct vmimg_error *err);

static const struct vmimg_format *choose_format(
	struct vmimg_io *io, const char *name, struct vmimg_error *err)
{
	const struct vmimg_format *format;

	if (!name)
		return vmimg_disk_probe(io, err);
	format = vmimg_format_find(name);
	if (!format)
		vmimg_fail(err, VMIMG_EINVAL, "unknown format '%.40s' (vmimg formats lists them)",
			name);
	return format;
}

static void disk_free(struct vmimg_disk *disk)
{
	for (size_t i = 0; i < disk->ref_count; i++) {
		free((void *)(uintptr_t)disk->refs[i].ref.name);
		free((void *)(uintptr_t)disk->refs[i].ref.format);
	}
	for (size_t i = 0; i < disk->bitmap_count; i++)
		free(disk->bitmaps[i].name);
	free(disk->refs);
	free(disk->bitmaps);
	json_decref(disk->warnings);
	vmimg_io_unref(disk->io);
	free(disk);
}

void vmimg_disk_close(struct vmimg_disk *disk)
{
	while (disk) { /* not recursive: a chain may be deep */
		struct vmimg_disk *parent = disk->parent;

		disk->format->close(disk);
		disk_free(disk);
		disk = parent;
	}
}

static int check_opened(struct vmimg_disk *disk, struct vmimg_error *err)
{
	if (disk->size > VMIMG_MAX_DISK) /* a second line of defence: each format looks at it */
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a virtual size of %" PRIu64 " bytes is more than any disk has",
			disk->size);
	return 0;
}

static struct vmimg_disk *open_below(struct vmimg_io *io, const struct vmimg_open *options,
	const struct vmimg_disk *child, struct vmimg_error *err)
{
	static const struct vmimg_open defaults;
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = NULL;
	const struct vmimg_format *format;

	options = options ? options : &defaults;
	format = choose_format(io, options->format, err);
	if (!format)
		return NULL;
	disk = vmimg_new(struct vmimg_disk, err);
	if (!disk)
		return NULL;
	disk->format = format;
	disk->io = vmimg_io_ref(io);
	disk->sector_size = 512;
	disk->child = child;
	disk->depth = child ? child->depth + 1 : 0;
	disk->warnings = json_array();
	if (options->snapshot && !disk->depth && !format->snapshots) {
		vmimg_fail(err, VMIMG_EINVAL, "format %s has no internal snapshots", format->name);
		return NULL;
	}
	if (format->open(disk, options, err) || check_opened(disk, err)) {
		vmimg_within(err, "%s", vmimg_io_name(io));
		return NULL;
	}
	disk->child = NULL;
	return vmimg_take(disk);
}

struct vmimg_disk *vmimg_disk_open(
	struct vmimg_io *io, const struct vmimg_open *options, struct vmimg_error *err)
{
	return open_below(io, options, NULL, err);
}

uint64_t vmimg_disk_size(const struct vmimg_disk *disk)
{
	return disk->size;
}

const char *vmimg_disk_format(const struct vmimg_disk *disk)
{
	return disk->format->name;
}

void vmimg_disk_warn(struct vmimg_disk *disk, const char *fmt, ...)
{
	char text[240];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	json_array_append_new(disk->warnings, json_string(text));
}

bool vmimg_reference_is_part(const struct vmimg_reference *ref)
{
	return !strcmp(ref->kind, "data-file") || !strcmp(ref->kind, "extent");
}

int vmimg_disk_refer(struct vmimg_disk *disk, const char *kind, const char *name,
	const char *format, struct vmimg_error *err)
{
	struct vmimg_ref *ref;

	if (vmimg_grow_array(&disk->refs, &disk->ref_cap, disk->ref_count + 1, sizeof(*ref), err))
		return -1;
	ref = &disk->refs[disk->ref_count];
	ref->ref.kind = kind;
	ref->ref.name = vmimg_strdup(name, err);
	ref->ref.format = format ? vmimg_strdup(format, err) : NULL;
	if (!ref->ref.name || (format && !ref->ref.format)) {
		free((void *)(uintptr_t)ref->ref.name);
		return -1;
	}
	return (int)disk->ref_count++;
}

/* The name, escaped and quoted, for a message. */
static int fail_ref(const struct vmimg_reference *ref, struct vmimg_error *err)
{
	char name[100];

	vmimg_escape(name, sizeof(name), ref->name, strlen(ref->name));
	return vmimg_within(err, "%s \"%s\"", ref->kind, name);
}

static int check_loop(
	const struct vmimg_disk *disk, const struct vmimg_io *io, struct vmimg_error *err)
{
	for (const struct vmimg_disk *layer = disk; layer; layer = layer->child)
		if (vmimg_io_same(layer->io, io))
			return vmimg_fail(
				err, VMIMG_EREFUSED, "it is already part of this chain: a loop");
	return 0;
}

int vmimg_disk_open_ref(struct vmimg_disk *disk, const struct vmimg_open *options, int i,
	struct vmimg_io **io, struct vmimg_error *err)
{
	struct vmimg_ref *ref = &disk->refs[i];
	const struct vmimg_resolver *resolver =
		options->resolver ? options->resolver : vmimg_resolver_none();
	struct vmimg_io *found;

	if (options->alone) {
		*io = NULL;
		return 0;
	}
	found = resolver->open(resolver, &ref->ref, disk->io, err);
	if (!found || check_loop(disk, found, err)) {
		vmimg_io_unref(found);
		return fail_ref(&ref->ref, err);
	}
	ref->opened = true;
	*io = found;
	return 0;
}

int vmimg_disk_open_parent(
	struct vmimg_disk *disk, const struct vmimg_open *options, int i, struct vmimg_error *err)
{
	struct vmimg_open below = { .format = disk->refs[i].ref.format,
		.resolver = options->resolver,
		.lenient = options->lenient,
		.secrets = options->secrets,
		.secret_count = options->secret_count,
		.max_iterations = options->max_iterations };
	struct vmimg_io *io = NULL;

	if (!options->bare && vmimg_disk_open_ref(disk, options, i, &io, err))
		return -1;
	if (!io)
		return 0;
	if (disk->depth + 1 >= VMIMG_MAX_DEPTH)
		vmimg_fail(err, VMIMG_ELIMIT, "more than %d layers", VMIMG_MAX_DEPTH);
	else
		disk->parent = open_below(io, &below, disk, err);
	vmimg_io_unref(io);
	return disk->parent ? 0 : fail_ref(&disk->refs[i].ref, err);
}

struct vmimg_cipher *vmimg_disk_old_cipher(
	const struct vmimg_open *options, struct vmimg_error *err)
{
	static const struct vmimg_cipher_kind kind = { 16, VMIMG_CIPHER_CBC, VMIMG_IV_PLAIN64 };
	const struct vmimg_secret *secret = options->secrets;
	struct vmimg_cipher *cipher;
	uint8_t key[16] = { 0 };

	if (options->secret_count != 1) {
		vmimg_fail(err, VMIMG_EINVAL,
			"this old encryption cannot tell a wrong key from the right one: give one "
			"secret only");
		return NULL;
	}
	memcpy(key, secret->bytes, vmimg_min(secret->len, sizeof(key)));
	cipher = vmimg_cipher_new(&kind, key, err);
	explicit_bzero(key, sizeof(key));
	return cipher;
}

int vmimg_disk_map_file(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	bool hole;

	if (vmimg_io_extent(disk->io, at, &hole, &run->len, err))
		return -1;
	run->len = vmimg_min(run->len, disk->size - at); /* the file may grow meanwhile */
	run->kind = hole ? VMIMG_RUN_ZERO : VMIMG_RUN_DATA;
	run->io = disk->io;
	run->at = at;
	return 0;
}

int vmimg_disk_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	memset(run, 0, sizeof(*run));
	if (disk->format->map(disk, at, run, err))
		return -1;
	run->len = vmimg_min(run->len, disk->size - at);
	if (!run->len) /* a second line of defence: an error is better than a loop without end */
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "the map ends at guest offset 0x%" PRIx64, at);
	return 0;
}

int vmimg_disk_resolve(struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, unsigned *depth,
	struct vmimg_error *err)
{
	uint64_t len = UINT64_MAX;
	unsigned below = 0;

	for (;; disk = disk->parent, below++) {
		if (at >= disk->size) { /* a parent that is shorter than its child, which answers */
			*run = (struct vmimg_run){ .kind = VMIMG_RUN_ABSENT, .len = len };
			below--;
			break;
		}
		if (vmimg_disk_map(disk, at, run, err))
			return -1;
		run->len = vmimg_min(run->len, len);
		len = run->len;
		if (run->kind != VMIMG_RUN_ABSENT || !disk->parent)
			break;
	}
	if (depth)
		*depth = below;
	return 0;
}

int vmimg_disk_pread(
	struct vmimg_disk *disk, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_reader_free) struct vmimg_reader *reader = vmimg_reader_new(err);

	return reader ? vmimg_reader_pread(reader, disk, buf, len, at, err) : -1;
}

const char *vmimg_version(void)
{
	return VMIMG_VERSION;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What all bundles share: detection, the numbers of drives, and disks whose references end inside
 * the bundle. */
#include "bundle/bundle.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "disk/info.h"
#include "io/file.h"
#include "io/sparse.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

/* ---- opening ----------------------------------------------------------------------------- */

static const struct vmimg_bundle_format *best_claim(const struct vmimg_bundle_probe *probe)
{
	const struct vmimg_bundle_format *best = NULL;
	int best_score = 0;

	for (size_t i = 0; vmimg_bundle_formats[i]; i++) {
		int score = vmimg_bundle_formats[i]->probe(probe);

		if (score > best_score) {
			best = vmimg_bundle_formats[i];
			best_score = score;
		}
	}
	return best;
}

static const char *base_name(struct vmimg_io *io)
{
	const char *path = vmimg_file_path(io);
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path ? path : "";
}

/* Reads the head, opens a tar archive, and asks all readers. *format = NULL: no bundle. */
static int detect(struct vmimg_bundle *bundle, const char *name,
	const struct vmimg_bundle_format **format, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *head = vmimg_alloc_buffer(VMIMG_PROBE_HEAD, err);
	struct vmimg_bundle_probe probe = { .head = head,
		.head_len = (size_t)vmimg_min(vmimg_io_size(bundle->io), VMIMG_PROBE_HEAD),
		.name = base_name(bundle->io) };

	if (!head || vmimg_io_pread(bundle->io, head, probe.head_len, 0, err))
		return -1;
	if (vmimg_tar_probe(head, probe.head_len)) {
		bundle->tar = vmimg_tar_open(bundle->io, err);
		if (!bundle->tar)
			return -1;
	}
	probe.tar = bundle->tar;
	*format = name ? vmimg_bundle_format_find(name) : best_claim(&probe);
	if (name && !*format)
		return vmimg_fail(err, VMIMG_EINVAL, "unknown kind of bundle '%.40s'", name);
	if (name && !(*format)->probe(&probe))
		return vmimg_fail(err, VMIMG_EFORMAT, "%s is not %s", vmimg_io_name(bundle->io),
			(*format)->title);
	return 0;
}

int vmimg_bundle_open(struct vmimg_io *io, const struct vmimg_bundle_open *options,
	struct vmimg_bundle **bundle, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_bundle_close)
	struct vmimg_bundle *b = vmimg_new(struct vmimg_bundle, err);
	const struct vmimg_bundle_format *format;

	if (!b)
		return -1;
	b->io = vmimg_io_ref(io);
	b->resolver = options->resolver ? options->resolver : vmimg_resolver_none();
	b->spool_limit = options->spool_limit;
	b->key = options->key;
	b->certificate = options->certificate;
	b->warnings = json_array();
	if (detect(b, options->format, &format, err))
		return -1;
	if (!format) {
		*bundle = NULL;
		return 0;
	}
	b->format = format;
	if (format->open(b, err))
		return vmimg_within(err, "%s", vmimg_io_name(io));
	*bundle = vmimg_take(b);
	return 0;
}

void vmimg_bundle_close(struct vmimg_bundle *bundle)
{
	if (!bundle)
		return;
	if (bundle->format)
		bundle->format->close(bundle);
	for (size_t i = 0; i < bundle->machine_count; i++)
		vmimg_machine_done(&bundle->machines[i]);
	free(bundle->machines);
	vmimg_tar_free(bundle->tar);
	vmimg_io_unref(bundle->io);
	vmimg_pool_done(&bundle->pool);
	json_decref(bundle->warnings);
	free(bundle);
}

void vmimg_bundle_warn(struct vmimg_bundle *bundle, const char *fmt, ...)
{
	char text[240];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (json_array_size(bundle->warnings) < VMIMG_MAX_FINDINGS)
		json_array_append_new(bundle->warnings, json_string(text));
}

/* ---- drives ------------------------------------------------------------------------------ */

static bool is_numbered(const struct vmimg_drive *drive)
{
	return drive->kind == VMIMG_DRIVE_DISK || drive->file;
}

/* The first drive, through all machines, that each accepts. */
static const struct vmimg_drive *find_drive(const struct vmimg_bundle *bundle,
	bool (*accept)(const struct vmimg_drive *, void *), void *ctx)
{
	for (size_t m = 0; m < bundle->machine_count; m++) {
		const struct vmimg_machine *machine = &bundle->machines[m];

		for (size_t i = 0; i < machine->drive_count; i++)
			if (accept(&machine->drives[i], ctx))
				return &machine->drives[i];
	}
	return NULL;
}

static bool counts_down(const struct vmimg_drive *drive, void *left)
{
	return is_numbered(drive) && !--*(unsigned *)left;
}

const struct vmimg_drive *vmimg_bundle_drive(const struct vmimg_bundle *bundle, unsigned number)
{
	return number ? find_drive(bundle, counts_down, &number) : NULL;
}

/* Disks with a file, and how they are listed in an error. */
struct listing {
	unsigned number, disks, only;
	char text[160];
};

static bool list_drive(const struct vmimg_drive *drive, void *ctx)
{
	struct listing *list = ctx;
	size_t used = strlen(list->text);
	char name[48];

	if (!is_numbered(drive))
		return false;
	list->number++;
	if (drive->kind != VMIMG_DRIVE_DISK || !drive->file)
		return false;
	list->only = list->number;
	vmimg_escape(name, sizeof(name), drive->file, strlen(drive->file));
	snprintf(list->text + used, sizeof(list->text) - used, "%s%u: %s",
		list->disks++ ? ", " : "", list->number, name);
	return false;
}

int vmimg_bundle_only_disk(
	const struct vmimg_bundle *bundle, unsigned *number, struct vmimg_error *err)
{
	struct listing list = { 0 };

	find_drive(bundle, list_drive, &list);
	if (!list.disks)
		return vmimg_fail(err, VMIMG_EFORMAT, "%s has no disk with a file in it",
			vmimg_io_name(bundle->io));
	if (list.disks > 1)
		return vmimg_fail(err, VMIMG_EINVAL, "%s has %u disks, choose with --disk N (%s)",
			vmimg_io_name(bundle->io), list.disks, list.text);
	*number = list.only;
	return 0;
}

struct vmimg_io *vmimg_bundle_open_drive(
	struct vmimg_bundle *bundle, const struct vmimg_drive *drive, struct vmimg_error *err)
{
	if (!drive->file && drive->capacity > VMIMG_MAX_DISK) {
		vmimg_fail(err, VMIMG_ECORRUPT, "an empty disk of %llu bytes",
			(unsigned long long)drive->capacity);
		return NULL;
	}
	if (!drive->file)
		return vmimg_sparse_open(
			bundle->io, 0, NULL, 0, drive->capacity, "an empty disk", err);
	return bundle->format->drive(bundle, drive, err);
}

/* ---- references out of a drive ----------------------------------------------------------- */

/* Lives while a disk is being opened. */
struct inside {
	struct vmimg_resolver resolver;
	struct vmimg_bundle *bundle;
	const struct vmimg_drive *drive; /* whose references are asked for: moves up the chain */
};

static bool has_id(const struct vmimg_drive *drive, void *id)
{
	return drive->id && !strcmp(drive->id, id);
}

/* The drive that the bundle says is the parent; NULL: it says none. */
static const struct vmimg_drive *parent_of(
	const struct inside *inside, const struct vmimg_reference *ref)
{
	const char *id = inside->drive->parent;

	if (!id || strcmp(ref->kind, "parent"))
		return NULL;
	return find_drive(inside->bundle, has_id, (void *)(uintptr_t)id);
}

static int judge_inside(const struct vmimg_resolver *self, const struct vmimg_reference *ref,
	const struct vmimg_io *from, struct vmimg_error *err)
{
	const struct inside *inside = (const struct inside *)self;
	const struct vmimg_bundle *bundle = inside->bundle;

	(void)from;
	if (parent_of(inside, ref) || (bundle->tar && vmimg_tar_find(bundle->tar, ref->name)))
		return 0;
	if (bundle->tar)
		return vmimg_fail(err, VMIMG_EREFUSED, "it is no member of the archive");
	return bundle->resolver->judge(bundle->resolver, ref, bundle->io, err);
}

static struct vmimg_io *open_inside(const struct vmimg_resolver *self,
	const struct vmimg_reference *ref, const struct vmimg_io *from, struct vmimg_error *err)
{
	struct inside *inside = (struct inside *)(uintptr_t)self;
	struct vmimg_bundle *bundle = inside->bundle;
	const struct vmimg_drive *parent = parent_of(inside, ref);

	if (parent) {
		inside->drive = parent;
		return vmimg_bundle_open_drive(bundle, parent, err);
	}
	if (judge_inside(self, ref, from, err))
		return NULL;
	if (bundle->tar)
		return vmimg_tar_open_member(
			bundle->tar, vmimg_tar_find(bundle->tar, ref->name), err);
	return bundle->resolver->open(bundle->resolver, ref, bundle->io, err);
}

/* A raw disk does not know its own size: one that was cut is found by what the bundle says of it.
 * oVirt says of a file what it takes on the storage, which may be more than it has: so the disk
 * must be too short as well. */
static int check_size(struct vmimg_bundle *bundle, const struct vmimg_drive *drive,
	const struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	char shown[80];

	if (!drive->file || strcmp(disk->format->name, "raw"))
		return 0;
	vmimg_escape(shown, sizeof(shown), drive->file, strlen(drive->file));
	if (!drive->compression && size < drive->file_size &&
		(!drive->capacity || disk->size < drive->capacity))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"%s has %" PRIu64 " bytes, and the description says %" PRIu64
			": truncated?",
			shown, size, drive->file_size);
	if (drive->capacity && disk->size != drive->capacity)
		vmimg_bundle_warn(bundle,
			"the disk in %s has %" PRIu64 " bytes, and the description says %" PRIu64,
			shown, disk->size, drive->capacity);
	return 0;
}

struct vmimg_disk *vmimg_bundle_open_disk(struct vmimg_bundle *bundle,
	const struct vmimg_drive *drive, const struct vmimg_open *options, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *io = vmimg_bundle_open_drive(bundle, drive, err);
	struct inside inside = {
		.resolver = { open_inside, judge_inside, NULL }, .bundle = bundle, .drive = drive
	};
	struct vmimg_open how = *options;
	struct vmimg_disk *disk;

	if (!io)
		return NULL;
	how.resolver = &inside.resolver;
	if (!how.format)
		how.format = drive->file ? drive->format : "raw";
	disk = vmimg_disk_open(io, &how, err);
	if (!disk || !check_size(bundle, drive, disk, vmimg_io_size(io), err))
		return disk;
	vmimg_disk_close(disk);
	return NULL;
}

/* ---- telling ----------------------------------------------------------------------------- */

json_t *vmimg_bundle_json(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	json_t *root = json_object(), *machines = json_array();
	unsigned number = 1;

	json_object_set_new(root, "format", json_string(bundle->format->name));
	for (size_t i = 0; i < bundle->machine_count; i++)
		json_array_append_new(machines, vmimg_machine_json(&bundle->machines[i], &number));
	json_object_set_new(root, "machines", machines);
	if (bundle->format->describe && bundle->format->describe(bundle, root, err)) {
		json_decref(root);
		return NULL;
	}
	if (json_array_size(bundle->warnings))
		json_object_set(root, "warnings", bundle->warnings);
	return root;
}

void vmimg_bundle_sink_close(struct vmimg_bundle_sink *sink)
{
	if (sink)
		sink->ops->close(sink);
}

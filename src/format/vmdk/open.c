/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Putting a disk together: from a sparse file with its descriptor inside, from a descriptor and the
 * files it names, or from an extent alone. Every file is opened through the caller's policy.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
#include "format/vmdk/repair.h"
#include "io/file.h"
#include "util/num.h"
#include "util/text.h"

/* ---- names that could not be opened, for one message ---- */

struct missing {
	size_t count;
	char text[160];
};

static void note_missing(struct missing *m, const char *name)
{
	char shown[60];
	size_t used = strlen(m->text);

	vmimg_escape(shown, sizeof(shown), name, strlen(name));
	if (used + strlen(shown) + 3 < sizeof(m->text))
		snprintf(m->text + used, sizeof(m->text) - used, "%s%s", used ? ", " : "", shown);
	else if (used + 5 < sizeof(m->text) && m->text[used - 1] != '.')
		strcpy(m->text + used, " ...");
	m->count++;
}

/* ---- one extent ---- */

static const char *format_of(const struct vmdk_line *line)
{
	return line->type == VMDK_FLAT ? "raw" : "vmdk";
}

/* \\.\PhysicalDrive1 and the like are no names of files here. */
static int refuse_windows_device(const struct vmdk_line *line, struct vmimg_error *err)
{
	char shown[80];

	if (strncmp(line->name, "\\\\.\\", 4))
		return 0;
	return vmimg_fail(err, VMIMG_EREFUSED, "extent \"%s\" is a device of Windows",
		vmimg_escape(shown, sizeof(shown), line->name, strlen(line->name)));
}

/* Notes the reference and opens it. e->io stays NULL when it is missing, or nothing is opened. */
static int open_file(struct vmimg_disk *disk, const struct vmimg_open *options,
	struct vmdk_extent *e, struct missing *missing, struct vmimg_error *err)
{
	int ref = vmimg_disk_refer(disk, "extent", e->line->name, format_of(e->line), err);

	if (ref < 0)
		return -1;
	if (!options->alone && refuse_windows_device(e->line, err))
		return -1;
	if (!vmimg_disk_open_ref(disk, options, ref, &e->io, err))
		return 0;
	if (err->status != VMIMG_ESYSTEM || err->sys != ENOENT)
		return -1;
	note_missing(missing, e->line->name);
	return 0;
}

static int check_flat(
	struct vmimg_disk *disk, const struct vmdk_extent *e, bool lenient, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(e->io);

	if (vmimg_range_inside(e->at, e->len, size))
		return 0;
	if (lenient) {
		vmimg_disk_warn(disk, "extent %s holds %" PRIu64 " bytes of %" PRIu64,
			vmimg_io_name(e->io), size, e->at + e->len);
		return 0;
	}
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"extent %s holds %" PRIu64 " bytes, the descriptor says %" PRIu64 ": truncated?",
		vmimg_io_name(e->io), size, e->at + e->len);
}

/* The header's capacity against the descriptor's line. */
static int check_capacity(
	struct vmimg_disk *disk, const struct vmdk_extent *e, bool lenient, struct vmimg_error *err)
{
	if (e->g.capacity == e->len)
		return 0;
	if (e->g.capacity < e->len && !lenient)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"%s: its header says a capacity of %" PRIu64
			" bytes, the descriptor %" PRIu64,
			vmimg_io_name(e->io), e->g.capacity, e->len);
	vmimg_disk_warn(disk,
		"%s: its header says a capacity of %" PRIu64 " bytes, the descriptor %" PRIu64,
		vmimg_io_name(e->io), e->g.capacity, e->len);
	return 0;
}

/* What the opened file of a line holds. */
static int look_inside(
	struct vmimg_disk *disk, struct vmdk_extent *e, bool lenient, struct vmimg_error *err)
{
	if (!e->sparse)
		return check_flat(disk, e, lenient, err);
	if (vmimg_vmdk_grains_read(&e->g, disk, e->io, lenient, err))
		return vmimg_within(err, "extent %s", vmimg_io_name(e->io));
	return check_capacity(disk, e, lenient, err);
}

/* ---- all extents ---- */

static void set_line(struct vmdk_extent *e, const struct vmdk_line *line, uint64_t start)
{
	e->line = line;
	e->start = start;
	e->len = line->sectors * VMDK_SECTOR;
	e->zero = line->type == VMDK_ZERO || line->access == VMDK_NOACCESS;
	e->sparse = line->type != VMDK_FLAT && line->type != VMDK_ZERO;
	e->at = line->offset * VMDK_SECTOR;
}

static int fail_missing(
	struct vmimg_disk *disk, const struct missing *m, bool lenient, struct vmimg_error *err)
{
	if (!m->count)
		return 0;
	if (lenient) {
		vmdk_of(disk)->missing = true;
		vmimg_disk_warn(disk, "%zu extents are missing: %s", m->count, m->text);
		return 0;
	}
	(void)!vmimg_fail(err, VMIMG_ESYSTEM, "%zu of its extent files %s not there: %s", m->count,
		m->count == 1 ? "is" : "are", m->text);
	err->sys = ENOENT;
	return -1;
}

/* The file at hand as an extent. The caller gives it back. */
static struct vmimg_io *own_io(const struct vmimg_disk *disk)
{
	const struct vmdk *v = vmdk_of(disk);

	return vmimg_io_ref(v->rebuilt ? v->rebuilt->io : disk->io);
}

/* The extents of the descriptor's lines. Line number self (SIZE_MAX: none) is the file at hand,
 * whose tables are own. */
static int open_lines(struct vmimg_disk *disk, const struct vmimg_open *options, size_t self,
	const struct vmdk_grains *own, struct vmimg_error *err)
{
	struct vmdk *v = vmdk_of(disk);
	struct vmdk_descriptor *d = &v->descriptor;
	struct missing missing = { 0 };

	v->extents = vmimg_alloc_array(d->line_count, sizeof(*v->extents), err);
	if (!v->extents)
		return -1;
	for (size_t i = 0; i < d->line_count; i++) {
		struct vmdk_extent *e = &v->extents[v->extent_count++];

		set_line(e, &d->lines[i], disk->size);
		if (!vmimg_add(disk->size, e->len, &disk->size) || disk->size > VMIMG_MAX_DISK)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"descriptor: its extents add up to more than any disk has");
		if (e->line->access == VMDK_NOACCESS)
			vmimg_disk_warn(
				disk, "extent %zu is marked NOACCESS: it reads as zeroes", i);
		if (i == self) {
			e->io = own_io(disk);
			e->g = *own;
			if (check_capacity(disk, e, options->lenient, err))
				return -1;
		} else if (!e->zero && open_file(disk, options, e, &missing, err)) {
			return -1;
		}
		if (i != self && e->io && look_inside(disk, e, options->lenient, err))
			return -1;
	}
	return fail_missing(disk, &missing, options->lenient, err);
}

static int open_single(
	struct vmimg_disk *disk, const struct vmdk_grains *own, struct vmimg_error *err)
{
	struct vmdk *v = vmdk_of(disk);

	v->extents = vmimg_alloc_array(1, sizeof(*v->extents), err);
	if (!v->extents)
		return -1;
	v->extent_count = 1;
	v->extents[0] = (struct vmdk_extent){ .len = own->capacity, .sparse = true, .g = *own };
	v->extents[0].io = own_io(disk);
	disk->size = own->capacity;
	return 0;
}

/* ---- descriptors ---- */

static int read_descriptor(
	struct vmimg_disk *disk, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	struct vmdk *v = vmdk_of(disk);
	VMIMG_AUTO(free) char *text = NULL;

	if (len > VMDK_MAX_DESCRIPTOR)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"a descriptor of %" PRIu64 " bytes (at most %" PRIu64 ")", len,
			VMDK_MAX_DESCRIPTOR);
	text = vmimg_alloc_array((size_t)len + 1, 1, err);
	if (!text || vmimg_io_pread(disk->io, text, (size_t)len, at, err))
		return -1;
	if (vmimg_vmdk_descriptor_parse(&v->descriptor, text, (size_t)len, err))
		return -1;
	v->has_descriptor = true;
	if (v->descriptor.version > 3)
		vmimg_disk_warn(disk, "descriptor: version %" PRIu32 " (1 to 3 are known)",
			v->descriptor.version);
	return 0;
}

static int open_text(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmdk *v = vmdk_of(disk);

	if (read_descriptor(disk, 0, vmimg_io_size(disk->io), err))
		return -1;
	if (!v->descriptor.line_count)
		return vmimg_fail(err, VMIMG_ECORRUPT, "descriptor: it names no extent");
	return open_lines(disk, options, SIZE_MAX, NULL, err);
}

/* An extent file without a descriptor inside: the disk is found through the descriptor beside it.
 * *found = false: there is none. */
static int open_found(struct vmimg_disk *disk, const struct vmimg_open *options, bool *found,
	struct vmimg_error *err)
{
	struct vmimg_io *io = options->alone ? NULL : vmimg_vmdk_find_descriptor(disk, options);

	*found = io != NULL;
	if (!io)
		return 0;
	vmimg_disk_warn(disk, "%s is one extent: the whole disk is read, through %s",
		vmimg_io_name(disk->io), vmimg_io_name(io));
	vmimg_io_unref(disk->io);
	disk->io = io;
	return open_text(disk, options, err);
}

static int fail_part(const struct vmimg_disk *disk, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"%s is a part of a disk; the descriptor that names it is not beside it",
		vmimg_io_name(disk->io));
}

static int open_extent(struct vmimg_disk *disk, const struct vmimg_open *options,
	const struct vmdk_grains *own, struct vmimg_error *err)
{
	bool found;

	if (open_found(disk, options, &found, err))
		return -1;
	if (found)
		return 0;
	if (vmimg_vmdk_is_part_name(disk->io) && !options->alone && !options->lenient)
		return fail_part(disk, err);
	vmimg_disk_warn(disk,
		"it has no descriptor: if it is one extent of several, or a delta, "
		"the rest of the disk is missing");
	return open_single(disk, own, err);
}

/* Which of the lines of a descriptor inside a sparse file is that file: names go stale. */
static size_t find_self(const struct vmimg_disk *disk)
{
	const struct vmdk_descriptor *d = &vmdk_of(disk)->descriptor;
	const char *path = vmimg_file_path(disk->io);
	const char *base = path ? strrchr(path, '/') : NULL;
	size_t first = SIZE_MAX;

	base = base ? base + 1 : path;
	for (size_t i = 0; i < d->line_count; i++) {
		if (d->lines[i].type == VMDK_FLAT || d->lines[i].type == VMDK_ZERO)
			continue;
		if (base && d->lines[i].name && !strcmp(d->lines[i].name, base))
			return i;
		first = first == SIZE_MAX ? i : first;
	}
	return first;
}

/* A stream that has lost its directory, for the lenient. */
static int rebuild(struct vmimg_disk *disk, struct vmdk_grains *own, struct vmimg_error *err)
{
	struct vmdk *v = vmdk_of(disk);

	if (!own->lost || !own->packed || !(own->flags & VMDK_FLAG_MARKERS))
		return 0;
	v->rebuilt = vmimg_vmdk_rebuild(own, disk->io, err);
	if (!v->rebuilt)
		return -1;
	vmimg_disk_warn(disk, "%" PRIu64 " grains were found by their markers", v->rebuilt->grains);
	return 0;
}

static int open_sparse(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmdk *v = vmdk_of(disk);
	struct vmdk_grains own;
	size_t self;

	if (vmimg_vmdk_grains_read(&own, disk, disk->io, options->lenient, err) ||
		rebuild(disk, &own, err))
		return -1;
	if (!own.descriptor_at)
		return open_extent(disk, options, &own, err);
	if (read_descriptor(disk, own.descriptor_at, own.descriptor_len, err))
		return -1;
	if (!v->descriptor.line_count) { /* QEMU leaves room for one in every extent */
		vmimg_vmdk_descriptor_done(&v->descriptor);
		v->has_descriptor = false;
		return open_extent(disk, options, &own, err);
	}
	self = find_self(disk);
	if (self == SIZE_MAX) {
		vmimg_disk_warn(disk, "the descriptor at 0x%" PRIx64 " names no sparse extent",
			own.descriptor_at);
		return open_single(disk, &own, err);
	}
	if (v->descriptor.line_count == 1 &&
		v->descriptor.lines[0].sectors * VMDK_SECTOR != own.capacity) {
		vmimg_disk_warn(disk,
			"the header says a capacity of %" PRIu64 " sectors, the descriptor %" PRIu64
			": the header is taken",
			(uint64_t)(own.capacity / VMDK_SECTOR), v->descriptor.lines[0].sectors);
		v->header_differs = true;
		return open_single(disk, &own, err);
	}
	return open_lines(disk, options, self, &own, err);
}

/* ---- parents ---- */

static int check_cid(struct vmimg_disk *disk, bool lenient, struct vmimg_error *err)
{
	uint32_t wanted = vmdk_of(disk)->descriptor.parent_cid;
	struct vmimg_identity identity = { 0 };

	if (!disk->parent)
		return 0;
	if (disk->parent->format->identity)
		disk->parent->format->identity(disk->parent, &identity);
	if (identity.cid == wanted)
		return 0;
	if (!lenient)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"it was made on a parent with CID %08" PRIx32 ", %s has CID %08" PRIx32
			": the parent was changed, or is another disk",
			wanted, vmimg_io_name(disk->parent->io), identity.cid);
	vmimg_disk_warn(disk, "the parent has CID %08" PRIx32 " instead of %08" PRIx32,
		identity.cid, wanted);
	return 0;
}

static int open_parent(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	const struct vmdk_descriptor *d = &vmdk_of(disk)->descriptor;
	int ref;

	if (!vmdk_of(disk)->has_descriptor || d->parent_cid == VMDK_NO_PARENT)
		return 0;
	if (!d->parent_hint) {
		if (options->alone || options->lenient) {
			vmimg_disk_warn(disk,
				"it has a parent (CID %08" PRIx32
				"), but does not say which file that is",
				d->parent_cid);
			return 0;
		}
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"descriptor: parentCID is %08" PRIx32 ", parentFileNameHint is missing",
			d->parent_cid);
	}
	ref = vmimg_disk_refer(disk, "parent", d->parent_hint, "vmdk", err);
	if (ref < 0 || vmimg_disk_open_parent(disk, options, ref, err))
		return -1;
	return check_cid(disk, options->lenient, err);
}

/* ---- the whole ---- */

static void set_block(struct vmimg_disk *disk)
{
	const struct vmdk *v = vmdk_of(disk);

	for (size_t i = 0; i < v->extent_count && !disk->block; i++)
		if (v->extents[i].sparse && v->extents[i].io)
			disk->block = v->extents[i].g.grain;
}

static int open_kind(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	enum vmdk_file_kind kind;
	bool found;

	if (vmimg_vmdk_file_kind(disk->io, &kind, err))
		return -1;
	if (kind == VMDK_FILE_TEXT)
		return open_text(disk, options, err);
	if (kind == VMDK_FILE_SPARSE)
		return open_sparse(disk, options, err);
	if (open_found(disk, options, &found, err))
		return -1;
	if (found)
		return 0;
	return vmimg_fail(err, VMIMG_EFORMAT,
		"neither a VMDK extent nor a descriptor, and no descriptor beside it names it");
}

int vmimg_vmdk_open(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmdk *v = vmimg_new(struct vmdk, err);
	const char *track;

	if (!v)
		return -1;
	disk->state = v;
	v->lenient = options->lenient;
	v->table = vmimg_table_new(NULL, err);
	if (!v->table || open_kind(disk, options, err) || open_parent(disk, options, err))
		return -1;
	track = v->descriptor.track_path;
	if (track && vmimg_disk_refer(disk, "change-tracking", track, NULL, err) < 0)
		return -1;
	set_block(disk);
	return 0;
}

void vmimg_vmdk_close(struct vmimg_disk *disk)
{
	struct vmdk *v = vmdk_of(disk);

	if (!v)
		return;
	for (size_t i = 0; i < v->extent_count; i++)
		vmimg_io_unref(v->extents[i].io);
	free(v->extents);
	vmimg_vmdk_rebuilt_free(v->rebuilt);
	vmimg_table_free(v->table);
	vmimg_vmdk_descriptor_done(&v->descriptor);
	free(v);
}

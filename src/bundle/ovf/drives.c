/* SPDX-License-Identifier: Apache-2.0 */
/* From items to disks to files to bytes. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "bundle/ovf/ovf.h"
#include "codec/spool.h"
#include "io/joined.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

/* ---- names ------------------------------------------------------------------------------- */

static int refuse(const char *href, const char *why, struct vmimg_error *err)
{
	char shown[100];

	return vmimg_fail(err, VMIMG_EREFUSED, "the file \"%s\" %s",
		vmimg_escape(shown, sizeof(shown), href, strlen(href)), why);
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef", *found = strchr(digits, c | 0x20);

	return c && found ? (int)(found - digits) : -1;
}

/* %41 becomes A; anything else, % too, stays. out may be href itself. */
static void decode(char *out, const char *href)
{
	while (*href) {
		int high = *href == '%' ? hex_digit(href[1]) : -1;
		int low = high >= 0 ? hex_digit(href[2]) : -1;

		*out++ = low < 0 ? *href : (char)(high * 16 + low);
		href += low < 0 ? 1 : 3;
	}
	*out = '\0';
}

static int check_name(const char *href, const char *name, struct vmimg_error *err)
{
	if (!*name)
		return refuse(href, "has no name", err);
	if (strlen(name) > VMIMG_MAX_NAME)
		return refuse(href, "has too long a name", err);
	if (name[0] == '/' || name[0] == '\\' || (name[0] && name[1] == ':'))
		return refuse(href, "is an absolute path: a bundle has its files inside", err);
	if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.") ==
			strcspn(name, ":") &&
		strchr(name, ':'))
		return refuse(href, "is a URL: a bundle has its files inside", err);
	if (strchr(name, '\\') || !vmimg_tar_name_is_safe(name))
		return refuse(href, "leads out of the bundle", err);
	return 0;
}

/* Both as it is written and as what it means: %2e%2e is "..", too. */
int vmimg_ovf_check_href(const char *href, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *name = vmimg_strdup(href, err);

	if (!name)
		return -1;
	while (!strncmp(href, "./", 2))
		href += 2;
	if (check_name(href, href, err))
		return -1;
	decode(name, href);
	if (strlen(name) < strlen(href) && strchr(href, '%')) {
		if (check_name(href, name, err))
			return -1;
		decode(name, name); /* decoded twice by somebody */
		return check_name(href, name, err);
	}
	return 0;
}

const char *vmimg_ovf_decode_href(
	struct vmimg_pool *pool, const char *href, struct vmimg_error *err)
{
	char *name = vmimg_pool_alloc(pool, strlen(href) + 1, err);

	if (name)
		decode(name, href);
	return name;
}

/* ---- files ------------------------------------------------------------------------------- */

static struct vmimg_io *open_plain(
	struct vmimg_bundle *bundle, const char *name, struct vmimg_error *err)
{
	const struct vmimg_reference ref = { .kind = "file", .name = name };
	const struct vmimg_tar_member *member;
	struct vmimg_io *io;
	char shown[100];

	if (!bundle->tar) {
		io = bundle->resolver->open(bundle->resolver, &ref, bundle->io, err);
		if (!io)
			vmimg_within(err, "file \"%s\"",
				vmimg_escape(shown, sizeof(shown), name, strlen(name)));
		return io;
	}
	member = vmimg_tar_find(bundle->tar, name);
	if (member)
		return vmimg_tar_open_member(bundle->tar, member, err);
	vmimg_fail(err, VMIMG_ECORRUPT, "the archive has no member \"%s\"",
		vmimg_escape(shown, sizeof(shown), name, strlen(name)));
	return NULL;
}

/* By its name as it is written or, when there is none, by what that means. */
struct vmimg_io *vmimg_ovf_open_name(
	struct vmimg_bundle *bundle, const char *name, struct vmimg_error *err)
{
	struct vmimg_io *io;
	struct vmimg_error first;
	const char *decoded;

	if (vmimg_ovf_check_href(name, err))
		return NULL;
	while (!strncmp(name, "./", 2))
		name += 2;
	io = open_plain(bundle, name, err);
	if (io || !strchr(name, '%'))
		return io;
	first = *err;
	decoded = vmimg_ovf_decode_href(&bundle->pool, name, err);
	io = decoded ? open_plain(bundle, decoded, err) : NULL;
	if (!io)
		*err = first;
	return io;
}

/* Each has chunk_size bytes, but for the last: what is missing would move all that follows. */
static int check_chunk(struct vmimg_io *io, const struct vmimg_ovf_file *file, uint64_t number,
	struct vmimg_error *err)
{
	uint64_t want = vmimg_min(file->chunk_size, file->size - number * file->chunk_size);

	if (vmimg_io_size(io) == want)
		return 0;
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"chunk %" PRIu64 ", %s, has %" PRIu64 " bytes and not %" PRIu64, number,
		vmimg_io_name(io), vmimg_io_size(io), want);
}

/* href.000000000 and so on. */
static struct vmimg_io *open_chunks(
	struct vmimg_bundle *bundle, const struct vmimg_ovf_file *file, struct vmimg_error *err)
{
	uint64_t count = vmimg_div_up(file->size, file->chunk_size);
	VMIMG_AUTO(free) struct vmimg_io **parts = NULL;
	struct vmimg_io *io = NULL;
	size_t opened = 0;
	int failed = 0;

	if (count > VMIMG_MAX_OVF_ITEMS) {
		vmimg_fail(err, VMIMG_ELIMIT, "a file in more than %d chunks", VMIMG_MAX_OVF_ITEMS);
		return NULL;
	}
	parts = vmimg_alloc_array(count + 1, sizeof(struct vmimg_io *), err);
	for (; parts && opened < count && !failed; opened++) {
		const char *name =
			vmimg_pool_printf(&bundle->pool, err, "%s.%09zu", file->href, opened);

		parts[opened] = name ? vmimg_ovf_open_name(bundle, name, err) : NULL;
		if (!parts[opened])
			break;
		failed = check_chunk(parts[opened], file, opened, err);
	}
	if (parts && opened && opened == count && !failed)
		io = vmimg_joined_open(parts, opened, file->href, err);
	for (size_t i = 0; i < opened; i++)
		vmimg_io_unref(parts[i]);
	return io;
}

struct vmimg_io *vmimg_ovf_open_file(
	struct vmimg_bundle *bundle, const struct vmimg_ovf_file *file, struct vmimg_error *err)
{
	if (!file->chunk_size)
		return vmimg_ovf_open_name(bundle, file->href, err);
	if (file->size != VMIMG_NONE && file->size)
		return open_chunks(bundle, file, err);
	vmimg_fail(err, VMIMG_ECORRUPT, "a file in chunks whose size is not said");
	return NULL;
}

/* An image is not much larger than the disk in it. */
static uint64_t unpacked_limit(const struct vmimg_bundle *bundle, const struct vmimg_drive *drive)
{
	uint64_t limit = drive->capacity + drive->capacity / 8 + (16 << 20);

	if (!drive->capacity)
		return bundle->spool_limit;
	return bundle->spool_limit ? vmimg_min(limit, bundle->spool_limit) : limit;
}

/* A disk never begins so, said or not. 1, 0, or -1. */
static int is_gzip(struct vmimg_io *io, struct vmimg_error *err)
{
	uint8_t head[3];

	if (vmimg_io_size(io) < sizeof(head))
		return 0;
	return vmimg_io_pread(io, head, sizeof(head), 0, err) ? -1
							      : !memcmp(head, "\x1f\x8b\x08", 3);
}

/* A compressed file is unpacked once, where it can be read at any offset. */
struct vmimg_io *vmimg_ovf_drive(
	struct vmimg_bundle *bundle, const struct vmimg_drive *drive, struct vmimg_error *err)
{
	const struct vmimg_ovf *ovf = bundle->state;
	const struct vmimg_ovf_file *file = &ovf->files[drive->source];
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_ovf_open_file(bundle, file, err);
	char shown[100];
	struct vmimg_spool spool = { .io = io,
		.name = vmimg_escape(shown, sizeof(shown), file->href, strlen(file->href)),
		.limit = unpacked_limit(bundle, drive) };
	int packed = io ? is_gzip(io, err) : -1;

	if (packed < 0)
		return NULL;
	if (!packed && !file->compression)
		return vmimg_take(io);
	if (packed || !strcmp(file->compression, "gzip") || !strcmp(file->compression, "bzip2"))
		return vmimg_spool(&spool, err);
	vmimg_fail(err, VMIMG_EUNSUPPORTED, "a file compressed with something else than gzip");
	return NULL;
}

/* ---- attaching --------------------------------------------------------------------------- */

/* The id behind "ovf:/disk/", "/disk/", "ovf://disk/" (kind: disk or file); NULL: another kind. */
static const char *id_in(const char *resource, const char *kind)
{
	size_t len = strlen(kind);
	const char *p = strncmp(resource, "ovf:", 4) ? resource : resource + 4;

	p += strspn(p, "/");
	return !strncmp(p, kind, len) && p[len] == '/' ? p + len + 1 : NULL;
}

static struct vmimg_ovf_disk *find_disk(struct vmimg_ovf *ovf, const char *id)
{
	for (size_t i = 0; id && i < ovf->disk_count; i++)
		if (!strcmp(ovf->disks[i].id, id))
			return &ovf->disks[i];
	return NULL;
}

static size_t find_file(const struct vmimg_ovf *ovf, const char *id)
{
	for (size_t i = 0; id && i < ovf->file_count; i++)
		if (!strcmp(ovf->files[i].id, id))
			return i;
	return VMIMG_NONE;
}

static void set_file(const struct vmimg_ovf *ovf, struct vmimg_drive *drive, size_t i)
{
	const struct vmimg_ovf_file *file = &ovf->files[i];

	drive->source = i;
	drive->file = file->href;
	drive->file_size = file->size == VMIMG_NONE ? 0 : file->size;
	drive->compression = file->compression;
	drive->chunk_size = file->chunk_size;
}

/* For oVirt a raw disk is a sparse VMDK by its URI, for virt-v2v every disk is raw: the word
 * counts. */
static const char *format_of(const struct vmimg_ovf_disk *disk)
{
	if (disk->volume && !strcasecmp(disk->volume, "COW"))
		return "qcow2";
	if (disk->volume && !strcasecmp(disk->volume, "RAW"))
		return "raw";
	return vmimg_ovf_format(disk->format);
}

static void set_disk(
	struct vmimg_bundle *bundle, struct vmimg_drive *drive, const struct vmimg_ovf_disk *disk)
{
	const struct vmimg_ovf *ovf = bundle->state;
	size_t file = find_file(ovf, disk->file_ref);
	char shown[60];

	drive->id = disk->id;
	drive->parent = disk->parent;
	drive->format_name = disk->format;
	drive->format = format_of(disk);
	drive->capacity = disk->capacity;
	drive->populated = disk->populated;
	if (file != VMIMG_NONE)
		set_file(ovf, drive, file);
	else if (disk->file_ref && *disk->file_ref)
		vmimg_bundle_warn(bundle, "a disk refers to file \"%s\", which is not listed",
			vmimg_escape(shown, sizeof(shown), disk->file_ref, strlen(disk->file_ref)));
}

/* What a HostResource names: by kind and id, by a bare id, or by a path that ends in one (oVirt).
 */
static int set_resource(
	struct vmimg_bundle *bundle, struct vmimg_drive *drive, const char *resource)
{
	struct vmimg_ovf *ovf = bundle->state;
	const char *slash = strrchr(resource, '/');
	struct vmimg_ovf_disk *disk = find_disk(ovf, id_in(resource, "disk"));
	size_t file = find_file(ovf, id_in(resource, "file"));

	if (!disk && file == VMIMG_NONE)
		disk = find_disk(ovf, resource);
	if (!disk && file == VMIMG_NONE && slash)
		disk = find_disk(ovf, slash + 1);
	if (!disk && file == VMIMG_NONE)
		file = find_file(ovf, slash ? slash + 1 : resource);
	if (disk) {
		disk->attached = true;
		set_disk(bundle, drive, disk);
	} else if (file != VMIMG_NONE) {
		set_file(ovf, drive, file);
	}
	return disk || file != VMIMG_NONE;
}

int vmimg_ovf_attach(struct vmimg_bundle *bundle, struct vmimg_machine *machine,
	enum vmimg_drive_kind kind, const char *host_resource, size_t controller, unsigned unit,
	struct vmimg_error *err)
{
	struct vmimg_drive *drive =
		vmimg_machine_add(machine->drives, machine->drive_count, machine->drive_cap, err);
	char shown[60];

	if (!drive)
		return -1;
	*drive = (struct vmimg_drive){ .kind = kind, .controller = controller, .unit = unit };
	if (host_resource && set_resource(bundle, drive, host_resource))
		return 0;
	if (host_resource)
		vmimg_bundle_warn(bundle, "a %s is in \"%s\", which is not listed",
			vmimg_drive_kind_name(kind),
			vmimg_escape(shown, sizeof(shown), host_resource, strlen(host_resource)));
	if (kind == VMIMG_DRIVE_DISK || kind == VMIMG_DRIVE_NVRAM)
		machine->drive_count--; /* nothing is known of it */
	return 0;
}

int vmimg_ovf_add_unused(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	struct vmimg_ovf *ovf = bundle->state;
	struct vmimg_machine *machine = &bundle->machines[0];

	for (size_t i = 0; i < ovf->disk_count; i++) {
		struct vmimg_drive *drive;

		if (ovf->disks[i].attached)
			continue;
		drive = vmimg_machine_add(
			machine->drives, machine->drive_count, machine->drive_cap, err);
		if (!drive)
			return -1;
		*drive = (struct vmimg_drive){ .controller = VMIMG_NONE, .unused = true };
		set_disk(bundle, drive, &ovf->disks[i]);
	}
	return 0;
}

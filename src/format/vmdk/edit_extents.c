/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The size of a disk whose descriptor has a file of its own. Growing: the last extent becomes
 * larger, up to the size at which the disk is split; new ones follow. All that the old descriptor
 * does not speak of; when it is in storage, a new descriptor takes the place of the old one by a
 * rename. Shrinking: the descriptor first; then the last extent becomes smaller, and those are
 * removed that it names no more, unless their files hold more than the extent.
 */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "format/vmdk/edit.h"
#include "format/vmdk/write.h"
#include "io/file.h"
#include "util/num.h"

/* Extents with other names than the pattern's, which is tried that often. */
#define MOST_NAMES 100000U

struct resizing {
	struct vmimg_disk *disk;
	struct vmdk *v;
	uint64_t size;
	size_t kept;                  /* extents that stay */
	uint64_t last_len;            /* of the last one of those, bytes */
	const struct vmdk_line *like; /* what new extents are like */
	struct vmdk_line *added;
	size_t added_count;
	char *path; /* of the descriptor */
};

static const struct vmdk_extent *last_of(const struct resizing *r)
{
	return &r->v->extents[r->kept - 1];
}

/* Whether another extent lies in the same file. */
static bool shares_file(const struct vmdk *v, const struct vmdk_extent *e)
{
	for (size_t i = 0; i < v->extent_count; i++)
		if (&v->extents[i] != e && v->extents[i].io && e->io &&
			vmimg_io_same(v->extents[i].io, e->io))
			return true;
	return false;
}

/* ---- the plan ---- */

static bool is_split(const struct vmdk_descriptor *d)
{
	return d->create_type &&
		(!strncasecmp(d->create_type, "twoGb", 5) ||
			!strncasecmp(d->create_type, "2Gb", 3));
}

/* What an extent has at most: what the first one has, where there are more. */
static uint64_t most_of(const struct resizing *r)
{
	const struct vmdk_descriptor *d = &r->v->descriptor;

	if (!is_split(d))
		return VMIMG_MAX_DISK;
	return d->line_count > 1 && d->lines[0].sectors ? r->v->extents[0].len
							: VMDK_SPLIT_SECTORS * VMDK_SECTOR;
}

static bool is_writable(const struct vmdk_extent *e)
{
	return !e->zero && e->line->access == VMDK_RW;
}

static bool grows(const struct resizing *r)
{
	return r->size > r->disk->size;
}

static bool last_changes(const struct resizing *r)
{
	const struct vmdk_extent *e = last_of(r);

	return r->last_len != e->len || (e->sparse && e->io && e->g.capacity != e->len);
}

static void plan_shrink(struct resizing *r)
{
	while (r->v->extents[r->kept - 1].start >= r->size)
		r->kept--;
	r->last_len = r->size - last_of(r)->start;
}

static int plan_growth(struct resizing *r, struct vmimg_error *err)
{
	const struct vmdk_extent *last = last_of(r);
	uint64_t most = most_of(r), more = r->size - r->disk->size, room;

	room = is_writable(last) && !shares_file(r->v, last) && most > last->len ? most - last->len
										 : 0;
	r->last_len = last->len + vmimg_min(room, more);
	more -= vmimg_min(room, more);
	for (size_t i = 0; i < r->v->extent_count; i++)
		if (is_writable(&r->v->extents[i]))
			r->like = r->v->extents[i].line;
	r->added_count = (size_t)vmimg_div_up(more, most);
	if (r->added_count && !r->like)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"it has no extent that could be written, which new ones would be like");
	if (r->kept + r->added_count > VMDK_MAX_EXTENTS)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %d extents", VMDK_MAX_EXTENTS);
	r->added = vmimg_alloc_array(r->added_count + 1, sizeof(*r->added), err);
	for (size_t i = 0; r->added && i < r->added_count; i++, more -= vmimg_min(most, more)) {
		r->added[i] = *r->like;
		r->added[i].name = NULL;
		r->added[i].offset = 0;
		r->added[i].sectors = vmimg_min(most, more) / VMDK_SECTOR;
	}
	return r->added ? 0 : -1;
}

/* ---- names of new files ---- */

/* "disk-s" and 2 of "disk-s002.vmdk". False: the name is not of that kind. */
static bool take_apart(const char *name, char **stem, unsigned *number)
{
	size_t len = strlen(name), end;

	if (strchr(name, '/') || len < 5 || strcasecmp(name + len - 5, ".vmdk"))
		return false;
	for (end = len - 5; end && name[end - 1] >= '0' && name[end - 1] <= '9';)
		end--;
	if (end + 5 == len || len - 5 - end > 6 || end < 2 || name[end - 2] != '-')
		return false;
	*number = (unsigned)strtoul(name + end, NULL, 10);
	*stem = strndup(name, end);
	return *stem != NULL;
}

/* The same from the descriptor's name. */
static int make_stem(const struct resizing *r, char **stem)
{
	const char *slash = strrchr(r->path, '/'), *name = slash ? slash + 1 : r->path;
	size_t len = strlen(name);

	if (len > 5 && !strcasecmp(name + len - 5, ".vmdk"))
		len -= 5;
	return asprintf(stem, "%.*s-%c", (int)len, name, r->like->type == VMDK_FLAT ? 'f' : 's') <
		0;
}

static bool is_used(const struct resizing *r, const char *folder, const char *name)
{
	VMIMG_AUTO(free) char *path = NULL;
	struct stat st;

	for (size_t i = 0; i < r->v->descriptor.line_count; i++)
		if (r->v->descriptor.lines[i].name && !strcmp(r->v->descriptor.lines[i].name, name))
			return true;
	if (asprintf(&path, "%s/%s", folder, name) < 0) {
		path = NULL;
		return false;
	}
	return !lstat(path, &st);
}

/* Names go on where those of the extents end; files that are there stay. */
static int name_files(struct resizing *r, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *copy = strdup(r->path);
	VMIMG_AUTO(free) char *stem = NULL;
	unsigned number = 0;
	size_t named = 0;

	if (!r->added_count)
		return 0;
	if (!copy || (!take_apart(r->like->name, &stem, &number) && make_stem(r, &stem)))
		return vmimg_fail_nomem(err);
	for (unsigned tries = 0; named < r->added_count && tries < MOST_NAMES; tries++) {
		VMIMG_AUTO(free) char *name = NULL;

		if (asprintf(&name, "%s%03u.vmdk", stem, ++number) < 0) {
			name = NULL;
			return vmimg_fail_nomem(err);
		}
		strcpy(copy, r->path);
		if (is_used(r, dirname(copy), name))
			continue;
		if (vmimg_vmdk_check_name(&r->v->descriptor, name, err))
			return -1;
		r->added[named++].name = vmimg_take(name);
	}
	return named == r->added_count
		? 0
		: vmimg_fail(err, VMIMG_ELIMIT, "no name is free for a new extent");
}

/* ---- larger ---- */

/* Of [start, start + len) of the guest: bytes from its beginning on under which a parent would
 * show. */
static uint64_t hidden_of(const struct resizing *r, uint64_t start, uint64_t len)
{
	uint64_t below = r->disk->parent ? r->disk->parent->size : 0;

	return below > start ? vmimg_min(below - start, len) : 0;
}

static int enlarge_flat(
	struct vmimg_io *io, const struct vmdk_extent *e, uint64_t len, struct vmimg_error *err)
{
	uint64_t end = e->at + len, old = e->at + e->len, held = vmimg_min(vmimg_io_size(io), end);

	if (held > old && vmimg_io_zero(io, old, held - old, err))
		return -1;
	if (vmimg_io_size(io) < end && vmimg_io_resize(io, end, err))
		return -1;
	return vmimg_io_sync(io, err);
}

/* Its header may say more than the descriptor, after a change that was cut off: that is not its. */
static struct vmdk_grains grains_of(const struct vmdk_extent *e)
{
	struct vmdk_grains g = e->g;

	g.capacity = e->len;
	g.gd_count = vmimg_div_up(g.capacity, vmimg_vmdk_table_span(&g));
	return g;
}

static int enlarge_sparse(struct resizing *r, struct vmimg_io *io, const struct vmdk_extent *e,
	struct vmimg_error *err)
{
	struct vmdk_grains g = grains_of(e);
	struct vmdk_resized to = { .size = r->last_len,
		.hidden = hidden_of(r, e->start, r->last_len) };
	VMIMG_AUTO(free) uint8_t *grain = NULL;

	if (vmimg_vmdk_last_grain(r->disk, e, &grain, err))
		return -1;
	to.grain = grain;
	return vmimg_vmdk_resize_sparse(io, &g, &to, err);
}

static int enlarge_last(struct resizing *r, struct vmimg_error *err)
{
	const struct vmdk_extent *e = last_of(r);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;

	if (!last_changes(r))
		return 0;
	io = vmimg_vmdk_writable(r->disk, e, err);
	if (!io)
		return -1;
	return e->sparse ? enlarge_sparse(r, io, e, err) : enlarge_flat(io, e, r->last_len, err);
}

static int fill_sparse(
	struct vmimg_io *io, const struct vmdk_line *line, uint64_t hidden, struct vmimg_error *err)
{
	const struct vmdk_settings settings = { .zeroed = hidden };
	struct vmdk_tables tables = { 0 };
	int failed = vmimg_vmdk_tables_init(&tables, io, line->sectors, false, err);

	for (uint64_t at = 0; !failed && at < hidden; at += VMDK_GRAIN)
		failed = vmimg_vmdk_tables_zero(&tables, at / VMDK_GRAIN, err);
	failed = failed || vmimg_vmdk_tables_finish(&tables, err) ||
		vmimg_vmdk_tables_header(&tables, &settings, false, err);
	vmimg_vmdk_tables_done(&tables);
	return failed;
}

static int add_files(
	struct resizing *r, struct vmimg_output *output, mode_t mode, struct vmimg_error *err)
{
	uint64_t start = last_of(r)->start + r->last_len;

	for (size_t i = 0; i < r->added_count; i++) {
		const struct vmdk_line *line = &r->added[i];
		uint64_t len = line->sectors * VMDK_SECTOR;
		VMIMG_AUTO(vmimg_io_unref)
		struct vmimg_io *io = vmimg_output_sibling(output, line->name, err);

		if (!io)
			return -1;
		if (fchmod(vmimg_file_fd(io), mode))
			return vmimg_fail_sys(err, errno, "a new extent's permissions");
		if (line->type == VMDK_FLAT ? vmimg_io_resize(io, len, err)
					    : fill_sparse(io, line, hidden_of(r, start, len), err))
			return -1;
		start += len;
	}
	return 0;
}

/* ---- smaller ---- */

/* Of a plain file that has more than the extent, all is somebody else's. */
static bool owns_file(const struct vmdk_extent *e)
{
	return e->sparse || (!e->at && e->io && vmimg_io_size(e->io) <= e->len);
}

static int cut_last(struct resizing *r, struct vmimg_error *err)
{
	const struct vmdk_extent *e = last_of(r);
	const struct vmdk_resized to = { .size = r->last_len };
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;

	if (!last_changes(r) || !is_writable(e) || shares_file(r->v, e))
		return 0;
	io = vmimg_vmdk_writable(r->disk, e, err);
	if (!io)
		return -1;
	if (e->sparse)
		return vmimg_vmdk_resize_sparse(io, &e->g, &to, err);
	if (vmimg_io_size(io) <= e->at + r->last_len || vmimg_io_size(io) > e->at + e->len)
		return 0;
	return vmimg_io_resize(io, e->at + r->last_len, err) || vmimg_io_sync(io, err) ? -1 : 0;
}

/* Only the file that was opened goes, whatever has its name by now. */
static void remove_file(const struct vmdk_extent *e)
{
	const char *path = vmimg_file_path(e->io);
	struct stat st;

	if (path && !lstat(path, &st) && S_ISREG(st.st_mode) && e->io->id[0] == st.st_dev &&
		e->io->id[1] == st.st_ino)
		(void)!unlink(path); /* what stays is space that nobody refers to */
}

static int drop_extents(const struct resizing *r, struct vmimg_error *err)
{
	for (size_t i = r->kept; i < r->v->extent_count; i++)
		if (is_writable(&r->v->extents[i]) && owns_file(&r->v->extents[i]) &&
			!shares_file(r->v, &r->v->extents[i]))
			remove_file(&r->v->extents[i]);
	return vmimg_file_sync_folder(r->path, err);
}

/* ---- the whole ---- */

static int check_last(const struct resizing *r, struct vmimg_error *err)
{
	const struct vmdk_extent *e = last_of(r);

	if (!last_changes(r) || !is_writable(e))
		return 0;
	if (e->sparse)
		return vmimg_vmdk_check_sparse(e, r->last_len, err);
	return strcmp(e->line->word, "FLAT") && strcmp(e->line->word, "VMFS")
		? vmimg_fail(err, VMIMG_EUNSUPPORTED, "its extent is a device of the host")
		: 0;
}

static int apply(struct resizing *r, const char *text, struct vmimg_error *err)
{
	struct vmimg_output_how how = { .replace = true };
	VMIMG_AUTO(vmimg_output_close) struct vmimg_output *output = NULL;
	struct stat st;

	if (fstat(vmimg_file_fd(r->disk->io), &st))
		return vmimg_fail_sys(err, errno, "the descriptor");
	output = vmimg_output_open(r->path, &how, err);
	if (!output || add_files(r, output, st.st_mode & 07777, err))
		return -1;
	if (grows(r) && enlarge_last(r, err))
		return -1;
	if (vmimg_vmdk_publish_text(output, r->disk->io, text, err))
		return -1;
	return grows(r) || (!cut_last(r, err) && !drop_extents(r, err)) ? 0 : -1;
}

static int resize(struct resizing *r, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *text = NULL;
	VMIMG_AUTO(free) char *now = NULL;
	struct vmdk_new_lines lines = { .sectors = r->size / VMDK_SECTOR };

	if (grows(r)) {
		if (plan_growth(r, err) || name_files(r, err))
			return -1;
	} else {
		plan_shrink(r);
	}
	lines.kept = r->kept;
	lines.last = r->last_len / VMDK_SECTOR;
	lines.added = r->added;
	lines.added_count = r->added_count;
	if (check_last(r, err))
		return -1;
	text = vmimg_vmdk_read_text(r->disk, err);
	now = text ? vmimg_vmdk_resized_text(&r->v->descriptor, text, &lines, err) : NULL;
	return now ? apply(r, now, err) : -1;
}

int vmimg_vmdk_resize_extents(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	struct vmdk *v = vmdk_of(disk);
	const char *name = vmimg_file_path(disk->io);
	struct resizing r = { .disk = disk, .v = v, .size = size, .kept = v->extent_count };
	int failed;

	r.path = name ? realpath(name, NULL) : NULL;
	if (!r.path)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "the descriptor's place is not known");
	failed = resize(&r, err);
	vmimg_vmdk_lines_free(r.added, r.added_count);
	free(r.path);
	return failed;
}

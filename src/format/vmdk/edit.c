/* SPDX-License-Identifier: Apache-2.0 */
/* The descriptor's text read and put in its place, and which disks are resized: those in one file
 * here, with edit_sparse.c, the others in edit_extents.c. */
#include "format/vmdk/edit.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/file.h"
#include "util/num.h"

struct vmimg_io *vmimg_vmdk_writable(
	struct vmimg_disk *disk, const struct vmdk_extent *e, struct vmimg_error *err)
{
	if (e->io == disk->io || e->io->ops->pwrite)
		return vmimg_io_ref(e->io);
	if (vmimg_file_fd(e->io) < 0 || e->io->is_device) {
		vmimg_fail(err, VMIMG_EUNSUPPORTED, "extent %s is no regular file",
			vmimg_io_name(e->io));
		return NULL;
	}
	return vmimg_file_reopen(e->io, err);
}

int vmimg_vmdk_publish_text(struct vmimg_output *output, struct vmimg_io *old, const char *text,
	struct vmimg_error *err)
{
	struct vmimg_io *io = vmimg_output_io(output);
	struct stat st;

	if (vmimg_io_pwrite(io, text, strlen(text), 0, err))
		return -1;
	if (fstat(vmimg_file_fd(old), &st) || fchmod(vmimg_file_fd(io), st.st_mode & 07777))
		return vmimg_fail_sys(err, errno, "the descriptor's permissions");
	return vmimg_output_publish(output, err);
}

/* A new file in the place of the descriptor. */
static int replace_text(struct vmimg_io *old, const char *text, struct vmimg_error *err)
{
	struct vmimg_output_how how = { .replace = true };
	const char *name = vmimg_file_path(old);
	VMIMG_AUTO(free) char *path = name ? realpath(name, NULL) : NULL;
	VMIMG_AUTO(vmimg_output_close) struct vmimg_output *output = NULL;

	if (!path)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "the descriptor's place is not known");
	output = vmimg_output_open(path, &how, err);
	return output ? vmimg_vmdk_publish_text(output, old, text, err) : -1;
}

/* The extent with the descriptor inside; NULL: the descriptor has a file of its own. */
static const struct vmdk_extent *holder(const struct vmimg_disk *disk)
{
	const struct vmdk *v = vmdk_of(disk);

	for (size_t i = 0; i < v->extent_count; i++)
		if (v->extents[i].io == disk->io && v->extents[i].sparse)
			return &v->extents[i];
	return NULL;
}

static uint64_t text_room(const struct vmimg_disk *disk, uint64_t *at)
{
	const struct vmdk_extent *e = holder(disk);

	*at = e ? e->g.descriptor_at : 0;
	return e ? e->g.descriptor_len : vmimg_io_size(disk->io);
}

char *vmimg_vmdk_read_text(struct vmimg_disk *disk, struct vmimg_error *err)
{
	uint64_t at, len = text_room(disk, &at);
	char *text = vmimg_alloc_array((size_t)len + 1, 1, err); /* as long as when it was opened */

	if (text && !vmimg_io_pread(disk->io, text, (size_t)len, at, err))
		return text;
	free(text);
	return NULL;
}

/* When old and new differ in one sector of the file only, that is written. *done: so it was. */
static int put_sector(struct vmimg_disk *disk, const char *old, const char *text, bool *done,
	struct vmimg_error *err)
{
	uint64_t at;
	size_t len = strlen(text), first = 0, end = len;

	(void)text_room(disk, &at);
	*done = false;
	if (strlen(old) != len)
		return 0;
	while (first < len && old[first] == text[first])
		first++;
	while (end > first && old[end - 1] == text[end - 1])
		end--;
	*done = first == end || (at + first) / VMDK_SECTOR == (at + end - 1) / VMDK_SECTOR;
	if (!*done || first == end)
		return 0;
	if (vmimg_io_sync(disk->io, err) ||
		vmimg_io_pwrite(disk->io, text + first, end - first, at + first, err))
		return -1;
	return vmimg_io_sync(disk->io, err);
}

int vmimg_vmdk_put_text(struct vmimg_disk *disk, const char *text, struct vmimg_error *err)
{
	const struct vmdk_extent *e = holder(disk);
	VMIMG_AUTO(free) char *old = vmimg_vmdk_read_text(disk, err);
	bool done;

	if (!old || put_sector(disk, old, text, &done, err))
		return -1;
	if (done)
		return 0;
	if (!e)
		return replace_text(disk->io, text, err);
	if (strlen(text) >= e->g.descriptor_len)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "the descriptor has no room");
	return vmimg_vmdk_resize_sparse(disk->io, &e->g,
		&(struct vmdk_resized){ .size = e->g.capacity, .text = text }, err);
}

int vmimg_vmdk_check_kind(const struct vmdk_grains *g, struct vmimg_error *err)
{
	if (g->kind == VMDK_HOSTED && !g->packed && !(g->flags & VMDK_FLAG_MARKERS))
		return 0;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s",
		g->kind == VMDK_HOSTED ? "a streamOptimized disk is not changed: convert it"
				       : "sparse extents of ESX are not changed");
}

int vmimg_vmdk_check_descriptor(const struct vmimg_disk *disk, struct vmimg_error *err)
{
	int fd = vmimg_file_fd(disk->io);

	if (fd < 0 || (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR)
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL, "this is an extent: name the descriptor, %s",
		vmimg_io_name(disk->io));
}

int vmimg_vmdk_check_sparse(const struct vmdk_extent *e, uint64_t size, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &e->g;

	if (vmimg_vmdk_check_kind(g, err))
		return -1;
	if (!g->capacity || !e->len)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "an extent of no sectors");
	if (g->through_rgd || g->unclean)
		return vmimg_fail(err, VMIMG_EREFUSED, "%s",
			g->unclean ? "it was not closed: compact it first, which makes its tables "
				     "agree"
				   : "its grain directory is damaged: repair it first");
	if (size / VMDK_SECTOR > UINT32_MAX)
		return vmimg_fail(err, VMIMG_EINVAL, "a sparse extent holds 2 TiB at most");
	return vmimg_vmdk_verify(&(struct vmdk_change){ e->io, *g, false }, err);
}

int vmimg_vmdk_last_grain(struct vmimg_disk *disk, const struct vmdk_extent *e, uint8_t **grain,
	struct vmimg_error *err)
{
	uint64_t inside = e->len % e->g.grain, end = e->start + e->len;

	*grain = NULL;
	if (!inside || !disk->parent || disk->parent->size <= end)
		return 0;
	*grain = vmimg_alloc_array(e->g.grain, 1, err);
	return *grain ? vmimg_disk_pread(disk, *grain, (size_t)inside, end - inside, err) : -1;
}

static int check_resize(const struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmdk *v = vmdk_of(disk);

	if (!v->has_descriptor || v->header_differs || !v->extent_count || !v->extents[0].line ||
		v->missing || (holder(disk) && v->extent_count > 1))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"only a disk with a sound descriptor, and one extent if that is inside, "
			"is resized: convert it");
	if (vmimg_vmdk_check_descriptor(disk, err))
		return -1;
	if (v->descriptor.parent_cid != VMDK_NO_PARENT && !disk->parent)
		return vmimg_fail(err, VMIMG_EINVAL,
			"its parent has to be opened: it shows in what is added");
	if (v->descriptor.track_path)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"it has a record of changes, which would no longer fit");
	if (disk->io->is_device || size / VMDK_SECTOR > VMIMG_MAX_DISK / VMDK_SECTOR)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s",
			disk->io->is_device ? "it lies on a device" : "no disk is that large");
	return 0;
}

/* A disk in one sparse file. */
static int resize_single(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmdk_extent *e = holder(disk);
	const struct vmdk_new_lines lines = {
		.kept = 1, .last = size / VMDK_SECTOR, .sectors = size / VMDK_SECTOR
	};
	struct vmdk_resized to = { .size = size };
	VMIMG_AUTO(free) char *text = NULL;
	VMIMG_AUTO(free) char *now = NULL;
	VMIMG_AUTO(free) uint8_t *grain = NULL;

	if (vmimg_vmdk_check_sparse(e, size, err) ||
		(size > e->len && vmimg_vmdk_last_grain(disk, e, &grain, err)))
		return -1;
	text = vmimg_vmdk_read_text(disk, err);
	now = text ? vmimg_vmdk_resized_text(&vmdk_of(disk)->descriptor, text, &lines, err) : NULL;
	if (!now)
		return -1;
	if (strlen(now) >= e->g.descriptor_len)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "the descriptor has no room");
	to.text = now;
	to.grain = grain;
	to.hidden = disk->parent ? vmimg_min(disk->parent->size, size) : 0;
	return vmimg_vmdk_resize_sparse(disk->io, &e->g, &to, err);
}

static int vmdk_resize(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	size = vmimg_align_up(size, VMDK_SECTOR);
	if (size == disk->size)
		return 0;
	if (!size)
		return vmimg_fail(err, VMIMG_EINVAL, "a VMDK of no sectors");
	if (check_resize(disk, size, err))
		return -1;
	return holder(disk) ? resize_single(disk, size, err)
			    : vmimg_vmdk_resize_extents(disk, size, err);
}

const struct vmimg_edit_ops vmimg_vmdk_edit = {
	.resize = vmdk_resize,
	.update = vmimg_vmdk_update,
	.empty = vmimg_vmdk_empty,
	.set_parent = vmimg_vmdk_set_parent,
	.squeeze = vmimg_vmdk_squeeze,
	.set = vmimg_vmdk_set,
	.settings = vmimg_vmdk_set_options,
};

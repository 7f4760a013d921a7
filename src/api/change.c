/* SPDX-License-Identifier: Apache-2.0 */
/* Changes in place through the public interface. After each the image is opened anew, since its
 * tables are not what they were. */
#include <time.h>
#include "api/work.h"
#include "disk/edit.h"
#include "disk/options.h"
#include "engine/in_place.h"
#include "io/file.h"
#include "io/journal.h"
#include "io/lock.h"

struct vmimg_change {
	struct vmimg_resolver resolver; /* the caller's, which locks what it opens */
	const struct vmimg_resolver *policy;
	struct vmimg_open options;
	struct vmimg_io *io;
	struct vmimg_disk *disk; /* NULL: it could not be opened anew */
};

/* The image's own bytes are about to change, wherever they lie; parents are read. */
static enum vmimg_lock lock_for(const struct vmimg_change *change,
	const struct vmimg_reference *ref, const struct vmimg_io *from)
{
	return vmimg_reference_is_part(ref) && from == change->io ? VMIMG_LOCK_WRITE : VMIMG_LOCK_READ;
}

static struct vmimg_io *open_locked(const struct vmimg_resolver *self,
	const struct vmimg_reference *ref, const struct vmimg_io *from, struct vmimg_error *err)
{
	const struct vmimg_change *change = (const struct vmimg_change *)self;
	struct vmimg_io *io = change->policy->open(change->policy, ref, from, err);

	if (io &&
		(vmimg_io_lock(io, lock_for(change, ref, from), err) ||
			vmimg_journal_refuse(io, err))) {
		vmimg_io_unref(io);
		return NULL;
	}
	return io;
}

static int judge(const struct vmimg_resolver *self, const struct vmimg_reference *ref,
	const struct vmimg_io *from, struct vmimg_error *err)
{
	const struct vmimg_resolver *policy = ((const struct vmimg_change *)self)->policy;

	return policy->judge(policy, ref, from, err);
}

static int search(const struct vmimg_resolver *self, const char *suffix,
	const struct vmimg_io *from, bool (*each)(void *ctx, const char *name), void *ctx,
	struct vmimg_error *err)
{
	const struct vmimg_resolver *policy = ((const struct vmimg_change *)self)->policy;

	return policy->search(policy, suffix, from, each, ctx, err);
}

static void adopt_options(struct vmimg_change *change, const struct vmimg_open *options)
{
	if (options)
		change->options = *options;
	change->policy = change->options.resolver;
	if (!change->policy)
		return;
	change->resolver = (struct vmimg_resolver){ open_locked, judge,
		change->policy->search ? search : NULL };
	change->options.resolver = &change->resolver;
}

struct vmimg_change *vmimg_change_open(
	const char *path, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_change *change;

	if (options && (options->snapshot || options->lenient)) {
		vmimg_fail(err, VMIMG_EINVAL,
			"only the active state of a sound image can be changed in place");
		return NULL;
	}
	change = vmimg_new(struct vmimg_change, err);
	if (!change)
		return NULL;
	adopt_options(change, options);
	change->io = vmimg_file_open(path, true, err);
	if (change->io && !vmimg_io_lock(change->io, VMIMG_LOCK_WRITE, err) &&
		!vmimg_journal_refuse(change->io, err))
		change->disk = vmimg_disk_open(change->io, &change->options, err);
	if (change->disk)
		return change;
	vmimg_change_close(change);
	return NULL;
}

void vmimg_change_close(struct vmimg_change *change)
{
	if (!change)
		return;
	vmimg_disk_close(change->disk);
	vmimg_io_unref(change->io);
	free(change);
}

struct vmimg_disk *vmimg_change_disk(const struct vmimg_change *change)
{
	return change->disk;
}

/* The operations, or the reason why there are none. */
static const struct vmimg_edit_ops *operations(
	const struct vmimg_change *change, struct vmimg_error *err)
{
	static const struct vmimg_edit_ops none;

	if (!change->disk) {
		vmimg_fail(err, VMIMG_EINVAL, "the image could not be opened again after a change");
		return NULL;
	}
	return change->disk->format->edit ? change->disk->format->edit : &none;
}

static int lacks(const struct vmimg_change *change, const char *what, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s: format %s has no %s",
		vmimg_io_name(change->io), change->disk->format->name, what);
}

/* After a change that went well or not: the disk as it is now. A format that was detected once
 * stays that one. Returns failed, or -1. */
static int renew(struct vmimg_change *change, int failed, struct vmimg_error *err)
{
	struct vmimg_error why;

	change->options.format = change->disk->format->name;
	vmimg_disk_close(change->disk);
	change->disk = vmimg_disk_open(change->io, &change->options, failed ? &why : err);
	return failed || !change->disk ? -1 : 0;
}

int vmimg_change_resize(struct vmimg_change *change, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_edit_ops *edit = operations(change, err);

	if (!edit)
		return -1;
	if (!edit->resize)
		return lacks(change, "resizing in place", err);
	return size == change->disk->size
		? 0
		: renew(change, edit->resize(change->disk, size, err), err);
}

int vmimg_change_write(struct vmimg_change *change, struct vmimg_disk *source, uint64_t at,
	const struct vmimg_work *work, struct vmimg_error *err)
{
	const struct vmimg_edit_ops *edit = operations(change, err);
	struct vmimg_converted done;
	struct api_work how;

	if (!edit)
		return -1;
	if (!edit->update)
		return lacks(change, "new content in place", err);
	if (at > change->disk->size || source->size > change->disk->size - at)
		return vmimg_fail(
			err, VMIMG_EINVAL, "what is to be written ends past the disk's end");
	if (!source->size)
		return 0;
	api_work_init(&how, work);
	return renew(change, vmimg_lay_run(change->disk, source, at, &how.how, &done, err), err);
}

int vmimg_change_snapshot(struct vmimg_change *change, enum vmimg_snapshot_act act,
	const char *name, struct vmimg_error *err)
{
	const struct vmimg_edit_ops *edit = operations(change, err);
	struct vmimg_disk *disk = change->disk;
	struct timespec now = { 0 };
	int failed;

	if (!edit)
		return -1;
	if (!edit->snapshot_create)
		return lacks(change, "internal snapshots", err);
	clock_gettime(CLOCK_REALTIME, &now);
	if (act == VMIMG_SNAPSHOT_CREATE)
		failed = edit->snapshot_create(
			disk, name, (uint64_t)now.tv_sec, (uint32_t)now.tv_nsec, err);
	else if (act == VMIMG_SNAPSHOT_APPLY)
		failed = edit->snapshot_apply(disk, name, err);
	else
		failed = edit->snapshot_delete(disk, name, err);
	return renew(change, failed, err);
}

int vmimg_change_set(struct vmimg_change *change, const char *settings, struct vmimg_error *err)
{
	const struct vmimg_edit_ops *edit = operations(change, err);
	struct vmimg_options list = { 0 };
	int failed;

	if (!edit)
		return -1;
	if (!edit->set)
		return lacks(change, "settings that can be changed", err);
	failed = vmimg_options_add(&list, settings, err) ||
		vmimg_options_verify(&list, edit->settings, change->disk->format->name, err);
	if (!failed)
		failed = renew(change, edit->set(change->disk, &list, err), err);
	vmimg_options_done(&list);
	return failed ? -1 : 0;
}

static int give_back(
	struct vmimg_disk *disk, const struct vmimg_run_how *how, struct vmimg_error *err)
{
	struct vmimg_converted done;
	struct vmimg_trim trim;
	int failed;

	vmimg_trim_init(&trim, disk, true);
	failed = vmimg_compact_run(&trim, how, &done, err);
	vmimg_trim_done(&trim);
	return failed;
}

int vmimg_change_compact(struct vmimg_change *change, const struct vmimg_work *work,
	uint64_t *saved, struct vmimg_error *err)
{
	const struct vmimg_edit_ops *edit = operations(change, err);
	uint64_t bytes = 0;
	struct api_work how;

	if (!edit)
		return -1;
	if (!edit->update)
		return lacks(change, "compacting in place", err);
	api_work_init(&how, work);
	if (renew(change, give_back(change->disk, &how.how, err), err))
		return -1;
	if (edit->squeeze && renew(change, edit->squeeze(change->disk, &bytes, err), err))
		return -1;
	*saved = bytes;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One reader behind a lock: what looks inside images reads little, and from one thread. */
#include "inspect/view.h"
#include <pthread.h>

struct view {
	struct vmimg_io io;
	struct vmimg_disk *disk;
	struct vmimg_reader *reader; /* guarded by lock */
	pthread_mutex_t lock;
};

static struct view *view_of(struct vmimg_io *io)
{
	return (struct view *)io;
}

static int view_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	struct view *view = view_of(io);
	int failed;

	pthread_mutex_lock(&view->lock);
	failed = vmimg_reader_pread(view->reader, view->disk, buf, len, at, err);
	pthread_mutex_unlock(&view->lock);
	return failed;
}

static int view_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *err)
{
	struct vmimg_run run;

	if (vmimg_disk_resolve(view_of(io)->disk, at, &run, NULL, err))
		return -1;
	*hole = run.kind == VMIMG_RUN_ABSENT || run.kind == VMIMG_RUN_ZERO;
	*len = run.len;
	return 0;
}

static void view_close(struct vmimg_io *io)
{
	struct view *view = view_of(io);

	vmimg_reader_free(view->reader);
	pthread_mutex_destroy(&view->lock);
	free(view);
}

static const struct vmimg_io_ops view_ops = {
	.pread = view_pread,
	.extent = view_extent,
	.close = view_close,
};

struct vmimg_io *vmimg_view_open(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct view *view = vmimg_new(struct view, err);

	if (!view)
		return NULL;
	view->disk = disk;
	view->reader = vmimg_reader_new(err);
	if (!view->reader || vmimg_io_init(&view->io, &view_ops, NULL, err)) {
		vmimg_reader_free(view->reader);
		free(view);
		return NULL;
	}
	pthread_mutex_init(&view->lock, NULL);
	atomic_init(&view->io.size, disk->size);
	return &view->io;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Writes, syncs and changes of size, each noted when it has worked. Zeroing arrives as writes. */
#include "io/record.h"
#include <string.h>

struct recorder {
	struct vmimg_io io;
	struct vmimg_io *inner;
	unsigned file;
	struct vmimg_recording *recording;
};

static struct recorder *recorder_of(struct vmimg_io *io)
{
	return (struct recorder *)io;
}

static int note(struct vmimg_io *io, enum vmimg_record_kind kind, const void *bytes, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	struct vmimg_recording *r = recorder_of(io)->recording;
	struct vmimg_record *record;

	if (vmimg_grow_array(&r->list, &r->cap, r->count + 1, sizeof(*r->list), err))
		return -1;
	record = &r->list[r->count];
	*record = (struct vmimg_record){
		.kind = kind, .file = recorder_of(io)->file, .at = at, .len = len
	};
	if (kind == VMIMG_RECORD_WRITE) {
		record->bytes = vmimg_alloc_buffer(len ? len : 1, err);
		if (!record->bytes)
			return -1;
		memcpy(record->bytes, bytes, len);
	}
	r->count++;
	return 0;
}

static int recorder_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	return vmimg_io_pread(recorder_of(io)->inner, buf, len, at, err);
}

static int recorder_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	return vmimg_io_pwrite(recorder_of(io)->inner, buf, len, at, err)
		? -1
		: note(io, VMIMG_RECORD_WRITE, buf, len, at, err);
}

static int recorder_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *err)
{
	return vmimg_io_resize(recorder_of(io)->inner, size, err)
		? -1
		: note(io, VMIMG_RECORD_RESIZE, NULL, 0, size, err);
}

static int recorder_sync(struct vmimg_io *io, struct vmimg_error *err)
{
	return note(io, VMIMG_RECORD_SYNC, NULL, 0, 0, err);
}

static void recorder_close(struct vmimg_io *io)
{
	vmimg_io_unref(recorder_of(io)->inner);
	free(io);
}

static const struct vmimg_io_ops recorder_ops = {
	.pread = recorder_pread,
	.pwrite = recorder_pwrite,
	.resize = recorder_resize,
	.sync = recorder_sync,
	.close = recorder_close,
};

struct vmimg_io *vmimg_recorder_open(struct vmimg_io *inner, unsigned file,
	struct vmimg_recording *recording, struct vmimg_error *err)
{
	struct recorder *r = vmimg_new(struct recorder, err);

	if (!r || vmimg_io_init(&r->io, &recorder_ops, vmimg_io_name(inner), err)) {
		free(r);
		return NULL;
	}
	r->inner = vmimg_io_ref(inner);
	r->file = file;
	r->recording = recording;
	r->io.is_device = inner->is_device;
	atomic_init(&r->io.size, vmimg_io_size(inner));
	return &r->io;
}

void vmimg_recording_done(struct vmimg_recording *recording)
{
	for (size_t i = 0; i < recording->count; i++)
		free(recording->list[i].bytes);
	free(recording->list);
	*recording = (struct vmimg_recording){ 0 };
}

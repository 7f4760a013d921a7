/* SPDX-License-Identifier: Apache-2.0 */
/* The undo file is written once, as a whole, before the image: there is nothing to append to. */
#include "io/journal.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "io/file.h"
#include "io/overlay.h"
#include "io/stage.h"
#include "io/window.h"
#include "util/layout.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/sum.h"

#define SUFFIX      ".vmimg-undo"
#define PAGE        VMIMG_STAGE_PAGE
#define VERSION     2U /* 1 had no "zero_from" */
#define HEAD_SIZE   512U
#define RECORD_HEAD 16U
#define RECORD      (RECORD_HEAD + PAGE)
#define END_SIZE    16U
#define HEAD(F, B)                               \
	B(8, magic, 0)                           \
	F(le32, version, 8)                      \
	F(le64, inode, 16)                       \
	F(le64, before, 24) /* bytes of image */ \
	F(le64, after, 32)                       \
	F(le64, count, 40)                       \
	F(le64, zero_from, 48)
VMIMG_LAYOUT(undo_head, HEAD_SIZE, HEAD);
#define RECORD_LAYOUT(F, B) F(le64, at, 0) F(le32, sum, 8)
VMIMG_LAYOUT(undo_record, RECORD_HEAD, RECORD_LAYOUT);
#define END_LAYOUT(F, B) B(8, magic, 0) F(le32, sum, 8)
VMIMG_LAYOUT(undo_end, END_SIZE, END_LAYOUT);

static const char head_magic[8] = { 'V', 'M', 'I', 'M', 'G', 'U', 'N', 'D' };
static const char end_magic[8] = { 'V', 'M', 'I', 'M', 'G', 'E', 'N', 'D' };

struct vmimg_journal {
	struct vmimg_io *image;
	int folder;
	char *name;
	bool copied; /* the undo file may have been made for another inode */
};

/* flags: of the folder. */
static struct vmimg_journal *open_beside(
	const char *path, struct vmimg_io *io, int flags, struct vmimg_error *err)
{
	struct vmimg_journal *j = vmimg_new(struct vmimg_journal, err);
	VMIMG_AUTO(free) char *real = realpath(path, NULL); /* beside the file, not a link to it */
	char *slash = real ? strrchr(real, '/') : NULL;

	if (!j)
		return NULL;
	j->image = vmimg_io_ref(io);
	j->folder = -1;
	if (!slash) {
		vmimg_fail_sys(err, errno, "%s", vmimg_io_name(io));
	} else if (asprintf(&j->name, "%s" SUFFIX, slash + 1) < 0) {
		j->name = NULL;
		vmimg_fail_nomem(err);
	} else {
		slash[slash == real] = '\0';
		j->folder = open(real, flags | O_DIRECTORY | O_CLOEXEC);
		if (j->folder >= 0)
			return j;
		vmimg_fail_sys(err, errno, "the folder of %s", vmimg_io_name(io));
	}
	vmimg_journal_close(j);
	return NULL;
}

struct vmimg_journal *vmimg_journal_open(
	const char *path, struct vmimg_io *io, struct vmimg_error *err)
{
	return open_beside(path, io, O_RDONLY, err);
}

void vmimg_journal_close(struct vmimg_journal *j)
{
	if (!j)
		return;
	if (j->folder >= 0)
		close(j->folder);
	vmimg_io_unref(j->image);
	free(j->name);
	free(j);
}

const char *vmimg_journal_name(const struct vmimg_journal *j)
{
	return j->name;
}

/* The undo file. NULL with VMIMG_OK in err: there is none. */
static struct vmimg_io *open_file(struct vmimg_journal *j, int flags, struct vmimg_error *err)
{
	int fd = openat(j->folder, j->name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

	if (fd >= 0)
		return vmimg_file_from_fd(fd, flags & O_RDWR, "the undo file", err);
	if ((errno == ENOENT || errno == ENAMETOOLONG) && !(flags & O_CREAT))
		err->status = VMIMG_OK;
	else
		vmimg_fail_sys(err, errno, "the undo file of %s", vmimg_io_name(j->image));
	return NULL;
}

static int sync_folder(struct vmimg_journal *j, struct vmimg_error *err)
{
	return fsync(j->folder) ? vmimg_fail_sys(err, errno, "syncing the folder") : 0;
}

/* The undo file goes last, and durably: one that came back would undo what was done since. */
static int remove_file(struct vmimg_journal *j, struct vmimg_error *err)
{
	if (unlinkat(j->folder, j->name, 0))
		return vmimg_fail_sys(
			err, errno, "removing the undo file of %s", vmimg_io_name(j->image));
	return sync_folder(j, err);
}

/* ---- what there is ---- */

static uint32_t record_sum(const uint8_t *record)
{
	return vmimg_crc32c(vmimg_crc32c(0, record, 8), record + RECORD_HEAD, PAGE);
}

/* Whether the undo file was finished: only then was the image ever written to. */
static int is_whole(
	struct vmimg_io *undo, struct undo_head *head, bool *whole, struct vmimg_error *err)
{
	uint8_t bytes[RECORD];
	uint64_t size = vmimg_io_size(undo), records;
	struct undo_end end;
	uint32_t sum;

	*whole = false;
	if (size < HEAD_SIZE + END_SIZE)
		return 0;
	if (vmimg_io_pread(undo, bytes, HEAD_SIZE, 0, err))
		return -1;
	undo_head_decode(head, bytes);
	if (memcmp(head->magic, head_magic, sizeof(head_magic)) || !head->version ||
		head->version > VERSION || !vmimg_mul(head->count, RECORD, &records) ||
		records != size - HEAD_SIZE - END_SIZE)
		return 0;
	sum = vmimg_crc32c(0, bytes, HEAD_SIZE);
	for (uint64_t i = 0; i < head->count; i++) {
		struct undo_record record;

		if (vmimg_io_pread(undo, bytes, RECORD, HEAD_SIZE + i * RECORD, err))
			return -1;
		undo_record_decode(&record, bytes);
		if (record.sum != record_sum(bytes))
			return 0;
		sum = vmimg_crc32c(sum, bytes, RECORD);
	}
	if (vmimg_io_pread(undo, bytes, END_SIZE, size - END_SIZE, err))
		return -1;
	undo_end_decode(&end, bytes);
	*whole = !memcmp(end.magic, end_magic, sizeof(end_magic)) && end.sum == sum;
	return 0;
}

/* From where on the image was zero before the change. */
static uint64_t zero_from(const struct undo_head *head)
{
	return head->version > 1 ? vmimg_min(head->zero_from, head->before) : head->before;
}

/* An undo file must not be poured over another image that came to have the same name. */
static int check_same(
	struct vmimg_journal *j, const struct undo_head *head, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(j->image);

	if ((j->copied || j->image->id[1] == head->inode) &&
		size >= vmimg_min(zero_from(head), head->after) &&
		size <= vmimg_max(head->before, head->after))
		return 0;
	return vmimg_fail(err, VMIMG_EREFUSED,
		"%.60s was made for another file (inode %" PRIu64 ", %" PRIu64
		" bytes): remove it if %.60s is complete; if it was cut off, and both were "
		"copied, repair --in-place --force",
		j->name, head->inode, head->before, vmimg_io_name(j->image));
}

bool vmimg_journal_left(struct vmimg_io *io)
{
	const char *path = vmimg_file_path(io);
	struct vmimg_error err;
	VMIMG_AUTO(vmimg_journal_close)
	struct vmimg_journal *j = path ? vmimg_journal_open(path, io, &err) : NULL;
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *undo = j ? open_file(j, O_RDONLY, &err) : NULL;
	uint8_t bytes[HEAD_SIZE];
	struct undo_head head;

	if (!undo || vmimg_io_pread(undo, bytes, HEAD_SIZE, 0, &err))
		return false;
	undo_head_decode(&head, bytes);
	return !memcmp(head.magic, head_magic, sizeof(head_magic)) && !check_same(j, &head, &err);
}

int vmimg_journal_refuse(struct vmimg_io *io, struct vmimg_error *err)
{
	if (!vmimg_journal_left(io))
		return 0;
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"%s: a change in place was cut off, and what undoes it is in the file beside it "
		"that ends in " SUFFIX ": vmimg repair --in-place first",
		vmimg_io_name(io));
}

/* ---- as if it had gone back ---- */

/* The pages of the undo file, for an overlay. */
static int read_pages(struct vmimg_io *undo, const struct undo_head *head, uint8_t *memory,
	struct vmimg_patch *patches, size_t *count, struct vmimg_error *err)
{
	*count = 0;
	for (uint64_t i = 0; i < head->count; i++) {
		uint8_t *bytes = memory + i * RECORD;
		struct undo_record record;

		if (vmimg_io_pread(undo, bytes, RECORD, HEAD_SIZE + i * RECORD, err))
			return -1;
		undo_record_decode(&record, bytes);
		if (record.at < head->before)
			patches[(*count)++] = (struct vmimg_patch){ record.at,
				vmimg_min(PAGE, head->before - record.at), bytes + RECORD_HEAD };
	}
	return 0;
}

static struct vmimg_io *lay_over(struct vmimg_journal *j, struct vmimg_io *undo,
	const struct undo_head *head, struct vmimg_error *err)
{
	uint64_t kept = vmimg_min(vmimg_io_size(j->image), zero_from(head));
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *stays = NULL;
	VMIMG_AUTO(free) struct vmimg_patch *patches = NULL;
	VMIMG_AUTO(free) uint8_t *memory = NULL;
	struct vmimg_io *view;
	size_t count;

	if (head->count > VMIMG_MAX_STAGE / PAGE) {
		vmimg_fail(err, VMIMG_ELIMIT,
			"%s: what undoes a change that was cut off has %" PRIu64
			" pages: vmimg repair --in-place first",
			vmimg_io_name(j->image), head->count);
		return NULL;
	}
	stays = vmimg_window_open(j->image, 0, kept, vmimg_io_name(j->image), err);
	memory = vmimg_alloc_array((size_t)head->count + 1, RECORD, err);
	patches = vmimg_alloc_array((size_t)head->count + 1, sizeof(*patches), err);
	if (!stays || !memory || !patches || read_pages(undo, head, memory, patches, &count, err))
		return NULL;
	view = vmimg_overlay_open(stays, head->before, patches, count, memory, err);
	if (!view)
		return NULL;
	(void)vmimg_take(memory);
	view->shows = j->image;
	view->is_device = j->image->is_device;
	memcpy(view->id, j->image->id, sizeof(view->id));
	return view;
}

struct vmimg_io *vmimg_journal_view(struct vmimg_io *io, bool *cut_off, struct vmimg_error *err)
{
	const char *path = vmimg_file_path(io);
	struct vmimg_error ignored;
	VMIMG_AUTO(vmimg_journal_close)
	struct vmimg_journal *j = path ? open_beside(path, io, O_PATH, &ignored) : NULL;
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *undo = NULL;
	struct undo_head head;
	bool whole;

	*cut_off = false;
	if (!j) /* it has no name any more, or never had one */
		return vmimg_io_ref(io);
	undo = open_file(j, O_RDONLY, err);
	if (!undo)
		return err->status == VMIMG_OK ? vmimg_io_ref(io) : NULL;
	if (is_whole(undo, &head, &whole, err))
		return NULL;
	if (!whole)
		return vmimg_io_ref(io);
	if (check_same(j, &head, err))
		return NULL;
	*cut_off = true;
	return lay_over(j, undo, &head, err);
}

/* ---- going back ---- */

static int restore(struct vmimg_journal *j, struct vmimg_io *undo, const struct undo_head *head,
	struct vmimg_error *err)
{
	uint64_t keep = zero_from(head);
	uint8_t bytes[RECORD];

	if (keep < head->before && vmimg_io_size(j->image) > keep &&
		vmimg_io_resize(j->image, keep, err))
		return -1;
	for (uint64_t i = 0; i < head->count; i++) {
		struct undo_record record;
		uint64_t len;

		if (vmimg_io_pread(undo, bytes, RECORD, HEAD_SIZE + i * RECORD, err))
			return -1;
		undo_record_decode(&record, bytes);
		if (record.at >= head->before)
			continue;
		len = vmimg_min(PAGE, head->before - record.at);
		if (vmimg_io_pwrite(j->image, bytes + RECORD_HEAD, (size_t)len, record.at, err))
			return -1;
	}
	if (!j->image->is_device && vmimg_io_resize(j->image, head->before, err))
		return -1;
	return vmimg_io_sync(j->image, err);
}

void vmimg_journal_is_copied(struct vmimg_journal *j)
{
	j->copied = true;
}

int vmimg_journal_roll_back(struct vmimg_journal *j, bool *done, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *undo = open_file(j, O_RDONLY, err);
	struct undo_head head;
	bool whole;

	*done = false;
	if (!undo)
		return err->status == VMIMG_OK ? 0 : -1;
	if (is_whole(undo, &head, &whole, err))
		return -1;
	if (whole && (check_same(j, &head, err) || restore(j, undo, &head, err)))
		return -1;
	*done = whole;
	return remove_file(j, err);
}

/* ---- going forward ---- */

static int write_record(struct vmimg_journal *j, struct vmimg_io *undo, uint64_t place, uint64_t at,
	uint32_t *sum, struct vmimg_error *err)
{
	uint8_t bytes[RECORD] = { 0 };
	uint64_t size = vmimg_io_size(j->image);
	struct undo_record record = { .at = at };

	undo_record_encode(&record, bytes);
	if (at < size &&
		vmimg_io_pread(
			j->image, bytes + RECORD_HEAD, (size_t)vmimg_min(PAGE, size - at), at, err))
		return -1;
	record.sum = record_sum(bytes);
	undo_record_encode(&record, bytes);
	*sum = vmimg_crc32c(*sum, bytes, RECORD);
	return vmimg_io_pwrite(undo, bytes, RECORD, place, err);
}

static int write_undo(struct vmimg_journal *j, struct vmimg_io *undo,
	const struct vmimg_journal_change *change, struct vmimg_error *err)
{
	uint8_t bytes[HEAD_SIZE] = { 0 }, last[END_SIZE] = { 0 };
	struct undo_head head = { .version = VERSION,
		.inode = j->image->id[1],
		.before = vmimg_io_size(j->image),
		.after = change->after,
		.count = change->count,
		.zero_from = change->zero_from };
	struct undo_end end;
	uint64_t place = HEAD_SIZE;
	uint32_t sum;

	memcpy(head.magic, head_magic, sizeof(head_magic));
	undo_head_encode(&head, bytes);
	sum = vmimg_crc32c(0, bytes, sizeof(bytes));
	if (vmimg_io_pwrite(undo, bytes, sizeof(bytes), 0, err))
		return -1;
	for (size_t i = 0; i < change->count; i++, place += RECORD)
		if (write_record(j, undo, place, change->pages[i].at, &sum, err))
			return -1;
	memcpy(end.magic, end_magic, sizeof(end_magic));
	end.sum = sum;
	undo_end_encode(&end, last);
	if (vmimg_io_pwrite(undo, last, sizeof(last), place, err) || vmimg_io_sync(undo, err))
		return -1;
	return sync_folder(j, err);
}

int vmimg_journal_begin(
	struct vmimg_journal *j, const struct vmimg_journal_change *change, struct vmimg_error *err)
{
	struct vmimg_io *undo = open_file(j, O_RDWR | O_CREAT | O_EXCL, err);
	struct vmimg_error unused;
	int failed;

	if (!undo)
		return -1;
	failed = write_undo(j, undo, change, err);
	vmimg_io_unref(undo);
	if (failed)
		(void)!remove_file(j, &unused); /* what is not whole is passed over anyway */
	return failed;
}

int vmimg_journal_end(struct vmimg_journal *j, struct vmimg_error *err)
{
	return vmimg_io_sync(j->image, err) ? vmimg_journal_go_back(j, err) : remove_file(j, err);
}

int vmimg_journal_go_back(struct vmimg_journal *j, struct vmimg_error *err)
{
	struct vmimg_error why;
	bool done;

	if (vmimg_journal_roll_back(j, &done, &why))
		return vmimg_within(
			err, "half done (%.80s undoes it: vmimg repair --in-place)", j->name);
	return vmimg_within(err, "undone");
}

static int write_image(
	struct vmimg_journal *j, const struct vmimg_journal_change *change, struct vmimg_error *err)
{
	for (size_t i = 0; i < change->count; i++) {
		const struct vmimg_stage_page *page = &change->pages[i];
		uint64_t len = vmimg_min(PAGE, change->after - page->at);

		if (vmimg_io_pwrite(j->image, page->bytes, (size_t)len, page->at, err))
			return -1;
	}
	return vmimg_io_size(j->image) < change->after
		? vmimg_io_resize(j->image, change->after, err)
		: 0;
}

int vmimg_journal_apply(
	struct vmimg_journal *j, const struct vmimg_io *stage, struct vmimg_error *err)
{
	struct vmimg_journal_change change = { .after = atomic_load(&stage->size),
		.zero_from = vmimg_io_size(j->image) };

	change.pages = vmimg_stage_pages(stage, &change.count);
	if (!change.count && change.after == vmimg_io_size(j->image))
		return 0;
	if (vmimg_journal_begin(j, &change, err))
		return -1;
	return write_image(j, &change, err) ? vmimg_journal_go_back(j, err)
					    : vmimg_journal_end(j, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The sink over an image that is there: its pieces, beginning and end. */
#include "format/qcow2/update.h"
#include <inttypes.h>
#include <string.h>
#include "io/file.h"
#include "util/num.h"

#define CHUNK         (256U << 10)
#define STORAGE_BLOCK 4096U /* what a file system gives back at least */

static struct vmimg_qcow2_writing *writing_of(struct vmimg_sink *sink)
{
	return (struct vmimg_qcow2_writing *)sink;
}

/* ---- pieces ---- */

static int place_data(void *ctx, struct vmimg_chunk *chunk, uint64_t guest,
	const struct vmimg_piece *piece, struct vmimg_error *err)
{
	struct vmimg_qcow2_writing *w = ctx;
	uint64_t given = vmimg_qcow2_subclusters(w, guest, w->sink.granule), at;
	struct vmimg_store store;
	uint8_t *entry;

	if (vmimg_qcow2_mark(w->marks, guest, piece->size, err) ||
		vmimg_qcow2_find_entry(w, guest, &entry, err) ||
		vmimg_qcow2_open_up(w, entry, guest, given, err) ||
		vmimg_qcow2_host_cluster(w, entry, guest, given, &at, err))
		return -1;
	store = (struct vmimg_store){ .io = w->data,
		.at = at + guest % w->q->cluster,
		.bytes = piece->bytes,
		.len = w->q->external && !w->q->cipher ? piece->size : w->sink.granule,
		.cipher = w->q->cipher };
	store.cipher_at = vmimg_qcow2_cipher_at(w->q, store.at, guest);
	vmimg_chunk_store_sealed(chunk, &store);
	return 0;
}

/* Zeroes that have to be there: the data file is raw, or version 2 has no other way to say it. */
static int write_zero(struct vmimg_qcow2_writing *w, uint8_t *entry, uint64_t guest, uint64_t len,
	bool part, struct vmimg_error *err)
{
	uint64_t given = vmimg_qcow2_subclusters(w, guest, len), at;

	if (vmimg_qcow2_host_cluster(w, entry, guest, given, &at, err))
		return -1;
	if (w->q->cipher) { /* and so a whole cluster, for the data file is not raw */
		memset(w->scratch, 0, w->q->cluster);
		return vmimg_qcow2_write_scratch(w, at, guest, w->q->cluster, err);
	}
	return vmimg_io_zero(w->data, at + guest % w->q->cluster, part ? len : w->q->cluster, err);
}

/* [guest, guest + len) is inside one cluster; whole: with what came before, it is all of that. */
static int place_zero(struct vmimg_qcow2_writing *w, uint64_t guest, uint64_t len, bool whole,
	struct vmimg_error *err)
{
	uint64_t given = whole ? QCOW2_ALL : vmimg_qcow2_subclusters(w, guest, len), allocated;
	uint8_t *entry;

	if (vmimg_qcow2_find_entry(w, guest, &entry, err) ||
		vmimg_qcow2_open_up(w, entry, guest, given, err))
		return -1;
	if (w->raw)
		return write_zero(w, entry, guest, len, true, err);
	if (!whole && !w->q->cipher && vmimg_qcow2_punch(w, entry, guest, len, err))
		return -1;
	if (!whole && !w->q->extended)
		return 0;
	if (w->q->header.version == 2 && w->q->backing_name)
		return write_zero(w, entry, guest, len, false, err);
	if (!w->q->extended) {
		if (vmimg_qcow2_release(w, entry, err))
			return -1;
		vmimg_put_be64(entry, w->q->header.version == 3 ? QCOW2_ZERO : 0);
		return 0;
	}
	allocated = given == QCOW2_ALL ? 0 : vmimg_qcow2_allocated_bits(w, entry) & ~given;
	vmimg_qcow2_set_bits(w, entry, allocated,
		given == QCOW2_ALL ? QCOW2_ALL : vmimg_qcow2_zero_bits(w, entry) | given);
	return allocated ? 0 : vmimg_qcow2_release(w, entry, err);
}

/* [guest, guest + len) is inside one cluster, of which what came before may be zeroes as well. */
static int place_zeroes(void *ctx, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	struct vmimg_qcow2_writing *w = ctx;
	uint64_t start = vmimg_align_down(guest, w->q->cluster);
	bool whole;

	if (guest != w->zero_end)
		w->zero_start = guest;
	w->zero_end = guest + len;
	whole = w->zero_start <= start &&
		w->zero_end >= vmimg_min(start + w->q->cluster, w->sink.size);
	return vmimg_qcow2_mark(w->marks, guest, len, err) || place_zero(w, guest, len, whole, err)
		? -1
		: 0;
}

static int update_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct vmimg_qcow2_writing *w = writing_of(sink);
	struct vmimg_chunk_visitor visitor = { place_data, place_zeroes, w->q->cluster };

	if (vmimg_chunk_visit(chunk, &visitor, w, err))
		return -1;
	if (chunk->store_count == 1) {
		chunk->clone = chunk->stores[0];
		chunk->clone.len = (size_t)chunk->len;
	}
	return 0;
}

/* ---- the end ---- */

static int update_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct vmimg_qcow2_writing *w = writing_of(sink);
	const struct vmimg_qcow2_header *h = &w->q->header;

	if (vmimg_qcow2_leave_l2(w, err) || (w->q->external && vmimg_io_sync(w->data, err)))
		return -1;
	if (w->l1_changed &&
		(vmimg_qcow2_write_l1(&w->c, w->l1, h->l1_size, err) ||
			vmimg_qcow2_free_l1(&w->c, h->l1_offset, h->l1_size, err)))
		return -1;
	if (vmimg_qcow2_marks_finish(w->marks, err))
		return -1;
	return vmimg_qcow2_change_commit(&w->c, err) ? -1 : vmimg_qcow2_give_back(&w->c, err);
}

static void update_close(struct vmimg_sink *sink)
{
	struct vmimg_qcow2_writing *w = writing_of(sink);

	vmimg_qcow2_marks_free(w->marks);
	vmimg_qcow2_change_done(&w->c);
	vmimg_reader_free(w->reader);
	vmimg_io_unref(w->data);
	free(w->l1);
	free(w->l2);
	free(w->l2_old);
	free(w->scratch);
	free(w);
}

static const struct vmimg_sink_ops update_ops = {
	.place = update_place,
	.finish = update_finish,
	.close = update_close,
};

/* ---- the beginning ---- */

static int check_update(struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);

	if (q->header.crypt_method && !q->cipher)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"the image is encrypted, and no secret was given (--secret-file)");
	if (q->header.crypt_method && q->external && q->header.autoclear & QCOW2_AUTOCLEAR_RAW_DATA)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the data file is said to be raw, and is encrypted");
	if (!q->data)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"its data is in another file, which was not opened: allow it (--refs)");
	return 0;
}

static int begin(struct vmimg_qcow2_writing *w, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *h = &w->q->header;

	w->reader = vmimg_reader_new(err);
	w->data = w->q->external ? vmimg_file_reopen(w->q->data, err) : vmimg_io_ref(w->c.io);
	w->l2 = vmimg_alloc_buffer(w->q->cluster, err);
	w->l2_old = vmimg_alloc_buffer(w->q->cluster, err);
	w->scratch = vmimg_alloc_buffer(w->q->cluster, err);
	if (!w->reader || !w->data || !w->l2 || !w->l2_old || !w->scratch)
		return -1;
	return vmimg_qcow2_read_l1(&w->c, h->l1_offset, h->l1_size, &w->l1, err);
}

static uint32_t granule_of(const struct vmimg_qcow2 *q, const struct vmimg_update *how)
{
	if (q->extended)
		return q->cluster / QCOW2_SUBCLUSTERS;
	return how->only_zeroes && !q->cipher ? (uint32_t)vmimg_min(q->cluster, STORAGE_BLOCK)
					      : q->cluster;
}

/* Bitmaps record what is written, whether or not it is the same. */
struct vmimg_sink *vmimg_qcow2_update(
	struct vmimg_disk *disk, const struct vmimg_update *how, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint32_t granule = granule_of(q, how);
	struct vmimg_qcow2_writing *w;

	if (check_update(disk, err) || !(w = vmimg_new(struct vmimg_qcow2_writing, err)))
		return NULL;
	w->q = q;
	w->raw = q->external && q->header.autoclear & QCOW2_AUTOCLEAR_RAW_DATA;
	w->sink = (struct vmimg_sink){ .ops = &update_ops,
		.size = disk->size,
		.granule = granule,
		.chunk = (uint32_t)vmimg_max(q->cluster, CHUNK),
		.keeps_absent = true,
		.splits_zeroes = true };
	if (vmimg_qcow2_change_begin(&w->c, disk, err) || vmimg_qcow2_check_singles(&w->c, err) ||
		vmimg_qcow2_marks_new(&w->c, &w->marks, err) || begin(w, err)) {
		vmimg_sink_close(&w->sink);
		return NULL;
	}
	w->sink.clone_io = granule >= 4096 && !q->cipher ? w->data : NULL;
	return &w->sink;
}

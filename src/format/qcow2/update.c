/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New content for an image that is there, as a sink. Data goes over the old cluster where that is
 * this place's alone, in the old state as in the new one; all else by shadow paging (change.h): an
 * L2 table that changes is written to a new place when guest order leaves its range, and finish
 * turns the header to the new L1 table. What an unchanged table says stays true throughout.
 */
#include <inttypes.h>
#include <string.h>
#include "disk/edit.h"
#include "format/qcow2/change.h"
#include "io/file.h"
#include "util/num.h"
#include "util/zero.h"

#define CHUNK (256U << 10)
#define ALL   UINT64_C(0xffffffff) /* subclusters */

struct update {
	struct vmimg_sink sink;
	struct vmimg_qcow2_change c;
	struct vmimg_disk *disk;
	struct vmimg_qcow2 *q;
	struct vmimg_io *data; /* as q->data, for writing */
	struct vmimg_reader *reader;
	bool raw; /* the data file is the guest's disk byte for byte */
	uint8_t *l1;
	bool l1_changed;
	uint8_t *l2,
		*l2_old;   /* the table of the range that place() is in, and what the image has */
	uint64_t l2_index; /* which */
	bool l2_read;
	uint8_t *scratch; /* a cluster */
};

static struct update *update_of(struct vmimg_sink *sink)
{
	return (struct update *)sink;
}

static bool has_backing(const struct update *u)
{
	return u->q->backing_name;
}

/* ---- L2 tables ---- */

/* A table that has changed gets a new place; one that is empty now goes. */
static int leave_l2(struct update *u, struct vmimg_error *err)
{
	uint8_t *entry = u->l1 + u->l2_index * 8;
	uint64_t old = vmimg_get_be64(entry) & QCOW2_OFFSET, at = 0;

	if (!u->l2_read)
		return 0;
	u->l2_read = false;
	if (!memcmp(u->l2, u->l2_old, u->q->cluster))
		return 0;
	u->l1_changed = true;
	if (!vmimg_is_zero(u->l2, u->q->cluster) &&
		(vmimg_qcow2_change_take(&u->c, 1, &at, err) ||
			vmimg_io_pwrite(u->c.io, u->l2, u->q->cluster, at, err)))
		return -1;
	vmimg_put_be64(entry, at ? at | QCOW2_COPIED : 0);
	return old ? vmimg_qcow2_change_count(&u->c, old, u->q->cluster, -1, err) : 0;
}

static int l2_entry(struct update *u, uint64_t guest, uint8_t **entry, struct vmimg_error *err)
{
	uint64_t index = guest / ((uint64_t)u->q->cluster << u->q->l2_bits), at;
	uint64_t slot = guest / u->q->cluster & ((UINT64_C(1) << u->q->l2_bits) - 1);

	*entry = u->l2 + (slot << (u->q->extended ? 4 : 3));
	if (u->l2_read && u->l2_index == index)
		return 0;
	if (leave_l2(u, err))
		return -1;
	u->l2_index = index;
	at = vmimg_get_be64(u->l1 + index * 8) & QCOW2_OFFSET;
	if (!at)
		memset(u->l2_old, 0, u->q->cluster);
	else if (vmimg_qcow2_read_l2(&u->c, at, u->l2_old, err))
		return -1;
	memcpy(u->l2, u->l2_old, u->q->cluster);
	u->l2_read = true;
	return 0;
}

/* ---- clusters ---- */

static uint64_t subclusters(const struct update *u, uint64_t guest, uint64_t len)
{
	uint32_t unit = u->q->cluster / QCOW2_SUBCLUSTERS;
	uint64_t count = vmimg_min(vmimg_div_up(len, unit), QCOW2_SUBCLUSTERS);

	return ((UINT64_C(1) << count) - 1) << guest % u->q->cluster / unit & ALL;
}

static void set_bits(struct update *u, uint8_t *entry, uint64_t allocated, uint64_t zero)
{
	if (u->q->extended)
		vmimg_put_be64(entry + 8, zero << 32 | allocated);
}

/* allocated, and then zero */
static uint64_t allocated_bits(const struct update *u, const uint8_t *entry)
{
	return u->q->extended ? vmimg_get_be64(entry + 8) & ALL : 0;
}

static uint64_t zero_bits(const struct update *u, const uint8_t *entry)
{
	return u->q->extended ? vmimg_get_be64(entry + 8) >> 32 : 0;
}

/* Forgets where the cluster is. The subclusters' bits stay. */
static int release(struct update *u, uint8_t *entry, struct vmimg_error *err)
{
	uint64_t at, len;

	vmimg_qcow2_data_place(u->q, vmimg_get_be64(entry), &at, &len);
	vmimg_put_be64(entry, 0);
	return len ? vmimg_qcow2_change_drop(&u->c, at, len, err) : 0;
}

/* A new cluster instead of what the entry says. */
static int renew(struct update *u, uint8_t *entry, uint64_t *at, struct vmimg_error *err)
{
	if (vmimg_qcow2_change_take(&u->c, 1, at, err) || release(u, entry, err))
		return -1;
	vmimg_put_be64(entry, *at | QCOW2_COPIED);
	return 0;
}

/* Writes len bytes of scratch, encrypted where the image is. */
static int write_scratch(
	struct update *u, uint64_t at, uint64_t guest, size_t len, struct vmimg_error *err)
{
	uint64_t sector = vmimg_qcow2_cipher_at(u->q, at, guest) / VMIMG_SECTOR;

	if (u->q->cipher &&
		vmimg_cipher_encrypt(u->q->cipher, sector, u->scratch, u->scratch, len, err))
		return -1;
	return vmimg_io_pwrite(u->data, u->scratch, len, at, err);
}

/* A cluster of which only a part is to change is unpacked into a new one. */
static int explode(struct update *u, uint8_t *entry, uint64_t guest, struct vmimg_error *err)
{
	uint64_t at;

	if (vmimg_qcow2_unpack(&u->c, u->reader, vmimg_get_be64(entry), u->scratch, err) ||
		renew(u, entry, &at, err) ||
		write_scratch(u, at, vmimg_align_down(guest, u->q->cluster), u->q->cluster, err))
		return -1;
	set_bits(u, entry, ALL, 0);
	return 0;
}

/* The other way. */
static int read_scratch(
	struct update *u, uint64_t at, uint64_t guest, size_t len, struct vmimg_error *err)
{
	uint64_t sector = vmimg_qcow2_cipher_at(u->q, at, guest) / VMIMG_SECTOR;

	if (vmimg_io_pread(u->data, u->scratch, len, at, err))
		return -1;
	return u->q->cipher
		? vmimg_cipher_decrypt(u->q->cipher, sector, u->scratch, u->scratch, len, err)
		: 0;
}

/* A cluster that others see as well: a new one, with the subclusters that are not given. */
static int copy_cluster(struct update *u, uint8_t *entry, uint64_t guest, uint64_t given,
	uint64_t *at, struct vmimg_error *err)
{
	uint64_t from = vmimg_get_be64(entry) & QCOW2_OFFSET;
	uint64_t bits = allocated_bits(u, entry) & ~given;
	uint32_t unit = u->q->cluster / QCOW2_SUBCLUSTERS;

	if (vmimg_qcow2_change_take(&u->c, 1, at, err))
		return -1;
	guest = vmimg_align_down(guest, u->q->cluster);
	for (unsigned i = 0; i < QCOW2_SUBCLUSTERS; i++)
		if (bits >> i & 1 &&
			(read_scratch(u, from + i * unit, guest + i * unit, unit, err) ||
				write_scratch(u, *at + i * unit, guest + i * unit, unit, err)))
			return -1;
	if (release(u, entry, err))
		return -1;
	vmimg_put_be64(entry, *at | QCOW2_COPIED);
	return 0;
}

/* The cluster that an entry names is whole, in the file, and not something else. */
static int check_plain(struct update *u, uint64_t at, struct vmimg_error *err)
{
	const char *hit = vmimg_qcow2_metadata_at(u->q, at, u->q->cluster);

	if (at % u->q->cluster || hit)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"an L2 entry gives offset 0x%" PRIx64 ", %s: repair the image first", at,
			hit ? hit : "which is not a multiple of the cluster size");
	return 0;
}

/* Where given subclusters of the cluster can be written; *at is the cluster's place. */
static int host_cluster(struct update *u, uint8_t *entry, uint64_t guest, uint64_t given,
	uint64_t *at, struct vmimg_error *err)
{
	uint64_t value = vmimg_get_be64(entry), old, now;

	*at = value & QCOW2_OFFSET;
	if (u->q->external) {
		if (!(value & (QCOW2_OFFSET | QCOW2_COPIED)))
			*at = vmimg_align_down(guest, u->q->cluster);
		vmimg_put_be64(entry, *at | QCOW2_COPIED);
		return *at % u->q->cluster ? check_plain(u, *at, err) : 0;
	}
	if (!*at || value & QCOW2_COMPRESSED)
		return renew(u, entry, at, err);
	if (check_plain(u, *at, err) || vmimg_qcow2_change_both(&u->c, *at, &old, &now, err))
		return -1;
	if (!now)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the cluster at 0x%" PRIx64
			" is in use and has refcount 0: repair the image first",
			*at);
	if (now > 1 || old > 1)
		return copy_cluster(u, entry, guest, given, at, err);
	vmimg_put_be64(entry, *at | QCOW2_COPIED);
	return 0;
}

/* Compressed clusters have no subclusters: one that is changed in part is made plain first. */
static int open_up(
	struct update *u, uint8_t *entry, uint64_t guest, uint64_t given, struct vmimg_error *err)
{
	if (!u->q->extended || given == ALL || !(vmimg_get_be64(entry) & QCOW2_COMPRESSED))
		return 0;
	if (u->q->external)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a compressed cluster, which an external data file cannot hold");
	return explode(u, entry, guest, err);
}

/* ---- pieces ---- */

static int place_data(struct update *u, struct vmimg_chunk *chunk, const struct vmimg_piece *piece,
	uint64_t guest, struct vmimg_error *err)
{
	uint64_t given = subclusters(u, guest, u->sink.granule), at, old_zero, old_allocated;
	struct vmimg_store store;
	uint8_t *entry;

	if (l2_entry(u, guest, &entry, err) || open_up(u, entry, guest, given, err))
		return -1;
	if (vmimg_get_be64(entry) & QCOW2_COMPRESSED)
		set_bits(u, entry, 0, 0);
	if (host_cluster(u, entry, guest, given, &at, err))
		return -1;
	old_allocated = allocated_bits(u, entry);
	old_zero = zero_bits(u, entry);
	set_bits(u, entry, old_allocated | given, old_zero & ~given);
	store = (struct vmimg_store){ .io = u->data,
		.at = at + guest % u->q->cluster,
		.bytes = piece->bytes,
		.len = u->q->external && !u->q->cipher ? piece->size : u->sink.granule,
		.cipher = u->q->cipher };
	store.cipher_at = vmimg_qcow2_cipher_at(u->q, store.at, guest);
	vmimg_chunk_store_sealed(chunk, &store);
	return 0;
}

/* Zeroes that have to be there: the data file is raw, or version 2 has no other way to say it. */
static int write_zero(struct update *u, uint8_t *entry, uint64_t guest, uint64_t len, bool part,
	struct vmimg_error *err)
{
	uint64_t given = subclusters(u, guest, len), at;

	if (host_cluster(u, entry, guest, given, &at, err))
		return -1;
	set_bits(u, entry, allocated_bits(u, entry) | given, zero_bits(u, entry) & ~given);
	if (u->q->cipher) { /* and so a whole cluster, for the data file is not raw */
		memset(u->scratch, 0, u->q->cluster);
		return write_scratch(u, at, guest, u->q->cluster, err);
	}
	return vmimg_io_zero(u->data, at + guest % u->q->cluster, part ? len : u->q->cluster, err);
}

/* [guest, guest + len) is inside one cluster; whole: all of that, as far as the disk goes. */
static int place_zero(
	struct update *u, uint64_t guest, uint64_t len, bool whole, struct vmimg_error *err)
{
	uint64_t given = whole ? ALL : subclusters(u, guest, len), allocated;
	uint8_t *entry;

	if (l2_entry(u, guest, &entry, err) || open_up(u, entry, guest, given, err))
		return -1;
	if (u->raw)
		return write_zero(u, entry, guest, len, true, err);
	if (u->q->header.version == 2 && has_backing(u))
		return write_zero(u, entry, guest, len, false, err);
	if (!u->q->extended) {
		if (release(u, entry, err))
			return -1;
		vmimg_put_be64(entry, u->q->header.version == 3 ? QCOW2_ZERO : 0);
		return 0;
	}
	allocated = given == ALL ? 0 : allocated_bits(u, entry) & ~given;
	set_bits(u, entry, allocated, given == ALL ? ALL : zero_bits(u, entry) | given);
	return allocated ? 0 : release(u, entry, err);
}

static int place_zeroes(struct update *u, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	uint64_t end = guest + len, step;

	for (; guest < end; guest += step) {
		bool whole = !(guest % u->q->cluster);

		step = vmimg_min(u->q->cluster - guest % u->q->cluster, end - guest);
		whole = whole && (step == u->q->cluster || guest + step == u->sink.size);
		if (place_zero(u, guest, step, whole, err))
			return -1;
	}
	return 0;
}

static int update_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct update *u = update_of(sink);
	uint64_t guest = chunk->guest;

	if (chunk->kind == VMIMG_PIECE_ABSENT)
		return 0;
	if (chunk->kind == VMIMG_PIECE_ZERO)
		return place_zeroes(u, guest, chunk->len, err);
	for (size_t i = 0; i < chunk->piece_count; i++, guest += sink->granule) {
		const struct vmimg_piece *piece = &chunk->pieces[i];

		if (piece->kind == VMIMG_PIECE_DATA && place_data(u, chunk, piece, guest, err))
			return -1;
		if (piece->kind == VMIMG_PIECE_ZERO && place_zeroes(u, guest, piece->size, err))
			return -1;
	}
	if (chunk->store_count == 1) {
		chunk->clone = chunk->stores[0];
		chunk->clone.len = (size_t)chunk->len;
	}
	return 0;
}

/* ---- the end ---- */

static int update_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct update *u = update_of(sink);
	const struct vmimg_qcow2_header *h = &u->q->header;

	if (leave_l2(u, err) || (u->q->external && vmimg_io_sync(u->data, err)))
		return -1;
	if (u->l1_changed &&
		(vmimg_qcow2_write_l1(&u->c, u->l1, h->l1_size, err) ||
			vmimg_qcow2_free_l1(&u->c, h->l1_offset, h->l1_size, err)))
		return -1;
	return vmimg_qcow2_change_commit(&u->c, err) ? -1 : vmimg_qcow2_give_back(&u->c, err);
}

static void update_close(struct vmimg_sink *sink)
{
	struct update *u = update_of(sink);

	vmimg_qcow2_change_done(&u->c);
	vmimg_reader_free(u->reader);
	vmimg_io_unref(u->data);
	free(u->l1);
	free(u->l2);
	free(u->l2_old);
	free(u->scratch);
	free(u);
}

static const struct vmimg_sink_ops update_ops = {
	.place = update_place,
	.finish = update_finish,
	.close = update_close,
};

/* ---- the beginning ---- */

static int check_update(
	struct vmimg_disk *disk, const struct vmimg_update *how, struct vmimg_error *err)
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
	for (size_t i = 0; i < disk->bitmap_count && !how->same_content; i++)
		if (disk->bitmaps[i].enabled && !disk->bitmaps[i].in_use)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"bitmap '%.60s' records changes, which is not done here",
				disk->bitmaps[i].name);
	return 0;
}

static int begin(struct update *u, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *h = &u->q->header;

	u->reader = vmimg_reader_new(err);
	u->data = u->q->external ? vmimg_file_reopen(u->q->data, err) : vmimg_io_ref(u->c.io);
	u->l2 = vmimg_alloc_buffer(u->q->cluster, err);
	u->l2_old = vmimg_alloc_buffer(u->q->cluster, err);
	u->scratch = vmimg_alloc_buffer(u->q->cluster, err);
	if (!u->reader || !u->data || !u->l2 || !u->l2_old || !u->scratch)
		return -1;
	return vmimg_qcow2_read_l1(&u->c, h->l1_offset, h->l1_size, &u->l1, err);
}

struct vmimg_sink *vmimg_qcow2_update(
	struct vmimg_disk *disk, const struct vmimg_update *how, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint32_t granule = q->extended ? q->cluster / QCOW2_SUBCLUSTERS : q->cluster;
	struct update *u;

	if (check_update(disk, how, err) || !(u = vmimg_new(struct update, err)))
		return NULL;
	u->disk = disk;
	u->q = q;
	u->raw = q->external && q->header.autoclear & QCOW2_AUTOCLEAR_RAW_DATA;
	u->sink = (struct vmimg_sink){ .ops = &update_ops,
		.size = disk->size,
		.granule = granule,
		.chunk = granule > CHUNK ? granule : CHUNK,
		.keeps_absent = true,
		.splits_zeroes = true };
	if (vmimg_qcow2_change_begin(&u->c, disk, err) || vmimg_qcow2_check_singles(&u->c, err) ||
		begin(u, err)) {
		vmimg_sink_close(&u->sink);
		return NULL;
	}
	u->sink.clone_io = granule >= 4096 && !q->cipher ? u->data : NULL;
	return &u->sink;
}

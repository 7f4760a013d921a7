/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placing clusters in guest order. One L2 table is in memory, the one of the range that is being
 * placed; it gets its cluster in the file with its first entry, before the data that it points to.
 */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/crypt.h"
#include "util/num.h"

static struct vmimg_qcow2_sink *sink_of(struct vmimg_sink *sink)
{
	return (struct vmimg_qcow2_sink *)sink;
}

static uint64_t l2_covers(const struct vmimg_qcow2_sink *s)
{
	return (uint64_t)s->cluster << s->l2_bits;
}

/* Writes the L2 table in memory, if it has entries. */
static int leave_l2(struct vmimg_qcow2_sink *s, struct vmimg_error *err)
{
	if (!s->l2_at)
		return 0;
	if (vmimg_io_pwrite(s->io, s->l2, s->cluster, s->l2_at, err))
		return -1;
	vmimg_put_be64(s->l1 + s->l2_index * 8, s->l2_at | QCOW2_COPIED);
	memset(s->l2, 0, s->cluster);
	s->l2_at = 0;
	return 0;
}

/* The entry of the cluster at that guest offset, in a table that has a place in the file. */
static int l2_entry(
	struct vmimg_qcow2_sink *s, uint64_t guest, uint8_t **entry, struct vmimg_error *err)
{
	uint64_t index = guest / l2_covers(s);
	uint64_t slot = guest / s->cluster & ((UINT64_C(1) << s->l2_bits) - 1);

	if (index != s->l2_index && leave_l2(s, err))
		return -1;
	s->l2_index = index;
	if (!s->l2_at) {
		s->tail.packed_at = 0; /* a table must not share its cluster */
		if (vmimg_qcow2_tail_cluster(&s->tail, &s->l2_at, err))
			return -1;
	}
	*entry = s->l2 + (slot << (s->extended ? 4 : 3));
	return 0;
}

/* An adopted disk's data lies where it shall. */
static bool stays(const struct vmimg_qcow2_sink *s, uint64_t guest)
{
	return s->sink.moved && guest >= s->sink.moved;
}

static int take_cluster(
	struct vmimg_qcow2_sink *s, uint64_t guest, uint64_t *at, struct vmimg_error *err)
{
	bool kept = stays(s, guest);

	if (!s->external && !kept)
		return vmimg_qcow2_tail_cluster(&s->tail, at, err);
	*at = vmimg_align_down(guest, s->cluster);
	return kept ? vmimg_qcow2_tail_keep(&s->tail, *at / s->cluster, err) : 0;
}

/* Gives the cluster a place, if it has none, and says where. */
static int host_cluster(struct vmimg_qcow2_sink *s, uint8_t *entry, uint64_t guest, uint64_t *at,
	struct vmimg_error *err)
{
	uint64_t old = vmimg_get_be64(entry);

	if (old) {
		*at = old & QCOW2_OFFSET;
		return 0;
	}
	s->tail.packed_at = 0;
	if (take_cluster(s, guest, at, err))
		return -1;
	vmimg_put_be64(entry, *at | QCOW2_COPIED);
	return 0;
}

/* Marks count subclusters from that of guest on: allocated, or zero. */
static void mark_subclusters(
	struct vmimg_qcow2_sink *s, uint8_t *entry, uint64_t guest, uint64_t count, bool zero)
{
	unsigned sub = (unsigned)(guest % s->cluster / (s->cluster / QCOW2_SUBCLUSTERS));
	uint64_t mask = ((UINT64_C(1) << count) - 1) << sub;

	vmimg_put_be64(entry + 8, vmimg_get_be64(entry + 8) | mask << (zero ? 32 : 0));
}

/* len bytes of one cluster (a subcluster or all of it) are data. */
static int place_data(struct vmimg_qcow2_sink *s, struct vmimg_chunk *chunk,
	const struct vmimg_piece *piece, uint64_t guest, struct vmimg_error *err)
{
	uint32_t unit = s->sink.granule;
	uint8_t *entry;
	uint64_t at;

	if (l2_entry(s, guest, &entry, err) || host_cluster(s, entry, guest, &at, err))
		return -1;
	if (s->extended)
		mark_subclusters(s, entry, guest,
			vmimg_div_up((uint64_t)unit * QCOW2_SUBCLUSTERS, s->cluster), false);
	if (piece->bytes) {
		struct vmimg_store store = vmimg_qcow2_sealed_store(s, at + guest % s->cluster,
			guest, piece->bytes, s->external ? piece->size : unit);

		vmimg_chunk_store_sealed(chunk, &store);
	}
	return 0;
}

static int place_packed(struct vmimg_qcow2_sink *s, struct vmimg_chunk *chunk,
	const struct vmimg_piece *piece, uint64_t guest, struct vmimg_error *err)
{
	unsigned bits = 62 - (s->header.cluster_bits - 8);
	uint64_t at, sectors;
	uint8_t *entry;

	if (l2_entry(s, guest, &entry, err) ||
		vmimg_qcow2_tail_packed(&s->tail, piece->size, &at, err))
		return -1;
	sectors = (at + piece->size - 1) / 512 - at / 512;
	vmimg_put_be64(entry, QCOW2_COMPRESSED | sectors << bits | at);
	vmimg_chunk_store(chunk, s->io, at, piece->bytes, piece->size);
	return 0;
}

/* A cluster at `at` that decrypts to zeroes. */
static int write_sealed_zeroes(
	struct vmimg_qcow2_sink *s, uint64_t at, uint64_t guest, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_array(s->cluster, 1, err);
	struct vmimg_store store = vmimg_qcow2_sealed_store(s, at, guest, bytes, s->cluster);

	if (!bytes ||
		vmimg_cipher_encrypt(
			s->cipher, store.cipher_at / VMIMG_SECTOR, bytes, bytes, s->cluster, err))
		return -1;
	return vmimg_io_pwrite(s->data, bytes, s->cluster, at, err);
}

/* Zeroes over a parent: they have to be said. guest to guest + len is inside one cluster. */
static int place_zero(
	struct vmimg_qcow2_sink *s, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	uint8_t *entry;
	uint64_t at;

	if (l2_entry(s, guest, &entry, err))
		return -1;
	if (s->extended) {
		mark_subclusters(
			s, entry, guest, vmimg_div_up(len * QCOW2_SUBCLUSTERS, s->cluster), true);
		return 0;
	}
	if (s->header.version == 3) {
		vmimg_put_be64(entry, vmimg_get_be64(entry) | QCOW2_ZERO);
		return 0;
	}
	if (host_cluster(s, entry, guest, &at, err))
		return -1;
	return s->cipher ? write_sealed_zeroes(s, at, guest, err)
			 : vmimg_io_zero(s->data, at + guest % s->cluster, s->cluster, err);
}

/* The cluster has its place. Over a parent, what is not zero is still the parent's; and what lies
 * there now would decrypt to noise: it is not data yet. */
static void mark_prealloc(
	struct vmimg_qcow2_sink *s, uint8_t *entry, uint64_t guest, uint64_t len, bool zero)
{
	bool over = s->sink.keeps_absent, sealed = s->header.crypt_method;

	if (!s->extended && sealed)
		vmimg_put_be64(entry, vmimg_get_be64(entry) | QCOW2_ZERO);
	if (!s->extended || (over && !zero))
		return;
	if (over || sealed)
		mark_subclusters(
			s, entry, guest, vmimg_div_up(len * QCOW2_SUBCLUSTERS, s->cluster), true);
	else
		mark_subclusters(
			s, entry, vmimg_align_down(guest, s->cluster), QCOW2_SUBCLUSTERS, false);
}

/* guest to guest + len is inside one cluster. */
static int place_prealloc(struct vmimg_qcow2_sink *s, uint64_t guest, uint64_t len, bool zero,
	struct vmimg_error *err)
{
	uint8_t *entry;
	uint64_t at;

	if (l2_entry(s, guest, &entry, err) || host_cluster(s, entry, guest, &at, err))
		return -1;
	mark_prealloc(s, entry, guest, len, zero);
	return s->prealloc == PREALLOC_FULL
		? vmimg_io_write_zeroes(
			  s->data, at + guest % s->cluster, s->cluster - guest % s->cluster, err)
		: 0;
}

/* [guest, guest + len) holds no data. */
static int place_empty(struct vmimg_qcow2_sink *s, uint64_t guest, uint64_t len, bool zero,
	struct vmimg_error *err)
{
	uint64_t end = guest + len;
	bool say = s->prealloc != PREALLOC_OFF || (zero && s->sink.keeps_absent);

	while (say && guest < end) {
		uint64_t step = vmimg_min(s->cluster - guest % s->cluster, end - guest);

		if (s->prealloc != PREALLOC_OFF ? place_prealloc(s, guest, step, zero, err)
						: place_zero(s, guest, step, err))
			return -1;
		guest += step;
	}
	return 0;
}

static int place_piece(struct vmimg_qcow2_sink *s, struct vmimg_chunk *chunk,
	const struct vmimg_piece *piece, uint64_t guest, struct vmimg_error *err)
{
	switch (piece->kind) {
	case VMIMG_PIECE_PACKED:
		return place_packed(s, chunk, piece, guest, err);
	case VMIMG_PIECE_DATA:
		return place_data(s, chunk, piece, guest, err);
	default:
		return place_empty(s, guest, piece->size, true, err);
	}
}

static int qcow2_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct vmimg_qcow2_sink *s = sink_of(sink);
	uint64_t guest = chunk->guest;

	if (chunk->kind != VMIMG_PIECE_DATA)
		return place_empty(s, guest, chunk->len, chunk->kind == VMIMG_PIECE_ZERO, err);
	for (size_t i = 0; i < chunk->piece_count; i++) {
		if (place_piece(s, chunk, &chunk->pieces[i], guest, err))
			return -1;
		guest += sink->granule;
	}
	if (chunk->store_count == 1) {
		chunk->clone = chunk->stores[0];
		chunk->clone.len = (size_t)chunk->len;
	}
	return 0;
}

static int qcow2_pack(struct vmimg_sink *sink, struct vmimg_chunk *chunk,
	struct vmimg_packer *packer, struct vmimg_error *err)
{
	return packer ? vmimg_chunk_pack(chunk, packer, sink->granule, 0, 1, false, err) : 0;
}

static int write_l1(struct vmimg_qcow2_sink *s, struct vmimg_error *err)
{
	if (!s->header.l1_offset && vmimg_qcow2_take_l1(s, err))
		return -1;
	return vmimg_io_pwrite(
		s->io, s->l1, (size_t)s->header.l1_size * 8, s->header.l1_offset, err);
}

/* The file ends with a whole cluster, and space is set aside where that was asked for. */
static int settle_size(struct vmimg_qcow2_sink *s, struct vmimg_error *err)
{
	uint64_t end = s->tail.next * s->cluster;

	if (!s->io->is_device && (vmimg_io_size(s->io) < end || s->sink.moved) &&
		vmimg_io_resize(s->io, end, err))
		return -1;
	if (s->external && !s->data->is_device && vmimg_io_size(s->data) < s->sink.size &&
		vmimg_io_resize(s->data, s->sink.size, err))
		return -1;
	return s->prealloc >= PREALLOC_FALLOC
		? vmimg_io_reserve(s->data, 0, vmimg_io_size(s->data), err)
		: 0;
}

static int qcow2_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct vmimg_qcow2_sink *s = sink_of(sink);

	if (leave_l2(s, err) || write_l1(s, err) ||
		vmimg_qcow2_tail_finish(&s->tail, &s->header.refcount_table,
			&s->header.refcount_table_clusters, err) ||
		settle_size(s, err))
		return -1;
	return vmimg_qcow2_write_header(s, err);
}

static void qcow2_sink_close(struct vmimg_sink *sink)
{
	struct vmimg_qcow2_sink *s = sink_of(sink);

	vmimg_qcow2_tail_done(&s->tail);
	vmimg_io_unref(s->io);
	vmimg_io_unref(s->data);
	vmimg_qcow2_sink_crypt_done(s);
	free(s->backing_name);
	free(s->backing_format);
	free(s->data_name);
	free(s->l1);
	free(s->l2);
	free(s);
}

const struct vmimg_sink_ops vmimg_qcow2_sink_ops = {
	.start = vmimg_qcow2_sink_crypt_start,
	.pack = qcow2_pack,
	.place = qcow2_place,
	.finish = qcow2_finish,
	.carry_bitmaps = vmimg_qcow2_carry_bitmaps,
	.measure_bitmaps = vmimg_qcow2_measure_bitmaps,
	.close = qcow2_sink_close,
};

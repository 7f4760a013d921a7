/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Closing the gaps of a file: what lies past the point where the file could end is copied to free
 * clusters before it, every table that refers to it is written anew (free clusters come from the
 * front, so tables move by themselves), one write of the header makes that the image, and the file
 * is cut. What a round replaces is free in the next one, so there are rounds until none gains.
 */
#include <inttypes.h>
#include <string.h>
#include "disk/blocks.h"
#include "disk/edit.h"
#include "format/qcow2/change.h"
#include "util/num.h"

#define MOST_ROUNDS 8U
#define MOST_MOVES  (UINT64_C(1) << 20) /* remembered in a round: 16 MiB */

/* A place and where it went. Only what others may refer to as well is remembered. */
struct move {
	uint64_t from, to;
};

struct squeeze {
	struct vmimg_qcow2_walk walk;
	struct vmimg_qcow2_change c;
	uint64_t end; /* what lies at or past it moves */
	struct move *moves;
	size_t move_count, move_cap; /* a hash table, cap a power of two */
	uint8_t *l2, *l2_new;
	uint64_t packed_at; /* where the next packed bytes may go; 0: nowhere */
};

/* ---- places that were moved ---- */

static struct move *find_move(struct squeeze *s, uint64_t from)
{
	uint64_t hash = from * UINT64_C(0x9e3779b97f4a7c15) >> 20;

	for (uint64_t i = hash;; i++) {
		struct move *move = &s->moves[i & (s->move_cap - 1)];

		if (!move->from || move->from == from)
			return move;
	}
}

static bool remembers_more(const struct squeeze *s)
{
	return s->move_count < MOST_MOVES;
}

static int remember(struct squeeze *s, uint64_t from, uint64_t to, struct vmimg_error *err)
{
	struct move *old = s->moves;
	size_t cap = s->move_cap;

	if (s->move_count * 2 >= cap) {
		s->moves = vmimg_alloc_array(cap ? cap * 2 : 1024, sizeof(*old), err);
		if (!s->moves) {
			s->moves = old;
			return -1;
		}
		s->move_cap = cap ? cap * 2 : 1024;
		for (size_t i = 0; i < cap; i++)
			if (old[i].from)
				*find_move(s, old[i].from) = old[i];
		free(old);
	}
	s->move_count++;
	*find_move(s, from) = (struct move){ from, to };
	return 0;
}

/* Where that place went; 0: nowhere. */
static uint64_t moved_to(struct squeeze *s, uint64_t from)
{
	return s->move_count ? find_move(s, from)->to : 0;
}

/* ---- clusters ---- */

/* A free cluster before the end; *at 0: there is none any more. */
static int take_low(struct squeeze *s, uint64_t count, uint64_t *at, struct vmimg_error *err)
{
	uint64_t found;

	*at = 0;
	if (vmimg_qcow2_change_find(&s->c, count, &found, err))
		return -1;
	if (found + count * s->c.q->cluster > s->end)
		return 0;
	return vmimg_qcow2_change_take(&s->c, count, at, err);
}

/* What the file is too short for is zero. */
static int copy(struct squeeze *s, uint64_t from, uint64_t to, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(s->c.io), whole = s->c.q->cluster;
	uint64_t len = from < size ? vmimg_min(whole, size - from) : 0;

	return vmimg_blocks_copy(s->c.io, from, to, len, err) ||
			(len < whole && vmimg_io_zero(s->c.io, to + len, whole - len, err))
		? -1
		: 0;
}

/* One reference to the cluster at *at, which may move. */
static int move_cluster(struct squeeze *s, uint64_t *at, struct vmimg_error *err)
{
	uint64_t refs, to;

	if (*at < s->end)
		return 0;
	if (*at % s->c.q->cluster)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a cluster at 0x%" PRIx64 " is not aligned: repair the image first", *at);
	to = moved_to(s, *at);
	if (to) {
		if (vmimg_qcow2_change_count(&s->c, to, s->c.q->cluster, 1, err))
			return -1;
	} else {
		if (vmimg_qcow2_change_refs(&s->c, *at, &refs, err))
			return -1;
		if (refs > 1 && !remembers_more(s))
			return 0;
		if (!refs)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"the cluster at 0x%" PRIx64
				" is in use and has refcount 0: repair the image first",
				*at);
		if (take_low(s, 1, &to, err))
			return -1;
		if (!to)
			return 0;
		if (copy(s, *at, to, err) || (refs > 1 && remember(s, *at, to, err)))
			return -1;
	}
	if (vmimg_qcow2_change_count(&s->c, *at, s->c.q->cluster, -1, err))
		return -1;
	*at = to;
	return 0;
}

/* ---- packed clusters ---- */

/* Room for len bytes that begin at a multiple of 512; they may share clusters with others. */
static int take_packed(struct squeeze *s, uint64_t len, uint64_t *at, struct vmimg_error *err)
{
	uint32_t cluster = s->c.q->cluster;
	uint64_t left = s->packed_at ? cluster - s->packed_at % cluster : 0, more = 0, refs;

	*at = s->packed_at;
	if (left && vmimg_qcow2_change_refs(&s->c, *at, &refs, err))
		return -1;
	if (left && (refs == vmimg_qcow2_change_most(&s->c) || len > cluster))
		left = 0;
	if (left < len && take_low(s, len > cluster ? 2 : 1, &more, err))
		return -1;
	if (left < len && !more) {
		*at = 0;
		return 0;
	}
	if (!left || (more && more != *at + left)) {
		*at = more;
		s->packed_at = more + len;
	} else { /* goes on where the last one ended */
		s->packed_at += len;
		if (vmimg_qcow2_change_count(&s->c, *at, 1, 1, err))
			return -1;
	}
	if (!(s->packed_at % cluster))
		s->packed_at = 0;
	return 0;
}

/* The sectors as a whole: where in them the packed bytes end is not known. */
static int move_packed(struct squeeze *s, uint64_t *entry, struct vmimg_error *err)
{
	uint64_t at, to, size = vmimg_io_size(s->c.io), span, held;
	uint32_t len, cluster = s->c.q->cluster;
	unsigned bits = 62 - (s->c.q->header.cluster_bits - 8);
	VMIMG_AUTO(free) uint8_t *bytes = NULL;

	vmimg_qcow2_packed_place(s->c.q, *entry, &at, &len);
	if ((at + len - 1) / cluster < s->end / cluster || at >= size)
		return 0;
	to = moved_to(s, *entry);
	span = at % 512 + len;
	held = vmimg_min(at + len, size) - at;
	if (!to) {
		bytes = vmimg_alloc_array((size_t)span, 1, err);
		if (!remembers_more(s))
			return 0;
		if (!bytes || take_packed(s, span, &to, err))
			return -1;
		if (!to)
			return 0;
		if (vmimg_io_pread(s->c.io, bytes + at % 512, (size_t)held, at, err) ||
			vmimg_io_pwrite(s->c.io, bytes, (size_t)span, to, err) ||
			remember(s, *entry, to, err))
			return -1;
	} else if (vmimg_qcow2_change_count(&s->c, to, span, 1, err)) {
		return -1;
	}
	if (vmimg_qcow2_change_count(&s->c, at, held, -1, err))
		return -1;
	*entry = (*entry & ~((UINT64_C(1) << bits) - 1)) | (to + at % 512);
	return 0;
}

/* ---- tables ---- */

static int move_entry(struct squeeze *s, uint8_t *raw, struct vmimg_error *err)
{
	uint64_t entry = vmimg_get_be64(raw), at = entry & QCOW2_OFFSET;

	if (entry & QCOW2_COMPRESSED) {
		if (move_packed(s, &entry, err))
			return -1;
	} else if (at && !s->c.q->external) {
		if (move_cluster(s, &at, err))
			return -1;
		entry = (entry & ~QCOW2_OFFSET) | at;
	}
	vmimg_put_be64(raw, entry);
	return 0;
}

/* An L2 table that another L1 entry has moved: what it refers to, once more. */
static int move_again(struct squeeze *s, uint64_t from, uint64_t to, struct vmimg_error *err)
{
	unsigned width = s->c.q->extended ? 16 : 8;

	if (vmimg_qcow2_read_l2(&s->c, from, s->l2, err) ||
		vmimg_io_pread(s->c.io, s->l2_new, s->c.q->cluster, to, err))
		return -1;
	for (uint32_t i = 0; i < s->c.q->cluster; i += width)
		if (memcmp(s->l2 + i, s->l2_new + i, 8) && move_entry(s, s->l2 + i, err))
			return -1;
	return vmimg_qcow2_change_count(&s->c, from, s->c.q->cluster, -1, err) ||
			vmimg_qcow2_change_count(&s->c, to, s->c.q->cluster, 1, err)
		? -1
		: 0;
}

/* The L2 table that an L1 entry refers to, and what that refers to. */
static int move_l2(
	struct vmimg_qcow2_walk *walk, uint64_t *entry, uint64_t guest, struct vmimg_error *err)
{
	struct squeeze *s = (struct squeeze *)walk;
	uint64_t refs, from = *entry & QCOW2_OFFSET, to = moved_to(s, from);

	(void)guest;
	if (to) {
		*entry = (*entry & ~QCOW2_OFFSET) | to;
		return move_again(s, from, to, err);
	}
	if (vmimg_qcow2_change_refs(&s->c, from, &refs, err))
		return -1;
	if (refs > 1 && !remembers_more(s))
		return 0;
	if (vmimg_qcow2_read_l2(&s->c, from, s->l2, err))
		return -1;
	memcpy(s->l2_new, s->l2, s->c.q->cluster);
	for (uint32_t i = 0; i < s->c.q->cluster; i += s->c.q->extended ? 16 : 8)
		if (move_entry(s, s->l2_new + i, err))
			return -1;
	if (from < s->end && !memcmp(s->l2, s->l2_new, s->c.q->cluster))
		return 0;
	if (vmimg_qcow2_change_take(&s->c, 1, &to, err) ||
		vmimg_io_pwrite(s->c.io, s->l2_new, s->c.q->cluster, to, err) ||
		(refs > 1 && remember(s, from, to, err)))
		return -1;
	*entry = (*entry & ~QCOW2_OFFSET) | to;
	return vmimg_qcow2_change_count(&s->c, from, s->c.q->cluster, -1, err);
}

/* ---- rounds ---- */

static int act(struct squeeze *s, struct vmimg_error *err)
{
	uint64_t used;

	if (vmimg_qcow2_change_used(&s->c, &used, err))
		return -1;
	s->end = used * s->c.q->cluster;
	s->walk = (struct vmimg_qcow2_walk){ &s->c, move_l2, s->end };
	if (s->end >= vmimg_io_size(s->c.io))
		return 0;
	s->l2 = vmimg_alloc_buffer(s->c.q->cluster, err);
	s->l2_new = vmimg_alloc_buffer(s->c.q->cluster, err);
	if (!s->l2 || !s->l2_new || vmimg_qcow2_walk_trees(&s->walk, err) ||
		vmimg_qcow2_change_touch(&s->c, s->end, err) ||
		vmimg_qcow2_change_commit(&s->c, err))
		return -1;
	return vmimg_qcow2_cut(&s->c, err);
}

static int one_round(struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_open options = { .format = "qcow2", .alone = true };
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = vmimg_disk_open(io, &options, err);
	struct squeeze s = { 0 };
	int failed = -1;

	if (!disk)
		return -1;
	if (!vmimg_qcow2_change_begin(&s.c, disk, err))
		failed = act(&s, err);
	vmimg_qcow2_change_done(&s.c);
	free(s.moves);
	free(s.l2);
	free(s.l2_new);
	return failed;
}

int vmimg_qcow2_squeeze(struct vmimg_disk *disk, uint64_t *saved, struct vmimg_error *err)
{
	uint64_t first = vmimg_io_size(disk->io), last = first;

	if (vmimg_qcow2_of(disk)->header.crypt_method)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the image is encrypted, by the place of each cluster: they do not move");
	/* the second may lose what the first one gained room with */
	for (unsigned i = 0; i < MOST_ROUNDS; i++) {
		if (one_round(disk->io, err))
			return -1;
		if (i && vmimg_io_size(disk->io) >= last)
			break;
		last = vmimg_io_size(disk->io);
	}
	last = vmimg_io_size(disk->io);
	*saved = first > last ? first - last : 0;
	return 0;
}

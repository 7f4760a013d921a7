/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses and trees of btrfs. A node must begin with the very key that its parent has for it, and
 * keys ascend in each: so no two places of a tree can lead to the same node, and no walk is longer
 * than the tree has nodes of its own.
 */
#include <inttypes.h>
#include <string.h>
#include "inspect/btrfs.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/sum.h"

#define HEAD        101U /* of a node, before its items */
#define ITEM        25U
#define POINTER     33U
#define CHUNK       48U /* before its stripes */
#define STRIPE      32U
#define MAX_CHUNKS  262144U
#define MANY_PLACES 0x1c8U /* RAID0, 10, 5, 6: bytes are dealt out */

/* ---- addresses --------------------------------------------------------------------------- */

/* The first chunk that begins after an address. */
static size_t chunk_after(const struct vmimg_btrfs *btrfs, uint64_t at)
{
	size_t low = 0, high = btrfs->chunk_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (btrfs->chunks[middle].first <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int insert(
	struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_chunk *chunk, struct vmimg_error *err)
{
	size_t i = chunk_after(btrfs, chunk->first);

	if (i && btrfs->chunks[i - 1].first == chunk->first)
		return 0; /* the super block has those of the chunks' own tree as well */
	if ((i && chunk->first - btrfs->chunks[i - 1].first < btrfs->chunks[i - 1].len) ||
		(i < btrfs->chunk_count && btrfs->chunks[i].first - chunk->first < chunk->len))
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "chunks of btrfs overlap at 0x%" PRIx64, chunk->first);
	if (btrfs->chunk_count >= MAX_CHUNKS)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %u chunks", MAX_CHUNKS);
	if (vmimg_grow_array(
		    &btrfs->chunks, &btrfs->chunk_cap, btrfs->chunk_count + 1, sizeof(*chunk), err))
		return -1;
	memmove(&btrfs->chunks[i + 1], &btrfs->chunks[i],
		(btrfs->chunk_count - i) * sizeof(*chunk));
	btrfs->chunks[i] = *chunk;
	btrfs->chunk_count++;
	return 0;
}

int vmimg_btrfs_add_chunk(struct vmimg_btrfs *btrfs, uint64_t first, const uint8_t *raw, size_t len,
	size_t *used, struct vmimg_error *err)
{
	struct vmimg_btrfs_chunk chunk = {
		.first = first, .at = VMIMG_UNKNOWN, .copy = VMIMG_UNKNOWN
	};
	unsigned stripes = len >= CHUNK ? vmimg_get_le16(raw + 44) : 0;
	uint64_t end;

	if (!stripes || len < CHUNK + (size_t)stripes * STRIPE || !vmimg_get_le64(raw) ||
		!vmimg_add(first, vmimg_get_le64(raw), &end))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the chunk of btrfs at 0x%" PRIx64 " makes no sense", first);
	chunk.len = vmimg_get_le64(raw);
	for (unsigned i = 0; i < stripes; i++) {
		const uint8_t *stripe = raw + CHUNK + i * STRIPE;

		if (vmimg_get_le64(stripe) != btrfs->device)
			continue;
		*(chunk.at == VMIMG_UNKNOWN ? &chunk.at : &chunk.copy) = vmimg_get_le64(stripe + 8);
	}
	if (stripes > 1 && vmimg_get_le64(raw + 24) & MANY_PLACES)
		chunk.obstacle = "is dealt out over several devices";
	else if (chunk.at == VMIMG_UNKNOWN)
		chunk.obstacle = "is on another device";
	*used = CHUNK + (size_t)stripes * STRIPE;
	return insert(btrfs, &chunk, err);
}

static int chunk_of(const struct vmimg_btrfs *btrfs, uint64_t at,
	const struct vmimg_btrfs_chunk **chunk, struct vmimg_error *err)
{
	size_t i = chunk_after(btrfs, at);

	if (!i || at - btrfs->chunks[i - 1].first >= btrfs->chunks[i - 1].len)
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "no chunk of btrfs has address 0x%" PRIx64, at);
	*chunk = &btrfs->chunks[i - 1];
	if ((*chunk)->obstacle)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "the chunk of btrfs at 0x%" PRIx64 " %s",
			(*chunk)->first, (*chunk)->obstacle);
	return 0;
}

int vmimg_btrfs_pread(
	struct vmimg_btrfs *btrfs, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	char *to = buf;

	while (len) {
		const struct vmimg_btrfs_chunk *chunk = NULL;
		uint64_t within, place;
		size_t step;

		if (chunk_of(btrfs, at, &chunk, err))
			return -1;
		within = at - chunk->first;
		step = (size_t)vmimg_min(len, chunk->len - within);
		if (!vmimg_add(chunk->at, within, &place))
			return vmimg_fail(err, VMIMG_ECORRUPT, "a chunk lies past the end");
		if (vmimg_io_pread(btrfs->io, to, step, place, err))
			return -1;
		to += step;
		at += step;
		len -= step;
	}
	return 0;
}

/* ---- nodes ------------------------------------------------------------------------------- */

struct vmimg_btrfs_key vmimg_btrfs_key(const uint8_t *raw)
{
	return (struct vmimg_btrfs_key){ vmimg_get_le64(raw), raw[8], vmimg_get_le64(raw + 9) };
}

int vmimg_btrfs_compare(const struct vmimg_btrfs_key *a, const struct vmimg_btrfs_key *b)
{
	if (a->object != b->object)
		return a->object < b->object ? -1 : 1;
	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	return a->offset < b->offset ? -1 : a->offset > b->offset;
}

bool vmimg_btrfs_next(struct vmimg_btrfs_key *key)
{
	if (++key->offset)
		return true;
	if (++key->type)
		return true;
	return ++key->object != 0;
}

static size_t entry_len(const struct vmimg_btrfs_node *node)
{
	return node->level ? POINTER : ITEM;
}

static struct vmimg_btrfs_key key_at(const struct vmimg_btrfs_node *node, unsigned i)
{
	return vmimg_btrfs_key(node->bytes + HEAD + i * entry_len(node));
}

static int bad_node(uint64_t at, const char *what, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ECORRUPT, "the node of btrfs at 0x%" PRIx64 " %s", at, what);
}

static int check_node(const struct vmimg_btrfs *btrfs, struct vmimg_btrfs_node *node, uint64_t at,
	struct vmimg_error *err)
{
	const uint8_t *bytes = node->bytes;

	if (btrfs->crc &&
		vmimg_crc32c(0, bytes + 32, btrfs->node_size - 32) != vmimg_get_le32(bytes))
		return bad_node(at, "has a wrong checksum", err);
	node->count = vmimg_get_le32(bytes + 96);
	if (vmimg_get_le64(bytes + 48) != at || memcmp(bytes + 32, btrfs->fsid, 16) ||
		bytes[100] != node->level ||
		node->count > (btrfs->node_size - HEAD) / entry_len(node))
		return bad_node(at, "is another one", err);
	for (unsigned i = 1; i < node->count; i++) {
		struct vmimg_btrfs_key a = key_at(node, i - 1), b = key_at(node, i);

		if (vmimg_btrfs_compare(&a, &b) >= 0)
			return bad_node(at, "has keys out of order", err);
	}
	return 0;
}

/* The second copy serves when the first is damaged. */
static int load(struct vmimg_btrfs *btrfs, struct vmimg_btrfs_node *node, uint64_t at,
	struct vmimg_error *err)
{
	const struct vmimg_btrfs_chunk *chunk = NULL;
	struct vmimg_error ignored;

	if (vmimg_btrfs_pread(btrfs, node->bytes, btrfs->node_size, at, err))
		return -1;
	if (!check_node(btrfs, node, at, err))
		return 0;
	if (chunk_of(btrfs, at, &chunk, &ignored) || chunk->copy == VMIMG_UNKNOWN ||
		vmimg_io_pread(btrfs->io, node->bytes, btrfs->node_size,
			chunk->copy + (at - chunk->first), &ignored))
		return -1;
	return check_node(btrfs, node, at, err);
}

static int read_node(struct vmimg_btrfs *btrfs, uint64_t at, unsigned level,
	struct vmimg_btrfs_node **out, struct vmimg_error *err)
{
	struct vmimg_btrfs_node *node;

	if (level >= VMIMG_BTRFS_LEVELS)
		return bad_node(at, "is too far up", err);
	node = &btrfs->nodes[level];
	node->level = level;
	if (!node->bytes)
		node->bytes = vmimg_alloc_buffer(btrfs->node_size, err);
	if (!node->bytes)
		return -1;
	*out = node;
	if (node->at == at && at)
		return 0;
	node->at = 0;
	if (load(btrfs, node, at, err))
		return -1;
	node->at = at;
	return 0;
}

/* ---- items ------------------------------------------------------------------------------- */

/* How many of a node's keys are at or before a key. */
static unsigned upto(const struct vmimg_btrfs_node *node, const struct vmimg_btrfs_key *key)
{
	unsigned low = 0, high = node->count;

	while (low < high) {
		unsigned middle = (low + high) / 2;
		struct vmimg_btrfs_key here = key_at(node, middle);

		if (vmimg_btrfs_compare(&here, key) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct descent {
	struct vmimg_btrfs_node *leaf;
	unsigned slot;               /* items of the leaf at or before the key */
	struct vmimg_btrfs_key next; /* of the leaf to the right */
	bool has_next;
};

static int descend(struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_tree *tree,
	const struct vmimg_btrfs_key *key, struct descent *d, struct vmimg_error *err)
{
	struct vmimg_btrfs_node *node = NULL;
	uint64_t at = tree->at;

	d->has_next = false;
	if (read_node(btrfs, at, tree->level, &node, err))
		return -1;
	for (unsigned level = tree->level; level; level--) {
		unsigned slot = upto(node, key);
		struct vmimg_btrfs_key wanted, first;

		if (!node->count)
			return bad_node(node->at, "is empty", err);
		slot = slot ? slot - 1 : 0;
		if (slot + 1 < node->count) {
			d->next = key_at(node, slot + 1);
			d->has_next = true;
		}
		wanted = key_at(node, slot);
		at = vmimg_get_le64(node->bytes + HEAD + slot * POINTER + 17);
		if (read_node(btrfs, at, level - 1, &node, err))
			return -1;
		first = node->count ? key_at(node, 0) : wanted;
		if (!node->count || vmimg_btrfs_compare(&first, &wanted))
			return bad_node(at, "does not begin as its parent says", err);
	}
	d->leaf = node;
	d->slot = upto(node, key);
	return 0;
}

static int take(const struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_node *leaf, unsigned slot,
	struct vmimg_btrfs_item *item, bool *found, struct vmimg_error *err)
{
	const uint8_t *raw = leaf->bytes + HEAD + slot * ITEM;
	uint64_t offset = vmimg_get_le32(raw + 17), len = vmimg_get_le32(raw + 21);

	if (!vmimg_range_inside(HEAD + offset, len, btrfs->node_size))
		return bad_node(leaf->at, "has an item past its end", err);
	item->key = key_at(leaf, slot);
	item->bytes = leaf->bytes + HEAD + offset;
	item->len = (size_t)len;
	*found = true;
	return 0;
}

int vmimg_btrfs_find(struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_tree *tree,
	const struct vmimg_btrfs_key *key, struct vmimg_btrfs_item *item, bool *found,
	struct vmimg_error *err)
{
	struct descent d;
	struct vmimg_btrfs_key here;
	unsigned slot;

	*found = false;
	if (descend(btrfs, tree, key, &d, err))
		return -1;
	slot = d.slot;
	if (slot) {
		here = key_at(d.leaf, slot - 1);
		slot -= !vmimg_btrfs_compare(&here, key);
	}
	if (slot < d.leaf->count)
		return take(btrfs, d.leaf, slot, item, found, err);
	if (!d.has_next)
		return 0;
	here = d.next;
	if (descend(btrfs, tree, &here, &d, err))
		return -1;
	return d.slot ? take(btrfs, d.leaf, d.slot - 1, item, found, err) : 0;
}

int vmimg_btrfs_find_last(struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_tree *tree,
	const struct vmimg_btrfs_key *key, struct vmimg_btrfs_item *item, bool *found,
	struct vmimg_error *err)
{
	struct descent d;

	*found = false;
	if (descend(btrfs, tree, key, &d, err))
		return -1;
	return d.slot ? take(btrfs, d.leaf, d.slot - 1, item, found, err) : 0;
}

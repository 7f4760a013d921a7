/* SPDX-License-Identifier: Apache-2.0 */
/* What files of btrfs hold: extents, in the tree or beside it, plain or packed. */
#include <inttypes.h>
#include <string.h>
#include "inspect/btrfs.h"
#include "inspect/liblzo.h"
#include "util/bytes.h"
#include "util/num.h"

#define INLINE      0U /* kinds of extents */
#define REGULAR     1U
#define NOT_WRITTEN 2U
#define INLINE_HEAD 21U
#define HEAD        53U
#define ZLIB        1U /* ways of packing */
#define LZO         2U
#define ZSTD        3U
#define MAX_PACKED  131072U /* bytes of a packed extent, before and after */

struct extent {
	uint64_t first, len; /* of the file */
	uint8_t kind, packing;
	uint64_t at, size, skip, unpacked; /* on disk, where the file's part of it begins, in all */
};

/* ---- packed ------------------------------------------------------------------------------ */

static int unpack(struct vmimg_btrfs *btrfs, unsigned packing, const uint8_t *in, size_t len,
	uint8_t *out, size_t size, struct vmimg_error *err)
{
	struct vmimg_unpacker **unpacker = &btrfs->unpackers[packing == ZSTD];
	size_t used, got = 0;

	if (packing == LZO)
		return vmimg_lzo_unpack(in, len, btrfs->sector, out, size, err);
	if (packing != ZLIB && packing != ZSTD)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a file of btrfs is packed in a way (%u) that is not known here", packing);
	if (!*unpacker)
		*unpacker = (packing == ZLIB ? &vmimg_codec_zlib : &vmimg_codec_zstd)
				    ->unpacker_new(err);
	if (!*unpacker || (*unpacker)->unpack(*unpacker, in, len, out, size, &used, &got, err))
		return -1;
	memset(out + got, 0, size - got);
	return 0;
}

/* The whole of a packed extent into btrfs->unpacked. */
static int unpack_extent(struct vmimg_btrfs *btrfs, const struct extent *e, struct vmimg_error *err)
{
	if (btrfs->unpacked_at == e->at && btrfs->unpacked_len == e->unpacked)
		return 0;
	if (!e->size || e->size > MAX_PACKED || !e->unpacked || e->unpacked > MAX_PACKED)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a packed extent of btrfs has 0x%" PRIx64 " bytes for 0x%" PRIx64, e->size,
			e->unpacked);
	if (!btrfs->packed)
		btrfs->packed = vmimg_alloc_buffer(MAX_PACKED, err);
	if (!btrfs->unpacked)
		btrfs->unpacked = vmimg_alloc_buffer(MAX_PACKED, err);
	if (!btrfs->packed || !btrfs->unpacked)
		return -1;
	btrfs->unpacked_at = 0;
	if (vmimg_btrfs_pread(btrfs, btrfs->packed, (size_t)e->size, e->at, err) ||
		unpack(btrfs, e->packing, btrfs->packed, (size_t)e->size, btrfs->unpacked,
			(size_t)e->unpacked, err))
		return -1;
	btrfs->unpacked_at = e->at;
	btrfs->unpacked_len = (size_t)e->unpacked;
	return 0;
}

/* ---- extents ----------------------------------------------------------------------------- */

static int bad_extent(const struct vmimg_btrfs_item *item, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"inode %" PRIu64 " of btrfs has an extent at 0x%" PRIx64 " that makes no sense",
		item->key.object, item->key.offset);
}

static int decode(const struct vmimg_btrfs_item *item, struct extent *e, struct vmimg_error *err)
{
	const uint8_t *raw = item->bytes;
	uint64_t end;

	if (item->len < INLINE_HEAD)
		return bad_extent(item, err);
	*e = (struct extent){ .first = item->key.offset,
		.kind = raw[20],
		.packing = raw[16],
		.unpacked = vmimg_get_le64(raw + 8) };
	if (raw[17] || vmimg_get_le16(raw + 18))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "a file of btrfs is encrypted");
	if (e->kind == INLINE) {
		e->len = e->packing ? e->unpacked : item->len - INLINE_HEAD;
		return e->len && e->len <= MAX_PACKED ? 0 : bad_extent(item, err);
	}
	if (item->len < HEAD || e->kind > NOT_WRITTEN)
		return bad_extent(item, err);
	e->at = vmimg_get_le64(raw + 21);
	e->size = vmimg_get_le64(raw + 29);
	e->skip = vmimg_get_le64(raw + 37);
	e->len = vmimg_get_le64(raw + 45);
	if (!e->len || !vmimg_add(e->first, e->len, &end) ||
		(e->at && !vmimg_range_inside(e->skip, e->len, e->unpacked)) ||
		(e->at && !e->packing && !vmimg_range_inside(e->skip, e->len, e->size)))
		return bad_extent(item, err);
	return 0;
}

static int read_inline(struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_item *item,
	const struct extent *e, uint8_t *buf, size_t len, uint64_t within, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *all = NULL;

	if (!e->packing) {
		memcpy(buf, item->bytes + INLINE_HEAD + within, len);
		return 0;
	}
	all = vmimg_alloc_array(1, (size_t)e->len, err);
	if (!all ||
		unpack(btrfs, e->packing, item->bytes + INLINE_HEAD, item->len - INLINE_HEAD, all,
			(size_t)e->len, err))
		return -1;
	memcpy(buf, all + within, len);
	return 0;
}

static int read_extent(struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_item *item,
	const struct extent *e, uint8_t *buf, size_t len, uint64_t within, struct vmimg_error *err)
{
	if (e->kind == INLINE)
		return read_inline(btrfs, item, e, buf, len, within, err);
	if (e->kind == NOT_WRITTEN || !e->at) {
		memset(buf, 0, len);
		return 0;
	}
	if (!e->packing)
		return vmimg_btrfs_pread(btrfs, buf, len, e->at + e->skip + within, err);
	if (unpack_extent(btrfs, e, err))
		return -1;
	memcpy(buf, btrfs->unpacked + e->skip + within, len);
	return 0;
}

/* The extent that covers at, or else how long the hole there is at least. */
static int locate(struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_tree *tree, uint64_t inode,
	uint64_t at, struct vmimg_btrfs_item *item, struct extent *e, uint64_t *hole,
	struct vmimg_error *err)
{
	struct vmimg_btrfs_key key = { inode, VMIMG_BTRFS_EXTENT, at };
	bool found;

	*hole = 0;
	if (vmimg_btrfs_find_last(btrfs, tree, &key, item, &found, err))
		return -1;
	if (found && item->key.object == inode && item->key.type == VMIMG_BTRFS_EXTENT) {
		if (decode(item, e, err))
			return -1;
		if (at - e->first < e->len)
			return 0;
	}
	if (vmimg_btrfs_find(btrfs, tree, &key, item, &found, err))
		return -1;
	*hole = UINT64_MAX - at;
	if (found && item->key.object == inode && item->key.type == VMIMG_BTRFS_EXTENT)
		*hole = item->key.offset - at;
	/* a second line of defence: one that begins here was found above */
	return *hole ? 0 : bad_extent(item, err);
}

int vmimg_btrfs_content(struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_tree *tree,
	uint64_t inode, uint8_t *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	while (len) {
		struct vmimg_btrfs_item item;
		struct extent e = { 0 };
		uint64_t hole;
		size_t step;

		if (locate(btrfs, tree, inode, at, &item, &e, &hole, err))
			return -1;
		step = (size_t)vmimg_min(len, hole ? hole : e.len - (at - e.first));
		if (hole)
			memset(buf, 0, step);
		else if (read_extent(btrfs, &item, &e, buf, step, at - e.first, err))
			return -1;
		buf += step;
		at += step;
		len -= step;
	}
	return 0;
}

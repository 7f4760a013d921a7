/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders: a tree sorted by names without regard to case. Its root lies in the folder's record, the
 * other nodes are blocks of a stream. A listing walks it all; a look-up only where the name can be.
 */
#include <inttypes.h>
#include <string.h>
#include "inspect/ntfs.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/utf16.h"

#define ENTRY_HEAD  16U
#define NAME_HEAD   66U /* of a key, before its units */
#define HAS_BELOW   1U  /* flags of an entry */
#define IS_LAST     2U
#define DOS_NAME    2U /* the short twin of a name that has an entry of its own */
#define MAX_LEVELS  16U
#define MAX_BLOCK   65536U
#define MAX_NODES   (1U << 20)
#define UPPER_UNITS 65536U

struct scan {
	struct vmimg_ntfs *ntfs;
	uint64_t folder;
	vmimg_fs_each *each; /* NULL: look for name */
	void *ctx;
	const uint8_t *name; /* UTF-16 */
	size_t units;
	uint64_t reference; /* of the entry that was found */
	bool found, exact;
	struct vmimg_ntfs_stream blocks;
	uint32_t block, unit; /* bytes of a node, and of what their numbers count */
	uint8_t *seen;        /* a bit for each node that was visited: each is there once */
};

static int fail_damaged(const struct scan *scan, const char *what, struct vmimg_error *err)
{
	return vmimg_fail(
		err, VMIMG_ECORRUPT, "the folder in MFT record %" PRIu64 " %s", scan->folder, what);
}

/* ---- names ------------------------------------------------------------------------------- */

static int load_upper(struct vmimg_ntfs *ntfs, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_ntfs_done) struct vmimg_ntfs_stream stream = { 0 };
	VMIMG_AUTO(free) uint16_t *upper = NULL;
	bool found;

	if (ntfs->upper)
		return 0;
	if (vmimg_ntfs_open_stream(
		    ntfs, VMIMG_NTFS_UPCASE_RECORD, VMIMG_NTFS_DATA, "", &stream, &found, err))
		return -1;
	if (!found || stream.size != UPPER_UNITS * 2)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the table of capitals has %" PRIu64 " bytes", stream.size);
	upper = vmimg_alloc_array(UPPER_UNITS, sizeof(*upper), err);
	if (!upper || vmimg_ntfs_read(ntfs, &stream, upper, UPPER_UNITS * 2, 0, err))
		return -1;
	for (size_t i = 0; i < UPPER_UNITS; i++)
		upper[i] = vmimg_get_le16(&upper[i]);
	ntfs->upper = vmimg_take(upper);
	return 0;
}

/* As the tree is sorted: below 0, 0 (but for case the same), above 0. */
static int compare(
	const uint16_t *upper, const uint8_t *a, size_t a_units, const uint8_t *b, size_t b_units)
{
	for (size_t i = 0; i < a_units && i < b_units; i++) {
		int order = upper[vmimg_get_le16(a + 2 * i)] - upper[vmimg_get_le16(b + 2 * i)];

		if (order)
			return order;
	}
	return a_units < b_units ? -1 : a_units > b_units;
}

static bool has_nul(const uint8_t *name, size_t units)
{
	for (size_t i = 0; i < units; i++)
		if (!vmimg_get_le16(name + 2 * i))
			return true;
	return false;
}

/* ---- entries ----------------------------------------------------------------------------- */

/* Hands on an entry of a listing. More than 0: enough. */
static int emit(struct scan *scan, uint64_t reference, const uint8_t *key, struct vmimg_error *err)
{
	const uint8_t *units = key + NAME_HEAD;
	uint64_t number = reference & VMIMG_NTFS_NUMBER;
	VMIMG_AUTO(free) char *name = NULL;
	struct vmimg_node node;

	if (key[65] == DOS_NAME || number < VMIMG_NTFS_FIRST_RECORD)
		return 0;
	if (has_nul(units, key[64])) {
		scan->ntfs->fs.skipped++;
		return 0;
	}
	name = vmimg_utf16_decode(units, key[64] * 2U, false, err);
	if (!name || vmimg_ntfs_node(scan->ntfs, reference, &node, err))
		return -1;
	return !scan->each(scan->ctx, name, strlen(name), &node);
}

/* How the name that is looked for stands to an entry, which is noted when they are the same. */
static int match(struct scan *scan, uint64_t reference, const uint8_t *key)
{
	const uint8_t *units = key + NAME_HEAD;
	int order = compare(scan->ntfs->upper, scan->name, scan->units, units, key[64]);
	bool exact = !order && !memcmp(scan->name, units, scan->units * 2);

	if (!order && (!scan->found || exact)) {
		scan->found = true;
		scan->exact = exact;
		scan->reference = reference;
	}
	return order;
}

static int walk_block(struct scan *scan, uint64_t number, unsigned level, struct vmimg_error *err);

/* One entry with what lies below it, which comes before it. More than 0: enough. */
static int visit(struct scan *scan, const uint8_t *entry, size_t len, unsigned level,
	struct vmimg_error *err)
{
	unsigned flags = vmimg_get_le16(entry + 12);
	size_t key_len = flags & IS_LAST ? 0 : vmimg_get_le16(entry + 10);
	size_t below = flags & HAS_BELOW ? 8 : 0;
	const uint8_t *key = key_len ? entry + ENTRY_HEAD : NULL;
	uint64_t reference = vmimg_get_le64(entry);
	int order = -1, enough;

	if (len < ENTRY_HEAD + key_len + below || (!key && !(flags & IS_LAST)) ||
		(key && (key_len < NAME_HEAD || key_len < NAME_HEAD + 2U * key[64])))
		return fail_damaged(scan, "has an entry that reaches past its end", err);
	if (key && !scan->each)
		order = match(scan, reference, key);
	if (scan->exact)
		return 1;
	if (below && order <= 0) {
		enough = walk_block(scan, vmimg_get_le64(entry + len - 8), level + 1, err);
		if (enough)
			return enough;
	}
	if (key && scan->each)
		return emit(scan, reference, key, err);
	return order < 0 && key; /* what follows is larger still */
}

/* The entries of a node: its head tells where they begin and end. */
static int walk_node(struct scan *scan, const uint8_t *head, size_t size, unsigned level,
	struct vmimg_error *err)
{
	size_t at = vmimg_get_le32(head), end = vmimg_get_le32(head + 4);
	bool last = false;

	if (at < 16 || end > size)
		return fail_damaged(scan, "has a node that is longer than it may be", err);
	while (!last && at + ENTRY_HEAD <= end) {
		size_t len = vmimg_get_le16(head + at + 8);
		int enough;

		if (len < ENTRY_HEAD || len > end - at)
			return fail_damaged(scan, "has an entry of an impossible length", err);
		enough = visit(scan, head + at, len, level, err);
		if (enough)
			return enough;
		last = vmimg_get_le16(head + at + 12) & IS_LAST;
		at += len;
	}
	return 0;
}

static int walk_block(struct scan *scan, uint64_t number, unsigned level, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *block = NULL;
	uint64_t at, node;

	if (!vmimg_mul(number, scan->unit, &at) ||
		!vmimg_range_inside(at, scan->block, scan->blocks.size))
		return fail_damaged(scan, "points past its end", err);
	node = at / scan->block;
	if (level > MAX_LEVELS || scan->seen[node / 8] >> node % 8 & 1)
		return fail_damaged(scan, "has a loop", err);
	scan->seen[node / 8] |= (uint8_t)(1U << node % 8);
	block = vmimg_alloc_buffer(scan->block, err);
	if (!block || vmimg_ntfs_read(scan->ntfs, &scan->blocks, block, scan->block, at, err))
		return -1;
	if (!vmimg_ntfs_fixup(block, scan->block, "INDX"))
		return fail_damaged(scan, "has a damaged node: its check numbers do not fit", err);
	if (vmimg_get_le64(block + 16) != number)
		return fail_damaged(scan, "has a node in the place of another", err);
	return walk_node(scan, block + 24, scan->block - 24, level, err);
}

/* ---- folders ----------------------------------------------------------------------------- */

static int set_shape(
	struct scan *scan, const struct vmimg_ntfs_stream *root, struct vmimg_error *err)
{
	bool found;

	if (!root->value || root->size < 32)
		return fail_damaged(scan, "has no root", err);
	scan->block = vmimg_get_le32(root->value + 8);
	scan->unit = scan->block < scan->ntfs->cluster ? 512 : scan->ntfs->cluster;
	if (scan->block < 512 || scan->block > MAX_BLOCK || !vmimg_is_pow2(scan->block))
		return fail_damaged(scan, "has nodes of an impossible size", err);
	if (!(root->value[28] & 1))
		return 0;
	if (vmimg_ntfs_open_stream(
		    scan->ntfs, scan->folder, VMIMG_NTFS_INDEX, "$I30", &scan->blocks, &found, err))
		return -1;
	if (scan->blocks.size / scan->block > MAX_NODES)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"the folder in MFT record %" PRIu64 " has more than %u nodes", scan->folder,
			MAX_NODES);
	scan->seen = vmimg_alloc_array(scan->blocks.size / scan->block / 8 + 1, 1, err);
	return scan->seen ? 0 : -1;
}

static int scan_folder(struct scan *scan, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_ntfs_done) struct vmimg_ntfs_stream root = { 0 };
	bool found;
	int result;

	scan->ntfs->left = VMIMG_NTFS_LISTED;
	if (vmimg_ntfs_open_stream(
		    scan->ntfs, scan->folder, VMIMG_NTFS_ROOT, "$I30", &root, &found, err))
		return -1;
	result = set_shape(scan, &root, err);
	if (!result)
		result = walk_node(scan, root.value + 16, (size_t)root.size - 16, 0, err);
	vmimg_ntfs_done(&scan->blocks);
	free(scan->seen);
	return result;
}

int vmimg_ntfs_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each,
	void *ctx, struct vmimg_error *err)
{
	struct scan scan = {
		.ntfs = (struct vmimg_ntfs *)fs, .folder = dir->id, .each = each, .ctx = ctx
	};

	return scan_folder(&scan, err) < 0 ? -1 : 0;
}

int vmimg_ntfs_lookup(struct vmimg_fs *fs, const struct vmimg_node *dir, const char *name,
	size_t len, struct vmimg_node *node, bool *found, struct vmimg_error *err)
{
	struct scan scan = { .ntfs = (struct vmimg_ntfs *)fs, .folder = dir->id };
	VMIMG_AUTO(free) char *text = strndup(name, len);
	VMIMG_AUTO(free) uint8_t *units = NULL;
	struct vmimg_error why;
	size_t bytes;

	if (!text)
		return vmimg_fail_nomem(err);
	*found = false;
	units = vmimg_utf16_encode(text, false, &bytes, &why);
	if (!units) { /* a name that is no UTF-8 is not there */
		*err = why;
		return why.status == VMIMG_EINVAL ? 0 : -1;
	}
	scan.name = units;
	scan.units = bytes / 2;
	if (load_upper(scan.ntfs, err) || scan_folder(&scan, err) < 0)
		return -1;
	*found = scan.found;
	return scan.found ? vmimg_ntfs_node(scan.ntfs, scan.reference, node, err) : 0;
}

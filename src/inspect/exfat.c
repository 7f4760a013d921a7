/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exFAT, read only (Microsoft, "exFAT file system specification"). A file is a set of entries in
 * its folder: one with times, one that says where it lies, and its name in pieces. It lies in a
 * chain, or in one stretch without. Case is folded for letters of ASCII.
 */
#include <inttypes.h>
#include <string.h>
#include "inspect/fat.h"
#include "inspect/unused.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/utf16.h"

#define ENTRY      32U
#define MAX_SET    19U          /* entries: a file, where it lies, 17 pieces of its name */
#define MAX_FOLDER (256U << 20) /* bytes, as the format allows */
#define IS_BITMAP  0x81U        /* types of entries */
#define IS_FILE    0x85U
#define IS_STREAM  0xc0U
#define IS_NAME    0xc1U
#define IS_ONE     2U /* flag of a stream: in one stretch */
#define NAME_UNITS 15U
#define PIECE      65536U

struct exfat {
	struct vmimg_fs fs;
	struct vmimg_io *io;       /* shared */
	struct vmimg_table *table; /* over io */
	struct vmimg_fat_chain chain;
	uint32_t cluster;
	uint64_t heap_at; /* of cluster 2 */
	bool second;      /* of two tables and bitmaps, that one is kept up */
	bool dirty;
};

static struct exfat *exfat_of(struct vmimg_fs *fs)
{
	return (struct exfat *)fs;
}

/* ---- content ----------------------------------------------------------------------------- */

/* A node keeps where it begins in id, whether it is in one stretch in more[0], and how much of it
 * was written (of a folder: its length) in more[1]. */
static int find_cluster(struct exfat *exfat, const struct vmimg_node *node, uint64_t index,
	uint64_t *at, struct vmimg_error *err)
{
	uint64_t cluster = node->id + index;

	if (!node->more[0]) {
		if (vmimg_fat_seek(&exfat->chain, (uint32_t)node->id, index, err))
			return -1;
		cluster = exfat->chain.cluster;
	}
	if (cluster < 2 || cluster - 2 >= exfat->chain.clusters)
		return vmimg_fail(err, VMIMG_ECORRUPT, "a file lies in cluster %" PRIu64 " of %u",
			cluster, exfat->chain.clusters);
	*at = exfat->heap_at + (cluster - 2) * exfat->cluster;
	return 0;
}

static int read_content(struct exfat *exfat, const struct vmimg_node *node, uint8_t *buf,
	size_t len, uint64_t at, struct vmimg_error *err)
{
	while (len) {
		uint64_t skip = at % exfat->cluster, from = 0;
		size_t step = (size_t)vmimg_min(len, exfat->cluster - skip);

		if (find_cluster(exfat, node, at / exfat->cluster, &from, err))
			return -1;
		if (step <= 4096 ? vmimg_table_read(exfat->table, buf, step, from + skip, err)
				 : vmimg_io_pread(exfat->io, buf, step, from + skip, err))
			return -1;
		buf += step;
		at += step;
		len -= step;
	}
	return 0;
}

static int exfat_read(struct vmimg_fs *fs, const struct vmimg_node *node, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	uint64_t valid = node->more[1];
	size_t written = (size_t)vmimg_min(len, at < valid ? valid - at : 0);

	memset((uint8_t *)buf + written, 0, len - written);
	return read_content(exfat_of(fs), node, buf, written, at, err);
}

/* ---- folders ----------------------------------------------------------------------------- */

static uint16_t sum_of(const uint8_t *set, size_t len)
{
	uint16_t sum = 0;

	for (size_t i = 0; i < len; i++)
		if (i != 2 && i != 3)
			sum = (uint16_t)((sum << 15 | sum >> 1) + set[i]);
	return sum;
}

static int64_t time_of(const uint8_t *set)
{
	int64_t time = vmimg_fat_time(vmimg_get_le32(set + 12));
	int zone = set[23] & 0x40 ? (set[23] & 0x7f) - 128 : set[23] & 0x7f;

	return set[23] & 0x80 && time ? time - zone * 15 * 60 : time;
}

static struct vmimg_node node_of(const uint8_t *set)
{
	bool dir = set[4] & VMIMG_FAT_DIR;
	const uint8_t *stream = set + ENTRY;
	uint64_t size = vmimg_get_le64(stream + 24);

	return (struct vmimg_node){ .kind = dir ? VMIMG_NODE_DIR : VMIMG_NODE_FILE,
		.mode = (dir ? 040755 : 0100644) & ~(set[4] & 1 ? 0222U : 0U),
		.size = dir ? 0 : size,
		.mtime = time_of(set),
		.id = vmimg_get_le32(stream + 20),
		.more = { stream[1] & IS_ONE, dir ? size : vmimg_get_le64(stream + 8) } };
}

/* The name of a whole set in fresh memory; "" is what cannot be one. */
static char *name_of(const uint8_t *set, size_t entries, struct vmimg_error *err)
{
	uint8_t units[(MAX_SET - 2) * NAME_UNITS * 2];
	size_t len = set[ENTRY + 3];

	if (len > (entries - 2) * NAME_UNITS)
		return vmimg_strdup("", err);
	for (size_t i = 2; i < entries; i++)
		memcpy(units + (i - 2) * NAME_UNITS * 2, set + i * ENTRY + 2, NAME_UNITS * 2);
	for (size_t i = 0; i < len; i++)
		if (!vmimg_get_le16(units + 2 * i))
			return vmimg_strdup("", err);
	return vmimg_utf16_decode(units, len * 2, false, err);
}

struct scan {
	vmimg_fs_each *each; /* NULL: the bitmap is looked for */
	void *ctx;
	struct vmimg_node *bitmap;
	bool found;
};

/* A set of entries of which the first is there. More than 0: enough. */
static int visit_set(struct exfat *exfat, const struct vmimg_node *dir, struct scan *scan,
	uint64_t at, uint8_t *set, size_t entries, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *name = NULL;
	struct vmimg_node node;

	if (read_content(exfat, dir, set, entries * ENTRY, at, err))
		return -1;
	if (set[ENTRY] != IS_STREAM || sum_of(set, entries * ENTRY) != vmimg_get_le16(set + 2))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a folder's entry at byte %" PRIu64 " is damaged: its sum does not fit",
			at);
	name = name_of(set, entries, err);
	if (!name)
		return -1;
	node = node_of(set);
	return !scan->each(scan->ctx, name, strlen(name), &node);
}

static void note_bitmap(struct scan *scan, const uint8_t *entry)
{
	scan->found = true;
	*scan->bitmap = (struct vmimg_node){ .kind = VMIMG_NODE_FILE,
		.size = vmimg_get_le64(entry + 24),
		.id = vmimg_get_le32(entry + 20) };
}

/* The root has no length: it ends where its chain does, as a rule by an entry of zeroes. */
static int scan_folder(struct exfat *exfat, const struct vmimg_node *dir, struct scan *scan,
	struct vmimg_error *err)
{
	uint64_t size = vmimg_min(dir->more[1], MAX_FOLDER), at = 0;
	uint8_t set[MAX_SET * ENTRY];
	uint32_t next;
	bool last = false;

	while (at + ENTRY <= size) {
		size_t entries;
		int enough = 0;

		if (read_content(exfat, dir, set, ENTRY, at, err))
			return -1;
		entries = set[0] == IS_FILE ? set[1] + 1U : 1;
		if (!set[0])
			return 0;
		if (set[0] == IS_FILE && (entries < 3 || entries > MAX_SET))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"a file has %zu entries in its folder", entries);
		if (set[0] == IS_FILE && scan->each)
			enough = visit_set(exfat, dir, scan, at, set, entries, err);
		else if (set[0] == IS_BITMAP && (set[1] & 1) == exfat->second && scan->bitmap)
			note_bitmap(scan, set);
		if (enough || scan->found)
			return enough;
		at += entries * ENTRY;
		if (dir->more[0] || at % exfat->cluster || dir->id != exfat->fs.root.id)
			continue;
		if (vmimg_fat_seek(
			    &exfat->chain, (uint32_t)dir->id, at / exfat->cluster - 1, err) ||
			vmimg_fat_next(&exfat->chain, exfat->chain.cluster, &next, &last, err))
			return -1;
		if (last)
			return 0;
	}
	return 0;
}

static int exfat_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each,
	void *ctx, struct vmimg_error *err)
{
	struct scan scan = { .each = each, .ctx = ctx };

	return scan_folder(exfat_of(fs), dir, &scan, err) < 0 ? -1 : 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

static void exfat_close(struct vmimg_fs *fs)
{
	struct exfat *exfat = exfat_of(fs);

	vmimg_table_free(exfat->table);
	vmimg_io_unref(exfat->io);
	free(exfat);
}

static const struct vmimg_fs_ops exfat_ops = {
	.list = exfat_list,
	.read = exfat_read,
	.close = exfat_close,
};

static int read_boot(struct exfat *exfat, struct vmimg_error *err)
{
	uint8_t s[512];
	uint64_t fat_len, end;

	if (vmimg_io_pread(exfat->io, s, sizeof(s), 0, err))
		return -1;
	/* a second line of defence: it is not recognised otherwise */
	if (s[108] < 9 || s[108] > 12 || s[109] > 25 - s[108])
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the boot sector has sectors of 2^%u bytes and clusters of 2^%u sectors",
			s[108], s[109]);
	exfat->cluster = UINT32_C(1) << (s[108] + s[109]);
	exfat->heap_at = (uint64_t)vmimg_get_le32(s + 88) << s[108];
	exfat->dirty = vmimg_get_le16(s + 106) & 6; /* in use, or a medium that failed */
	exfat->chain.table = exfat->table;
	exfat->second = s[110] == 2 && s[106] & 1;
	exfat->chain.clusters = vmimg_get_le32(s + 92);
	exfat->chain.bits = 32;
	exfat->chain.mask = UINT32_MAX;
	fat_len = (uint64_t)vmimg_get_le32(s + 84) << s[108];
	exfat->chain.fat_at =
		((uint64_t)vmimg_get_le32(s + 80) << s[108]) + (exfat->second ? fat_len : 0);
	end = exfat->heap_at + (uint64_t)exfat->chain.clusters * exfat->cluster;
	if (fat_len / 4 < exfat->chain.clusters + UINT64_C(2))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a table of %" PRIu64 " bytes for %u clusters", fat_len,
			exfat->chain.clusters);
	if (end >> s[108] > vmimg_get_le64(s + 72))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"%u clusters do not fit into a volume of %" PRIu64 " sectors",
			exfat->chain.clusters, vmimg_get_le64(s + 72));
	exfat->fs.root = (struct vmimg_node){ .kind = VMIMG_NODE_DIR,
		.mode = 040755,
		.id = vmimg_get_le32(s + 96),
		.more = { 0, MAX_FOLDER } };
	return 0;
}

struct vmimg_fs *vmimg_exfat_open(struct vmimg_io *io, struct vmimg_error *err)
{
	struct exfat *exfat = vmimg_new(struct exfat, err);

	if (!exfat)
		return NULL;
	exfat->fs.ops = &exfat_ops;
	exfat->fs.folds = true;
	exfat->io = vmimg_io_ref(io);
	exfat->table = exfat->fs.reads = vmimg_table_new(io, err);
	if (!exfat->table || read_boot(exfat, err)) {
		exfat_close(&exfat->fs);
		return NULL;
	}
	return &exfat->fs;
}

/* ---- free space -------------------------------------------------------------------------- */

/* The root and the bitmap itself are in use, or it is not the bitmap. */
static int judge_bitmap(
	struct exfat *exfat, const struct vmimg_node *bitmap, struct vmimg_error *err)
{
	const uint64_t used[] = { exfat->fs.root.id, bitmap->id };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(used); i++) {
		uint64_t at = used[i] - 2;
		uint8_t bits = 0;

		if (at < exfat->chain.clusters &&
			read_content(exfat, bitmap, &bits, 1, at / 8, err))
			return -1;
		if (!(bits >> at % 8 & 1))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"cluster %" PRIu64 " of exFAT is said to be free", used[i]);
	}
	return 0;
}

static int add_bitmap(struct exfat *exfat, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bits = vmimg_alloc_buffer(PIECE, err);
	struct vmimg_node bitmap;
	struct scan scan = { .bitmap = &bitmap };
	uint64_t clear = 0, clusters = exfat->chain.clusters;

	if (exfat->heap_at + clusters * exfat->cluster > vmimg_io_size(exfat->io))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the file system (%" PRIu64 " clusters of %u) is larger than where it lies",
			clusters, exfat->cluster);
	if (!bits || scan_folder(exfat, &exfat->fs.root, &scan, err) < 0)
		return -1;
	if (!scan.found || bitmap.size < vmimg_div_up(clusters, 8))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"there is no bitmap for %" PRIu64 " clusters", clusters);
	if (judge_bitmap(exfat, &bitmap, err))
		return -1;
	for (uint64_t first = 0; first < clusters; first += PIECE * 8) {
		uint64_t count = vmimg_min(PIECE * 8, clusters - first);

		if (read_content(
			    exfat, &bitmap, bits, (size_t)vmimg_div_up(count, 8), first / 8, err) ||
			vmimg_unused_add_bits(sink, bits, count,
				exfat->heap_at + first * exfat->cluster, exfat->cluster, &clear,
				err))
			return -1;
	}
	return 0;
}

int vmimg_unused_exfat(struct vmimg_io *io, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_fs_close) struct vmimg_fs *fs = vmimg_exfat_open(io, err);

	if (!fs)
		return -1;
	if (exfat_of(fs)->dirty)
		return vmimg_fail(err, VMIMG_EREFUSED, "it is marked dirty: check it (fsck.exfat)");
	return add_bitmap(exfat_of(fs), sink, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FAT12, FAT16 and FAT32 with long names, read only (Microsoft, "FAT: General Overview of On-Disk
 * Format", 1.03). Chains are as long as the volume has clusters, and no longer.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "inspect/fat.h"
#include "io/table.h"
#include "util/bytes.h"
#include "util/num.h"

#define MAX_FOLDER 65536U  /* entries that the format allows in one */
#define MAX_16     0xfff4U /* clusters that entries of that many bits can tell apart */
#define MAX_32     0x0ffffff6U

struct fat {
	struct vmimg_fs fs;
	struct vmimg_io *io;       /* shared */
	struct vmimg_table *table; /* over io */
	struct vmimg_fat_shape shape;
	struct vmimg_fat_chain chain;
};

static struct fat *fat_of(struct vmimg_fs *fs)
{
	return (struct fat *)fs;
}

bool vmimg_fat_parse(const uint8_t *s, struct vmimg_fat_shape *shape)
{
	uint32_t sector = vmimg_get_le16(s + 11), reserved = vmimg_get_le16(s + 14);
	uint32_t entries = vmimg_get_le16(s + 17),
		 root = (uint32_t)vmimg_div_up(entries * 32U, sector | !sector);
	uint64_t sectors = vmimg_get_le16(s + 19), fat = vmimg_get_le16(s + 22), used;

	sectors = sectors ? sectors : vmimg_get_le32(s + 32);
	fat = fat ? fat : vmimg_get_le32(s + 36);
	used = reserved + s[16] * fat + root;
	if (sector < 512 || sector > 4096 || !vmimg_is_pow2(sector) || !vmimg_is_pow2(s[13]) ||
		!reserved || !s[16] || s[16] > 4 || (s[21] < 0xf8 && s[21] != 0xf0) || !fat ||
		used >= sectors || (s[0] != 0xeb && s[0] != 0xe9 && s[0] != 0))
		return false;
	shape->cluster = sector * s[13];
	shape->clusters = (uint32_t)((sectors - used) / s[13]);
	shape->size = sectors * sector;
	shape->sector = sector;
	shape->fat_at = (uint64_t)reserved * sector;
	shape->root_at = shape->fat_at + s[16] * fat * sector;
	shape->root_entries = entries;
	shape->data_at = shape->root_at + (uint64_t)root * sector;
	shape->bits = !vmimg_get_le16(s + 22) ? 32 : shape->clusters < 4085 ? 12 : 16;
	shape->root_cluster = shape->bits == 32 ? vmimg_get_le32(s + 44) : 0;
	shape->info_at = shape->bits == 32 ? (uint64_t)vmimg_get_le16(s + 48) * sector : 0;
	/* the table must have an entry for every cluster, or the shape is not one */
	return fat * sector * 8 / shape->bits >= shape->clusters && shape->clusters &&
		shape->clusters <= (shape->bits == 32 ? MAX_32 : MAX_16);
}

/* ---- content ----------------------------------------------------------------------------- */

static uint64_t cluster_at(const struct fat *fat, uint32_t cluster)
{
	return fat->shape.data_at + (uint64_t)(cluster - 2) * fat->shape.cluster;
}

static int fat_read(struct vmimg_fs *fs, const struct vmimg_node *node, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	struct fat *fat = fat_of(fs);
	uint8_t *to = buf;

	while (len) {
		uint64_t skip = at % fat->shape.cluster;
		size_t step = (size_t)vmimg_min(len, fat->shape.cluster - skip);

		if (vmimg_fat_seek(&fat->chain, (uint32_t)node->id, at / fat->shape.cluster, err) ||
			vmimg_table_read(fat->table, to, step,
				cluster_at(fat, fat->chain.cluster) + skip, err))
			return -1;
		to += step;
		at += step;
		len -= step;
	}
	return 0;
}

/* ---- folders ----------------------------------------------------------------------------- */

static struct vmimg_node node_of(const struct fat *fat, const uint8_t *entry)
{
	bool dir = entry[11] & VMIMG_FAT_DIR;
	uint32_t cluster = vmimg_get_le16(entry + 26);

	if (fat->shape.bits == 32)
		cluster |= (uint32_t)vmimg_get_le16(entry + 20) << 16;
	return (struct vmimg_node){ .kind = dir ? VMIMG_NODE_DIR : VMIMG_NODE_FILE,
		.mode = (dir ? 040755 : 0100644) & ~(entry[11] & 1 ? 0222U : 0U),
		.size = dir ? 0 : vmimg_get_le32(entry + 28),
		.mtime = vmimg_fat_time(vmimg_get_le32(entry + 22)),
		.id = cluster };
}

/* Entry i of a folder into raw; *end: the chain is over. */
static int read_entry(struct fat *fat, const struct vmimg_node *dir, uint32_t i, uint8_t raw[32],
	bool *end, struct vmimg_error *err)
{
	uint64_t at = (uint64_t)i * 32, size = fat->shape.cluster;
	uint32_t first = (uint32_t)dir->id ? (uint32_t)dir->id : fat->shape.root_cluster;

	if (!first) {
		*end = i >= fat->shape.root_entries;
		return *end ? 0
			    : vmimg_table_read(fat->table, raw, 32, fat->shape.root_at + at, err);
	}
	if (at && at % size == 0) { /* a folder has no size: it ends where its chain does */
		uint32_t next;

		if (vmimg_fat_seek(&fat->chain, first, at / size - 1, err) ||
			vmimg_fat_next(&fat->chain, fat->chain.cluster, &next, end, err))
			return -1;
		if (*end)
			return 0;
	}
	if (vmimg_fat_seek(&fat->chain, first, at / size, err))
		return -1;
	return vmimg_table_read(
		fat->table, raw, 32, cluster_at(fat, fat->chain.cluster) + at % size, err);
}

static int scan(struct fat *fat, const struct vmimg_node *dir, struct vmimg_fat_scan *scan,
	struct vmimg_error *err)
{
	struct vmimg_fat_name name = { 0 };
	uint8_t raw[32];
	bool end = false;

	for (uint32_t i = 0; i < MAX_FOLDER; i++) {
		struct vmimg_node node;

		if (read_entry(fat, dir, i, raw, &end, err))
			return -1;
		if (end || !raw[0])
			return 0;
		if (raw[0] != 0xe5 && (raw[11] & 0x3f) == VMIMG_FAT_LONG) {
			vmimg_fat_name_add(&name, raw);
			continue;
		}
		if (raw[0] != 0xe5 && (raw[11] & VMIMG_FAT_LABEL) && scan->label) {
			memcpy(scan->label, raw, 11);
			scan->has_label = true;
			return 0;
		}
		if (raw[0] != 0xe5 && !(raw[11] & VMIMG_FAT_LABEL) && scan->each) {
			size_t len = vmimg_fat_name_take(&name, raw);

			node = node_of(fat, raw);
			if (!scan->each(scan->ctx, name.text, len, &node))
				return 0;
		}
		name.expect = 0;
	}
	return 0;
}

static int fat_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each,
	void *ctx, struct vmimg_error *err)
{
	struct vmimg_fat_scan how = { .each = each, .ctx = ctx };

	return scan(fat_of(fs), dir, &how, err);
}

/* ---- opening ----------------------------------------------------------------------------- */

static void fat_close(struct vmimg_fs *fs)
{
	struct fat *fat = fat_of(fs);

	vmimg_table_free(fat->table);
	vmimg_io_unref(fat->io);
	free(fat);
}

static const struct vmimg_fs_ops fat_ops = {
	.list = fat_list,
	.read = fat_read,
	.close = fat_close,
};

struct vmimg_fs *vmimg_fat_open(struct vmimg_io *io, struct vmimg_error *err)
{
	struct fat *fat = vmimg_new(struct fat, err);
	uint8_t sector[512];

	if (!fat)
		return NULL;
	fat->fs.ops = &fat_ops;
	fat->fs.folds = true;
	fat->fs.root = (struct vmimg_node){ .kind = VMIMG_NODE_DIR, .mode = 040755 };
	fat->io = vmimg_io_ref(io);
	fat->table = fat->fs.reads = vmimg_table_new(io, err);
	if (!fat->table || vmimg_io_pread(io, sector, sizeof(sector), 0, err)) {
		fat_close(&fat->fs);
		return NULL;
	}
	/* a second line of defence: it is not recognised otherwise */
	if (!vmimg_fat_parse(sector, &fat->shape)) {
		vmimg_fail(err, VMIMG_EFORMAT, "no FAT file system");
		fat_close(&fat->fs);
		return NULL;
	}
	fat->chain = (struct vmimg_fat_chain){ .table = fat->table,
		.fat_at = fat->shape.fat_at,
		.clusters = fat->shape.clusters,
		.bits = fat->shape.bits,
		.mask = 0x0fffffff & (UINT32_MAX >> (32 - fat->shape.bits)) };
	return &fat->fs;
}

int vmimg_fat_label(struct vmimg_fs *fs, uint8_t label[11], bool *found, struct vmimg_error *err)
{
	struct vmimg_fat_scan how = { .label = label };

	if (scan(fat_of(fs), &fs->root, &how, err))
		return -1;
	*found = how.has_label;
	return 0;
}

int vmimg_fat_free(struct vmimg_fs *fs, uint64_t *clusters, struct vmimg_error *err)
{
	struct fat *fat = fat_of(fs);
	uint8_t raw[512];
	uint64_t count = 0;

	if (fat->shape.bits == 32) {
		*clusters = VMIMG_UNKNOWN;
		if (!fat->shape.info_at)
			return 0;
		if (vmimg_io_pread(fat->io, raw, sizeof(raw), fat->shape.info_at, err))
			return -1;
		if (vmimg_get_le32(raw) == 0x41615252 &&
			vmimg_get_le32(raw + 488) <= fat->shape.clusters)
			*clusters = vmimg_get_le32(raw + 488);
		return 0;
	}
	for (uint32_t i = 2; i < fat->shape.clusters + 2; i++) {
		uint64_t at = fat->shape.fat_at + (uint64_t)i * fat->shape.bits / 8;
		unsigned value;

		if (vmimg_table_read(fat->table, raw, 2, at, err))
			return -1;
		value = vmimg_get_le16(raw);
		if (fat->shape.bits == 12)
			value = (i & 1 ? value >> 4 : value) & 0xfff;
		count += value == 0;
	}
	*clusters = count;
	return 0;
}

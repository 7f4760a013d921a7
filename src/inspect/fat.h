/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that read FAT. */
#pragma once
#include "inspect/fs.h"
#include "io/table.h"

#define VMIMG_FAT_LABEL 0x08 /* attributes of an entry */
#define VMIMG_FAT_DIR   0x10
#define VMIMG_FAT_LONG  0x0f

/* Where things lie; bytes but where the name says else. */
struct vmimg_fat_shape {
	unsigned bits; /* 12, 16 or 32 */
	uint32_t sector, cluster, clusters;
	uint64_t size, fat_at, root_at, data_at, info_at;
	uint32_t root_entries; /* FAT12, FAT16 */
	uint32_t root_cluster; /* FAT32 */
};
/* From the first 512 bytes. False: they are not those of a FAT. */
bool vmimg_fat_parse(const uint8_t *sector, struct vmimg_fat_shape *shape);

/* Chains of clusters, of FAT and exFAT. */
struct vmimg_fat_chain {
	struct vmimg_table *table; /* borrowed */
	uint64_t fat_at;
	uint32_t clusters;
	unsigned bits; /* of an entry; */
	uint32_t mask; /* those of them that count */
	/* where the last seek had got to: the next goes on from there */
	uint32_t first, cluster;
	uint64_t index;
};
/* The cluster after this one; *last: there is none. */
int vmimg_fat_next(struct vmimg_fat_chain *chain, uint32_t cluster, uint32_t *next, bool *last,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Sets chain->cluster to number index of the chain from first. */
int vmimg_fat_seek(struct vmimg_fat_chain *chain, uint32_t first, uint64_t index,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Seconds since 1970 of a date (high half) and a time, which are local times of nobody knows where:
 * taken as UTC. 0: none. */
int64_t vmimg_fat_time(uint32_t stamp);

/* A name being put together: long ones come in pieces, last piece first. */
struct vmimg_fat_name {
	uint8_t units[20 * 26]; /* UTF-16 */
	uint8_t sum, expect;    /* of the short name; the piece that comes next, 0: none */
	size_t pieces;
	char text[1024]; /* what take() made, UTF-8 */
};
void vmimg_fat_name_add(struct vmimg_fat_name *name, const uint8_t entry[32]);
/* The name of a short entry: the long one if it belongs to it, else its own. Returns its length. */
size_t vmimg_fat_name_take(struct vmimg_fat_name *name, const uint8_t entry[32]);

struct vmimg_fat_scan {
	vmimg_fs_each *each; /* NULL: the label is looked for */
	void *ctx;
	uint8_t *label; /* 11 bytes */
	bool has_label;
};
/* The volume's label as its root folder has it. */
int vmimg_fat_label(
	struct vmimg_fs *fs, uint8_t label[11], bool *found, struct vmimg_error *err) VMIMG_CHECKED;
/* Clusters not in use; of FAT32 as noted, which may be VMIMG_UNKNOWN. */
int vmimg_fat_free(struct vmimg_fs *fs, uint64_t *clusters, struct vmimg_error *err) VMIMG_CHECKED;
/* Text in code page 437 as UTF-8, with a NUL; out holds 3 * len + 1. Returns its length. */
size_t vmimg_fat_text(char *out, const uint8_t *text, size_t len);

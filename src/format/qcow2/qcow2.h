/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this room share. The format is described in doc/formats/qcow2.md. */
#pragma once
#include <string.h>
#include "disk/disk.h"
#include "disk/luks.h"
#include "disk/report.h"
#include "disk/sink.h"
#include "format/qcow2/layout.h"
#include "io/table.h"

/* Agreed limits; QEMU's own are the same or lower. */
#define QCOW2_MIN_CLUSTER_BITS     9
#define QCOW2_MAX_CLUSTER_BITS     30         /* QEMU: 21 */
#define QCOW2_MAX_L1_ENTRIES       (4U << 20) /* 32 MiB of table, unless the disk needs more */
#define QCOW2_MAX_SNAPSHOTS        65536U
#define QCOW2_MAX_SNAPSHOT_TABLE   (UINT64_C(64) << 20)
#define QCOW2_MAX_BITMAPS          65535U
#define QCOW2_MAX_BITMAP_DIRECTORY (UINT64_C(64) << 20)
#define QCOW2_MAX_CRYPTO           (UINT64_C(64) << 20) /* LUKS: 2 MiB */
#define QCOW2_MAX_EXTENSIONS       256U
#define QCOW2_MAX_BACKING          1023U
#define QCOW2_MAX_FEATURES         256U
#define QCOW2_SUBCLUSTERS          32U

struct vmimg_qcow2_snapshot {
	struct vmimg_qcow2_snapshot_entry entry;
	struct vmimg_qcow2_snapshot_extra extra; /* disk_size 0: not stated */
	bool has_icount;
	char *id, *name; /* NUL-terminated, as found */
};

/* Where the bits of disk->bitmaps[i] are. */
struct vmimg_qcow2_bitmap_place {
	uint64_t table;
	uint32_t entries;
};

struct vmimg_qcow2 {
	struct vmimg_qcow2_header header; /* v2: the rest as version 3 would say it */
	struct vmimg_table *table;        /* reads of L1, L2 and other tables */
	struct vmimg_io *data;            /* where data clusters are: the image, or the data file;
					   * NULL: a data file that was not opened. Shared. */
	const struct vmimg_codec *codec;
	uint32_t cluster;   /* bytes */
	unsigned l2_bits;   /* log2 of the entries in an L2 table */
	bool extended;      /* L2 entries of 16 bytes with 32 subclusters */
	bool external;      /* there is a data file */
	uint64_t l1_offset; /* of the active state, or of the chosen snapshot */
	uint32_t l1_size;

	char *backing_name, *backing_format; /* as found; NULL: none */
	char *data_name;
	struct vmimg_qcow2_feature *features;
	size_t feature_count;
	bool has_bitmaps;
	struct vmimg_qcow2_bitmaps bitmaps;
	bool has_crypto;
	struct vmimg_qcow2_crypto crypto;
	struct vmimg_luks *luks;     /* NULL: not that method */
	struct vmimg_cipher *cipher; /* of data clusters; NULL: not encrypted, or no secret */
	struct vmimg_qcow2_snapshot *snapshots;
	size_t snapshot_count;
	struct vmimg_qcow2_bitmap_place *bitmap_places; /* one for each of disk->bitmaps */
};

/* A format as the header names it, by QEMU's drivers; NULL: NULL. */
static inline const char *vmimg_qcow2_format_name(const char *format)
{
	return format && !strcmp(format, "vhd") ? "vpc" : format;
}

static inline struct vmimg_qcow2 *vmimg_qcow2_of(const struct vmimg_disk *disk)
{
	return disk->state;
}

/* The byte that a cipher takes the one for that lies at that place in the data file and at guest on
 * the disk. */
static inline uint64_t vmimg_qcow2_cipher_at(
	const struct vmimg_qcow2 *q, uint64_t at, uint64_t guest)
{
	return q->luks ? at : guest;
}

/* header.c: the header and its extensions, decoded and validated. */
int vmimg_qcow2_read_header(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
/* What the image calls that feature bit; NULL: it does not say. type: 0 incompatible. */
const char *vmimg_qcow2_feature_name(
	const struct vmimg_qcow2 *q, unsigned type, unsigned bit, char shown[100]);

/* snapshot.c */
int vmimg_qcow2_read_snapshots(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
/* By id, then by name. NULL: none. */
const struct vmimg_qcow2_snapshot *vmimg_qcow2_find_snapshot(
	const struct vmimg_qcow2 *q, const char *name);
json_t *vmimg_qcow2_describe_snapshots(const struct vmimg_qcow2 *q);

/* bitmap.c */
int vmimg_qcow2_read_bitmaps(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_qcow2_bitmap_read(struct vmimg_disk *disk, size_t index, uint64_t first, uint64_t count,
	uint8_t *bits, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether these bits of one cluster need none, being alike; *entry: what the table says then. */
bool vmimg_qcow2_bits_alike(const uint8_t *bits, size_t len, uint64_t *entry);
/* Clears those past the first count, in cap bytes. */
void vmimg_qcow2_bits_end(uint8_t *bits, size_t cap, uint64_t count);

/* map.c */
int vmimg_qcow2_map(struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Where a compressed cluster's entry says that it is. */
void vmimg_qcow2_packed_place(
	const struct vmimg_qcow2 *q, uint64_t entry, uint64_t *at, uint32_t *len);
/* Whether [at, at + len) touches the header, the L1 table or the refcount table; what it touches.
 */
const char *vmimg_qcow2_metadata_at(const struct vmimg_qcow2 *q, uint64_t at, uint64_t len);
/* How many bytes of an L2 entry's cluster have to be in the file, of the room > 0 that the disk has. */
uint64_t vmimg_qcow2_needed(const struct vmimg_qcow2 *q, const uint8_t *raw, uint64_t room);

/* check.c */
int vmimg_qcow2_check(struct vmimg_disk *disk, struct vmimg_report *report,
	struct vmimg_error *err) VMIMG_CHECKED;

/* repair.c */
int vmimg_qcow2_repair(struct vmimg_disk *disk, struct vmimg_io *rw, struct vmimg_report *fixed,
	struct vmimg_error *err) VMIMG_CHECKED;

/* repair_refcounts.c */
int vmimg_qcow2_repair_leaks(struct vmimg_disk *disk, struct vmimg_io *rw,
	struct vmimg_report *fixed, struct vmimg_error *err) VMIMG_CHECKED;

/* create.c, sink.c */
struct vmimg_sink *vmimg_qcow2_create(struct vmimg_io *io, const struct vmimg_create *create,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_qcow2_measure(const struct vmimg_create *create, uint64_t data, uint64_t *bytes,
	struct vmimg_error *err) VMIMG_CHECKED;
extern const struct vmimg_option_spec vmimg_qcow2_options[];

/* edit.c */
extern const struct vmimg_edit_ops vmimg_qcow2_edit;

/* refcount.c: entries of a refcount block, whatever their width. */
uint64_t vmimg_qcow2_get_refcount(const uint8_t *block, uint64_t index, unsigned order);
void vmimg_qcow2_set_refcount(uint8_t *block, uint64_t index, unsigned order, uint64_t count);
/* Adds 1 or -1 to count entries. Returns how many, up to the first one that cannot go further. */
uint64_t vmimg_qcow2_add_refcounts(
	uint8_t *block, uint64_t index, uint64_t count, unsigned order, int delta);
/* The first of the entries [index, end) that is 0 in both blocks; end: none. */
uint64_t vmimg_qcow2_find_unused(
	const uint8_t *block, const uint8_t *other, uint64_t index, uint64_t end, unsigned order);

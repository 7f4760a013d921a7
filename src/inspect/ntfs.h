/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the files that read NTFS. A volume is a table of records; a record is a list of
 * attributes; what an attribute holds lies in it (resident) or in runs of clusters. Names of
 * structures are those of the field's documentation (linux-ntfs' "NTFS Documentation", [MS-FSCC]).
 */
#pragma once
#include "inspect/fs.h"
#include "io/table.h"

#define VMIMG_NTFS_STANDARD 0x10U /* types of attributes */
#define VMIMG_NTFS_LIST     0x20U
#define VMIMG_NTFS_NAME     0x60U
#define VMIMG_NTFS_INFO     0x70U
#define VMIMG_NTFS_DATA     0x80U
#define VMIMG_NTFS_ROOT     0x90U
#define VMIMG_NTFS_INDEX    0xa0U
#define VMIMG_NTFS_REPARSE  0xc0U

#define VMIMG_NTFS_LISTED (1U << 20) /* KiB of records */

#define VMIMG_NTFS_UPCASE_RECORD 10U
#define VMIMG_NTFS_FIRST_RECORD  24U /* those before are the file system's own */
#define VMIMG_NTFS_NUMBER        UINT64_C(0xffffffffffff) /* of a reference; above: a sequence */

#define VMIMG_TAG_SYMLINK  0xa000000cU /* reparse points */
#define VMIMG_TAG_JUNCTION 0xa0000003U
#define VMIMG_TAG_LX_LINK  0xa000001dU

struct vmimg_ntfs_run {
	uint64_t vcn, lcn, count; /* clusters; lcn VMIMG_UNKNOWN: a hole */
};

/* What one attribute holds. */
struct vmimg_ntfs_stream {
	uint64_t number; /* of the record */
	uint64_t size;   /* bytes */
	uint64_t valid;  /* bytes that were written: after them zeroes */
	uint16_t flags;  /* compressed 1, encrypted 0x4000, sparse 0x8000 */
	uint8_t *value;  /* resident: size bytes; NULL: in runs */
	struct vmimg_ntfs_run *runs;
	size_t count, cap;
	unsigned unit;     /* clusters that are packed together; 0: not packed */
	uint8_t *unpacked; /* unit number unpacked_unit, when it is not NULL */
	uint64_t unpacked_unit;
};

struct vmimg_ntfs {
	struct vmimg_fs fs;
	struct vmimg_io *io;       /* shared */
	struct vmimg_table *table; /* over io */
	uint32_t cluster, record_size;
	uint64_t clusters;
	struct vmimg_ntfs_stream mft;  /* the table of records */
	struct vmimg_ntfs_stream file; /* the content read last; number 0: none */
	uint16_t *upper;               /* 65536 units: how case folds; NULL: not read yet */
	uint32_t left; /* KiB of records that lists of attributes may still lead to: of one question */
};

struct vmimg_ntfs_attribute {
	uint32_t type;
	uint16_t flags;
	const uint8_t *raw, *name; /* in the record */
	size_t len, name_len;      /* bytes; units */
	const uint8_t *value;      /* resident; NULL: it is not */
	size_t value_len;
};

/* ntfs_record.c */

/* Sizes that NTFS keeps as a count or, negative, as a power of two. 0: impossible. */
uint32_t vmimg_ntfs_size(uint8_t code, uint32_t unit);
/* Puts back the last two bytes of each sector of a record, which hold a check number on disk.
 * False: they do not fit, or it is no such record. size is a multiple of 512. */
bool vmimg_ntfs_fixup(uint8_t *record, size_t size, const char magic[4]);
/* Into record_size bytes, checked, in use. */
int vmimg_ntfs_record(struct vmimg_ntfs *ntfs, uint64_t number, uint8_t *raw,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The attribute at *at, which begins as 0; 1: it is there, and *at behind it; 0: no more. */
int vmimg_ntfs_next(const uint8_t *raw, size_t size, size_t *at,
	struct vmimg_ntfs_attribute *attribute, struct vmimg_error *err) VMIMG_CHECKED;
bool vmimg_ntfs_is(const struct vmimg_ntfs_attribute *attribute, uint32_t type, const char *name);

/* ntfs_stream.c: the caller ends with vmimg_ntfs_done(), also after a failure. */

/* An attribute of a record and of those that the record is continued in. name is ASCII. */
int vmimg_ntfs_open_stream(struct vmimg_ntfs *ntfs, uint64_t number, uint32_t type,
	const char *name, struct vmimg_ntfs_stream *stream, bool *found,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The one that describes itself: from its first record, which lies at cluster lcn. */
int vmimg_ntfs_open_mft(
	struct vmimg_ntfs *ntfs, uint64_t lcn, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_ntfs_done(struct vmimg_ntfs_stream *stream);
static inline void vmimg_ntfs_done_auto(struct vmimg_ntfs_stream *stream)
{
	vmimg_ntfs_done(stream);
}

/* ntfs_data.c: all inside the stream's size */
int vmimg_ntfs_read(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *stream, void *buf,
	size_t len, uint64_t at, struct vmimg_error *err) VMIMG_CHECKED;

/* ntfs.c: reference is a record's number with its sequence above it. */
int vmimg_ntfs_node(struct vmimg_ntfs *ntfs, uint64_t reference, struct vmimg_node *node,
	struct vmimg_error *err) VMIMG_CHECKED;

/* ntfs_index.c */
int vmimg_ntfs_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each,
	void *ctx, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_ntfs_lookup(struct vmimg_fs *fs, const struct vmimg_node *dir, const char *name,
	size_t len, struct vmimg_node *node, bool *found, struct vmimg_error *err) VMIMG_CHECKED;

/* ntfs_link.c */
int vmimg_ntfs_readlink(struct vmimg_fs *fs, const struct vmimg_node *node, char *out, size_t cap,
	struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VMDK room. A disk is a row of extents, each a stretch of a plain file, a sparse extent with
 * tables of its own, or zeroes. descriptor.c reads the text that lists them, sparse.c the headers
 * of sparse extents, open.c puts the disk together, map.c translates. What writes is in write.h.
 */
#pragma once
#include "disk/disk.h"
#include "disk/sink.h"
#include "format/vmdk/layout.h"
#include "io/table.h"
#include "util/limits.h"

/* A disk of 64 TiB in extents of 16 GiB; each costs a file descriptor. */
#define VMDK_MAX_EXTENTS    4096
#define VMDK_MAX_DESCRIPTOR (UINT64_C(1) << 20)
#define VMDK_NO_PARENT      UINT32_C(0xffffffff)
/* Bytes of the largest grain table of a hosted extent, and of every one that is added. */
#define VMIMG_VMDK_TABLE_MOST 2048U

/* ---- descriptor.c: the text -------------------------------------------------------------- */

enum vmdk_access { VMDK_RW, VMDK_RDONLY, VMDK_NOACCESS };

enum vmdk_extent_type {
	VMDK_FLAT, /* and VMFS, VMFSRDM, VMFSRAW, which are read alike */
	VMDK_SPARSE,
	VMDK_ZERO,
	VMDK_VMFSSPARSE,
	VMDK_SESPARSE,
};

/* One line of the extent description. */
struct vmdk_line {
	enum vmdk_access access;
	enum vmdk_extent_type type;
	const char *word; /* the type as it is written: "VMFS" */
	uint64_t sectors;
	uint64_t offset; /* FLAT: sectors into the file */
	char *name;      /* UTF-8 where the encoding is known; NULL: ZERO */
};

struct vmdk_pair {
	char *key, *value;
};

struct vmdk_descriptor {
	uint32_t version;
	uint32_t cid, parent_cid;
	bool has_cid;
	char *create_type, *encoding, *parent_hint, *track_path; /* NULL: not there */
	struct vmdk_line *lines;
	size_t line_count, line_cap;
	struct vmdk_pair *ddb; /* "ddb.adapterType" …, as they came */
	size_t ddb_count, ddb_cap;
	size_t passed_over; /* lines that are none of the above, and no comments */
	bool foreign;       /* bytes that are not ASCII */
};

/* Whether the text, len bytes from the start of a file, is a descriptor: 0 to 100. */
int vmimg_vmdk_descriptor_probe(const uint8_t *text, size_t len);
/* Reads the text up to the first NUL. On failure, what was made is freed. */
int vmimg_vmdk_descriptor_parse(struct vmdk_descriptor *d, const char *text, size_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vmdk_descriptor_done(struct vmdk_descriptor *d);
/* The value of a ddb key, or NULL. */
const char *vmimg_vmdk_ddb(const struct vmdk_descriptor *d, const char *key);

/* charset.c: text in the encoding that a descriptor names, as UTF-8 in fresh memory. *known: it was
 * converted, or needed no conversion; otherwise the result is the bytes as they are. */
char *vmimg_vmdk_to_utf8(
	const char *encoding, const char *text, bool *known, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- sparse.c: sparse extents ------------------------------------------------------------ */

enum vmdk_grains_kind { VMDK_HOSTED, VMDK_COWD_KIND, VMDK_SE_KIND };

/* How the tables of a sparse extent are laid out. Offsets and sizes in bytes. */
struct vmdk_grains {
	enum vmdk_grains_kind kind;
	uint32_t version, flags;
	uint64_t capacity;
	uint32_t grain;      /* a power of two */
	uint32_t entries;    /* of a grain table */
	uint32_t entry_size; /* 4; seSparse: 8 */
	uint64_t gd_at, gd_count;
	uint64_t rgd_at; /* 0: there is none */
	uint64_t overhead;
	uint64_t tables_at;                     /* seSparse: the first grain table */
	uint64_t data_at;                       /* seSparse: the first grain */
	uint64_t descriptor_at, descriptor_len; /* 0: none inside */
	bool packed, zeroed, unclean;
	bool at_end;      /* a footer says where the directory is */
	bool through_rgd; /* gd_at is the redundant directory's place, for the first is bad */
	/* what only the lenient put up with */
	bool line_ends_bad;
	bool lost;                     /* neither directory is sound */
	uint64_t regular, regular_rgd; /* where the tables of each would begin; 0: not known */
};

enum vmdk_file_kind { VMDK_FILE_OTHER, VMDK_FILE_SPARSE, VMDK_FILE_TEXT };

/* What the file begins with. */
int vmimg_vmdk_file_kind(
	struct vmimg_io *io, enum vmdk_file_kind *kind, struct vmimg_error *err) VMIMG_CHECKED;
/* Reads and validates the header of a sparse extent of any kind. Findings that do not stop it go to
 * disk's warnings. */
int vmimg_vmdk_grains_read(struct vmdk_grains *g, struct vmimg_disk *disk, struct vmimg_io *io,
	bool lenient, struct vmimg_error *err) VMIMG_CHECKED;
/* Guest bytes that one grain table covers. */
static inline uint64_t vmimg_vmdk_table_span(const struct vmdk_grains *g)
{
	return (uint64_t)g->grain * g->entries;
}
/* Bytes of grain table number index: the last one ends with the capacity. */
static inline uint64_t vmimg_vmdk_table_len(const struct vmdk_grains *g, uint64_t index)
{
	uint64_t left = (g->capacity - index * vmimg_vmdk_table_span(g) + g->grain - 1) / g->grain;

	return (left < g->entries ? left : g->entries) * g->entry_size;
}

/* grains.c: what a grain table or grain directory entry says. */
enum vmdk_entry_kind { VMDK_ENTRY_ABSENT, VMDK_ENTRY_ZERO, VMDK_ENTRY_AT, VMDK_ENTRY_BAD };
enum vmdk_entry_kind vmimg_vmdk_directory_entry(
	const struct vmdk_grains *g, const uint8_t *entry, uint64_t *at);
enum vmdk_entry_kind vmimg_vmdk_grain_entry(
	const struct vmdk_grains *g, const uint8_t *entry, uint64_t *at);

/* regular.c: where the first table of the directory at directory_at would lie if all lay one behind
 * the other, as most do; 0: not known. */
int vmimg_vmdk_regular(const struct vmdk_grains *g, struct vmimg_io *io, uint64_t directory_at,
	uint64_t *first, struct vmimg_error *err) VMIMG_CHECKED;
/* Where the table of that index lies then; 0: not in a file of size bytes. */
uint64_t vmimg_vmdk_regular_place(
	const struct vmdk_grains *g, uint64_t size, uint64_t first, uint64_t index);
/* The table that neither directory leads to any more, found by the layout (g->regular). */
bool vmimg_vmdk_lost_table(
	const struct vmdk_grains *g, struct vmimg_io *io, uint64_t index, uint64_t *at);

/* The compressed grain whose marker lies at `at`: where its data lie, and how many bytes. */
int vmimg_vmdk_packed_grain(const struct vmdk_grains *g, struct vmimg_io *io, uint64_t at,
	uint64_t inside, uint64_t *data_at, uint32_t *size, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- open.c, map.c ----------------------------------------------------------------------- */

struct vmdk_extent {
	const struct vmdk_line *line; /* of the descriptor; NULL: the file is all there is */
	uint64_t start, len;          /* in the guest, bytes */
	bool zero;                    /* reads as zeroes */
	bool sparse;
	struct vmimg_io *io;  /* owned; NULL: zero, or not opened */
	uint64_t at;          /* plain: where in io */
	struct vmdk_grains g; /* sparse */
};

struct vmdk {
	struct vmdk_descriptor descriptor;
	bool has_descriptor;
	struct vmdk_extent *extents; /* in guest order, without gaps */
	size_t extent_count;
	struct vmimg_table *table; /* one cache for the tables of all extents */
	bool lenient;
	struct vmdk_rebuilt *rebuilt; /* repair.h: the one extent, a stream, whose directory was
				       * lost; the lenient only. NULL: none */
	bool missing;                 /* some extents are not there, and that was put up with */
	bool header_differs;          /* the header was believed, not the descriptor inside */
};

static inline struct vmdk *vmdk_of(const struct vmimg_disk *disk)
{
	return disk->state;
}

int vmimg_vmdk_probe(const struct vmimg_probe *probe);
int vmimg_vmdk_open(struct vmimg_disk *disk, const struct vmimg_open *options,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vmdk_close(struct vmimg_disk *disk);
/* find.c: the descriptor beside an extent file that names it, opened; NULL: there is none. */
struct vmimg_io *vmimg_vmdk_find_descriptor(
	struct vmimg_disk *disk, const struct vmimg_open *options);
/* Whether the file's name is that of a part of a disk (-s001, -flat, -delta …). */
bool vmimg_vmdk_is_part_name(const struct vmimg_io *io);
int vmimg_vmdk_map(struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vmdk_describe(
	struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vmdk_identity(const struct vmimg_disk *disk, struct vmimg_identity *identity);
int vmimg_vmdk_check(struct vmimg_disk *disk, struct vmimg_report *report,
	struct vmimg_error *err) VMIMG_CHECKED;

int vmimg_vmdk_repair(struct vmimg_disk *disk, struct vmimg_io *rw, struct vmimg_report *fixed,
	struct vmimg_error *err) VMIMG_CHECKED;

/* ---- settings.c, sink.c
 * ------------------------------------------------------------------------------ */

struct vmimg_sink *vmimg_vmdk_create(struct vmimg_io *io, const struct vmimg_create *create,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vmdk_measure(const struct vmimg_create *create, uint64_t data, uint64_t *bytes,
	struct vmimg_error *err) VMIMG_CHECKED;
extern const struct vmimg_option_spec vmimg_vmdk_options[];
extern const struct vmimg_edit_ops vmimg_vmdk_edit;

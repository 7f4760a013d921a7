/* SPDX-License-Identifier: Apache-2.0 */
/* What the writers of the sub-formats share. */
#pragma once
#include "format/vmdk/vmdk.h"

#define VMDK_GRAIN         65536U
#define VMDK_GRAIN_SECTORS (VMDK_GRAIN / 512U)
#define VMDK_TABLE_ENTRIES 512U
#define VMDK_TABLE_SECTORS (VMDK_TABLE_ENTRIES * 4U / 512U)
#define VMDK_TABLE_SPAN    ((uint64_t)VMDK_GRAIN * VMDK_TABLE_ENTRIES)
#define VMDK_CHUNK         (4 * VMDK_GRAIN)
/* Room for the descriptor inside a sparse file, in sectors: as VMware's and QEMU's. */
#define VMDK_DESCRIPTOR_SECTORS 20U
/* Extents of a split disk: 2 GiB less 1 MiB, as VMware cuts them. */
#define VMDK_SPLIT_SECTORS UINT64_C(4192256)

enum vmdk_subformat {
	VMDK_MONOLITHIC_SPARSE,
	VMDK_MONOLITHIC_FLAT,
	VMDK_SPLIT_SPARSE,
	VMDK_SPLIT_FLAT,
	VMDK_STREAM,
	VMDK_VMFS,
};

/* ---- settings.c -------------------------------------------------------------------------- */

/* What a new disk is to be; texts are borrowed from the options, or constant. */
struct vmdk_settings {
	enum vmdk_subformat subformat;
	const char *create_type, *adapter, *hw_version, *tools_version;
	uint64_t sectors;
	const char *parent_hint; /* NULL: none */
	uint32_t parent_cid;
	bool zeroed; /* zero grains are marked in the tables (a header of version 2) */
	bool unique;
	bool has_cid, has_uuid; /* given, not derived */
	uint32_t cid;
	struct vmimg_guid uuid, long_id;
};

int vmimg_vmdk_settings(struct vmdk_settings *s, const struct vmimg_create *create, bool in_order,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Identities that a user wrote; NULL: not given. */
int vmimg_vmdk_given_identities(struct vmdk_settings *s, const char *cid, const char *uuid,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Sets the identities that were not given, from the hash of the content. */
int vmimg_vmdk_identify(
	struct vmdk_settings *s, uint64_t content, struct vmimg_error *err) VMIMG_CHECKED;
/* The content's hash goes on with that of the next chunk. */
uint64_t vmimg_vmdk_fold(uint64_t content, uint64_t digest);
/* Whether the identities depend on the content. */
static inline bool vmimg_vmdk_wants_digest(const struct vmdk_settings *s)
{
	return !s->unique && !(s->has_cid && s->has_uuid);
}

/* The descriptor's text, which the caller frees. */
char *vmimg_vmdk_text(const struct vmdk_settings *s, const struct vmdk_line *lines, size_t count,
	struct vmimg_error *err) VMIMG_CHECKED;
/* "60 00 c2 9f e4 0c 87 33-ea 3e c3 1b 2b 43 52 e9" */
void vmimg_vmdk_uuid_text(char text[3 * VMIMG_GUID_SIZE + 1], const struct vmimg_guid *uuid);
/* Writes the text to a file of its own. */
int vmimg_vmdk_write_text(struct vmimg_io *io, const struct vmdk_settings *s,
	const struct vmdk_line *lines, size_t count, struct vmimg_error *err) VMIMG_CHECKED;
/* Writes it behind the header of a sparse file, padded with zeroes. */
int vmimg_vmdk_embed_text(struct vmimg_io *io, const struct vmdk_settings *s,
	const struct vmdk_line *line, struct vmimg_error *err) VMIMG_CHECKED;

/* The lines of a split disk (or of one with a -flat file), with the names of their files; *count
 * of them. Freed by vmimg_vmdk_lines_free. */
struct vmdk_line *vmimg_vmdk_plan(const struct vmdk_settings *s, const char *main_name,
	size_t *count, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vmdk_lines_free(struct vmdk_line *lines, size_t count);

/* ---- tables.c: a hosted sparse extent being written -------------------------------------- */

/* Where things lie, in sectors: header, descriptor, redundant directory and tables, the first
 * directory and tables, grains. */
struct vmdk_place {
	uint64_t capacity, tables;
	uint64_t rgd, rgt, gd, gt, overhead;
};

void vmimg_vmdk_layout(struct vmdk_place *p, uint64_t capacity, bool embedded);

struct vmdk_tables {
	struct vmimg_io *io; /* owned */
	struct vmdk_place place;
	uint64_t next;  /* the next free sector */
	uint64_t table; /* the one in hand; UINT64_MAX: none */
	uint32_t entry[VMDK_TABLE_ENTRIES];
	bool used; /* something is in it */
};

/* A device has old bytes where the tables will be. */
int vmimg_vmdk_tables_start(struct vmdk_tables *t, struct vmimg_error *err) VMIMG_CHECKED;
/* Takes a share of io. */
int vmimg_vmdk_tables_init(struct vmdk_tables *t, struct vmimg_io *io, uint64_t capacity,
	bool embedded, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vmdk_tables_done(struct vmdk_tables *t);
/* A place for a grain; grains come in guest order. *at: bytes. */
int vmimg_vmdk_tables_add(
	struct vmdk_tables *t, uint64_t grain, uint64_t *at, struct vmimg_error *err) VMIMG_CHECKED;
/* The same for a grain that is zero by its entry. */
int vmimg_vmdk_tables_zero(
	struct vmdk_tables *t, uint64_t grain, struct vmimg_error *err) VMIMG_CHECKED;
/* Writes what is left but the header. */
int vmimg_vmdk_tables_finish(struct vmdk_tables *t, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vmdk_tables_header(struct vmdk_tables *t, const struct vmdk_settings *s, bool embedded,
	struct vmimg_error *err) VMIMG_CHECKED;

/* ---- writer.c: what the writers of sparse and of plain extents begin with ------------------ */

struct vmdk_writer {
	struct vmimg_sink sink;
	struct vmdk_settings settings;
	struct vmimg_io *io;     /* the main file; a share of it */
	struct vmdk_line *lines; /* of the descriptor */
	size_t count;
	uint64_t content; /* hash so far */
};
/* A kind of them: its object begins with a struct vmdk_writer. */
struct vmdk_writer_kind {
	size_t object; /* bytes of it */
	const struct vmimg_sink_ops *ops;
	uint32_t granule, chunk;
	/* Makes the extents, and sets in sink what is of this kind alone. */
	int (*make)(struct vmdk_writer *, const struct vmimg_create *, struct vmimg_error *);
};
extern const struct vmdk_writer_kind vmimg_vmdk_sparse, vmimg_vmdk_flat;
struct vmimg_sink *vmimg_vmdk_writer_new(const struct vmdk_writer_kind *kind, struct vmimg_io *io,
	const struct vmimg_create *create, const struct vmdk_settings *settings,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Plans extents in files of their own: lines and count. */
int vmimg_vmdk_writer_plan(struct vmdk_writer *w, const struct vmimg_create *create,
	struct vmimg_error *err) VMIMG_CHECKED;
/* A new file for extent i; the caller gives it back. */
struct vmimg_io *vmimg_vmdk_writer_file(struct vmdk_writer *w, const struct vmimg_create *create,
	size_t i, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vmdk_writer_done(struct vmdk_writer *w);

/* ---- the sinks --------------------------------------------------------------------------- */

struct vmimg_sink *vmimg_vmdk_stream_sink(struct vmimg_io *io, const struct vmimg_create *create,
	const struct vmdk_settings *s, struct vmimg_error *err) VMIMG_CHECKED;

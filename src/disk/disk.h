/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An opened disk and the generic half of reading it: detection, references and the parent chain,
 * and readers, which turn runs into bytes.
 */
#pragma once
#include "disk/format.h"

/* A reference as a disk keeps it. */
struct vmimg_ref {
	struct vmimg_reference ref; /* its texts are owned here */
	bool opened;
};

struct vmimg_disk {
	const struct vmimg_format *format;
	struct vmimg_io *io;       /* shared */
	uint64_t size;             /* bytes the guest sees */
	uint32_t sector_size;      /* the guest's logical sector: 512 unless the format says else */
	uint32_t block;            /* bytes of the allocation unit; 0: none */
	struct vmimg_disk *parent; /* owned; NULL: none, or opened alone */
	void *state;               /* the driver's */
	struct vmimg_ref *refs;    /* every other file that the image names */
	size_t ref_count, ref_cap;
	struct vmimg_bitmap *bitmaps;
	size_t bitmap_count, bitmap_cap;
	json_t *warnings;               /* strings: odd, but readable */
	const struct vmimg_disk *child; /* while opening: who opens this one; against loops */
	unsigned depth;
};

VMIMG_AUTO_DEFINE(vmimg_disk_close, struct vmimg_disk *)

/* Detection: the one format that claims the io. Two strong claims are VMIMG_EREFUSED, a container
 * that is no disk (gzip, tar …) VMIMG_EFORMAT, a disk in a format that is not read VMIMG_EUNSUPPORTED. */
const struct vmimg_format *vmimg_disk_probe(
	struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;

/* Whether it holds bytes of the image itself (a data file, an extent), not of something below it. */
bool vmimg_reference_is_part(const struct vmimg_reference *ref);

/* For drivers, while opening. Notes a reference (copying it); returns its index or -1. */
int vmimg_disk_refer(struct vmimg_disk *disk, const char *kind, const char *name,
	const char *format, struct vmimg_error *err) VMIMG_CHECKED;
/* Opens reference i through the resolver. With options->alone it opens nothing: *io = NULL. */
int vmimg_disk_open_ref(struct vmimg_disk *disk, const struct vmimg_open *options, int i,
	struct vmimg_io **io, struct vmimg_error *err) VMIMG_CHECKED;
/* Opens reference i as disk->parent, in the format that the reference states (detected when it
 * states none). With options->alone does nothing. */
int vmimg_disk_open_parent(struct vmimg_disk *disk, const struct vmimg_open *options, int i,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Adds to disk->warnings. Never fails: a warning lost to memory is no error. */
void vmimg_disk_warn(struct vmimg_disk *disk, const char *fmt, ...) VMIMG_PRINTF(2, 3);

/* The cipher of QCOW's old encryption, whose passphrase is the key (AES-128, CBC, plain64): a wrong
 * one is not noticed, so there must be just one. */
struct vmimg_cipher *vmimg_disk_old_cipher(
	const struct vmimg_open *options, struct vmimg_error *err) VMIMG_CHECKED;

/* For drivers: the map of a disk that is its file, from the first byte on. */
int vmimg_disk_map_file(struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The run of this layer alone, checked against the promises of format.h. at < disk->size. */
int vmimg_disk_map(struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The run through the chain: never ABSENT where a parent answers. *depth counts layers down. What
 * no layer has is ABSENT. depth may be NULL. */
int vmimg_disk_resolve(struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, unsigned *depth,
	struct vmimg_error *err) VMIMG_CHECKED;

/* What one thread needs to turn runs into bytes: scratch memory and the block unpacked last. */
struct vmimg_reader;
struct vmimg_reader *vmimg_reader_new(struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_reader_free(struct vmimg_reader *reader);
VMIMG_AUTO_DEFINE(vmimg_reader_free, struct vmimg_reader *)
/* Guest bytes through the chain. */
int vmimg_reader_pread(struct vmimg_reader *reader, struct vmimg_disk *disk, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err) VMIMG_CHECKED;
/* The bytes of one run, from skip bytes into it. */
int vmimg_reader_run(struct vmimg_reader *reader, const struct vmimg_run *run, uint64_t skip,
	void *buf, size_t len, struct vmimg_error *err) VMIMG_CHECKED;
/* Unpacks the block of a PACKED run: *packed, *unpacked are valid until the next call. A block that
 * is short (the last of a disk may be) is zero from there on, and must have what the run needs. */
int vmimg_reader_block(struct vmimg_reader *reader, const struct vmimg_run *run,
	const uint8_t **packed, size_t *packed_len, const uint8_t **unpacked,
	struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tar archives over an io. Read: v7, ustar, GNU (long names, base-256 numbers, sparse members) and
 * pax; members are windows, so nothing is unpacked. Written: ustar, and from 8 GiB on a size in
 * base-256 as GNU has it; never pax, which some importers of OVA do not know.
 * Sources: POSIX.1 "pax"; the GNU tar manual, "Basic Tar Format" and "Storing Sparse Files".
 */
#pragma once
#include "io/io.h"

#define VMIMG_TAR_BLOCK 512U

enum vmimg_tar_kind {
	VMIMG_TAR_FILE,
	VMIMG_TAR_FOLDER,
	VMIMG_TAR_LINK,  /* hard or symbolic: never followed */
	VMIMG_TAR_OTHER, /* devices, FIFOs and what is not known */
};

struct vmimg_tar_member {
	enum vmimg_tar_kind kind;
	const char *name;    /* as found, with leading "./" taken away; escape it before showing */
	uint64_t header;     /* where its first header is */
	uint64_t at, stored; /* where its bytes are in the archive, and how many */
	uint64_t size;       /* of the file; more than stored when it is sparse */
	const struct vmimg_sparse_run *runs; /* NULL: it is not sparse */
	size_t run_count;
	bool replaced; /* a later file has the same name */
};

struct vmimg_tar;

/* Whether head (the first bytes of a file) is a tar header, checksum and all. */
bool vmimg_tar_probe(const uint8_t *head, size_t len);
/* Walks all headers. The io is shared (referenced). A name that leads out of the archive, or
 * through a link in it, is VMIMG_EREFUSED. */
struct vmimg_tar *vmimg_tar_open(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_tar_free(struct vmimg_tar *tar);
VMIMG_AUTO_DEFINE(vmimg_tar_free, struct vmimg_tar *)
size_t vmimg_tar_count(const struct vmimg_tar *tar);
const struct vmimg_tar_member *vmimg_tar_member(const struct vmimg_tar *tar, size_t i);
/* Whether it has pax headers or sparse members, which tar programs read and importers of OVA do not.
 */
bool vmimg_tar_is_odd(const struct vmimg_tar *tar);
/* The regular file of that name, the last one when there are several; NULL: there is none. */
const struct vmimg_tar_member *vmimg_tar_find(const struct vmimg_tar *tar, const char *name);
/* The bytes of a regular file, in place. */
struct vmimg_io *vmimg_tar_open_member(const struct vmimg_tar *tar,
	const struct vmimg_tar_member *member, struct vmimg_error *err) VMIMG_CHECKED;
/* A relative name without "..", "." or empty components: one that stays where it is unpacked. */
bool vmimg_tar_name_is_safe(const char *name);

/* ---- writing ----------------------------------------------------------------------------- */

struct vmimg_tar_writer;
#define VMIMG_TAR_SIZE_LATER UINT64_MAX

/* The io is shared (referenced), and empty. epoch: the time of all members, in seconds. */
struct vmimg_tar_writer *vmimg_tar_writer_new(
	struct vmimg_io *io, uint64_t epoch, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_tar_writer_free(struct vmimg_tar_writer *writer);
VMIMG_AUTO_DEFINE(vmimg_tar_writer_free, struct vmimg_tar_writer *)
/* Begins a member; the caller writes its bytes to the archive's io at *at. With
 * VMIMG_TAR_SIZE_LATER the header is written by end, which takes an io that can go back. */
int vmimg_tar_begin(struct vmimg_tar_writer *writer, const char *name, uint64_t size, uint64_t *at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* size bytes it has become: as begin was told, when it was. */
int vmimg_tar_end(
	struct vmimg_tar_writer *writer, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
/* A whole member. */
int vmimg_tar_put(struct vmimg_tar_writer *writer, const char *name, const void *bytes, size_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The end of the archive. */
int vmimg_tar_finish(struct vmimg_tar_writer *writer, struct vmimg_error *err) VMIMG_CHECKED;

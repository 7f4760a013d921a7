/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes at offsets: the only way the library touches anything outside memory. An io is a file, a
 * stretch of another io, memory, a pipe, or whatever a caller brings. Reads and writes do all of it
 * or fail; they may come from any number of threads at once.
 *
 * Ownership: counted. vmimg_io_ref() shares, vmimg_io_unref() gives back (NULL is fine); the last
 * one closes. An implementation embeds struct vmimg_io as its first member.
 */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/auto.h"
#include "util/error.h"

struct vmimg_io;

/* Absent ones (NULL) are an ability that the io does not have; see each wrapper below. */
struct vmimg_io_ops {
	int (*pread)(struct vmimg_io *, void *, size_t, uint64_t at, struct vmimg_error *);
	int (*pwrite)(struct vmimg_io *, const void *, size_t, uint64_t at, struct vmimg_error *);
	int (*extent)(
		struct vmimg_io *, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *);
	int (*zero)(struct vmimg_io *, uint64_t at, uint64_t len, struct vmimg_error *);
	int (*reserve)(struct vmimg_io *, uint64_t at, uint64_t len, struct vmimg_error *);
	int (*resize)(struct vmimg_io *, uint64_t size, struct vmimg_error *);
	int (*sync)(struct vmimg_io *, struct vmimg_error *);
	bool (*can_clone)(struct vmimg_io *, struct vmimg_io *src);
	int (*clone_from)(struct vmimg_io *, struct vmimg_io *src, uint64_t src_at, uint64_t at,
		uint64_t len, struct vmimg_error *);
	void (*close)(struct vmimg_io *);
};

struct vmimg_io {
	const struct vmimg_io_ops *ops;
	atomic_uint refs;
	_Atomic uint64_t size;
	struct vmimg_io
		*shows; /* the file that this is, seen otherwise (borrowed); NULL: it is itself */
	uint64_t id[2]; /* device and inode of a file; both 0: not a file */
	char *name;     /* for messages, fit to show; may be NULL */
	bool in_order;  /* a pipe: writes only forward */
	bool is_device; /* a block device, or a file written like one: fixed size, holes not known
			 */
};

/* For implementations: refs = 1. name is copied and escaped; it may be NULL. */
int vmimg_io_init(struct vmimg_io *io, const struct vmimg_io_ops *ops, const char *name,
	struct vmimg_error *err) VMIMG_CHECKED;

struct vmimg_io *vmimg_io_ref(struct vmimg_io *io);
void vmimg_io_unref(struct vmimg_io *io);
VMIMG_AUTO_DEFINE(vmimg_io_unref, struct vmimg_io *)

/* Bytes in it now. Grows when a write goes past the end. */
uint64_t vmimg_io_size(struct vmimg_io *io);
/* Never NULL. */
const char *vmimg_io_name(const struct vmimg_io *io);
bool vmimg_io_same(const struct vmimg_io *a, const struct vmimg_io *b);

/* A read that goes past the end is VMIMG_ECORRUPT: some table promised bytes that are not there. */
int vmimg_io_pread(struct vmimg_io *io, void *buf, size_t len, uint64_t at,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_io_pwrite(struct vmimg_io *io, const void *buf, size_t len, uint64_t at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Whether the bytes from at are a hole that reads as zeroes, and for how many bytes that answer
 * holds (> 0). at < size. An io without holes says "data to the end". */
int vmimg_io_extent(struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Makes the range read as zeroes, by a hole where that can be done, else by writing. */
int vmimg_io_zero(
	struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err) VMIMG_CHECKED;
/* Writes zeroes, so that the space is really there. */
int vmimg_io_write_zeroes(
	struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err) VMIMG_CHECKED;
/* Asks for space to be set aside; does nothing where that has no meaning. */
int vmimg_io_reserve(
	struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_io_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_io_sync(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether blocks of src can be shared with io, as far as can be known without trying. */
bool vmimg_io_can_clone(struct vmimg_io *io, struct vmimg_io *src);
/* Shares the blocks of src without copying. *done = false (and 0 returned) when that pair cannot.
 */
int vmimg_io_clone(struct vmimg_io *io, struct vmimg_io *src, uint64_t src_at, uint64_t at,
	uint64_t len, bool *done, struct vmimg_error *err) VMIMG_CHECKED;

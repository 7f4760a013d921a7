/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the file systems of a disk declare unused. Each is read twice: first to see that what it
 * says holds together (counts agree, nothing overlaps, nothing lies outside), and only then ranges
 * are told, so that a damaged one gives none. One that was not unmounted, has a journal to be
 * replayed or is hibernated, is left alone as a whole, and so is whatever is not known for certain.
 * Nothing grows with the disk.
 */
#pragma once
#include "io/io.h"

struct vmimg_unused {
	uint32_t sector_size; /* of the disk */
	bool gaps;            /* also what lies between partitions */
	/* [at, at + len) of the disk, len > 0; ascending, never twice. -1, with err set, ends the
	 * walk. */
	int (*each)(void *ctx, uint64_t at, uint64_t len, struct vmimg_error *err);
	/* What is left alone, and why, both fit to show; may be NULL. part 0: the whole disk.
	 * type: of its file system, NULL: none that is known. */
	void (*left)(void *ctx, unsigned part, const char *type, const char *why);
	void *ctx;
};

/* io: what the guest sees. Trouble with what a file system says is told through left(); what fails
 * is reading, memory, the partition table or each(). */
int vmimg_unused_walk(
	struct vmimg_io *io, const struct vmimg_unused *how, struct vmimg_error *err) VMIMG_CHECKED;

/* The sum of what one file system declares unused; of one that would be left alone it fails. */
int vmimg_unused_sum(struct vmimg_io *io, const char *type, uint64_t *bytes,
	struct vmimg_error *err) VMIMG_CHECKED;

/* ---- for the readers, one a kind of file system --------------------------------------------- */

struct vmimg_unused_sink {
	const struct vmimg_unused *how; /* NULL: the first time, when nothing is told */
	uint64_t base, size;            /* of the file system on the disk */
	uint64_t at, len;               /* the range that may still grow */
	bool stopped;                   /* each() failed */
};
/* [at, at + len) of the file system; ascending. */
int vmimg_unused_add(struct vmimg_unused_sink *sink, uint64_t at, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The clear bits of a bitmap, lowest bit of a byte first: bit i stands for unit bytes at base + i *
 * unit. *count is raised by how many there are. */
int vmimg_unused_add_bits(struct vmimg_unused_sink *sink, const uint8_t *bits, uint64_t count,
	uint64_t base, uint64_t unit, uint64_t *clear, struct vmimg_error *err) VMIMG_CHECKED;

typedef int vmimg_unused_reader(
	struct vmimg_io *io, struct vmimg_unused_sink *sink, struct vmimg_error *err);
vmimg_unused_reader vmimg_unused_ext, vmimg_unused_fat, vmimg_unused_ntfs, vmimg_unused_xfs,
	vmimg_unused_exfat;

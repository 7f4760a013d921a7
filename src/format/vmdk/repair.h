/* SPDX-License-Identifier: Apache-2.0 */
/* What repair is made of: repair.c (the header, and what comes when), repair_tables.c with
 * repair_grains.c (directories and tables), rebuild.c with rebuild_walk.c (streams that have lost
 * theirs). */
#pragma once
#include "disk/report.h"
#include "format/vmdk/vmdk.h"

/* ---- repair_tables.c ---- */

/* The extent being repaired. */
struct vmdk_mending {
	const struct vmimg_disk *disk;
	const struct vmdk_extent *e;
	struct vmdk_header
		header; /* as it is in the file; changed fields are the caller's to write */
	bool header_changed;
	struct vmimg_io *rw;
	struct vmimg_report *fixed;
};
/*
 * Both directories lead to tables of their own that say the same: what one has lost is taken from
 * the other. Entries that lead nowhere in both, or where an earlier one leads, become zeroes.
 */
int vmimg_vmdk_repair_tables(struct vmdk_mending *m, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- rebuild.c ---- */

/* A stream whose directory or footer is lost, with others made from its markers laid over it. */
struct vmdk_rebuilt {
	struct vmimg_io *io;
	uint64_t grains;    /* found */
	bool old_directory; /* only what leads to it was lost */
	struct vmdk_unknown {
		uint64_t start, end; /* of the guest: between what is damaged, or past its end */
	} * unknown;
	size_t count, cap; /* of unknown */
};
/* g: its directory is found in the new io. NULL with VMIMG_ECORRUPT: there are no markers. */
struct vmdk_rebuilt *vmimg_vmdk_rebuild(
	struct vmdk_grains *g, struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether it is not known what the guest has at `at`; *end: until where that is so. */
bool vmimg_vmdk_is_unknown(const struct vmdk_rebuilt *rebuilt, uint64_t at, uint64_t *end);
void vmimg_vmdk_rebuilt_free(struct vmdk_rebuilt *rebuilt);

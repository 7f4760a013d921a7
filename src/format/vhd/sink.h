/* SPDX-License-Identifier: Apache-2.0 */
/* A VHD being written: between create.c (options, headers), sink.c (dynamic and differencing disks)
 * and sink_fixed.c. */
#pragma once
#include "disk/sink.h"
#include "format/vhd/vhd.h"
#include "util/limits.h"

/* Entries of the block table in memory; the ones before have been written, the ones after are
 * VMIMG_VHD_UNUSED. */
#define VMIMG_VHD_WINDOW 16384U

/* The data of a block begins at a multiple of this, so that file systems can share it. */
#define VMIMG_VHD_ALIGN 4096U

struct vmimg_vhd_sink {
	struct vmimg_sink sink;
	struct vmimg_io *io;
	uint32_t type, timestamp;
	uint8_t creator[4];
	bool unique, has_uuid;
	struct vmimg_guid uuid; /* given, when has_uuid */
	uint64_t content;       /* folded digests */
	/* differencing */
	char *parent_name;
	struct vmimg_identity parent;
	/* dynamic and differencing */
	uint32_t block_size, bitmap_bytes, entries;
	uint64_t bat_at, tables_end; /* tables_end: past the locators of a child, too */
	uint64_t end;                /* where the next block goes */
	uint64_t block;       /* being filled */
	uint64_t block_at;    /* of its bitmap; 0: no block is being filled */
	uint8_t *bitmap;
	uint64_t window; /* entry that bat begins with */
	uint8_t *bat;
};

/* ---- sink.c ---- */

extern const struct vmimg_sink_ops vmimg_vhd_dynamic_ops;
/* Where the first block goes, when the tables end there. */
uint64_t vmimg_vhd_first_block(uint64_t tables_end, uint32_t bitmap_bytes);
/* From one block to the next. */
uint64_t vmimg_vhd_block_stride(uint32_t block_size, uint32_t bitmap_bytes);
/* Where the last of count blocks ends or, where there are none, the tables do. The footer follows
 * without a gap: QEMU puts a new block there, and shows the guest what was left of an old footer
 * further on. */
uint64_t vmimg_vhd_blocks_end(
	uint64_t tables_end, uint64_t count, uint32_t block_size, uint32_t bitmap_bytes);
/* Adds what is known of a chunk to the identity. */
void vmimg_vhd_fold(struct vmimg_vhd_sink *s, const struct vmimg_chunk *chunk);
void vmimg_vhd_sink_close(struct vmimg_sink *sink);

/* ---- sink_fixed.c ---- */

extern const struct vmimg_sink_ops vmimg_vhd_fixed_ops;

/* ---- footer_write.c ---- */

/* The 512 bytes of the footer. */
int vmimg_vhd_make_footer(const struct vmimg_vhd_sink *s, uint8_t bytes[VMIMG_VHD_FOOTER_SIZE],
	struct vmimg_error *err) VMIMG_CHECKED;
/* The dynamic disk header, and what it points to but for the block table. */
int vmimg_vhd_write_header(struct vmimg_vhd_sink *s, struct vmimg_error *err) VMIMG_CHECKED;
/* The parent's name into the header, and into two locators, whose texts go to locators_at. */
int vmimg_vhd_name_parent(struct vmimg_io *io, struct vmimg_vhd_header *header, const char *name,
	uint64_t locators_at, struct vmimg_error *err) VMIMG_CHECKED;
/* Bytes that they take; set aside after the block table of a new child. */
#define VMIMG_VHD_LOCATOR_SPACE (2U * VMIMG_MAX_NAME)

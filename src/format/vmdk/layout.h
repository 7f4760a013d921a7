/* SPDX-License-Identifier: Apache-2.0 */
/* VMDK on disk: the headers of the three kinds of sparse extents, and markers. Little-endian.
 * doc/formats/vmdk.md says what the fields mean. */
#pragma once
#include "util/layout.h"

#define VMDK_SECTOR UINT64_C(512)

/* ---- hosted sparse extents (monolithicSparse, streamOptimized, twoGbMaxExtentSparse) ---- */

#define VMDK_MAGIC          UINT32_C(0x564d444b) /* "KDMV" */
#define VMDK_FLAG_NEWLINE   UINT32_C(0x1)        /* the four line-end bytes are there */
#define VMDK_FLAG_REDUNDANT UINT32_C(0x2)        /* there is a redundant grain directory */
#define VMDK_FLAG_ZEROED    UINT32_C(0x4)        /* a grain table entry of 1 is a zero grain */
#define VMDK_FLAG_PACKED    UINT32_C(0x10000)
#define VMDK_FLAG_MARKERS   UINT32_C(0x20000)
#define VMDK_GD_AT_END      UINT64_MAX /* gd_offset is in the footer */
#define VMDK_COMPRESS_ZLIB  1

/* All offsets and sizes in sectors. */
#define VMDK_HEADER(F, B)              \
	F(le32, magic, 0)              \
	F(le32, version, 4)            \
	F(le32, flags, 8)              \
	F(le64, capacity, 12)          \
	F(le64, grain_size, 20)        \
	F(le64, descriptor_offset, 28) \
	F(le64, descriptor_size, 36)   \
	F(le32, entries_per_table, 44) \
	F(le64, rgd_offset, 48)        \
	F(le64, gd_offset, 56)         \
	F(le64, overhead, 64)          \
	F(u8, unclean, 72)             \
	B(4, line_ends, 73)            \
	F(le16, compress_algorithm, 77)
VMIMG_LAYOUT(vmdk_header, 512, VMDK_HEADER);

#define VMDK_LINE_ENDS "\n \r\n"

/* A marker: before a compressed grain its first 12 bytes; otherwise a sector of its own. */
#define VMDK_MARKER(F, B) \
	F(le64, value, 0) \
	F(le32, size, 8)  \
	F(le32, type, 12)
VMIMG_LAYOUT(vmdk_marker, 16, VMDK_MARKER);

#define VMDK_GRAIN_HEAD 12U /* bytes before a compressed grain's data */

enum { VMDK_MARKER_EOS, VMDK_MARKER_GT, VMDK_MARKER_GD, VMDK_MARKER_FOOTER, VMDK_MARKER_PROGRESS };

/* ---- COWD: ESX's vmfsSparse -------------------------------------------------------------- */

#define VMDK_COWD_MAGIC   UINT32_C(0x44574f43) /* "COWD" */
#define VMDK_COWD_ENTRIES 4096U                /* in each grain table */

#define VMDK_COWD(F, B)         \
	F(le32, magic, 0)       \
	F(le32, version, 4)     \
	F(le32, flags, 8)       \
	F(le32, capacity, 12)   \
	F(le32, grain_size, 16) \
	F(le32, gd_offset, 20)  \
	F(le32, gd_entries, 24) \
	F(le32, next_free, 28)  \
	F(le32, unclean, 1648)
VMIMG_LAYOUT(vmdk_cowd, 2048, VMDK_COWD);

/* ---- seSparse: ESXi 6.5 and later -------------------------------------------------------- */

#define VMDK_SE_MAGIC          UINT64_C(0xcafebabe)
#define VMDK_SE_VOLATILE_MAGIC UINT64_C(0xcafecafe)
#define VMDK_SE_VERSION        UINT64_C(0x200000001) /* 2.1 */

/* All offsets and sizes in sectors. */
#define VMDK_SE_HEADER(F, B)               \
	F(le64, magic, 0)                  \
	F(le64, version, 8)                \
	F(le64, capacity, 16)              \
	F(le64, grain_size, 24)            \
	F(le64, table_size, 32)            \
	F(le64, flags, 40)                 \
	F(le64, volatile_offset, 80)       \
	F(le64, volatile_size, 88)         \
	F(le64, journal_header_offset, 96) \
	F(le64, journal_header_size, 104)  \
	F(le64, journal_offset, 112)       \
	F(le64, journal_size, 120)         \
	F(le64, gd_offset, 128)            \
	F(le64, gd_size, 136)              \
	F(le64, tables_offset, 144)        \
	F(le64, tables_size, 152)          \
	F(le64, free_bitmap_offset, 160)   \
	F(le64, free_bitmap_size, 168)     \
	F(le64, backmap_offset, 176)       \
	F(le64, backmap_size, 184)         \
	F(le64, grains_offset, 192)        \
	F(le64, grains_size, 200)
VMIMG_LAYOUT(vmdk_se_header, 512, VMDK_SE_HEADER);

#define VMDK_SE_VOLATILE(F, B)        \
	F(le64, magic, 0)             \
	F(le64, free_table, 8)        \
	F(le64, next_transaction, 16) \
	F(le64, replay_journal, 24)
VMIMG_LAYOUT(vmdk_se_volatile, 512, VMDK_SE_VOLATILE);

/* The kind of an seSparse grain table entry is in its top four bits. */
enum { VMDK_SE_ABSENT, VMDK_SE_UNMAPPED, VMDK_SE_ZERO, VMDK_SE_DATA };
#define VMDK_SE_TABLE_MARK UINT64_C(0x10000000) /* top half of a grain directory entry in use */

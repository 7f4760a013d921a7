/* SPDX-License-Identifier: Apache-2.0 */
/* QCOW2 on disk (QEMU docs/interop/qcow2); all numbers are big-endian. */
#pragma once
#include "util/layout.h"

#define QCOW2_MAGIC 0x514649fb /* "QFI\xfb" */

/* "Header": the first 72 bytes are all of it in version 2. */
#define QCOW2_V2_LENGTH 72
#define QCOW2_V3_LENGTH 104 /* the least; 112 with the compression type */
#define QCOW2_HEADER(F, B)                   \
	F(be32, magic, 0)                    \
	F(be32, version, 4)                  \
	F(be64, backing_offset, 8)           \
	F(be32, backing_size, 16)            \
	F(be32, cluster_bits, 20)            \
	F(be64, size, 24)                    \
	F(be32, crypt_method, 32)            \
	F(be32, l1_size, 36)                 \
	F(be64, l1_offset, 40)               \
	F(be64, refcount_table, 48)          \
	F(be32, refcount_table_clusters, 56) \
	F(be32, snapshot_count, 60)          \
	F(be64, snapshots_offset, 64)        \
	F(be64, incompatible, 72)            \
	F(be64, compatible, 80)              \
	F(be64, autoclear, 88)               \
	F(be32, refcount_order, 96)          \
	F(be32, header_length, 100)          \
	F(u8, compression_type, 104)
VMIMG_LAYOUT(vmimg_qcow2_header, 112, QCOW2_HEADER);

#define QCOW2_INCOMPATIBLE_DIRTY       (UINT64_C(1) << 0)
#define QCOW2_INCOMPATIBLE_CORRUPT     (UINT64_C(1) << 1)
#define QCOW2_INCOMPATIBLE_DATA_FILE   (UINT64_C(1) << 2)
#define QCOW2_INCOMPATIBLE_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_INCOMPATIBLE_EXTENDED_L2 (UINT64_C(1) << 4)
#define QCOW2_INCOMPATIBLE_KNOWN       UINT64_C(0x1f)
#define QCOW2_COMPATIBLE_LAZY          (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_BITMAPS        (UINT64_C(1) << 0)
#define QCOW2_AUTOCLEAR_RAW_DATA       (UINT64_C(1) << 1)

enum { QCOW2_COMPRESSION_ZLIB, QCOW2_COMPRESSION_ZSTD };
enum { QCOW2_CRYPT_NONE, QCOW2_CRYPT_AES, QCOW2_CRYPT_LUKS };

/* "Header extensions": type, length, data padded to 8 bytes. */
#define QCOW2_EXT_END            0x00000000
#define QCOW2_EXT_BACKING_FORMAT 0xe2792aca
#define QCOW2_EXT_FEATURES       0x6803f857
#define QCOW2_EXT_BITMAPS        0x23852875
#define QCOW2_EXT_CRYPTO         0x0537be77
#define QCOW2_EXT_DATA_FILE      0x44415441
#define QCOW2_EXTENSION(F, B)    F(be32, type, 0) F(be32, length, 4)
VMIMG_LAYOUT(vmimg_qcow2_extension, 8, QCOW2_EXTENSION);

/* An entry of the feature name table. */
#define QCOW2_FEATURE(F, B) F(u8, type, 0) F(u8, bit, 1) B(46, name, 2)
VMIMG_LAYOUT(vmimg_qcow2_feature, 48, QCOW2_FEATURE);

/* "Bitmaps extension" */
#define QCOW2_BITMAPS(F, B) F(be32, count, 0) F(be64, directory_size, 8) F(be64, directory, 16)
VMIMG_LAYOUT(vmimg_qcow2_bitmaps, 24, QCOW2_BITMAPS);

/* "Full disk encryption header pointer" */
#define QCOW2_CRYPTO(F, B) F(be64, offset, 0) F(be64, length, 8)
VMIMG_LAYOUT(vmimg_qcow2_crypto, 16, QCOW2_CRYPTO);

/* "Snapshots": a table entry, followed by extra data, id and name, padded to 8 bytes. */
#define QCOW2_SNAPSHOT(F, B)       \
	F(be64, l1_offset, 0)      \
	F(be32, l1_size, 8)        \
	F(be16, id_size, 12)       \
	F(be16, name_size, 14)     \
	F(be32, date_sec, 16)      \
	F(be32, date_nsec, 20)     \
	F(be64, vm_clock_nsec, 24) \
	F(be32, vm_state_size, 32) \
	F(be32, extra_size, 36)
VMIMG_LAYOUT(vmimg_qcow2_snapshot_entry, 40, QCOW2_SNAPSHOT);
#define QCOW2_SNAPSHOT_EXTRA(F, B) \
	F(be64, vm_state_size, 0) F(be64, disk_size, 8) F(be64, icount, 16)
VMIMG_LAYOUT(vmimg_qcow2_snapshot_extra, 24, QCOW2_SNAPSHOT_EXTRA);

/* "Bitmap directory": an entry, followed by extra data and the name, padded to 8 bytes. */
#define QCOW2_BITMAP(F, B)          \
	F(be64, table_offset, 0)    \
	F(be32, table_size, 8)      \
	F(be32, flags, 12)          \
	F(u8, type, 16)             \
	F(u8, granularity_bits, 17) \
	F(be16, name_size, 18)      \
	F(be32, extra_size, 20)
VMIMG_LAYOUT(vmimg_qcow2_bitmap_entry, 24, QCOW2_BITMAP);
#define QCOW2_BITMAP_IN_USE   (1U << 0)
#define QCOW2_BITMAP_AUTO     (1U << 1)
#define QCOW2_BITMAP_EXTRA_OK (1U << 2)
#define QCOW2_BITMAP_DIRTY    1 /* the only type */
#define QCOW2_BITMAP_ALL_ONES UINT64_C(1)

/* Table entries. */
#define QCOW2_OFFSET     UINT64_C(0x00fffffffffffe00)
#define QCOW2_COPIED     (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED (UINT64_C(1) << 62)
#define QCOW2_ZERO       (UINT64_C(1) << 0)

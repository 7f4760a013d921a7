/* SPDX-License-Identifier: Apache-2.0 */
/* VHDX structures as they lie in the file ([MS-VHDX] 2); all numbers are little-endian, GUIDs in
 * the mixed order. */
#pragma once
#include "util/layout.h"

#define VHDX_KIB UINT64_C(1024)
#define VHDX_MIB (UINT64_C(1) << 20)

/* Where the fixed structures are (2.2). Everything else is aligned to 1 MiB, from there on. */
#define VHDX_FILE_ID       "vhdxfile"
#define VHDX_CREATOR_AT    8
#define VHDX_CREATOR_SIZE  512
#define VHDX_HEADER_AT(i)  (64 * VHDX_KIB * (1 + (i)))
#define VHDX_HEADER_SIZE   4096U
#define VHDX_REGIONS_AT(i) (64 * VHDX_KIB * (3 + (i)))
#define VHDX_REGIONS_SIZE  65536U
#define VHDX_HEAD_END      VHDX_MIB

/* 2.2.2 */
#define VHDX_HEADER_MAGIC 0x64616568U /* "head" */
#define VHDX_VERSION      1
#define VHDX_LOG_VERSION  0
#define VHDX_HEADER(F, B)          \
	F(le32, magic, 0)          \
	F(le32, checksum, 4)       \
	F(le64, sequence, 8)       \
	B(16, file_write_guid, 16) \
	B(16, data_write_guid, 32) \
	B(16, log_guid, 48)        \
	F(le16, log_version, 64)   \
	F(le16, version, 66)       \
	F(le32, log_length, 68)    \
	F(le64, log_at, 72)
VMIMG_LAYOUT(vhdx_header, 80, VHDX_HEADER);

/* 2.2.3 */
#define VHDX_REGIONS_MAGIC   0x69676572U /* "regi" */
#define VHDX_REGIONS_MAX     2047U
#define VHDX_REGION_REQUIRED 1U
#define VHDX_REGIONS_HEAD(F, B) \
	F(le32, magic, 0)       \
	F(le32, checksum, 4)    \
	F(le32, count, 8)
VMIMG_LAYOUT(vhdx_regions_head, 16, VHDX_REGIONS_HEAD);
#define VHDX_REGION(F, B)   \
	B(16, guid, 0)      \
	F(le64, at, 16)     \
	F(le32, length, 24) \
	F(le32, flags, 28)
VMIMG_LAYOUT(vhdx_region, 32, VHDX_REGION);

#define VHDX_GUID_BAT      "2dc27766-f623-4200-9d64-115e9bfd4a08"
#define VHDX_GUID_METADATA "8b7ca206-4790-4b9a-b8fe-575f050f886e"

/* 2.3 */
#define VHDX_LOG_SECTOR      4096U
#define VHDX_LOG_ENTRY_MAGIC 0x65676f6cU /* "loge" */
#define VHDX_LOG_ZERO_MAGIC  0x6f72657aU /* "zero" */
#define VHDX_LOG_DESC_MAGIC  0x63736564U /* "desc" */
#define VHDX_LOG_DATA_MAGIC  0x61746164U /* "data" */
#define VHDX_LOG_ENTRY(F, B)             \
	F(le32, magic, 0)                \
	F(le32, checksum, 4)             \
	F(le32, length, 8)               \
	F(le32, tail, 12)                \
	F(le64, sequence, 16)            \
	F(le32, descriptor_count, 24)    \
	B(16, log_guid, 32)              \
	F(le64, flushed_file_offset, 48) \
	F(le64, last_file_offset, 56)
VMIMG_LAYOUT(vhdx_log_entry, 64, VHDX_LOG_ENTRY);
/* Zero and data descriptors have their offset and sequence number in the same place. */
#define VHDX_LOG_DESC(F, B)  \
	F(le32, magic, 0)    \
	F(le32, trailing, 4) \
	F(le64, leading, 8)  \
	F(le64, at, 16)      \
	F(le64, sequence, 24)
VMIMG_LAYOUT(vhdx_log_desc, 32, VHDX_LOG_DESC);
#define VHDX_LOG_DATA(F, B)       \
	F(le32, magic, 0)         \
	F(le32, sequence_high, 4) \
	F(le32, sequence_low, 4092)
VMIMG_LAYOUT(vhdx_log_data, 4096, VHDX_LOG_DATA);

/* 2.5: an entry is state (3 bits), reserved (17), offset in MiB (44). */
#define VHDX_BAT_STATE(entry) ((unsigned)((entry)&7))
#define VHDX_BAT_AT(entry)    ((entry) >> 20 << 20)
#define VHDX_BAT_RESERVED     UINT64_C(0xffff8)
enum vhdx_block_state {
	VHDX_BLOCK_NOT_PRESENT = 0,
	VHDX_BLOCK_UNDEFINED = 1,
	VHDX_BLOCK_ZERO = 2,
	VHDX_BLOCK_UNMAPPED = 3,
	VHDX_BLOCK_UNMAPPED_OLD = 5, /* of the draft 0.95 */
	VHDX_BLOCK_PRESENT = 6,      /* of sector bitmap blocks too */
	VHDX_BLOCK_PARTIAL = 7,
};
/* One bit for each sector; a chunk is what one sector bitmap block, of 1 MiB, covers. */
#define VHDX_CHUNK_SECTORS (UINT64_C(1) << 23)

/* 2.6.1 */
#define VHDX_METADATA_MAGIC      UINT64_C(0x617461646174656d) /* "metadata" */
#define VHDX_METADATA_TABLE_SIZE 65536U
#define VHDX_METADATA_MAX        2047U
#define VHDX_METADATA_ITEM_MAX   (UINT32_C(1) << 20)
#define VHDX_METADATA_USER       1U
#define VHDX_METADATA_VIRTUAL    2U
#define VHDX_METADATA_REQUIRED   4U
#define VHDX_METADATA_HEAD(F, B) \
	F(le64, magic, 0)        \
	F(le16, count, 10)
VMIMG_LAYOUT(vhdx_metadata_head, 32, VHDX_METADATA_HEAD);
#define VHDX_METADATA_ENTRY(F, B) \
	B(16, guid, 0)            \
	F(le32, at, 16)           \
	F(le32, length, 20)       \
	F(le32, flags, 24)
VMIMG_LAYOUT(vhdx_metadata_entry, 32, VHDX_METADATA_ENTRY);

/* 2.6.2 */
#define VHDX_GUID_FILE_PARAMETERS "caa16737-fa36-4d43-b3b6-33f0aa44e76b"
#define VHDX_GUID_DISK_SIZE       "2fa54224-cd1b-4876-b211-5dbed83bf4b8"
#define VHDX_GUID_DISK_ID         "beca12ab-b2e6-4523-93ef-c309e000c746"
#define VHDX_GUID_LOGICAL_SECTOR  "8141bf1d-a96f-4709-ba47-f233a8faab5f"
#define VHDX_GUID_PHYSICAL_SECTOR "cda348c7-445d-4471-9cc9-e9885251c556"
#define VHDX_GUID_PARENT_LOCATOR  "a8d35f2d-b30b-454d-abf7-d3d84834ab0c"
#define VHDX_LEAVE_ALLOCATED      1U
#define VHDX_HAS_PARENT           2U
#define VHDX_DISK_MAX             (UINT64_C(64) << 40)
#define VHDX_BLOCK_MIN            VHDX_MIB
#define VHDX_BLOCK_MAX            (256 * VHDX_MIB)

/* 2.6.2.6 */
#define VHDX_GUID_LOCATOR_TYPE "b04aefb7-d19e-4a81-b789-25b8e9445913"
#define VHDX_LOCATOR_HEAD(F, B) \
	B(16, type, 0)          \
	F(le16, count, 18)
VMIMG_LAYOUT(vhdx_locator_head, 20, VHDX_LOCATOR_HEAD);
#define VHDX_LOCATOR_ENTRY(F, B) \
	F(le32, key_at, 0)       \
	F(le32, value_at, 4)     \
	F(le16, key_length, 8)   \
	F(le16, value_length, 10)
VMIMG_LAYOUT(vhdx_locator_entry, 12, VHDX_LOCATOR_ENTRY);

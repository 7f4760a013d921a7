/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VDI on disk, little-endian throughout. Sources: formats.kaitai.io/vdi, the forensics wiki's
 * "VDI", and the structures of VirtualBox as described by their comments. doc/formats/vdi.md
 * explains the fields.
 */
#pragma once
#include "util/layout.h"

#define VMIMG_VDI_MAGIC      0xbeda107fU
#define VMIMG_VDI_TEXT_START "<<< "

/* What every version begins with. */
#define VMIMG_VDI_PRE_SIZE 72
#define VMIMG_VDI_PRE(F, B) \
	B(64, text, 0)      \
	F(le32, magic, 64)  \
	F(le16, minor, 68)  \
	F(le16, major, 70)
VMIMG_LAYOUT(vmimg_vdi_pre, VMIMG_VDI_PRE_SIZE, VMIMG_VDI_PRE);

#define VMIMG_VDI_COMMENT 256

/* Version 0.x; offsets from the start of the file. The block map follows at once, the data it. */
#define VMIMG_VDI_HEADER0_SIZE 420
#define VMIMG_VDI_HEADER0(F, B)   \
	F(le32, type, 72)         \
	F(le32, flags, 76)        \
	B(256, comment, 80)       \
	F(le32, cylinders, 336)   \
	F(le32, heads, 340)       \
	F(le32, sectors, 344)     \
	F(le32, sector_size, 348) \
	F(le64, disk_size, 352)   \
	F(le32, block_size, 360)  \
	F(le32, blocks, 364)      \
	F(le32, allocated, 368)   \
	B(16, uuid, 372)          \
	B(16, modified, 388)      \
	B(16, link, 404)
VMIMG_LAYOUT(vmimg_vdi_header0, VMIMG_VDI_HEADER0_SIZE, VMIMG_VDI_HEADER0);

/* Version 1.x. header_size counts from its own offset, 72: at least 384, and 400 with the second
 * geometry of 1.1. */
#define VMIMG_VDI_HEADER1_SIZE  472
#define VMIMG_VDI_HEADER1_LEAST 384
#define VMIMG_VDI_HEADER1(F, B)         \
	F(le32, header_size, 72)        \
	F(le32, type, 76)               \
	F(le32, flags, 80)              \
	B(256, comment, 84)             \
	F(le32, map_at, 340)            \
	F(le32, data_at, 344)           \
	F(le32, cylinders, 348)         \
	F(le32, heads, 352)             \
	F(le32, sectors, 356)           \
	F(le32, sector_size, 360)       \
	F(le64, disk_size, 368)         \
	F(le32, block_size, 376)        \
	F(le32, block_extra, 380)       \
	F(le32, blocks, 384)            \
	F(le32, allocated, 388)         \
	B(16, uuid, 392)                \
	B(16, modified, 408)            \
	B(16, link, 424)                \
	B(16, parent_modified, 440)     \
	F(le32, logical_cylinders, 456) \
	F(le32, logical_heads, 460)     \
	F(le32, logical_sectors, 464)   \
	F(le32, logical_sector_size, 468)
VMIMG_LAYOUT(vmimg_vdi_header1, VMIMG_VDI_HEADER1_SIZE, VMIMG_VDI_HEADER1);

#define VMIMG_VDI_DYNAMIC      1U
#define VMIMG_VDI_FIXED        2U
#define VMIMG_VDI_UNDO         3U
#define VMIMG_VDI_DIFFERENCING 4U

/* Entries of the block map: numbers of blocks in the file, or */
#define VMIMG_VDI_ABSENT 0xffffffffU /* the parent has it; without a parent, zeroes */
#define VMIMG_VDI_ZERO   0xfffffffeU /* discarded: zeroes, whatever the parent has */

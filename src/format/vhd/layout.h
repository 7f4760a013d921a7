/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHD on disk, big-endian throughout. Source: Microsoft, "Virtual Hard Disk Image Format
 * Specification", 1.0 (2006); the batmap is Xen's. doc/formats/vhd.md explains the fields.
 */
#pragma once
#include "util/layout.h"

#define VMIMG_VHD_SECTOR 512U

/* Seconds from 1970 to 2000, where VHD's clock starts. */
#define VMIMG_VHD_EPOCH 946684800U

#define VMIMG_VHD_COOKIE  "conectix"
#define VMIMG_VHD_VERSION 0x00010000U
#define VMIMG_VHD_NOWHERE UINT64_C(0xffffffffffffffff)

#define VMIMG_VHD_FEATURE_TEMPORARY 1U
#define VMIMG_VHD_FEATURE_RESERVED  2U /* always set */

#define VMIMG_VHD_FIXED        2U
#define VMIMG_VHD_DYNAMIC      3U
#define VMIMG_VHD_DIFFERENCING 4U

#define VMIMG_VHD_FOOTER_SIZE 512
#define VMIMG_VHD_FOOTER_OLD  511 /* before 2004: its last reserved byte was left out */
#define VMIMG_VHD_FOOTER(F, B)     \
	B(8, cookie, 0)            \
	F(be32, features, 8)       \
	F(be32, version, 12)       \
	F(be64, data_offset, 16)   \
	F(be32, timestamp, 24)     \
	B(4, creator, 28)          \
	F(be32, creator_ver, 32)   \
	B(4, creator_os, 36)       \
	F(be64, original_size, 40) \
	F(be64, current_size, 48)  \
	F(be16, cylinders, 56)     \
	F(u8, heads, 58)           \
	F(u8, sectors, 59)         \
	F(be32, type, 60)          \
	F(be32, checksum, 64)      \
	B(16, uuid, 68)            \
	F(u8, saved_state, 84)     \
	F(u8, hidden, 85) /* Xen; reserved elsewhere */
VMIMG_LAYOUT(vmimg_vhd_footer, VMIMG_VHD_FOOTER_SIZE, VMIMG_VHD_FOOTER);
#define VMIMG_VHD_FOOTER_SUM_AT 64

#define VMIMG_VHD_HEADER_COOKIE "cxsparse"
#define VMIMG_VHD_HEADER_SIZE   1024
#define VMIMG_VHD_LOCATORS      8
#define VMIMG_VHD_NAME_BYTES    512
#define VMIMG_VHD_HEADER(F, B)    \
	B(8, cookie, 0)           \
	F(be64, data_offset, 8)   \
	F(be64, table_offset, 16) \
	F(be32, version, 24)      \
	F(be32, entries, 28)      \
	F(be32, block_size, 32)   \
	F(be32, checksum, 36)     \
	B(16, parent_uuid, 40)    \
	F(be32, parent_time, 56)  \
	B(512, parent_name, 64)   \
	B(192, locators, 576)
VMIMG_LAYOUT(vmimg_vhd_header, VMIMG_VHD_HEADER_SIZE, VMIMG_VHD_HEADER);
#define VMIMG_VHD_HEADER_SUM_AT 36

#define VMIMG_VHD_LOCATOR_SIZE 24
#define VMIMG_VHD_LOCATOR(F, B)                                             \
	B(4, platform, 0)                                                   \
	F(be32, space, 4) /* bytes set aside, or sectors: writers differ */ \
	F(be32, len, 8)                                                     \
	F(be64, at, 16)
VMIMG_LAYOUT(vmimg_vhd_locator, VMIMG_VHD_LOCATOR_SIZE, VMIMG_VHD_LOCATOR);

#define VMIMG_VHD_UNUSED 0xffffffffU /* BAT entry: the block is not in the file */

#define VMIMG_VHD_BATMAP_COOKIE "tdbatmap"
#define VMIMG_VHD_BATMAP_SIZE   512
#define VMIMG_VHD_BATMAP(F, B)                                                                \
	B(8, cookie, 0)                                                                       \
	F(be64, at, 8)                                                                        \
	F(be32, sectors, 16)                                                                  \
	F(be32, version, 20)                                                                  \
	F(be32, checksum, 24)                                                                 \
	F(u8, marker, 28)                                                                     \
	F(u8, key_cookie, 29) /* 1: the data is encrypted, and this is the hash of its key */ \
	B(32, key_nonce, 30)                                                                  \
	B(32, key_hash, 62)
VMIMG_LAYOUT(vmimg_vhd_batmap, VMIMG_VHD_BATMAP_SIZE, VMIMG_VHD_BATMAP);

/* SPDX-License-Identifier: Apache-2.0 */
/* LUKS version 1 on disk (LUKS1 On-Disk Format Specification 1.2.3, 2.3); big-endian. Offsets are
 * sectors of 512 bytes. */
#pragma once
#include "util/layout.h"

#define LUKS_MAGIC "LUKS\xba\xbe"
#define LUKS_SLOTS 8

#define LUKS_HEADER(F, B)               \
	B(6, magic, 0)                  \
	F(be16, version, 6)             \
	B(32, cipher_name, 8)           \
	B(32, cipher_mode, 40)          \
	B(32, hash, 72)                 \
	F(be32, payload_offset, 104)    \
	F(be32, key_bytes, 108)         \
	B(20, digest, 112)              \
	B(32, digest_salt, 132)         \
	F(be32, digest_iterations, 164) \
	B(40, uuid, 168)
VMIMG_LAYOUT(vmimg_luks_header, 208, LUKS_HEADER);

/* The key slots follow. */
#define LUKS_SLOT(F, B)        \
	F(be32, active, 0)     \
	F(be32, iterations, 4) \
	B(32, salt, 8)         \
	F(be32, material, 40)  \
	F(be32, stripes, 44)
VMIMG_LAYOUT(vmimg_luks_slot, 48, LUKS_SLOT);

#define LUKS_HEADER_SIZE   (208 + LUKS_SLOTS * 48)
#define LUKS_SLOT_ACTIVE   0x00ac71f3
#define LUKS_SLOT_INACTIVE 0x0000dead
#define LUKS_STRIPES       4000U
#define LUKS_ALIGN         8U /* sectors: of key material and payload */

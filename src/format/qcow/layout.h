/* SPDX-License-Identifier: Apache-2.0 */
/* QCOW version 1 on disk (libyal, "QEMU Copy-On-Write file format", version 1); big-endian. */
#pragma once
#include "util/layout.h"

#define QCOW_MAGIC 0x514649fb
#define QCOW_HEADER(F, B)          \
	F(be32, magic, 0)          \
	F(be32, version, 4)        \
	F(be64, backing_offset, 8) \
	F(be32, backing_size, 16)  \
	F(be32, mtime, 20)         \
	F(be64, size, 24)          \
	F(u8, cluster_bits, 32)    \
	F(u8, l2_bits, 33)         \
	F(be32, crypt_method, 36)  \
	F(be64, l1_offset, 40)
VMIMG_LAYOUT(vmimg_qcow_header, 48, QCOW_HEADER);

#define QCOW_COMPRESSED (UINT64_C(1) << 63)

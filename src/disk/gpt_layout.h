/* SPDX-License-Identifier: Apache-2.0 */
/* GUID partition tables on disk, UEFI 2.10 section 5.3: a header in sector 1 with a copy in the
 * last, each with a checksum of itself and of its array of entries. Places are sectors. */
#pragma once
#include "util/layout.h"

#define GPT_HEADER_SIZE 92
#define GPT_ENTRY_SIZE  128

#define GPT_HEADER(F, B)         \
	B(8, signature, 0)       \
	F(le32, revision, 8)     \
	F(le32, header_size, 12) \
	F(le32, header_crc, 16)  \
	F(le64, here, 24)        \
	F(le64, other, 32)       \
	F(le64, first, 40)       \
	F(le64, last, 48)        \
	B(16, guid, 56)          \
	F(le64, entries, 72)     \
	F(le32, count, 80)       \
	F(le32, entry_size, 84)  \
	F(le32, entries_crc, 88)
VMIMG_LAYOUT(gpt_header, GPT_HEADER_SIZE, GPT_HEADER);

#define GPT_ENTRY(F, B)         \
	B(16, type, 0)          \
	B(16, guid, 16)         \
	F(le64, first, 32)      \
	F(le64, last, 40)       \
	F(le64, attributes, 48) \
	B(72, name, 56)
VMIMG_LAYOUT(gpt_entry, GPT_ENTRY_SIZE, GPT_ENTRY);

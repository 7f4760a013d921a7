/* SPDX-License-Identifier: Apache-2.0 */
/* GUID partition tables on disk, UEFI 2.10 section 5.3: a header in sector 1 with a copy in the
 * last, each with a checksum of itself and of its array of entries. */
#pragma once
#include "inspect/parts.h"
#include "util/layout.h"

#define VMIMG_GPT_ENTRY 128

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
VMIMG_LAYOUT(gpt_header, 92, GPT_HEADER);

#define GPT_ENTRY(F, B)         \
	B(16, type, 0)          \
	B(16, guid, 16)         \
	F(le64, first, 32)      \
	F(le64, last, 40)       \
	F(le64, attributes, 48) \
	B(72, name, 56)
VMIMG_LAYOUT(gpt_entry, VMIMG_GPT_ENTRY, GPT_ENTRY);

/* One copy of the table, as read. */
struct vmimg_gpt_copy {
	bool there;        /* its signature is */
	const char *wrong; /* NULL: sound */
	struct gpt_header header;
	uint8_t *entries; /* owned: free() */
	size_t bytes;
};

/* Reads the copy whose header is at `at`. What is wrong with it is told in copy->wrong. */
int vmimg_gpt_read_copy(struct vmimg_io *io, uint32_t sector, uint64_t at,
	struct vmimg_gpt_copy *copy, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* The 512 bytes before each member: ustar, with GNU's use of the room after the group name. */
#pragma once
#include "bundle/tar.h"
#include "util/layout.h"

#define VMIMG_TAR_HEADER(F, B)  \
	B(100, name, 0)         \
	B(8, mode, 100)         \
	B(8, uid, 108)          \
	B(8, gid, 116)          \
	B(12, size, 124)        \
	B(12, mtime, 136)       \
	B(8, checksum, 148)     \
	F(u8, type, 156)        \
	B(100, link, 157)       \
	B(8, magic, 257)        \
	B(32, user, 265)        \
	B(32, group, 297)       \
	B(8, device_major, 329) \
	B(8, device_minor, 337) \
	B(155, prefix, 345)
VMIMG_LAYOUT(vmimg_tar_header, VMIMG_TAR_BLOCK, VMIMG_TAR_HEADER);

/* GNU sparse, in the place of prefix: entries of 12 + 12 digits, a flag that blocks of more entries
 * follow, and the file's real size. Such a block is all entries, and the flag. */
#define VMIMG_TAR_GNU_ENTRIES     386
#define VMIMG_TAR_GNU_ENTRY_COUNT 4
#define VMIMG_TAR_GNU_MORE        482
#define VMIMG_TAR_GNU_REAL_SIZE   483
#define VMIMG_TAR_BLOCK_ENTRIES   21
#define VMIMG_TAR_BLOCK_MORE      504
#define VMIMG_TAR_ENTRY           24

/* The sum of a header's bytes, its checksum's own counted as blanks. is_signed: as some old
 * programs summed. */
uint32_t vmimg_tar_sum(const uint8_t *block, bool is_signed);
/* A number in octal digits or, when the first bit is set, in base-256. False: neither, negative, or
 * more than 63 bits. */
bool vmimg_tar_number(const uint8_t *field, size_t len, uint64_t *value);
/* Extended attributes of one member, as pax has them. Text is NULL, and numbers VMIMG_TAR_NONE,
 * when not given. */
#define VMIMG_TAR_NONE UINT64_MAX
struct vmimg_tar_pax {
	const char *path, *sparse_name, *sparse_map;
	uint64_t size, sparse_size, sparse_major, sparse_minor;
	struct vmimg_sparse_run *runs; /* version 0.0: pairs of records; freed by the caller */
	size_t run_count, run_cap;
};
/* bytes, len of them and a NUL, is cut into pieces that pax points into. */
int vmimg_tar_pax_parse(
	struct vmimg_tar_pax *pax, char *bytes, size_t len, struct vmimg_error *err) VMIMG_CHECKED;
/* A decimal number, ended by until, from *text; moves *text past it. */
bool vmimg_tar_decimal(const char **text, char until, uint64_t *value);

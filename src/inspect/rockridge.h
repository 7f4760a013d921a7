/* SPDX-License-Identifier: Apache-2.0 */
/* The System Use area of a folder's record: SUSP 1.12 and Rock Ridge 1.12 (IEEE P1281, P1282). */
#pragma once
#include "inspect/fs.h"
#include "io/table.h"

struct vmimg_rock {
	bool any; /* something of Rock Ridge is there */
	bool has_mode, has_time;
	uint32_t mode, uid, gid;
	int64_t mtime;
	char name[1024];
	size_t name_len; /* 0: none */
	char link[4096];
	size_t link_len;
	bool is_link;
	uint32_t child;    /* sector of a folder that was moved elsewhere; 0: none */
	bool relocated;    /* is such a folder: hidden where it lies */
	bool packed;       /* zisofs */
	uint32_t unpacked; /* bytes it unpacks to */
};

/* Reads the area at bytes and what it continues in, at most *left bytes. skip: bytes to leave out
 * at its start. */
int vmimg_rock_read(struct vmimg_table *table, const uint8_t *bytes, size_t len, size_t skip,
	struct vmimg_rock *rock, uint64_t *left, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether the root's own record begins a System Use area, and how many bytes others have before
 * theirs. */
bool vmimg_rock_begins(const uint8_t *bytes, size_t len, size_t *skip);
int64_t vmimg_iso_time(const uint8_t *seven);

/* SPDX-License-Identifier: Apache-2.0 */
/* The two copies of a GUID partition table, read and told apart. */
#pragma once
#include "disk/gpt_layout.h"
#include "inspect/parts.h"

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

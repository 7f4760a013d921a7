/* SPDX-License-Identifier: Apache-2.0 */
/* The identity of a disk's content, whatever format it is kept in. */
#pragma once
#include "engine/flow.h"
#include "util/hash.h"

/*
 * algorithm: a digest of OpenSSL's over all guest bytes ("sha256" equals sha256sum of the raw
 * disk), or "tree", which costs nothing on holes and runs on all processors: SHA-256 over the text
 * "vmimg-tree-1" with its NUL, the disk's size as 8 little-endian bytes, and then, for each 64 KiB
 * block that is not all zero, in order, its byte offset (8 bytes, little-endian) and its SHA-256. A
 * last block that is cut short is hashed as it is. hex receives lower-case digits and a NUL.
 */
int vmimg_digest_run(struct vmimg_disk *disk, const char *algorithm,
	const struct vmimg_run_how *how, char hex[2 * VMIMG_HASH_MAX + 1],
	struct vmimg_error *err) VMIMG_CHECKED;

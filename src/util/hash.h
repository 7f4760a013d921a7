/* SPDX-License-Identifier: Apache-2.0 */
/* Cryptographic digests, by OpenSSL's libcrypto, which is loaded when the first one is asked for:
 * most runs of the program need none, and loading it takes longer than they do. */
#pragma once
#include <stddef.h>
#include "util/auto.h"
#include "util/error.h"
#include "util/library.h"

#define VMIMG_HASH_MAX 64 /* bytes of the longest digest */

struct vmimg_hash;

/* name as OpenSSL has it: "sha256", "sha512", "sha1", "md5" …. VMIMG_EINVAL: unknown. */
struct vmimg_hash *vmimg_hash_new(const char *name, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_hash_free(struct vmimg_hash *hash);
VMIMG_AUTO_DEFINE(vmimg_hash_free, struct vmimg_hash *)
void vmimg_hash_update(struct vmimg_hash *hash, const void *bytes, size_t len);
/* Writes the digest, returns its length, and starts anew. */
size_t vmimg_hash_final(struct vmimg_hash *hash, uint8_t out[VMIMG_HASH_MAX]);
/* Lower-case hexadecimal; out holds 2 * len + 1. Returns out. */
char *vmimg_hex(char *out, const uint8_t *bytes, size_t len);
/* For others who need more of it than digests: finds its functions in it, once, from whatever
 * thread. VMIMG_EUNSUPPORTED: they are not there; what ("signatures") needs them. */
int vmimg_libcrypto_need(struct vmimg_library *library, const struct vmimg_function *list,
	size_t count, void *slots, const char *what, struct vmimg_error *err) VMIMG_CHECKED;

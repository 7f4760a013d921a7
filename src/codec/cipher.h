/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk encryption: AES over sectors of 512 bytes, each with an initialization vector made of its
 * number. OpenSSL's libcrypto does it, loaded when the first cipher is made.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "util/auto.h"
#include "util/error.h"

#define VMIMG_SECTOR         512U
#define VMIMG_CIPHER_KEY_MAX 64 /* bytes: XTS has two keys of AES-256 */

enum vmimg_cipher_mode { VMIMG_CIPHER_CBC, VMIMG_CIPHER_XTS };
enum vmimg_cipher_iv {
	VMIMG_IV_PLAIN,   /* the sector's number, 32 bits of it */
	VMIMG_IV_PLAIN64, /* all of it */
	VMIMG_IV_ESSIV,   /* that, encrypted with the SHA-256 of the key */
};

struct vmimg_cipher_kind {
	unsigned key_len; /* bytes, of AES: 16, 24 or 32; the whole key of XTS is twice that */
	enum vmimg_cipher_mode mode;
	enum vmimg_cipher_iv iv;
};

struct vmimg_cipher;

static inline size_t vmimg_cipher_key_len(const struct vmimg_cipher_kind *kind)
{
	return kind->key_len * (kind->mode == VMIMG_CIPHER_XTS ? 2U : 1U);
}

/* key has vmimg_cipher_key_len(kind) bytes, which are copied, and cleared by free. */
struct vmimg_cipher *vmimg_cipher_new(const struct vmimg_cipher_kind *kind, const uint8_t *key,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_cipher_free(struct vmimg_cipher *cipher);
VMIMG_AUTO_DEFINE(vmimg_cipher_free, struct vmimg_cipher *)

/* Whole sectors, the first of which has that number. out may be in. From any thread. */
int vmimg_cipher_encrypt(struct vmimg_cipher *cipher, uint64_t sector, const void *in, void *out,
	size_t len, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_cipher_decrypt(struct vmimg_cipher *cipher, uint64_t sector, const void *in, void *out,
	size_t len, struct vmimg_error *err) VMIMG_CHECKED;

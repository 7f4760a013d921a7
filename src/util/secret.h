/* SPDX-License-Identifier: Apache-2.0 */
/* Keys and ciphers, by OpenSSL's libcrypto, which is loaded when the first one is asked for: RSA
 * with PKCS #1 v1.5 padding, and AES-128-CBC, as old bundles are sealed with. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/auto.h"
#include "util/error.h"

#define VMIMG_SECRET_BLOCK 16U  /* bytes of a block of AES, and of its key here */
#define VMIMG_SECRET_MAX   2048 /* bytes of what an RSA key makes */

/* A private key, or the public one of a certificate. */
struct vmimg_key;

/* What OpenSSL is given for asking for a passphrase: there may be nobody to answer. */
int vmimg_no_passphrase(char *buf, int size, int writing, void *ctx);
/* From PEM text. VMIMG_EINVAL: it is none, or one with a passphrase. */
struct vmimg_key *vmimg_key_private(const char *pem, struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_key *vmimg_key_certificate(const char *pem, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_key_free(struct vmimg_key *key);
VMIMG_AUTO_DEFINE(vmimg_key_free, struct vmimg_key *)

/* out has room for VMIMG_SECRET_MAX bytes. */
int vmimg_key_decrypt(struct vmimg_key *key, const uint8_t *in, size_t len, uint8_t *out,
	size_t *got, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_key_encrypt(struct vmimg_key *key, const uint8_t *in, size_t len, uint8_t *out,
	size_t *got, struct vmimg_error *err) VMIMG_CHECKED;
/* hash as OpenSSL names it. */
int vmimg_key_sign(struct vmimg_key *key, const char *hash, const void *bytes, size_t len,
	uint8_t *out, size_t *got, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_key_verify(struct vmimg_key *key, const char *hash, const void *bytes, size_t len,
	const uint8_t *signature, size_t signature_len, bool *good,
	struct vmimg_error *err) VMIMG_CHECKED;

/* Whole blocks, without padding. out may be in. */
int vmimg_cbc_decrypt(const uint8_t key[VMIMG_SECRET_BLOCK], const uint8_t iv[VMIMG_SECRET_BLOCK],
	const void *in, size_t len, void *out, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_cbc_encrypt(const uint8_t key[VMIMG_SECRET_BLOCK], const uint8_t iv[VMIMG_SECRET_BLOCK],
	const void *in, size_t len, void *out, struct vmimg_error *err) VMIMG_CHECKED;

/* Hexadecimal digits of either case into bytes; false: something else, or not count bytes. */
bool vmimg_unhex(const char *text, uint8_t *bytes, size_t count);

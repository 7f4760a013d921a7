/* SPDX-License-Identifier: Apache-2.0 */
/* RSA signatures with X.509 certificates, by OpenSSL's libcrypto, loaded when the first is asked
 * for. Keys and certificates are PEM texts. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/auto.h"
#include "util/error.h"

struct vmimg_signer;

/* The key must be RSA, without a passphrase, and fit the first certificate. hash: "sha256". */
struct vmimg_signer *vmimg_signer_new(const char *key, const char *certificate, const char *hash,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_signer_free(struct vmimg_signer *signer);
VMIMG_AUTO_DEFINE(vmimg_signer_free, struct vmimg_signer *)
/* Bytes of every signature by it. */
size_t vmimg_signer_size(const struct vmimg_signer *signer);
int vmimg_signer_sign(struct vmimg_signer *signer, const void *bytes, size_t len,
	uint8_t *signature, struct vmimg_error *err) VMIMG_CHECKED;

/* What is known of a signature. */
struct vmimg_signed {
	bool valid;       /* it is of these bytes, by the first certificate's key */
	bool self_signed; /* the last certificate vouches for itself, for what that is worth */
	bool chain;       /* each certificate is signed by the next */
	bool trusted;     /* by one of the roots that were given */
	bool expired;     /* the first one has, or has not begun */
	char subject[200], issuer[200];
};
/* certificates: one or more, the signer's first. roots: those that are trusted; may be NULL. */
int vmimg_signature_check(const char *certificates, const char *roots, const char *hash,
	const void *bytes, size_t len, const uint8_t *signature, size_t signature_len,
	struct vmimg_signed *found, struct vmimg_error *err) VMIMG_CHECKED;

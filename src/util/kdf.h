/* SPDX-License-Identifier: Apache-2.0 */
/* Keys out of passphrases (PBKDF2, RFC 8018 5.2, over HMAC) and out of chance. OpenSSL's libcrypto
 * is loaded when the first one is derived. Who holds a key clears it with explicit_bzero(3). */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

/* Fills key. hash as OpenSSL names it; iterations > 0. VMIMG_EUNSUPPORTED: no such hash here. */
int vmimg_kdf_derive(const char *hash, const void *secret, size_t len, const void *salt,
	size_t salt_len, uint32_t iterations, uint8_t *key, size_t key_len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* How many iterations for a key of key_len bytes take about that much time of this processor. */
int vmimg_kdf_measure(const char *hash, size_t key_len, unsigned milliseconds, uint64_t *iterations,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_random(void *bytes, size_t len, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* The few functions of libcrypto's EVP interface that are used, found with dlsym. OpenSSL 3 and 1.1
 * both have them under these names and with these types. */
#include "util/hash.h"
#include <stdio.h>
#include <string.h>

struct crypto {
	void *(*EVP_MD_CTX_new)(void);
	void (*EVP_MD_CTX_free)(void *);
	const void *(*EVP_get_digestbyname)(const char *);
	int (*EVP_DigestInit_ex)(void *, const void *, void *);
	int (*EVP_DigestUpdate)(void *, const void *, size_t);
	int (*EVP_DigestFinal_ex)(void *, unsigned char *, unsigned *);
};

struct vmimg_hash {
	const struct crypto *crypto;
	void *ctx;
	const void *type;
};

void *vmimg_libcrypto_open(void)
{
	static const char *const names[] = { "libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so",
		NULL };

	return vmimg_library_open(names);
}

int vmimg_libcrypto_need(struct vmimg_library *library, bool (*load)(void *functions),
	void *functions, const char *what, struct vmimg_error *err)
{
	if (vmimg_library_once(library, load, functions))
		return 0;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"%s need OpenSSL's libcrypto, which cannot be loaded here", what);
}

static bool load(void *functions)
{
	struct crypto *c = functions;
	void *library = vmimg_libcrypto_open();

	return library && vmimg_library_find(library, "EVP_MD_CTX_new", &c->EVP_MD_CTX_new) &&
		vmimg_library_find(library, "EVP_MD_CTX_free", &c->EVP_MD_CTX_free) &&
		vmimg_library_find(library, "EVP_get_digestbyname", &c->EVP_get_digestbyname) &&
		vmimg_library_find(library, "EVP_DigestInit_ex", &c->EVP_DigestInit_ex) &&
		vmimg_library_find(library, "EVP_DigestUpdate", &c->EVP_DigestUpdate) &&
		vmimg_library_find(library, "EVP_DigestFinal_ex", &c->EVP_DigestFinal_ex);
}

static const struct crypto *crypto_get(void)
{
	static struct vmimg_library library = VMIMG_LIBRARY;
	static struct crypto crypto;

	return vmimg_library_once(&library, load, &crypto) ? &crypto : NULL;
}

struct vmimg_hash *vmimg_hash_new(const char *name, struct vmimg_error *err)
{
	const struct crypto *crypto = crypto_get();
	VMIMG_AUTO(vmimg_hash_free) struct vmimg_hash *hash = NULL;

	if (!crypto) {
		vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"digests need OpenSSL's libcrypto, which cannot be loaded here");
		return NULL;
	}
	hash = vmimg_new(struct vmimg_hash, err);
	if (!hash)
		return NULL;
	hash->crypto = crypto;
	hash->type = crypto->EVP_get_digestbyname(name);
	if (!hash->type) {
		vmimg_fail(err, VMIMG_EINVAL, "'%.40s' is no digest that OpenSSL knows", name);
		return NULL;
	}
	hash->ctx = crypto->EVP_MD_CTX_new();
	if (!hash->ctx || crypto->EVP_DigestInit_ex(hash->ctx, hash->type, NULL) != 1) {
		vmimg_fail(err, VMIMG_EUNSUPPORTED, "OpenSSL does not give the digest %.40s", name);
		return NULL;
	}
	return vmimg_take(hash);
}

void vmimg_hash_free(struct vmimg_hash *hash)
{
	if (!hash)
		return;
	hash->crypto->EVP_MD_CTX_free(hash->ctx);
	free(hash);
}

void vmimg_hash_update(struct vmimg_hash *hash, const void *bytes, size_t len)
{
	hash->crypto->EVP_DigestUpdate(hash->ctx, bytes, len);
}

size_t vmimg_hash_final(struct vmimg_hash *hash, uint8_t out[VMIMG_HASH_MAX])
{
	unsigned len = 0;

	hash->crypto->EVP_DigestFinal_ex(hash->ctx, out, &len);
	hash->crypto->EVP_DigestInit_ex(hash->ctx, hash->type, NULL);
	return len;
}

char *vmimg_hex(char *out, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		snprintf(out + 2 * i, 3, "%02x", bytes[i]);
	return out;
}

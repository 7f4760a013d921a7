/* SPDX-License-Identifier: Apache-2.0 */
/* The few functions of libcrypto's EVP interface that are used, found with dlsym. OpenSSL 3 and 1.1
 * both have them under these names and with these types. */
#include "util/hash.h"
#include <stdio.h>
#include <string.h>
#include "util/num.h"

#define FUNCTIONS(F)                                           \
	F(void *, EVP_MD_CTX_new, (void))                      \
	F(void, EVP_MD_CTX_free, (void *))                     \
	F(const void *, EVP_get_digestbyname, (const char *))  \
	F(int, EVP_DigestInit_ex, (void *, const void *, void *)) \
	F(int, EVP_DigestUpdate, (void *, const void *, size_t))  \
	F(int, EVP_DigestFinal_ex, (void *, unsigned char *, unsigned *))

#define MEMBER(type, name, args) type(*name) args;
struct crypto {
	FUNCTIONS(MEMBER)
};

struct vmimg_hash {
	const struct crypto *crypto;
	void *ctx;
	const void *type;
};

struct wanted {
	const struct vmimg_function *list;
	size_t count;
	void *slots;
};

static bool load(void *from)
{
	static const char *const names[] = { "libcrypto.so.3", "libcrypto.so.1.1", "libcrypto.so",
		NULL };
	const struct wanted *wanted = from;

	return vmimg_library_find_all(
		vmimg_library_open(names), wanted->list, wanted->count, wanted->slots);
}

int vmimg_libcrypto_need(struct vmimg_library *library, const struct vmimg_function *list,
	size_t count, void *slots, const char *what, struct vmimg_error *err)
{
	struct wanted wanted = { list, count, slots };

	if (vmimg_library_once(library, load, &wanted))
		return 0;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"%s need OpenSSL's libcrypto, which cannot be loaded here", what);
}

#define NAME(type, name, args) { #name, offsetof(struct crypto, name) },
static const struct crypto *crypto_get(struct vmimg_error *err)
{
	static const struct vmimg_function list[] = { FUNCTIONS(NAME) };
	static struct vmimg_library library = VMIMG_LIBRARY;
	static struct crypto crypto;

	return vmimg_libcrypto_need(&library, list, VMIMG_ARRAY_LEN(list), &crypto, "digests", err)
		? NULL
		: &crypto;
}

struct vmimg_hash *vmimg_hash_new(const char *name, struct vmimg_error *err)
{
	const struct crypto *crypto = crypto_get(err);
	VMIMG_AUTO(vmimg_hash_free) struct vmimg_hash *hash = NULL;

	if (!crypto)
		return NULL;
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A context of OpenSSL serves one thread at a time, and setting it up takes longer than a sector
 * does: those that are not in use wait in a list for the next caller. The functions have the same
 * names and types in OpenSSL 3 and 1.1.
 */
#include "codec/cipher.h"
#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>
#include "util/bytes.h"
#include "util/hash.h"
#include "util/num.h"

#define FUNCTIONS(F)                                                                   \
	F(const void *, EVP_get_cipherbyname, (const char *))                          \
	F(void *, EVP_CIPHER_CTX_new, (void))                                          \
	F(void, EVP_CIPHER_CTX_free, (void *))                                         \
	F(int, EVP_CIPHER_CTX_set_padding, (void *, int))                              \
	F(int, EVP_CipherInit_ex,                                                      \
		(void *, const void *, void *, const uint8_t *, const uint8_t *, int)) \
	F(int, EVP_CipherUpdate, (void *, uint8_t *, int *, const uint8_t *, int))

#define MEMBER(type, name, args) type(*name) args;
struct crypto {
	FUNCTIONS(MEMBER)
};

#define IV 16 /* bytes: a block of AES */

/* What one thread needs for one direction. */
struct lane {
	struct lane *next;
	void *data, *iv; /* contexts; iv: of ESSIV */
};

struct vmimg_cipher {
	const struct crypto *crypto;
	struct vmimg_cipher_kind kind;
	const void *data_type, *iv_type; /* iv_type: of ESSIV, or NULL */
	uint8_t key[VMIMG_CIPHER_KEY_MAX];
	uint8_t iv_key[VMIMG_HASH_MAX];
	pthread_mutex_t lock; /* guards idle */
	struct lane *idle[2]; /* to decrypt, to encrypt */
};

#define NAME(type, name, args) { #name, offsetof(struct crypto, name) },
static const struct crypto *crypto_get(struct vmimg_error *err)
{
	static const struct vmimg_function list[] = { FUNCTIONS(NAME) };
	static struct vmimg_library library = VMIMG_LIBRARY;
	static struct crypto crypto;

	return vmimg_libcrypto_need(
		       &library, list, VMIMG_ARRAY_LEN(list), &crypto, "encrypted images", err)
		? NULL
		: &crypto;
}

/* ---- lanes ---- */

static void lane_free(const struct crypto *c, struct lane *lane)
{
	if (lane->data)
		c->EVP_CIPHER_CTX_free(lane->data);
	if (lane->iv)
		c->EVP_CIPHER_CTX_free(lane->iv);
	free(lane);
}

static void *context(const struct crypto *c, const void *type, const uint8_t *key, bool encrypt)
{
	void *ctx = c->EVP_CIPHER_CTX_new();

	if (ctx && c->EVP_CipherInit_ex(ctx, type, NULL, key, NULL, encrypt) == 1 &&
		c->EVP_CIPHER_CTX_set_padding(ctx, 0) == 1)
		return ctx;
	if (ctx)
		c->EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

static struct lane *lane_new(struct vmimg_cipher *cipher, bool encrypt, struct vmimg_error *err)
{
	const struct crypto *c = cipher->crypto;
	struct lane *lane = vmimg_new(struct lane, err);

	if (!lane)
		return NULL;
	lane->data = context(c, cipher->data_type, cipher->key, encrypt);
	if (cipher->iv_type)
		lane->iv = context(c, cipher->iv_type, cipher->iv_key, true);
	if (lane->data && (lane->iv || !cipher->iv_type))
		return lane;
	lane_free(c, lane);
	vmimg_fail(err, VMIMG_EUNSUPPORTED, "OpenSSL refuses this key of AES");
	return NULL;
}

static struct lane *lane_take(struct vmimg_cipher *cipher, bool encrypt, struct vmimg_error *err)
{
	struct lane *lane;

	pthread_mutex_lock(&cipher->lock);
	lane = cipher->idle[encrypt];
	if (lane)
		cipher->idle[encrypt] = lane->next;
	pthread_mutex_unlock(&cipher->lock);
	return lane ? lane : lane_new(cipher, encrypt, err);
}

static void lane_put(struct vmimg_cipher *cipher, bool encrypt, struct lane *lane)
{
	pthread_mutex_lock(&cipher->lock);
	lane->next = cipher->idle[encrypt];
	cipher->idle[encrypt] = lane;
	pthread_mutex_unlock(&cipher->lock);
}

/* ---- sectors ---- */

static bool make_iv(
	struct vmimg_cipher *cipher, const struct lane *lane, uint64_t sector, uint8_t iv[IV])
{
	int got;

	memset(iv, 0, IV);
	if (cipher->kind.iv == VMIMG_IV_PLAIN)
		vmimg_put_le32(iv, (uint32_t)sector);
	else
		vmimg_put_le64(iv, sector);
	return !lane->iv ||
		(cipher->crypto->EVP_CipherUpdate(lane->iv, iv, &got, iv, IV) == 1 && got == IV);
}

static int run(struct vmimg_cipher *cipher, bool encrypt, uint64_t sector, const uint8_t *in,
	uint8_t *out, size_t len, struct vmimg_error *err)
{
	const struct crypto *c = cipher->crypto;
	struct lane *lane = lane_take(cipher, encrypt, err);
	bool done = true;
	uint8_t iv[IV];

	assert(!(len % VMIMG_SECTOR));
	if (!lane)
		return -1;
	for (size_t i = 0; done && i < len; i += VMIMG_SECTOR, sector++) {
		int got = 0;

		done = make_iv(cipher, lane, sector, iv) &&
			c->EVP_CipherInit_ex(lane->data, NULL, NULL, NULL, iv, encrypt) == 1 &&
			c->EVP_CipherUpdate(lane->data, out + i, &got, in + i, VMIMG_SECTOR) == 1 &&
			got == VMIMG_SECTOR;
	}
	lane_put(cipher, encrypt, lane);
	return done ? 0 : vmimg_fail(err, VMIMG_EUNSUPPORTED, "OpenSSL fails to run AES");
}

int vmimg_cipher_encrypt(struct vmimg_cipher *cipher, uint64_t sector, const void *in, void *out,
	size_t len, struct vmimg_error *err)
{
	return run(cipher, true, sector, in, out, len, err);
}

int vmimg_cipher_decrypt(struct vmimg_cipher *cipher, uint64_t sector, const void *in, void *out,
	size_t len, struct vmimg_error *err)
{
	return run(cipher, false, sector, in, out, len, err);
}

/* ---- making one ---- */

static const char *type_name(const struct vmimg_cipher_kind *kind)
{
	if (kind->mode == VMIMG_CIPHER_XTS)
		return kind->key_len == 16    ? "aes-128-xts"
			: kind->key_len == 32 ? "aes-256-xts"
					      : NULL; /* OpenSSL has no XTS of AES-192 */
	return kind->key_len == 16    ? "aes-128-cbc"
		: kind->key_len == 24 ? "aes-192-cbc"
				      : "aes-256-cbc";
}

static int fill(struct vmimg_cipher *cipher, const uint8_t *key, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_hash_free) struct vmimg_hash *hash = NULL;
	const char *name = type_name(&cipher->kind);
	size_t len = vmimg_cipher_key_len(&cipher->kind);

	cipher->data_type = name ? cipher->crypto->EVP_get_cipherbyname(name) : NULL;
	if (!cipher->data_type)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "OpenSSL does not do %s",
			name ? name : "AES-192 in mode XTS");
	memcpy(cipher->key, key, len);
	if (cipher->kind.iv != VMIMG_IV_ESSIV)
		return 0;
	cipher->iv_type = cipher->crypto->EVP_get_cipherbyname("aes-256-ecb");
	hash = vmimg_hash_new("sha256", err);
	if (!hash)
		return -1;
	vmimg_hash_update(hash, key, len);
	vmimg_hash_final(hash, cipher->iv_key);
	return cipher->iv_type ? 0 : vmimg_fail(err, VMIMG_EUNSUPPORTED, "OpenSSL does not do AES");
}

struct vmimg_cipher *vmimg_cipher_new(
	const struct vmimg_cipher_kind *kind, const uint8_t *key, struct vmimg_error *err)
{
	const struct crypto *c = crypto_get(err);
	struct vmimg_cipher *cipher = c ? vmimg_new(struct vmimg_cipher, err) : NULL;

	if (!cipher)
		return NULL;
	cipher->crypto = c;
	cipher->kind = *kind;
	pthread_mutex_init(&cipher->lock, NULL);
	if (!fill(cipher, key, err))
		return cipher;
	vmimg_cipher_free(cipher);
	return NULL;
}

void vmimg_cipher_free(struct vmimg_cipher *cipher)
{
	if (!cipher)
		return;
	for (int i = 0; i < 2; i++)
		while (cipher->idle[i]) {
			struct lane *lane = cipher->idle[i];

			cipher->idle[i] = lane->next;
			lane_free(cipher->crypto, lane);
		}
	pthread_mutex_destroy(&cipher->lock);
	explicit_bzero(cipher, sizeof(*cipher));
	free(cipher);
}

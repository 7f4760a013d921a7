/* SPDX-License-Identifier: Apache-2.0 */
/* The functions have the same names and types in OpenSSL 3 and 1.1; where a macro stands in for one
 * in either, the textual interface of controls is used. */
#include "util/secret.h"
#include <limits.h>
#include <string.h>
#include "util/hash.h"
#include "util/num.h"

#define FUNCTIONS(F)                                                                               \
	F(void *, BIO_new_mem_buf, (const void *, int))                                            \
	F(int, BIO_free, (void *))                                                                 \
	F(void *, PEM_read_bio_PrivateKey,                                                         \
		(void *, void **, int (*)(char *, int, int, void *), void *))                      \
	F(void *, PEM_read_bio_X509, (void *, void **, int (*)(char *, int, int, void *), void *)) \
	F(void *, X509_get_pubkey, (void *))                                                       \
	F(void, X509_free, (void *))                                                               \
	F(void, EVP_PKEY_free, (void *))                                                           \
	F(void *, EVP_PKEY_CTX_new, (void *, void *))                                              \
	F(void, EVP_PKEY_CTX_free, (void *))                                                       \
	F(int, EVP_PKEY_CTX_ctrl_str, (void *, const char *, const char *))                        \
	F(int, EVP_PKEY_decrypt_init, (void *))                                                    \
	F(int, EVP_PKEY_decrypt, (void *, uint8_t *, size_t *, const uint8_t *, size_t))           \
	F(int, EVP_PKEY_encrypt_init, (void *))                                                    \
	F(int, EVP_PKEY_encrypt, (void *, uint8_t *, size_t *, const uint8_t *, size_t))           \
	F(void *, EVP_MD_CTX_new, (void))                                                          \
	F(void, EVP_MD_CTX_free, (void *))                                                         \
	F(const void *, EVP_get_digestbyname, (const char *))                                      \
	F(int, EVP_DigestSignInit, (void *, void **, const void *, void *, void *))                \
	F(int, EVP_DigestSign, (void *, uint8_t *, size_t *, const uint8_t *, size_t))             \
	F(int, EVP_DigestVerifyInit, (void *, void **, const void *, void *, void *))              \
	F(int, EVP_DigestVerify, (void *, const uint8_t *, size_t, const uint8_t *, size_t))       \
	F(const void *, EVP_aes_128_cbc, (void))                                                   \
	F(void *, EVP_CIPHER_CTX_new, (void))                                                      \
	F(void, EVP_CIPHER_CTX_free, (void *))                                                     \
	F(int, EVP_CIPHER_CTX_set_padding, (void *, int))                                          \
	F(int, EVP_CipherInit_ex,                                                                  \
		(void *, const void *, void *, const uint8_t *, const uint8_t *, int))             \
	F(int, EVP_CipherUpdate, (void *, uint8_t *, int *, const uint8_t *, int))

#define MEMBER(type, name, args) type(*name) args;
struct crypto {
	FUNCTIONS(MEMBER)
};

struct vmimg_key {
	const struct crypto *crypto;
	void *pkey;
};

#define NAME(type, name, args) { #name, offsetof(struct crypto, name) },
static const struct crypto *crypto_get(struct vmimg_error *err)
{
	static const struct vmimg_function list[] = { FUNCTIONS(NAME) };
	static struct vmimg_library library = VMIMG_LIBRARY;
	static struct crypto crypto;

	return vmimg_libcrypto_need(
		       &library, list, VMIMG_ARRAY_LEN(list), &crypto, "keys and ciphers", err)
		? NULL
		: &crypto;
}

/* ---- keys ---- */

int vmimg_no_passphrase(char *buf, int size, int writing, void *ctx)
{
	(void)buf, (void)size, (void)writing, (void)ctx;
	return -1;
}

static void *read_key(const struct crypto *c, void *bio, bool private)
{
	void *certificate, *pkey;

	if (private)
		return c->PEM_read_bio_PrivateKey(bio, NULL, vmimg_no_passphrase, NULL);
	certificate = c->PEM_read_bio_X509(bio, NULL, vmimg_no_passphrase, NULL);
	pkey = certificate ? c->X509_get_pubkey(certificate) : NULL;
	if (certificate)
		c->X509_free(certificate);
	return pkey;
}

static struct vmimg_key *new_key(const char *pem, bool private, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_key_free) struct vmimg_key *key = NULL;
	const struct crypto *c = crypto_get(err);
	void *bio;

	if (!c)
		return NULL;
	key = vmimg_new(struct vmimg_key, err);
	if (!key)
		return NULL;
	key->crypto = c;
	bio = c->BIO_new_mem_buf(pem, -1);
	if (!bio) {
		vmimg_fail_nomem(err);
		return NULL;
	}
	key->pkey = read_key(c, bio, private);
	c->BIO_free(bio);
	if (key->pkey)
		return vmimg_take(key);
	vmimg_fail(err, VMIMG_EINVAL,
		private ? "it is no private key in PEM form, or it has a passphrase"
			: "it is no certificate in PEM form");
	return NULL;
}

struct vmimg_key *vmimg_key_private(const char *pem, struct vmimg_error *err)
{
	return new_key(pem, true, err);
}

struct vmimg_key *vmimg_key_certificate(const char *pem, struct vmimg_error *err)
{
	return new_key(pem, false, err);
}

void vmimg_key_free(struct vmimg_key *key)
{
	if (!key)
		return;
	if (key->pkey)
		key->crypto->EVP_PKEY_free(key->pkey);
	free(key);
}

/* ---- RSA ---- */

typedef int crypt_init(void *);
typedef int crypt_run(void *, uint8_t *, size_t *, const uint8_t *, size_t);

static int rsa(struct vmimg_key *key, crypt_init *init, crypt_run *run, const uint8_t *in,
	size_t len, uint8_t *out, size_t *got, struct vmimg_error *err)
{
	const struct crypto *c = key->crypto;
	void *ctx = c->EVP_PKEY_CTX_new(key->pkey, NULL);
	size_t room = VMIMG_SECRET_MAX;
	bool done = ctx && init(ctx) == 1 &&
		c->EVP_PKEY_CTX_ctrl_str(ctx, "rsa_padding_mode", "pkcs1") == 1 &&
		run(ctx, out, &room, in, len) == 1;

	if (ctx)
		c->EVP_PKEY_CTX_free(ctx);
	if (!done)
		return vmimg_fail(err, VMIMG_EINVAL, "this RSA key does not fit");
	*got = room;
	return 0;
}

int vmimg_key_decrypt(struct vmimg_key *key, const uint8_t *in, size_t len, uint8_t *out,
	size_t *got, struct vmimg_error *err)
{
	return rsa(key, key->crypto->EVP_PKEY_decrypt_init, key->crypto->EVP_PKEY_decrypt, in, len,
		out, got, err);
}

int vmimg_key_encrypt(struct vmimg_key *key, const uint8_t *in, size_t len, uint8_t *out,
	size_t *got, struct vmimg_error *err)
{
	return rsa(key, key->crypto->EVP_PKEY_encrypt_init, key->crypto->EVP_PKEY_encrypt, in, len,
		out, got, err);
}

int vmimg_key_sign(struct vmimg_key *key, const char *hash, const void *bytes, size_t len,
	uint8_t *out, size_t *got, struct vmimg_error *err)
{
	const struct crypto *c = key->crypto;
	const void *digest = c->EVP_get_digestbyname(hash);
	void *ctx = c->EVP_MD_CTX_new();
	size_t room = VMIMG_SECRET_MAX;
	bool done = ctx && digest &&
		c->EVP_DigestSignInit(ctx, NULL, digest, NULL, key->pkey) == 1 &&
		c->EVP_DigestSign(ctx, out, &room, bytes, len) == 1;

	c->EVP_MD_CTX_free(ctx);
	if (!done)
		return vmimg_fail(err, VMIMG_EINVAL, "this key does not sign with %.20s", hash);
	*got = room;
	return 0;
}

int vmimg_key_verify(struct vmimg_key *key, const char *hash, const void *bytes, size_t len,
	const uint8_t *signature, size_t signature_len, bool *good, struct vmimg_error *err)
{
	const struct crypto *c = key->crypto;
	const void *digest = c->EVP_get_digestbyname(hash);
	void *ctx = c->EVP_MD_CTX_new();
	bool begun =
		ctx && digest && c->EVP_DigestVerifyInit(ctx, NULL, digest, NULL, key->pkey) == 1;

	if (begun)
		*good = c->EVP_DigestVerify(ctx, signature, signature_len, bytes, len) == 1;
	c->EVP_MD_CTX_free(ctx);
	return begun ? 0
		     : vmimg_fail(err, VMIMG_EINVAL, "this key does not verify with %.20s", hash);
}

/* ---- AES ---- */

static int cbc(bool encrypt, const uint8_t *key, const uint8_t *iv, const uint8_t *in, size_t len,
	uint8_t *out, struct vmimg_error *err)
{
	const struct crypto *c = crypto_get(err);
	void *ctx = c ? c->EVP_CIPHER_CTX_new() : NULL;
	bool done;
	int got;

	if (!c)
		return -1;
	done = ctx &&
		c->EVP_CipherInit_ex(ctx, c->EVP_aes_128_cbc(), NULL, key, iv, encrypt) == 1 &&
		c->EVP_CIPHER_CTX_set_padding(ctx, 0) == 1;
	while (done && len) {
		int step = (int)vmimg_min(len, 1 << 20);

		done = c->EVP_CipherUpdate(ctx, out, &got, in, step) == 1 && got == step;
		in += step;
		out += step;
		len -= (size_t)step;
	}
	if (ctx)
		c->EVP_CIPHER_CTX_free(ctx);
	return done ? 0 : vmimg_fail(err, VMIMG_EUNSUPPORTED, "OpenSSL does not do AES-128-CBC");
}

int vmimg_cbc_decrypt(const uint8_t key[VMIMG_SECRET_BLOCK], const uint8_t iv[VMIMG_SECRET_BLOCK],
	const void *in, size_t len, void *out, struct vmimg_error *err)
{
	return cbc(false, key, iv, in, len, out, err);
}

int vmimg_cbc_encrypt(const uint8_t key[VMIMG_SECRET_BLOCK], const uint8_t iv[VMIMG_SECRET_BLOCK],
	const void *in, size_t len, void *out, struct vmimg_error *err)
{
	return cbc(true, key, iv, in, len, out, err);
}

bool vmimg_unhex(const char *text, uint8_t *bytes, size_t count)
{
	for (size_t i = 0; i < 2 * count; i++) {
		unsigned c = (unsigned char)text[i], digit;

		if (c >= '0' && c <= '9')
			digit = c - '0';
		else if ((c | 0x20U) >= 'a' && (c | 0x20U) <= 'f')
			digit = (c | 0x20U) - 'a' + 10;
		else
			return false;
		bytes[i / 2] = (uint8_t)(i % 2 ? (unsigned)bytes[i / 2] << 4 | digit : digit);
	}
	return !text[2 * count];
}

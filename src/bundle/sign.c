/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of libcrypto that are used have the same names and types in OpenSSL 1.1 and 3. */
#include "bundle/sign.h"
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <string.h>
#include "util/hash.h"
#include "util/num.h"
#include "util/secret.h"
#include "util/text.h"

#define MAX_CHAIN 16

#define CRYPTO(F)                  \
	F(BIO_new_mem_buf)         \
	F(BIO_free)                \
	F(PEM_read_bio_PrivateKey) \
	F(PEM_read_bio_X509)       \
	F(X509_free)               \
	F(X509_get_pubkey)         \
	F(X509_check_private_key)  \
	F(X509_verify)             \
	F(X509_get_subject_name)   \
	F(X509_get_issuer_name)    \
	F(X509_NAME_oneline)       \
	F(X509_NAME_cmp)           \
	F(X509_cmp_current_time)   \
	F(X509_get0_notBefore)     \
	F(X509_get0_notAfter)      \
	F(X509_STORE_new)          \
	F(X509_STORE_free)         \
	F(X509_STORE_add_cert)     \
	F(X509_STORE_set_flags)    \
	F(X509_STORE_CTX_new)      \
	F(X509_STORE_CTX_free)     \
	F(X509_STORE_CTX_init)     \
	F(X509_verify_cert)        \
	F(OPENSSL_sk_new_null)     \
	F(OPENSSL_sk_push)         \
	F(OPENSSL_sk_free)         \
	F(EVP_PKEY_free)           \
	F(EVP_get_digestbyname)    \
	F(EVP_MD_CTX_new)          \
	F(EVP_MD_CTX_free)         \
	F(EVP_DigestSignInit)      \
	F(EVP_DigestSign)          \
	F(EVP_DigestVerifyInit)    \
	F(EVP_DigestVerify)        \
	F(ERR_clear_error)

#define MEMBER(name) __typeof__(name) *name;
struct crypto {
	CRYPTO(MEMBER)
};

struct vmimg_signer {
	const struct crypto *crypto;
	EVP_PKEY *key;
	const EVP_MD *hash;
	size_t size;
};

#define NAME(name) { #name, offsetof(struct crypto, name) },
static const struct crypto *crypto_get(struct vmimg_error *err)
{
	static const struct vmimg_function list[] = { CRYPTO(NAME) };
	static struct vmimg_library library = VMIMG_LIBRARY;
	static struct crypto crypto;

	return vmimg_libcrypto_need(
		       &library, list, VMIMG_ARRAY_LEN(list), &crypto, "signatures", err)
		? NULL
		: &crypto;
}

/* ---- certificates ------------------------------------------------------------------------ */

struct chain {
	const struct crypto *crypto;
	X509 *items[MAX_CHAIN];
	size_t count;
};

static void chain_done(struct chain *chain)
{
	for (size_t i = 0; i < chain->count; i++)
		chain->crypto->X509_free(chain->items[i]);
	chain->count = 0;
}

/* All certificates of a PEM text. */
static int chain_read(
	struct chain *chain, const struct crypto *c, const char *pem, struct vmimg_error *err)
{
	size_t len = strlen(pem);
	BIO *bio = len > 1 << 20 ? NULL : c->BIO_new_mem_buf(pem, (int)len);

	chain->crypto = c;
	chain->count = 0;
	if (!bio)
		return vmimg_fail(err, VMIMG_ECORRUPT, "a certificate file of %zu bytes", len);
	while (chain->count < MAX_CHAIN) {
		X509 *item = c->PEM_read_bio_X509(bio, NULL, vmimg_no_passphrase, NULL);

		if (!item)
			break;
		chain->items[chain->count++] = item;
	}
	c->BIO_free(bio);
	c->ERR_clear_error();
	return chain->count
		? 0
		: vmimg_fail(err, VMIMG_ECORRUPT, "there is no certificate in PEM form");
}

static bool signed_by(const struct crypto *c, X509 *item, X509 *issuer)
{
	EVP_PKEY *key = c->X509_get_pubkey(issuer);
	bool yes = key &&
		!c->X509_NAME_cmp(
			c->X509_get_issuer_name(item), c->X509_get_subject_name(issuer)) &&
		c->X509_verify(item, key) == 1;

	if (key)
		c->EVP_PKEY_free(key);
	c->ERR_clear_error();
	return yes;
}

static void name_of(const struct crypto *c, const X509_NAME *name, char *out, size_t cap)
{
	char text[400] = "";

	c->X509_NAME_oneline(name, text, sizeof(text));
	vmimg_escape(out, cap, text, strlen(text));
}

/* By the rules of certificates: one may sign another only if it says so, and each has its time. Any
 * of those that are trusted ends the way, also the signer's own. */
static bool is_trusted(const struct chain *chain, const struct chain *roots)
{
	const struct crypto *c = chain->crypto;
	X509_STORE *store = c->X509_STORE_new();
	X509_STORE_CTX *ctx = c->X509_STORE_CTX_new();
	OPENSSL_STACK *others = c->OPENSSL_sk_new_null();
	bool ready = store && ctx && others &&
		c->X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN) == 1;

	for (size_t i = 0; i < roots->count; i++)
		ready = ready && c->X509_STORE_add_cert(store, roots->items[i]) == 1;
	for (size_t i = 1; i < chain->count; i++)
		ready = ready && c->OPENSSL_sk_push(others, chain->items[i]) > 0;
	ready = ready &&
		c->X509_STORE_CTX_init(ctx, store, chain->items[0], (STACK_OF(X509) *)others) ==
			1 &&
		c->X509_verify_cert(ctx) == 1;
	c->X509_STORE_CTX_free(ctx);
	c->X509_STORE_free(store);
	c->OPENSSL_sk_free(others);
	c->ERR_clear_error();
	return ready;
}

static void judge_chain(
	const struct chain *chain, const struct chain *roots, struct vmimg_signed *found)
{
	const struct crypto *c = chain->crypto;
	X509 *first = chain->items[0], *last = chain->items[chain->count - 1];

	name_of(c, c->X509_get_subject_name(first), found->subject, sizeof(found->subject));
	name_of(c, c->X509_get_issuer_name(first), found->issuer, sizeof(found->issuer));
	found->expired = c->X509_cmp_current_time(c->X509_get0_notAfter(first)) < 0 ||
		c->X509_cmp_current_time(c->X509_get0_notBefore(first)) > 0;
	found->chain = true;
	for (size_t i = 0; i + 1 < chain->count; i++)
		found->chain &= signed_by(c, chain->items[i], chain->items[i + 1]);
	found->self_signed = signed_by(c, last, last);
	found->trusted = found->chain && is_trusted(chain, roots);
}

static int verify(const struct crypto *c, X509 *certificate, const char *hash, const void *bytes,
	size_t len, const uint8_t *signature, size_t signature_len, bool *valid,
	struct vmimg_error *err)
{
	const EVP_MD *type = c->EVP_get_digestbyname(hash);
	EVP_PKEY *key = c->X509_get_pubkey(certificate);
	EVP_MD_CTX *ctx = c->EVP_MD_CTX_new();
	int ready = type && key && ctx && c->EVP_DigestVerifyInit(ctx, NULL, type, NULL, key) == 1;

	*valid = ready && c->EVP_DigestVerify(ctx, signature, signature_len, bytes, len) == 1;
	c->EVP_MD_CTX_free(ctx);
	if (key)
		c->EVP_PKEY_free(key);
	c->ERR_clear_error();
	return ready ? 0
		     : vmimg_fail(err, VMIMG_EUNSUPPORTED,
			       "OpenSSL cannot verify with this certificate's key and %s", hash);
}

int vmimg_signature_check(const char *certificates, const char *roots, const char *hash,
	const void *bytes, size_t len, const uint8_t *signature, size_t signature_len,
	struct vmimg_signed *found, struct vmimg_error *err)
{
	const struct crypto *c = crypto_get(err);
	struct chain chain, trusted = { 0 };
	struct vmimg_signed told = { 0 };
	int failed;

	if (!c || chain_read(&chain, c, certificates, err))
		return -1;
	failed = (roots && chain_read(&trusted, c, roots, err)) ||
		verify(c, chain.items[0], hash, bytes, len, signature, signature_len, &told.valid,
			err);
	if (!failed)
		judge_chain(&chain, &trusted, &told);
	chain_done(&chain);
	chain_done(&trusted);
	if (failed)
		return -1;
	*found = told;
	return 0;
}

/* ---- signing ----------------------------------------------------------------------------- */

static EVP_PKEY *read_key(const struct crypto *c, const char *pem, struct vmimg_error *err)
{
	size_t len = strlen(pem);
	BIO *bio = len > 1 << 20 ? NULL : c->BIO_new_mem_buf(pem, (int)len);
	EVP_PKEY *key = bio ? c->PEM_read_bio_PrivateKey(bio, NULL, vmimg_no_passphrase, NULL) : NULL;

	if (bio)
		c->BIO_free(bio);
	c->ERR_clear_error();
	if (!key)
		vmimg_fail(err, VMIMG_EINVAL,
			"the key is not a private key in PEM form without a passphrase");
	return key;
}

/* Signatures of RSA have one length; those of other kinds vary. */
static int probe_size(struct vmimg_signer *signer, struct vmimg_error *err)
{
	uint8_t one[4096], two[4096];
	size_t first = sizeof(one);

	signer->size = sizeof(one);
	if (vmimg_signer_sign(signer, "a", 1, one, err))
		return -1;
	first = signer->size;
	signer->size = sizeof(two);
	if (vmimg_signer_sign(signer, "a", 1, two, err))
		return -1;
	if (first == signer->size && !memcmp(one, two, first))
		return 0;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"OVF is signed with RSA keys, whose signatures have one length: this is another "
		"kind of key");
}

static int fill_signer(struct vmimg_signer *signer, const char *key, const char *certificate,
	const char *hash, struct vmimg_error *err)
{
	const struct crypto *c = signer->crypto;
	struct chain chain;
	int fits;

	signer->hash = c->EVP_get_digestbyname(hash);
	signer->key = read_key(c, key, err);
	if (!signer->key || chain_read(&chain, c, certificate, err))
		return -1;
	fits = c->X509_check_private_key(chain.items[0], signer->key);
	chain_done(&chain);
	c->ERR_clear_error();
	if (fits != 1)
		return vmimg_fail(
			err, VMIMG_EINVAL, "the key is not that of the first certificate");
	return probe_size(signer, err);
}

struct vmimg_signer *vmimg_signer_new(
	const char *key, const char *certificate, const char *hash, struct vmimg_error *err)
{
	const struct crypto *c = crypto_get(err);
	struct vmimg_signer *signer = c ? vmimg_new(struct vmimg_signer, err) : NULL;

	if (!signer)
		return NULL;
	signer->crypto = c;
	if (fill_signer(signer, key, certificate, hash, err)) {
		vmimg_signer_free(signer);
		return NULL;
	}
	return signer;
}

void vmimg_signer_free(struct vmimg_signer *signer)
{
	if (!signer)
		return;
	if (signer->key)
		signer->crypto->EVP_PKEY_free(signer->key);
	free(signer);
}

size_t vmimg_signer_size(const struct vmimg_signer *signer)
{
	return signer->size;
}

int vmimg_signer_sign(struct vmimg_signer *signer, const void *bytes, size_t len,
	uint8_t *signature, struct vmimg_error *err)
{
	const struct crypto *c = signer->crypto;
	EVP_MD_CTX *ctx = c->EVP_MD_CTX_new();
	bool done = ctx && signer->hash &&
		c->EVP_DigestSignInit(ctx, NULL, signer->hash, NULL, signer->key) == 1 &&
		c->EVP_DigestSign(ctx, signature, &signer->size, bytes, len) == 1;

	c->EVP_MD_CTX_free(ctx);
	c->ERR_clear_error();
	return done ? 0 : vmimg_fail(err, VMIMG_EUNSUPPORTED, "OpenSSL cannot sign with this key");
}

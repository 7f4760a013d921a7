/* SPDX-License-Identifier: Apache-2.0 */
/* Two functions of libcrypto, with the same names and types in OpenSSL 3 and 1.1. */
#include "util/kdf.h"
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include "util/hash.h"
#include "util/num.h"

#define FUNCTIONS(F)                                                                            \
	F(const void *, EVP_get_digestbyname, (const char *))                                   \
	F(int, PKCS5_PBKDF2_HMAC,                                                               \
		(const char *, int, const unsigned char *, int, int, const void *, int,         \
			unsigned char *))

#define MEMBER(type, name, args) type(*name) args;
struct crypto {
	FUNCTIONS(MEMBER)
};

#define NAME(type, name, args) { #name, offsetof(struct crypto, name) },
static const struct crypto *crypto_get(struct vmimg_error *err)
{
	static const struct vmimg_function list[] = { FUNCTIONS(NAME) };
	static struct vmimg_library library = VMIMG_LIBRARY;
	static struct crypto crypto;

	return vmimg_libcrypto_need(
		       &library, list, VMIMG_ARRAY_LEN(list), &crypto, "passphrases", err)
		? NULL
		: &crypto;
}

int vmimg_kdf_derive(const char *hash, const void *secret, size_t len, const void *salt,
	size_t salt_len, uint32_t iterations, uint8_t *key, size_t key_len, struct vmimg_error *err)
{
	const struct crypto *c = crypto_get(err);
	const void *digest = c ? c->EVP_get_digestbyname(hash) : NULL;

	if (!c)
		return -1;
	if (iterations > INT32_MAX || len > INT32_MAX)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than 2^31 - 1 iterations of PBKDF2");
	if (!digest ||
		c->PKCS5_PBKDF2_HMAC(secret, (int)len, salt, (int)salt_len, (int)iterations, digest,
			(int)key_len, key) != 1)
		return vmimg_fail(
			err, VMIMG_EUNSUPPORTED, "OpenSSL does not do PBKDF2 with %.40s", hash);
	return 0;
}

static uint64_t cpu_nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

int vmimg_kdf_measure(const char *hash, size_t key_len, unsigned milliseconds, uint64_t *iterations,
	struct vmimg_error *err)
{
	uint64_t spent = 0;
	uint32_t tried = 1024;
	uint8_t key[64];

	/* 10 ms are enough to tell */
	for (; spent < 10000000; tried *= 2) {
		uint64_t begun = cpu_nanoseconds();

		if (vmimg_kdf_derive(hash, "secret", 6, "saltsaltsaltsaltsaltsaltsaltsalt", 32,
			    tried, key, vmimg_min(key_len, sizeof(key)), err))
			return -1;
		spent = cpu_nanoseconds() - begun;
		if (tried > UINT32_C(1) << 28)
			break;
	}
	*iterations = (uint64_t)tried / 2 * milliseconds * 1000 / vmimg_max(spent / 1000, 1);
	return 0;
}

int vmimg_random(void *bytes, size_t len, struct vmimg_error *err)
{
	uint8_t *to = bytes;

	while (len) {
		ssize_t got = getrandom(to, len, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return vmimg_fail_sys(err, errno, "random bytes");
		to += got;
		len -= (size_t)got;
	}
	return 0;
}

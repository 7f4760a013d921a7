/* SPDX-License-Identifier: Apache-2.0 */
/* What those who open and make encrypted images share, whatever is around the header. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "disk/luks.h"
#include "util/num.h"

#define ITER_TIME     2000U /* milliseconds, as QEMU has it */
#define MAX_ITER_TIME 3600000U

static const char *text(const struct vmimg_options *options, const char *prefix, const char *key,
	const char *otherwise)
{
	char name[40];

	snprintf(name, sizeof(name), "%s%s", prefix, key);
	return vmimg_options_text(options, name, otherwise);
}

int vmimg_luks_read_new(struct vmimg_luks_new *wanted, const struct vmimg_options *options,
	const char *prefix, struct vmimg_error *err)
{
	const char *iv = text(options, prefix, "ivgen-alg", "plain64");
	uint64_t time;
	char name[40];

	snprintf(name, sizeof(name), "%siter-time", prefix);
	time = vmimg_options_size(options, name, ITER_TIME);
	wanted->hash = text(options, prefix, "hash-alg", "sha256");
	wanted->iter_time = (unsigned)time;
	if (time > MAX_ITER_TIME || !time)
		return vmimg_fail(err, VMIMG_EINVAL, "%s is 1 to %u milliseconds, not %" PRIu64,
			name, MAX_ITER_TIME, time);
	if (vmimg_luks_check_hash(wanted->hash, err))
		return -1;
	return vmimg_luks_kind(&wanted->kind, text(options, prefix, "cipher-alg", "aes-256"),
		text(options, prefix, "cipher-mode", "xts"), iv,
		text(options, prefix, "ivgen-hash-alg", strcmp(iv, "essiv") ? NULL : "sha256"),
		err);
}

struct vmimg_cipher *vmimg_luks_begin(struct vmimg_luks *luks, const struct vmimg_luks_new *wanted,
	const struct vmimg_secret *secret, struct vmimg_luks_material *slot,
	struct vmimg_error *err)
{
	struct vmimg_cipher *cipher = NULL;
	uint8_t key[VMIMG_CIPHER_KEY_MAX];

	if (!vmimg_luks_make(luks, wanted, key, err) &&
		!vmimg_luks_fill_slot(luks, 0, secret, wanted->iter_time, key, slot, err))
		cipher = vmimg_cipher_new(&wanted->kind, key, err);
	explicit_bzero(key, sizeof(key));
	return cipher;
}

struct vmimg_cipher *vmimg_luks_cipher(struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_cipher *cipher = NULL;
	uint8_t key[VMIMG_CIPHER_KEY_MAX];

	if (options->max_iterations)
		luks->work = options->max_iterations;
	if (!vmimg_luks_unlock(luks, area, options->secrets, options->secret_count, key, err))
		cipher = vmimg_cipher_new(&luks->kind, key, err);
	explicit_bzero(key, sizeof(key));
	return cipher;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* New encrypted images: what was asked for, the keys, and the header of LUKS. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/crypt.h"
#include "util/num.h"

static const char *text(const struct vmimg_create *create, const char *key, const char *otherwise)
{
	return vmimg_options_text(create->options, key, otherwise);
}

/* Of LUKS, or without any format. */
static const char *stray_option(const struct vmimg_create *create, bool aes)
{
	static const char *const keys[] = { "encrypt.cipher-alg", "encrypt.cipher-mode",
		"encrypt.ivgen-alg", "encrypt.ivgen-hash-alg", "encrypt.hash-alg",
		"encrypt.iter-time", "encrypt.key-secret" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(keys) - aes; i++)
		if (text(create, keys[i], NULL))
			return keys[i];
	return NULL;
}

static int check_combination(
	const struct vmimg_create *create, uint32_t method, struct vmimg_error *err)
{
	const char *compat = text(create, "compat", "1.1");
	bool old = !strcmp(compat, "0.10") || !strcmp(compat, "v2");
	const char *space = text(create, "preallocation", "off"), *problem = NULL;
	const char *stray =
		method == QCOW2_CRYPT_LUKS ? NULL : stray_option(create, method == QCOW2_CRYPT_AES);

	if (stray)
		return vmimg_fail(err, VMIMG_EINVAL, "%s needs encrypt.format=luks", stray);
	if (method == QCOW2_CRYPT_NONE)
		return 0;
	if (create->adopt)
		problem = "data that stays where it is stays unencrypted: convert it into a new "
			  "image";
	else if (create->compress)
		problem = "qcow2 leaves compressed clusters unencrypted: compression would give "
			  "the data away";
	else if (vmimg_options_bool(create->options, "data_file_raw", false))
		problem = "what is encrypted is no raw disk: data_file_raw and encryption do not "
			  "go together";
	else if (old && strcmp(space, "off") != 0)
		problem = "preallocation of an encrypted image needs compat=1.1";
	else if (!create->secret && !create->dry)
		problem = "encryption needs a secret (encrypt.key-secret, or "
			  "--target-secret-file)";
	else if (create->secret && !create->secret->len)
		problem = "the secret is empty";
	return problem ? vmimg_fail(err, VMIMG_EINVAL, "%s", problem) : 0;
}

int vmimg_qcow2_read_crypt_wish(const struct vmimg_create *create,
	struct vmimg_qcow2_crypt_wish *wish, struct vmimg_error *err)
{
	bool old = vmimg_options_bool(create->options, "encryption", false);
	const char *format = text(create, "encrypt.format", old ? "aes" : NULL);

	*wish = (struct vmimg_qcow2_crypt_wish){ .method = QCOW2_CRYPT_NONE };
	if (format)
		wish->method = strcmp(format, "luks") ? QCOW2_CRYPT_AES : QCOW2_CRYPT_LUKS;
	if (check_combination(create, wish->method, err))
		return -1;
	return wish->method == QCOW2_CRYPT_LUKS
		? vmimg_luks_read_new(&wish->luks, create->options, "encrypt.", err)
		: 0;
}

uint64_t vmimg_qcow2_crypt_size(const struct vmimg_qcow2_crypt_wish *wish)
{
	return wish->method == QCOW2_CRYPT_LUKS ? vmimg_luks_size(&wish->luks.kind) : 0;
}

/* Slots are written by start. */
static int make_luks(struct vmimg_qcow2_sink *s, const struct vmimg_create *create,
	const struct vmimg_luks_new *wanted, struct vmimg_error *err)
{
	s->luks = vmimg_new(struct vmimg_luks, err);
	if (s->luks)
		s->cipher = vmimg_luks_begin(s->luks, wanted, create->secret, &s->luks_slot, err);
	return s->cipher ? 0 : -1;
}

int vmimg_qcow2_sink_crypt(struct vmimg_qcow2_sink *s, const struct vmimg_create *create,
	const struct vmimg_qcow2_crypt_wish *wish, struct vmimg_error *err)
{
	s->header.crypt_method = wish->method;
	s->crypto.length = vmimg_qcow2_crypt_size(wish);
	if (s->crypto.length &&
		vmimg_qcow2_tail_clusters(&s->tail, vmimg_div_up(s->crypto.length, s->cluster),
			&s->crypto.offset, err))
		return -1;
	if (create->dry || wish->method == QCOW2_CRYPT_NONE)
		return 0;
	if (wish->method == QCOW2_CRYPT_LUKS)
		return make_luks(s, create, &wish->luks, err);
	s->cipher = vmimg_disk_old_cipher(
		&(struct vmimg_open){ .secrets = create->secret, .secret_count = 1 }, err);
	return s->cipher ? 0 : -1;
}

int vmimg_qcow2_sink_crypt_start(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct vmimg_qcow2_sink *s = (struct vmimg_qcow2_sink *)sink;
	struct vmimg_luks_area area = { s->io, s->crypto.offset, s->crypto.length };

	if (!s->luks)
		return 0;
	if (s->io->is_device && vmimg_io_zero(s->io, area.at, area.len, err))
		return -1;
	return vmimg_luks_write_material(s->luks, &area, 0, &s->luks_slot, err) ||
			vmimg_luks_write(s->luks, &area, err)
		? -1
		: 0;
}

void vmimg_qcow2_sink_crypt_done(struct vmimg_qcow2_sink *s)
{
	vmimg_luks_material_done(&s->luks_slot);
	vmimg_cipher_free(s->cipher);
	free(s->luks);
}

struct vmimg_store vmimg_qcow2_sealed_store(const struct vmimg_qcow2_sink *s, uint64_t at,
	uint64_t guest, const uint8_t *bytes, size_t len)
{
	return (struct vmimg_store){ s->data, at, bytes,
		s->cipher ? vmimg_align_up(len, VMIMG_SECTOR) : len, s->cipher,
		s->luks ? at : guest };
}

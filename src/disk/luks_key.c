/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key slots. A passphrase makes a key (PBKDF2), that key decrypts the slot's key material with the
 * volume's own cipher, its first sector being number 0, and merging the material's stripes gives
 * the master key, which the digest in the header confirms.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "disk/luks.h"
#include "util/auto.h"
#include "util/guid.h"
#include "util/hash.h"
#include "util/kdf.h"
#include "util/num.h"

#define LEAST_ITERATIONS 1000U
#define DIGEST           20U /* bytes of the master key's digest */

void vmimg_luks_material_done(struct vmimg_luks_material *m)
{
	if (m->bytes)
		explicit_bzero(m->bytes, m->len);
	free(m->bytes);
	m->bytes = NULL;
}

static void material_done_auto(struct vmimg_luks_material *m)
{
	vmimg_luks_material_done(m);
}

static int material_init(
	struct vmimg_luks_material *m, const struct vmimg_luks *luks, struct vmimg_error *err)
{
	m->len = vmimg_align_up(vmimg_cipher_key_len(&luks->kind) * LUKS_STRIPES, VMIMG_SECTOR);
	m->bytes = vmimg_alloc_array(m->len, 1, err);
	return m->bytes ? 0 : -1;
}

/* ---- stripes (LUKS 2.4: anti-forensic splitter) ---- */

/* Each piece as long as a digest becomes the digest of its number and itself. */
static void diffuse(struct vmimg_hash *hash, size_t size, uint8_t *block, size_t len)
{
	uint8_t digest[VMIMG_HASH_MAX], number[4];

	for (size_t at = 0; at < len; at += size) {
		size_t piece = vmimg_min(size, len - at);

		vmimg_put_be32(number, (uint32_t)(at / size));
		vmimg_hash_update(hash, number, sizeof(number));
		vmimg_hash_update(hash, block + at, piece);
		vmimg_hash_final(hash, digest);
		memcpy(block + at, digest, piece);
	}
	explicit_bzero(digest, sizeof(digest));
}

/* Mixes all stripes but the last into mixed. */
static int mix_stripes(const struct vmimg_luks *luks, const uint8_t *stripes,
	uint8_t mixed[VMIMG_CIPHER_KEY_MAX], struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_hash_free) struct vmimg_hash *hash = vmimg_hash_new(luks->hash, err);
	size_t len = vmimg_cipher_key_len(&luks->kind);

	if (!hash)
		return -1;
	memset(mixed, 0, VMIMG_CIPHER_KEY_MAX);
	for (size_t i = 0; i < LUKS_STRIPES - 1; i++) {
		for (size_t k = 0; k < len; k++)
			mixed[k] ^= stripes[i * len + k];
		diffuse(hash, vmimg_luks_hash_len(luks->hash), mixed, len);
	}
	return 0;
}

/* From key to the last stripe, and back: the one is the other, mixed with the rest. */
static int cross_stripes(const struct vmimg_luks *luks, const uint8_t *stripes, const uint8_t *from,
	uint8_t *to, struct vmimg_error *err)
{
	uint8_t mixed[VMIMG_CIPHER_KEY_MAX];
	int failed = mix_stripes(luks, stripes, mixed, err);

	for (size_t k = 0; !failed && k < vmimg_cipher_key_len(&luks->kind); k++)
		to[k] = from[k] ^ mixed[k];
	explicit_bzero(mixed, sizeof(mixed));
	return failed;
}

static uint8_t *last_stripe(const struct vmimg_luks *luks, const struct vmimg_luks_material *m)
{
	return m->bytes + (LUKS_STRIPES - 1) * vmimg_cipher_key_len(&luks->kind);
}

/* ---- unlocking ---- */

/* What deriving a key costs; refused before it is spent. */
static int spend(const struct vmimg_luks *luks, const char *what, uint32_t iterations,
	size_t key_len, uint64_t *work, struct vmimg_error *err)
{
	uint64_t cost =
		(uint64_t)iterations * vmimg_div_up(key_len, vmimg_luks_hash_len(luks->hash));

	if (cost > *work)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"%s asks for %" PRIu32 " iterations of PBKDF2, which is %" PRIu64
			" digests: of the %" PRIu64 " that may be spent on one image, %" PRIu64
			" are left (--max-iterations)",
			what, iterations, cost, luks->work, *work);
	*work -= cost;
	return 0;
}

/* The cipher of key material under that passphrase. */
static struct vmimg_cipher *slot_cipher(const struct vmimg_luks *luks,
	const struct vmimg_luks_slot *slot, const struct vmimg_secret *secret,
	struct vmimg_error *err)
{
	uint8_t key[VMIMG_CIPHER_KEY_MAX];
	struct vmimg_cipher *cipher = NULL;

	if (!vmimg_kdf_derive(luks->hash, secret->bytes, secret->len, slot->salt,
		    sizeof(slot->salt), slot->iterations, key, vmimg_cipher_key_len(&luks->kind),
		    err))
		cipher = vmimg_cipher_new(&luks->kind, key, err);
	explicit_bzero(key, sizeof(key));
	return cipher;
}

static int make_digest(const struct vmimg_luks *luks, const uint8_t *key, uint8_t digest[DIGEST],
	struct vmimg_error *err)
{
	const struct vmimg_luks_header *h = &luks->header;

	return vmimg_kdf_derive(luks->hash, key, vmimg_cipher_key_len(&luks->kind), h->digest_salt,
		sizeof(h->digest_salt), h->digest_iterations, digest, DIGEST, err);
}

static int open_slot(const struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	const struct vmimg_luks_slot *slot, const struct vmimg_secret *secret, uint8_t *key,
	struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_cipher_free) struct vmimg_cipher *cipher = NULL;
	VMIMG_AUTO(material_done) struct vmimg_luks_material m = { 0 };

	if (material_init(&m, luks, err) ||
		vmimg_io_pread(area->io, m.bytes, m.len,
			area->at + slot->material * (uint64_t)VMIMG_SECTOR, err))
		return -1;
	cipher = slot_cipher(luks, slot, secret, err);
	if (!cipher || vmimg_cipher_decrypt(cipher, 0, m.bytes, m.bytes, m.len, err))
		return -1;
	return cross_stripes(luks, m.bytes, last_stripe(luks, &m), key, err);
}

int vmimg_luks_try(const struct vmimg_luks *luks, const struct vmimg_luks_area *area, unsigned i,
	const struct vmimg_secret *secret, uint64_t *work, uint8_t key[VMIMG_CIPHER_KEY_MAX],
	bool *fits, struct vmimg_error *err)
{
	const struct vmimg_luks_slot *slot = &luks->slots[i];
	uint8_t digest[DIGEST], tried[VMIMG_CIPHER_KEY_MAX] = { 0 };
	char what[24];
	int failed;

	snprintf(what, sizeof(what), "key slot %u", i);
	failed =
		spend(luks, what, slot->iterations, vmimg_cipher_key_len(&luks->kind), work, err) ||
		spend(luks, "the master key's digest", luks->header.digest_iterations, DIGEST, work,
			err) ||
		open_slot(luks, area, slot, secret, tried, err) ||
		make_digest(luks, tried, digest, err);
	if (!failed)
		*fits = !memcmp(digest, luks->header.digest, DIGEST);
	if (!failed && *fits)
		memcpy(key, tried, sizeof(tried));
	explicit_bzero(tried, sizeof(tried));
	return failed ? -1 : 0;
}

/* A file that was made with an editor or echo ends in what nobody typed as a passphrase. */
static const char *hint(const struct vmimg_secret *secrets, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *bytes = secrets[i].bytes;

		if (secrets[i].len && bytes[secrets[i].len - 1] == '\n')
			return " (a secret ends with a newline, which is part of it)";
	}
	return "";
}

int vmimg_luks_unlock(const struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	const struct vmimg_secret *secrets, size_t count, uint8_t key[VMIMG_CIPHER_KEY_MAX],
	struct vmimg_error *err)
{
	uint64_t work = luks->work;
	bool fits = false, over = false;

	for (size_t s = 0; s < count; s++)
		for (unsigned i = 0; i < LUKS_SLOTS && !fits; i++) {
			if (luks->slots[i].active != LUKS_SLOT_ACTIVE)
				continue;
			if (!vmimg_luks_try(luks, area, i, &secrets[s], &work, key, &fits, err))
				continue;
			if (err->status != VMIMG_ELIMIT)
				return -1;
			over = true; /* another slot may cost less */
		}
	if (fits)
		return 0;
	if (over)
		return -1;
	return vmimg_fail(err, VMIMG_EREFUSED, "Invalid password, cannot unlock any keyslot%s",
		hint(secrets, count));
}

/* ---- making ---- */

static int choose_iterations(const struct vmimg_luks *luks, size_t key_len, unsigned milliseconds,
	uint32_t *iterations, struct vmimg_error *err)
{
	/* so that four slots of two digests each can be tried */
	uint64_t most = VMIMG_LUKS_MAX_WORK / 8, measured;

	if (vmimg_kdf_measure(luks->hash, key_len, milliseconds, &measured, err))
		return -1;
	*iterations = (uint32_t)vmimg_min(vmimg_max(measured, LEAST_ITERATIONS), most);
	return 0;
}

int vmimg_luks_make(struct vmimg_luks *luks, const struct vmimg_luks_new *wanted,
	uint8_t key[VMIMG_CIPHER_KEY_MAX], struct vmimg_error *err)
{
	static const char *const modes[2][3] = { { "cbc-plain", "cbc-plain64", "cbc-essiv:sha256" },
		{ "xts-plain", "xts-plain64", "xts-essiv:sha256" } };
	struct vmimg_luks_header *h = &luks->header;
	size_t len = vmimg_cipher_key_len(&wanted->kind);
	uint64_t sectors = vmimg_luks_size(&wanted->kind) / VMIMG_SECTOR;
	struct vmimg_guid uuid;

	memset(luks, 0, sizeof(*luks));
	luks->kind = wanted->kind;
	h->version = 1;
	h->payload_offset = (uint32_t)sectors;
	h->key_bytes = (uint32_t)len;
	memcpy(h->magic, LUKS_MAGIC, sizeof(h->magic));
	strcpy(luks->hash, wanted->hash);
	strcpy((char *)h->hash, wanted->hash);
	strcpy((char *)h->cipher_name, "aes");
	strcpy((char *)h->cipher_mode, modes[wanted->kind.mode][wanted->kind.iv]);
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		luks->slots[i] = (struct vmimg_luks_slot){ .active = LUKS_SLOT_INACTIVE,
			.material =
				(uint32_t)(LUKS_ALIGN + i * ((sectors - LUKS_ALIGN) / LUKS_SLOTS)),
			.stripes = LUKS_STRIPES };
	if (vmimg_guid_make(&uuid, true, 0, "luks", err) || vmimg_random(key, len, err) ||
		vmimg_random(h->digest_salt, sizeof(h->digest_salt), err) ||
		choose_iterations(luks, DIGEST, wanted->iter_time / 8, &h->digest_iterations, err))
		return -1;
	vmimg_guid_format((char *)h->uuid, &uuid);
	return make_digest(luks, key, h->digest, err);
}

int vmimg_luks_fill_slot(struct vmimg_luks *luks, unsigned i, const struct vmimg_secret *secret,
	unsigned iter_time, const uint8_t key[VMIMG_CIPHER_KEY_MAX],
	struct vmimg_luks_material *material, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_cipher_free) struct vmimg_cipher *cipher = NULL;
	VMIMG_AUTO(material_done) struct vmimg_luks_material m = { 0 };
	size_t len = vmimg_cipher_key_len(&luks->kind);
	struct vmimg_luks_slot slot = luks->slots[i];

	if (vmimg_random(slot.salt, sizeof(slot.salt), err) ||
		choose_iterations(luks, len, iter_time, &slot.iterations, err) ||
		material_init(&m, luks, err) ||
		vmimg_random(m.bytes, (LUKS_STRIPES - 1) * len, err) ||
		cross_stripes(luks, m.bytes, key, last_stripe(luks, &m), err))
		return -1;
	cipher = slot_cipher(luks, &slot, secret, err);
	if (!cipher || vmimg_cipher_encrypt(cipher, 0, m.bytes, m.bytes, m.len, err))
		return -1;
	slot.stripes = LUKS_STRIPES;
	slot.active = LUKS_SLOT_ACTIVE;
	luks->slots[i] = slot;
	*material = m;
	m.bytes = NULL;
	return 0;
}

int vmimg_luks_clear_slot(struct vmimg_luks *luks, unsigned i, struct vmimg_luks_material *material,
	struct vmimg_error *err)
{
	VMIMG_AUTO(material_done) struct vmimg_luks_material m = { 0 };
	struct vmimg_luks_slot *slot = &luks->slots[i];

	if (material_init(&m, luks, err) || vmimg_random(m.bytes, m.len, err))
		return -1;
	memset(slot->salt, 0, sizeof(slot->salt));
	slot->iterations = 0;
	slot->active = LUKS_SLOT_INACTIVE;
	*material = m;
	m.bytes = NULL;
	return 0;
}

int vmimg_luks_write_material(const struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	unsigned i, const struct vmimg_luks_material *material, struct vmimg_error *err)
{
	return vmimg_io_pwrite(area->io, material->bytes, material->len,
		area->at + luks->slots[i].material * (uint64_t)VMIMG_SECTOR, err);
}

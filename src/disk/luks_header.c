/* SPDX-License-Identifier: Apache-2.0 */
/* The header of LUKS: decoded, held against the specification, written, told. No key is needed. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "disk/info.h"
#include "disk/luks.h"
#include "util/num.h"
#include "util/text.h"

/* ---- names ---- */

static const struct {
	const char *name;
	unsigned key_len;
} ciphers[] = { { "aes-128", 16 }, { "aes-192", 24 }, { "aes-256", 32 } };
static const char *const modes[] = { "cbc", "xts" };              /* enum vmimg_cipher_mode */
static const char *const ivs[] = { "plain", "plain64", "essiv" }; /* enum vmimg_cipher_iv */
static const struct {
	const char *name;
	size_t len; /* bytes of a digest */
} hashes[] = { { "sha1", 20 }, { "sha224", 28 }, { "sha256", 32 }, { "sha384", 48 },
	{ "sha512", 64 } };

static int find(const char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(names[i], name))
			return (int)i;
	return -1;
}

static int fail_name(const char *what, const char *name, const char *known, struct vmimg_error *err)
{
	char shown[100];

	return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s \"%s\" is not known (%s)", what,
		vmimg_escape(shown, sizeof(shown), name, strlen(name)), known);
}

size_t vmimg_luks_hash_len(const char *hash)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(hashes); i++)
		if (!strcmp(hashes[i].name, hash))
			return hashes[i].len;
	return 0;
}

int vmimg_luks_check_hash(const char *hash, struct vmimg_error *err)
{
	return vmimg_luks_hash_len(hash)
		? 0
		: fail_name("hash", hash, "sha1, sha224, sha256, sha384 and sha512 are", err);
}

int vmimg_luks_kind(struct vmimg_cipher_kind *kind, const char *cipher, const char *mode,
	const char *iv, const char *iv_hash, struct vmimg_error *err)
{
	int chaining = find(modes, VMIMG_ARRAY_LEN(modes), mode);
	int vector = find(ivs, VMIMG_ARRAY_LEN(ivs), iv);
	size_t i = 0;

	while (i < VMIMG_ARRAY_LEN(ciphers) && strcmp(ciphers[i].name, cipher))
		i++;
	if (chaining < 0)
		return fail_name("cipher mode", mode, "cbc and xts are", err);
	if (i == VMIMG_ARRAY_LEN(ciphers))
		return fail_name("cipher", cipher, "aes-128, aes-192 and aes-256 are", err);
	if (vector < 0)
		return fail_name("generator of IVs", iv, "plain, plain64 and essiv are", err);
	if (vector == VMIMG_IV_ESSIV && strcmp(iv_hash ? iv_hash : "", "sha256"))
		return fail_name("hash of essiv", iv_hash ? iv_hash : "", "sha256 is", err);
	*kind = (struct vmimg_cipher_kind){ .key_len = ciphers[i].key_len,
		.mode = (enum vmimg_cipher_mode)chaining,
		.iv = (enum vmimg_cipher_iv)vector };
	if (kind->mode == VMIMG_CIPHER_XTS && kind->key_len == 24)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "aes-192 in mode xts is not done here");
	return 0;
}

/* ---- reading ---- */

/* A text field: it ends in NUL inside its 32 bytes. */
static int take_text(
	const char *what, const uint8_t field[32], char text[33], struct vmimg_error *err)
{
	memcpy(text, field, 32);
	text[32] = '\0';
	if (strlen(text) == 32)
		return vmimg_fail(err, VMIMG_ECORRUPT, "the %s of LUKS does not end", what);
	return 0;
}

/* "xts-plain64", "cbc-essiv:sha256" */
static int take_kind(struct vmimg_luks *luks, struct vmimg_error *err)
{
	char name[33], mode[33], cipher[64], *iv, *hash;
	uint32_t bytes = luks->header.key_bytes;

	if (take_text("cipher name", luks->header.cipher_name, name, err) ||
		take_text("cipher mode", luks->header.cipher_mode, mode, err) ||
		take_text("hash", luks->header.hash, luks->hash, err) ||
		vmimg_luks_check_hash(luks->hash, err))
		return -1;
	iv = strchr(mode, '-');
	if (iv)
		*iv++ = '\0';
	hash = iv ? strchr(iv, ':') : NULL;
	if (hash)
		*hash++ = '\0';
	if (!strcmp(mode, "xts"))
		bytes = bytes % 2 ? 0 : bytes / 2;
	if (!strcmp(name, "aes") && find(modes, VMIMG_ARRAY_LEN(modes), mode) >= 0 && bytes != 16 &&
		bytes != 24 && bytes != 32)
		return vmimg_fail(err, VMIMG_ECORRUPT, "a key of %" PRIu32 " bytes is none of aes",
			luks->header.key_bytes);
	snprintf(cipher, sizeof(cipher), "%s-%" PRIu32, name, bytes * 8);
	return vmimg_luks_kind(
		&luks->kind, strcmp(name, "aes") ? name : cipher, mode, iv ? iv : "", hash, err);
}

static uint64_t material_sectors(const struct vmimg_cipher_kind *kind)
{
	return vmimg_div_up(vmimg_cipher_key_len(kind) * LUKS_STRIPES, VMIMG_SECTOR);
}

static int check_slot(
	const struct vmimg_luks *luks, unsigned i, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_luks_slot *slot = &luks->slots[i];
	uint64_t sectors = material_sectors(&luks->kind);

	if (slot->active != LUKS_SLOT_ACTIVE && slot->active != LUKS_SLOT_INACTIVE)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"key slot %u is neither active nor inactive: 0x%08" PRIx32, i,
			slot->active);
	if (slot->active == LUKS_SLOT_ACTIVE &&
		(slot->stripes != LUKS_STRIPES || !slot->iterations))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"key slot %u has %" PRIu32 " stripes and %" PRIu32
			" iterations: it must have 4000, and at least one",
			i, slot->stripes, slot->iterations);
	if (slot->material < vmimg_div_up(LUKS_HEADER_SIZE, VMIMG_SECTOR) ||
		!vmimg_range_inside(
			slot->material * (uint64_t)VMIMG_SECTOR, sectors * VMIMG_SECTOR, size))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"key slot %u at sector %" PRIu32
			" is not between the header and its end (0x%" PRIx64 ")",
			i, slot->material, size);
	for (unsigned k = 0; k < i; k++)
		if (slot->material < luks->slots[k].material + sectors &&
			luks->slots[k].material < slot->material + sectors)
			return vmimg_fail(err, VMIMG_ECORRUPT, "key slots %u and %u overlap", k, i);
	return 0;
}

int vmimg_luks_read(
	struct vmimg_luks *luks, const struct vmimg_luks_area *area, struct vmimg_error *err)
{
	uint8_t raw[LUKS_HEADER_SIZE];

	luks->work = VMIMG_LUKS_MAX_WORK;
	if (area->len < sizeof(raw))
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "a LUKS header of %" PRIu64 " bytes", area->len);
	if (vmimg_io_pread(area->io, raw, sizeof(raw), area->at, err))
		return -1;
	vmimg_luks_header_decode(&luks->header, raw);
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		vmimg_luks_slot_decode(&luks->slots[i], raw + 208 + (size_t)i * 48);
	if (memcmp(luks->header.magic, LUKS_MAGIC, 6))
		return vmimg_fail(err, VMIMG_ECORRUPT, "no LUKS header where one should be");
	if (luks->header.version != 1)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "LUKS version %u is not known (1 is)",
			luks->header.version);
	if (take_kind(luks, err))
		return -1;
	if (!luks->header.digest_iterations)
		return vmimg_fail(err, VMIMG_ECORRUPT, "the master key's digest has no iterations");
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		if (check_slot(luks, i, area->len, err))
			return -1;
	return 0;
}

/* ---- writing ---- */

uint64_t vmimg_luks_size(const struct vmimg_cipher_kind *kind)
{
	uint64_t slot = vmimg_align_up(material_sectors(kind), LUKS_ALIGN);

	return (LUKS_ALIGN + LUKS_SLOTS * slot) * VMIMG_SECTOR;
}

int vmimg_luks_write(
	const struct vmimg_luks *luks, const struct vmimg_luks_area *area, struct vmimg_error *err)
{
	uint8_t raw[LUKS_HEADER_SIZE] = { 0 };

	vmimg_luks_header_encode(&luks->header, raw);
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		vmimg_luks_slot_encode(&luks->slots[i], raw + 208 + (size_t)i * 48);
	return vmimg_io_pwrite(area->io, raw, sizeof(raw), area->at, err);
}

/* ---- telling ---- */

static json_t *describe_slot(const struct vmimg_luks_slot *slot)
{
	bool active = slot->active == LUKS_SLOT_ACTIVE;
	json_t *object = json_object();

	vmimg_json_bool(object, "active", active);
	if (active)
		vmimg_json_uint(object, "iters", slot->iterations);
	vmimg_json_uint(object, "key-offset", slot->material * (uint64_t)VMIMG_SECTOR);
	if (active)
		vmimg_json_uint(object, "stripes", slot->stripes);
	return object;
}

void vmimg_luks_describe(const struct vmimg_luks *luks, json_t *object)
{
	const struct vmimg_luks_header *h = &luks->header;
	json_t *slots = json_array();
	char cipher[16];

	snprintf(cipher, sizeof(cipher), "aes-%u", luks->kind.key_len * 8);
	vmimg_json_text(object, "ivgen-alg", ivs[luks->kind.iv]);
	vmimg_json_text(object, "hash-alg", luks->hash);
	vmimg_json_text(object, "cipher-alg", cipher);
	vmimg_json_bytes(object, "uuid", (const char *)h->uuid,
		strnlen((const char *)h->uuid, sizeof(h->uuid)));
	if (luks->kind.iv == VMIMG_IV_ESSIV)
		vmimg_json_text(object, "ivgen-hash-alg", "sha256");
	vmimg_json_text(object, "format", "luks");
	vmimg_json_text(object, "cipher-mode", modes[luks->kind.mode]);
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		json_array_append_new(slots, describe_slot(&luks->slots[i]));
	json_object_set_new(object, "slots", slots);
	vmimg_json_uint(object, "payload-offset", h->payload_offset * (uint64_t)VMIMG_SECTOR);
	vmimg_json_uint(object, "master-key-iters", h->digest_iterations);
}

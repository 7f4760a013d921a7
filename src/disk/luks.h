/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LUKS version 1: the header of an encrypted volume, and the keys in it. A master key encrypts the
 * data; each active slot holds that key, encrypted with a passphrase and spread over 4000 stripes,
 * so that overwriting any part of it destroys it. The header is a stretch of some file: all offsets
 * here count from its first byte.
 */
#pragma once
#include <jansson.h>
#include "codec/cipher.h"
#include "disk/luks_layout.h"
#include "disk/options.h"
#include "io/io.h"
#include "vmimg.h"

struct vmimg_rekey;

/* Digests of PBKDF2 that are spent on one image if nobody says otherwise: five to ten seconds. What
 * cryptsetup and qemu-img make in their usual two seconds, on the fastest processors there are,
 * costs half of it for a slot. */
#define VMIMG_LUKS_MAX_WORK (UINT64_C(1) << 25)

struct vmimg_luks {
	struct vmimg_luks_header header;
	struct vmimg_luks_slot slots[LUKS_SLOTS];
	struct vmimg_cipher_kind kind;
	char hash[33]; /* one that is known */
	uint64_t work; /* digests that may be spent on trying secrets */
};

/* Where the header and the key material lie. */
struct vmimg_luks_area {
	struct vmimg_io *io; /* borrowed */
	uint64_t at, len;
};

/* Key material in memory: cleared when it goes. */
struct vmimg_luks_material {
	uint8_t *bytes;
	size_t len; /* whole sectors */
};
void vmimg_luks_material_done(struct vmimg_luks_material *material);

/* What a new header shall be. */
struct vmimg_luks_new {
	struct vmimg_cipher_kind kind;
	const char *hash;
	unsigned iter_time; /* milliseconds that trying a passphrase takes */
};

/* From the area's first bytes, decoded and held against the specification and the area's size. */
int vmimg_luks_read(struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Tries every secret on every active slot. VMIMG_EREFUSED: none fits. */
int vmimg_luks_unlock(const struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	const struct vmimg_secret *secrets, size_t count, uint8_t key[VMIMG_CIPHER_KEY_MAX],
	struct vmimg_error *err) VMIMG_CHECKED;
/* Whether the secret opens that slot; if so, key is the master key. *work is what may still be
 * spent. */
int vmimg_luks_try(const struct vmimg_luks *luks, const struct vmimg_luks_area *area, unsigned slot,
	const struct vmimg_secret *secret, uint64_t *work, uint8_t key[VMIMG_CIPHER_KEY_MAX],
	bool *fits, struct vmimg_error *err) VMIMG_CHECKED;
/* What decrypts the payload, by those of the options' secrets. */
struct vmimg_cipher *vmimg_luks_cipher(struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	const struct vmimg_open *options, struct vmimg_error *err) VMIMG_CHECKED;
/* As qemu-img has it, added to that object. */
void vmimg_luks_describe(const struct vmimg_luks *luks, json_t *object);

/* ---- making and changing ---- */

/* Bytes of the header with all its key material: where the payload of a bare volume begins. */
uint64_t vmimg_luks_size(const struct vmimg_cipher_kind *kind);
/* A header with a random master key and no active slot, in memory. */
int vmimg_luks_make(struct vmimg_luks *luks, const struct vmimg_luks_new *wanted,
	uint8_t key[VMIMG_CIPHER_KEY_MAX], struct vmimg_error *err) VMIMG_CHECKED;
/* Puts the master key into the slot, in memory: the slot, active, and its key material. */
int vmimg_luks_fill_slot(struct vmimg_luks *luks, unsigned slot, const struct vmimg_secret *secret,
	unsigned iter_time, const uint8_t key[VMIMG_CIPHER_KEY_MAX],
	struct vmimg_luks_material *material, struct vmimg_error *err) VMIMG_CHECKED;
/* From options of creation, whose names begin with prefix: "cipher-alg" and so on. Texts are theirs. */
int vmimg_luks_read_new(struct vmimg_luks_new *wanted, const struct vmimg_options *options,
	const char *prefix, struct vmimg_error *err) VMIMG_CHECKED;
/* Both, in memory: a header whose slot 0 the secret opens, and what encrypts with its key. */
struct vmimg_cipher *vmimg_luks_begin(struct vmimg_luks *luks, const struct vmimg_luks_new *wanted,
	const struct vmimg_secret *secret, struct vmimg_luks_material *slot,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Takes it out: the slot, inactive, and what its key material is to be overwritten with. */
int vmimg_luks_clear_slot(struct vmimg_luks *luks, unsigned slot,
	struct vmimg_luks_material *material, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_luks_write_material(const struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	unsigned slot, const struct vmimg_luks_material *material,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The header itself, in one write. */
int vmimg_luks_write(const struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Changes key slots in the file (disk/edit.h), and in memory. */
int vmimg_luks_rekey(struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	const struct vmimg_rekey *wanted, struct vmimg_error *err) VMIMG_CHECKED;
/* "aes-256", "xts", "plain64": VMIMG_EUNSUPPORTED names what is not known. iv_hash may be NULL. */
int vmimg_luks_kind(struct vmimg_cipher_kind *kind, const char *cipher, const char *mode,
	const char *iv, const char *iv_hash, struct vmimg_error *err) VMIMG_CHECKED;
/* Bytes of its digest; 0: it is not known. */
size_t vmimg_luks_hash_len(const char *hash);
int vmimg_luks_check_hash(const char *hash, struct vmimg_error *err) VMIMG_CHECKED;

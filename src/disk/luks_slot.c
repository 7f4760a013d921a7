/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Key slots of a header that is in use. A new slot becomes active by the write of one word, when
 * all else is in storage; an old one is inactive before its key material is overwritten. Whatever
 * moment a crash picks, every passphrase that must open the volume does.
 */
#include <inttypes.h>
#include <string.h>
#include "disk/edit.h"
#include "disk/luks.h"
#include "util/num.h"

#define SLOT_AT(i) (208 + (uint64_t)(i)*48)

static int write_state(
	const struct vmimg_luks_area *area, unsigned i, uint32_t state, struct vmimg_error *err)
{
	uint8_t raw[4];

	vmimg_put_be32(raw, state);
	return vmimg_io_pwrite(area->io, raw, sizeof(raw), area->at + SLOT_AT(i), err) ||
			vmimg_io_sync(area->io, err)
		? -1
		: 0;
}

/* All but its state, which stays inactive. */
static int write_slot(const struct vmimg_luks *luks, const struct vmimg_luks_area *area, unsigned i,
	const struct vmimg_luks_material *material, struct vmimg_error *err)
{
	uint8_t raw[48] = { 0 };

	vmimg_luks_slot_encode(&luks->slots[i], raw);
	return vmimg_luks_write_material(luks, area, i, material, err) ||
			vmimg_io_pwrite(area->io, raw + 4, sizeof(raw) - 4,
				area->at + SLOT_AT(i) + 4, err) ||
			vmimg_io_sync(area->io, err)
		? -1
		: 0;
}

static unsigned count_active(const struct vmimg_luks *luks)
{
	unsigned active = 0;

	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		active += luks->slots[i].active == LUKS_SLOT_ACTIVE;
	return active;
}

static int choose_slot(const struct vmimg_luks *luks, int wanted, struct vmimg_error *err)
{
	int i = wanted < 0 ? 0 : wanted;

	while (wanted < 0 && i < LUKS_SLOTS && luks->slots[i].active == LUKS_SLOT_ACTIVE)
		i++;
	if (i == LUKS_SLOTS)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"all %d key slots are in use: make one inactive first", LUKS_SLOTS);
	if (luks->slots[i].active == LUKS_SLOT_ACTIVE)
		return vmimg_fail(
			err, VMIMG_EREFUSED, "key slot %d is in use: make it inactive first", i);
	return i;
}

static int add_key(struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	const struct vmimg_rekey *wanted, struct vmimg_error *err)
{
	struct vmimg_luks_material material = { 0 };
	uint8_t key[VMIMG_CIPHER_KEY_MAX];
	int slot = choose_slot(luks, wanted->slot, err), failed;

	if (slot < 0)
		return -1;
	failed = vmimg_luks_unlock(luks, area, wanted->secrets, wanted->secret_count, key, err) ||
		vmimg_luks_fill_slot(luks, (unsigned)slot, wanted->new_secret, wanted->iter_time,
			key, &material, err) ||
		write_slot(luks, area, (unsigned)slot, &material, err) ||
		write_state(area, (unsigned)slot, LUKS_SLOT_ACTIVE, err);
	explicit_bzero(key, sizeof(key));
	vmimg_luks_material_done(&material);
	return failed ? -1 : 0;
}

/* Marks in drop the slots that are to go. */
static int choose_old(const struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	const struct vmimg_rekey *wanted, bool drop[LUKS_SLOTS], struct vmimg_error *err)
{
	uint64_t work = luks->work;
	uint8_t key[VMIMG_CIPHER_KEY_MAX];
	unsigned found = 0;

	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		drop[i] = luks->slots[i].active == LUKS_SLOT_ACTIVE &&
			(wanted->slot < 0 || (unsigned)wanted->slot == i);
		if (drop[i] && wanted->old_secret &&
			vmimg_luks_try(
				luks, area, i, wanted->old_secret, &work, key, &drop[i], err))
			return -1;
		found += drop[i];
	}
	explicit_bzero(key, sizeof(key));
	if (!found)
		return vmimg_fail(err, VMIMG_EREFUSED, "no key slot that is in use is meant");
	if (found == count_active(luks))
		return vmimg_fail(err, VMIMG_EREFUSED,
			"no key slot would be left in use, and the data be lost");
	return 0;
}

static int drop_keys(struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	const struct vmimg_rekey *wanted, struct vmimg_error *err)
{
	bool drop[LUKS_SLOTS];

	if (choose_old(luks, area, wanted, drop, err))
		return -1;
	for (unsigned i = 0; i < LUKS_SLOTS; i++) {
		struct vmimg_luks_material material = { 0 };
		int failed = drop[i] &&
			(write_state(area, i, LUKS_SLOT_INACTIVE, err) ||
				vmimg_luks_clear_slot(luks, i, &material, err) ||
				write_slot(luks, area, i, &material, err));

		vmimg_luks_material_done(&material);
		if (failed)
			return -1;
	}
	return 0;
}

int vmimg_luks_rekey(struct vmimg_luks *luks, const struct vmimg_luks_area *area,
	const struct vmimg_rekey *wanted, struct vmimg_error *err)
{
	if (wanted->slot >= LUKS_SLOTS)
		return vmimg_fail(err, VMIMG_EINVAL, "there is no key slot %d: they are 0 to %d",
			wanted->slot, LUKS_SLOTS - 1);
	return wanted->new_secret ? add_key(luks, area, wanted, err)
				  : drop_keys(luks, area, wanted, err);
}

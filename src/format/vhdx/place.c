/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a range of the guest becomes: a place for its data, or zeroes, with the BAT entries and the
 * bits of the sector bitmaps that say so.
 */
#include <string.h>
#include "format/vhdx/change.h"
#include "util/num.h"

static bool has_parent(const struct vhdx_change *c)
{
	return c->vhdx->params.has_parent;
}

static uint64_t index_of(const struct vhdx_change *c, uint64_t block)
{
	return vhdx_payload_index(&c->vhdx->geometry, block);
}

/* ---- sector bitmaps ---- */

/* Where the bits of a block are; without a bitmap it gets one. */
static int find_bits(struct vhdx_change *c, uint64_t block, uint64_t *at, struct vmimg_error *err)
{
	const struct vhdx_geometry *g = &c->vhdx->geometry;
	const struct vhdx_params *params = &c->vhdx->params;
	uint64_t index = vhdx_bitmap_index(g, block / g->ratio), entry;

	if (vmimg_vhdx_get_entry(c, index, &entry, err))
		return -1;
	if (VHDX_BAT_STATE(entry) != VHDX_BLOCK_PRESENT) {
		if (vmimg_vhdx_space_take(c, VHDX_MIB, at, err))
			return -1;
		entry = *at | VHDX_BLOCK_PRESENT;
		if (vmimg_vhdx_set_entry(c, index, entry, err))
			return -1;
	}
	*at = VHDX_BAT_AT(entry) + block % g->ratio * (params->block / params->logical / 8);
	return 0;
}

/* Sets the bits [first, end), counted from `at`, in the stage. Nothing is written that is set. */
static int fill_bits(
	struct vhdx_change *c, uint64_t at, uint64_t first, uint64_t end, struct vmimg_error *err)
{
	uint8_t bytes[4096], was[4096];

	while (first < end) {
		uint64_t start = first / 8, stop = vmimg_min(end, (start + sizeof(bytes)) * 8);
		size_t len = (size_t)(vmimg_div_up(stop, 8) - start);

		if (vmimg_io_pread(c->stage, bytes, len, at + start, err))
			return -1;
		memcpy(was, bytes, len);
		for (; first < stop; first++)
			bytes[first / 8 - start] |= (uint8_t)(1U << first % 8);
		if (memcmp(was, bytes, len) &&
			vmimg_io_pwrite(c->stage, bytes, len, at + start, err))
			return -1;
	}
	return 0;
}

/* A block that becomes present in part begins with no bit set, whatever an earlier one left. */
static int clear_bits(struct vhdx_change *c, uint64_t block, struct vmimg_error *err)
{
	const struct vhdx_params *params = &c->vhdx->params;
	uint64_t left = params->block / params->logical / 8, at = 0;
	uint8_t bytes[4096], zero[4096] = { 0 };

	if (find_bits(c, block, &at, err))
		return -1;
	for (; left; left -= vmimg_min(left, sizeof(bytes)), at += sizeof(bytes)) {
		size_t len = (size_t)vmimg_min(left, sizeof(bytes));

		if (vmimg_io_pread(c->stage, bytes, len, at, err))
			return -1;
		if (memcmp(bytes, zero, len) && vmimg_io_pwrite(c->stage, zero, len, at, err))
			return -1;
	}
	return 0;
}

/* [guest, guest + len), inside one block that is present in part, is here. */
static int note_present(
	struct vhdx_change *c, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	const struct vhdx_params *params = &c->vhdx->params;
	uint64_t inside = guest % params->block / params->logical, bits = 0;

	if (find_bits(c, guest / params->block, &bits, err))
		return -1;
	return fill_bits(c, bits, inside, inside + len / params->logical, err);
}

/* The bytes of the file, as far as there are any: a last block may be cut behind the disk's end. */
static int zero_file(struct vhdx_change *c, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(c->io);

	return at < size && len ? vmimg_io_zero(c->io, at, vmimg_min(len, size - at), err) : 0;
}

int vmimg_vhdx_zero_gaps(
	struct vhdx_change *c, uint64_t block_at, uint64_t bits, struct vmimg_error *err)
{
	const struct vhdx_params *params = &c->vhdx->params;
	uint64_t count = params->block / params->logical, first = 0; /* of a gap */
	uint8_t bytes[512];

	for (uint64_t i = 0; i < count; i++) {
		if (!(i % (8 * sizeof(bytes))) &&
			vmimg_io_pread(c->stage, bytes,
				(size_t)vmimg_min(sizeof(bytes), (count - i) / 8), bits + i / 8,
				err))
			return -1;
		if (!(bytes[i / 8 % sizeof(bytes)] >> i % 8 & 1))
			continue;
		if (zero_file(c, block_at + first * params->logical, (i - first) * params->logical,
			    err))
			return -1;
		first = i + 1;
	}
	return zero_file(
		c, block_at + first * params->logical, (count - first) * params->logical, err);
}

/* ---- blocks ---- */

/* The block's entry; one without a place gets one, which is zero. */
static int need_block(
	struct vhdx_change *c, uint64_t block, uint64_t *entry, struct vmimg_error *err)
{
	unsigned state;
	uint64_t at = 0;

	if (vmimg_vhdx_get_entry(c, index_of(c, block), entry, err))
		return -1;
	if (vhdx_holds_data(*entry))
		return 0;
	state = has_parent(c) && VHDX_BAT_STATE(*entry) == VHDX_BLOCK_NOT_PRESENT
		? VHDX_BLOCK_PARTIAL
		: VHDX_BLOCK_PRESENT;
	if (state == VHDX_BLOCK_PARTIAL && clear_bits(c, block, err))
		return -1;
	if (vmimg_vhdx_space_take(c, c->vhdx->params.block, &at, err))
		return -1;
	*entry = at | state;
	return vmimg_vhdx_set_entry(c, index_of(c, block), *entry, err);
}

int vmimg_vhdx_place(
	struct vhdx_change *c, uint64_t guest, uint64_t len, uint64_t *at, struct vmimg_error *err)
{
	uint32_t size = c->vhdx->params.block;
	uint64_t entry = 0;

	if (need_block(c, guest / size, &entry, err))
		return -1;
	*at = VHDX_BAT_AT(entry) + guest % size;
	return VHDX_BAT_STATE(entry) == VHDX_BLOCK_PARTIAL ? note_present(c, guest, len, err) : 0;
}

/* A block without data, which is to be zero in part or in whole. *done: nothing is left to do. It
 * is zero already, unless a parent shows; and where one is going to, it is made to stay so. */
static int zero_nothing(
	struct vhdx_change *c, uint64_t index, uint64_t entry, bool *done, struct vmimg_error *err)
{
	bool absent = VHDX_BAT_STATE(entry) == VHDX_BLOCK_NOT_PRESENT;

	*done = !vhdx_holds_data(entry) && (!absent || !has_parent(c));
	return *done && absent && c->hides ? vmimg_vhdx_set_entry(c, index, VHDX_BLOCK_ZERO, err)
					   : 0;
}

int vmimg_vhdx_zero_part(
	struct vhdx_change *c, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	uint64_t index = index_of(c, guest / c->vhdx->params.block), entry, to = 0;
	bool done = false;

	if (vmimg_vhdx_get_entry(c, index, &entry, err) ||
		zero_nothing(c, index, entry, &done, err))
		return -1;
	if (done)
		return 0;
	return vmimg_vhdx_place(c, guest, len, &to, err) || zero_file(c, to, len, err) ? -1 : 0;
}

int vmimg_vhdx_zero_block(struct vhdx_change *c, uint64_t block, struct vmimg_error *err)
{
	uint32_t size = c->vhdx->params.block;
	uint64_t index = index_of(c, block), entry;
	bool done = false;

	if (vmimg_vhdx_get_entry(c, index, &entry, err) ||
		zero_nothing(c, index, entry, &done, err))
		return -1;
	if (done)
		return 0;
	if (c->vhdx->params.leave_allocated && VHDX_BAT_STATE(entry) == VHDX_BLOCK_PRESENT)
		return zero_file(c, VHDX_BAT_AT(entry), size, err);
	if (vhdx_holds_data(entry) && vmimg_vhdx_space_free(c, VHDX_BAT_AT(entry), size, err))
		return -1;
	return vmimg_vhdx_set_entry(c, index, VHDX_BLOCK_ZERO, err);
}

int vmimg_vhdx_fill_block(struct vhdx_change *c, uint64_t block, struct vmimg_error *err)
{
	uint64_t index = index_of(c, block), entry;

	if (vmimg_vhdx_get_entry(c, index, &entry, err))
		return -1;
	if (VHDX_BAT_STATE(entry) != VHDX_BLOCK_PARTIAL)
		return 0;
	return vmimg_vhdx_set_entry(c, index, VHDX_BAT_AT(entry) | VHDX_BLOCK_PRESENT, err);
}

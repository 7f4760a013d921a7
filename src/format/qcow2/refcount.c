/* SPDX-License-Identifier: Apache-2.0 */
/* Refcounts of 1 to 64 bits in a block ("Host cluster management"): big-endian from a byte on, the
 * lowest bits first below that. */
#include "format/qcow2/qcow2.h"
#include "util/num.h"

uint64_t vmimg_qcow2_get_refcount(const uint8_t *block, uint64_t index, unsigned order)
{
	unsigned bits = 1U << order;

	switch (order) {
	case 3:
		return block[index];
	case 4:
		return vmimg_get_be16(block + index * 2);
	case 5:
		return vmimg_get_be32(block + index * 4);
	case 6:
		return vmimg_get_be64(block + index * 8);
	default:
		return block[index * bits / 8] >> (index * bits % 8) & ((1U << bits) - 1);
	}
}

void vmimg_qcow2_set_refcount(uint8_t *block, uint64_t index, unsigned order, uint64_t count)
{
	unsigned bits = 1U << order, shift = (unsigned)(index * bits % 8), mask;

	switch (order) {
	case 3:
		block[index] = (uint8_t)count;
		break;
	case 4:
		vmimg_put_be16(block + index * 2, (uint16_t)count);
		break;
	case 5:
		vmimg_put_be32(block + index * 4, (uint32_t)count);
		break;
	case 6:
		vmimg_put_be64(block + index * 8, count);
		break;
	default: /* of 1, 2 or 4 bits */
		mask = ((1U << bits) - 1) << shift;
		block[index * bits / 8] =
			(uint8_t)((block[index * bits / 8] & ~mask) | (count << shift & mask));
	}
}

uint64_t vmimg_qcow2_add_refcounts(
	uint8_t *block, uint64_t index, uint64_t count, unsigned order, int delta)
{
	uint64_t most = order == 6 ? UINT64_MAX : (UINT64_C(1) << (1U << order)) - 1;
	uint64_t full = delta < 0 ? 0 : most, now;

	for (uint64_t i = 0; i < count; i++) {
		now = vmimg_qcow2_get_refcount(block, index + i, order);
		if (now == full)
			return i;
		vmimg_qcow2_set_refcount(block, index + i, order, delta < 0 ? now - 1 : now + 1);
	}
	return count;
}

uint64_t vmimg_qcow2_find_unused(
	const uint8_t *block, const uint8_t *other, uint64_t index, uint64_t end, unsigned order)
{
	while (index < end &&
		(vmimg_qcow2_get_refcount(block, index, order) ||
			vmimg_qcow2_get_refcount(other, index, order)))
		index++;
	return index;
}

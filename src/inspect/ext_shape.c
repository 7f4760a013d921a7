/* SPDX-License-Identifier: Apache-2.0 */
/* Where the parts of an ext2, ext3 or ext4 lie (Linux kernel documentation, "ext4 Data Structures
 * and Algorithms"). */
#include "inspect/ext.h"
#include "util/bytes.h"
#include "util/num.h"

#define MAX_INODE    65536U
#define KNOWN        0x3f7d6U /* incompatible features that change nothing here, or are read */
#define F_META_GROUP 0x10U
#define F_64BIT      0x80U
#define F_SPARSE2    0x200U /* compatible */

bool vmimg_ext_has_super(const struct vmimg_ext_shape *shape, uint64_t group)
{
	if (shape->sparse2)
		return !group || group == shape->backups[0] || group == shape->backups[1];
	if (!shape->sparse || group < 2)
		return true;
	for (unsigned base = 3; base <= 7; base += 2) {
		uint64_t power = base;

		while (power < group)
			power *= base;
		if (power == group)
			return true;
	}
	return false;
}

/* The super block is in block 1 when blocks have 1024 bytes, even where the groups are counted from
 * block 0. */
uint64_t vmimg_ext_desc_at(const struct vmimg_ext_shape *shape, uint64_t group)
{
	uint64_t per_block = shape->block / shape->desc_size, block = group / per_block, at;

	if (!shape->spread || block < shape->meta_group) {
		at = (shape->block == 1024 ? 2 : 1) + block;
	} else {
		uint64_t first = block * per_block;

		at = shape->first_block + first * shape->blocks_per_group +
			vmimg_ext_has_super(shape, first) +
			(!first && !shape->first_block && shape->block == 1024);
	}
	return at * shape->block + group % per_block * shape->desc_size;
}

static int judge(const struct vmimg_ext_shape *shape, const uint8_t *s, uint32_t incompat,
	struct vmimg_error *err)
{
	if (incompat & ~KNOWN)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the ext file system has features that are not known here (0x%x)",
			incompat & ~KNOWN);
	if (vmimg_get_le16(s + 0x38) != 0xef53 || vmimg_get_le32(s + 0x18) > 6 ||
		!shape->inodes_per_group || !shape->blocks_per_group || shape->inode_size < 128 ||
		shape->inode_size > MAX_INODE || !vmimg_is_pow2(shape->inode_size) ||
		shape->desc_size < 32 || shape->desc_size > shape->block ||
		!vmimg_is_pow2(shape->desc_size))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the super block of the ext file system contradicts itself");
	return 0;
}

int vmimg_ext_parse(const uint8_t *s, struct vmimg_ext_shape *shape, struct vmimg_error *err)
{
	uint32_t incompat = vmimg_get_le32(s + 0x60);

	shape->block = 1024U << (vmimg_get_le32(s + 0x18) & 7);
	shape->blocks = vmimg_get_le32(s + 4);
	if (incompat & F_64BIT)
		shape->blocks |= (uint64_t)vmimg_get_le32(s + 0x150) << 32;
	shape->blocks = vmimg_min(shape->blocks, UINT64_MAX / 4 / shape->block);
	shape->inodes = vmimg_get_le32(s);
	shape->first_block = vmimg_get_le32(s + 0x14);
	shape->blocks_per_group = vmimg_get_le32(s + 0x20);
	shape->inodes_per_group = vmimg_get_le32(s + 0x28);
	shape->inode_size = vmimg_get_le32(s + 0x4c) ? vmimg_get_le16(s + 0x58) : 128;
	shape->desc_size = incompat & F_64BIT ? vmimg_get_le16(s + 0xfe) : 32;
	shape->spread = (incompat & F_META_GROUP) != 0;
	shape->meta_group = vmimg_get_le32(s + 0x104);
	shape->sparse = (vmimg_get_le32(s + 0x64) & 1) != 0;
	shape->sparse2 = (vmimg_get_le32(s + 0x5c) & F_SPARSE2) != 0;
	shape->backups[0] = vmimg_get_le32(s + 0x24c);
	shape->backups[1] = vmimg_get_le32(s + 0x250);
	return judge(shape, s, incompat, err);
}

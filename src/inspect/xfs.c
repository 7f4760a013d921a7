/* SPDX-License-Identifier: Apache-2.0 */
/* XFS versions 4 and 5, read only. The log is not replayed, checksums are not verified. */
#include "inspect/xfs.h"
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include "util/bytes.h"
#include "util/num.h"

#define INCOMPAT_TYPES     0x01U
#define INCOMPAT_BIG_TIMES 0x08U
#define INCOMPAT_BIG_COUNT 0x20U
#define INCOMPAT_KNOWN     0xffU
#define FEATURE2_TYPES     0x200U
#define REALTIME           0x01U /* flag of an inode: its content is on another device */
#define LINK_HEAD          56U   /* of a block with a link's target, version 5 */

static struct vmimg_xfs *xfs_of(struct vmimg_fs *fs)
{
	return (struct vmimg_xfs *)fs;
}

/* ---- inodes ------------------------------------------------------------------------------ */

static int read_raw(struct vmimg_xfs *xfs, uint64_t number, uint8_t *raw, struct vmimg_error *err)
{
	uint64_t within = number & ((UINT64_C(1) << xfs->inode_shift) - 1);
	uint64_t block = number >> xfs->inode_shift;
	uint64_t group = block >> xfs->group_shift, disk;

	block &= (UINT64_C(1) << xfs->group_shift) - 1;
	if (block >= xfs->group_blocks || !vmimg_mul(group, xfs->group_blocks, &disk) ||
		!vmimg_add(disk, block, &disk) || disk >= xfs->blocks)
		return vmimg_fail(err, VMIMG_ECORRUPT, "there is no inode %" PRIu64, number);
	if (vmimg_table_read(xfs->table, raw, xfs->inode_size,
		    disk * xfs->block + within * xfs->inode_size, err))
		return -1;
	if (raw[0] != 'I' || raw[1] != 'N')
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "inode %" PRIu64 " has no magic number", number);
	return 0;
}

static int64_t time_of(const struct vmimg_xfs *xfs, const uint8_t *raw)
{
	if (xfs->big_times && raw[4] >= 3 && vmimg_get_be64(raw + 120) & 8)
		return (int64_t)(vmimg_get_be64(raw + 40) / 1000000000) - INT64_C(0x80000000);
	return (int32_t)vmimg_get_be32(raw + 40);
}

int vmimg_xfs_inode(struct vmimg_xfs *xfs, uint64_t number, struct vmimg_xfs_inode *inode,
	struct vmimg_node *node, struct vmimg_error *err)
{
	size_t core, fork_end;
	const uint8_t *raw;

	inode->raw = vmimg_alloc_buffer(xfs->inode_size, err);
	if (!inode->raw || read_raw(xfs, number, inode->raw, err))
		return -1;
	raw = inode->raw;
	core = raw[4] >= 3 ? 176 : 100;
	fork_end = raw[82] ? core + 8U * raw[82] : xfs->inode_size;
	if (fork_end > xfs->inode_size || fork_end < core + 8)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"inode %" PRIu64 " has no room for its content", number);
	inode->number = number;
	inode->format = raw[5];
	inode->extents = vmimg_get_be32(raw + 76);
	if (xfs->big_counts && raw[4] >= 3 && vmimg_get_be64(raw + 120) & 16)
		inode->extents = vmimg_get_be64(raw + 24);
	inode->fork = raw + core;
	inode->fork_len = fork_end - core;
	memset(node, 0, sizeof(*node));
	node->mode = vmimg_get_be16(raw + 2);
	node->kind = S_ISREG(node->mode) ? VMIMG_NODE_FILE
		: S_ISDIR(node->mode)    ? VMIMG_NODE_DIR
		: S_ISLNK(node->mode)    ? VMIMG_NODE_LINK
					 : VMIMG_NODE_OTHER;
	node->uid = vmimg_get_be32(raw + 8);
	node->gid = vmimg_get_be32(raw + 12);
	node->mtime = time_of(xfs, raw);
	node->size = vmimg_get_be64(raw + 56);
	node->id = number;
	node->more[0] = vmimg_get_be16(raw + 90); /* flags */
	return 0;
}

/* ---- content ----------------------------------------------------------------------------- */

static int read_content(struct vmimg_xfs *xfs, const struct vmimg_xfs_inode *inode, uint8_t *buf,
	size_t len, uint64_t at, struct vmimg_error *err)
{
	while (len) {
		uint64_t from, count, skip = at % xfs->block;
		size_t step;

		if (vmimg_xfs_map(xfs, inode, at / xfs->block, &from, &count, err))
			return -1;
		count = vmimg_min(count, len / xfs->block + 2);
		step = (size_t)vmimg_min(len, count * xfs->block - skip);
		if (!from)
			memset(buf, 0, step);
		else if (vmimg_io_pread(xfs->io, buf, step, from * xfs->block + skip, err))
			return -1;
		buf += step;
		at += step;
		len -= step;
	}
	return 0;
}

static int xfs_read(struct vmimg_fs *fs, const struct vmimg_node *node, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	struct vmimg_xfs_inode inode = { 0 };
	struct vmimg_node again;
	int failed;

	if (node->more[0] & REALTIME)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "the file lies on the realtime device");
	failed = vmimg_xfs_inode(xfs_of(fs), node->id, &inode, &again, err) ||
		read_content(xfs_of(fs), &inode, buf, len, at, err);
	free(inode.raw);
	return failed ? -1 : 0;
}

/* Blocks of a link's target have a header each in version 5. */
static int read_target(struct vmimg_xfs *xfs, const struct vmimg_xfs_inode *inode, char *out,
	size_t len, struct vmimg_error *err)
{
	uint8_t magic[4];
	size_t head, each;

	if (read_content(xfs, inode, magic, sizeof(magic), 0, err))
		return -1;
	head = xfs->v5 && !memcmp(magic, "XSLM", 4) ? LINK_HEAD : 0; /* mkfs.xfs leaves it out */
	each = xfs->block - head;
	for (uint64_t i = 0; len; i++) {
		size_t step = vmimg_min(len, each);

		if (read_content(xfs, inode, (uint8_t *)out, step, i * xfs->block + head, err))
			return -1;
		out += step;
		len -= step;
	}
	return 0;
}

static int xfs_readlink(struct vmimg_fs *fs, const struct vmimg_node *node, char *out, size_t cap,
	struct vmimg_error *err)
{
	size_t len = (size_t)vmimg_min(node->size, cap - 1);
	struct vmimg_xfs_inode inode = { 0 };
	struct vmimg_node again;
	int failed = vmimg_xfs_inode(xfs_of(fs), node->id, &inode, &again, err);

	if (!failed && inode.format == VMIMG_XFS_LOCAL && len > inode.fork_len)
		failed = vmimg_fail(err, VMIMG_ECORRUPT, "a link is longer than it may be");
	else if (!failed && inode.format == VMIMG_XFS_LOCAL)
		memcpy(out, inode.fork, len);
	else if (!failed)
		failed = read_target(xfs_of(fs), &inode, out, len, err);
	out[failed ? 0 : len] = '\0';
	free(inode.raw);
	return failed;
}

/* ---- opening ----------------------------------------------------------------------------- */

static int judge(const struct vmimg_xfs *xfs, const uint8_t *s, struct vmimg_error *err)
{
	uint32_t incompat = xfs->v5 ? vmimg_get_be32(s + 216) : 0;
	unsigned version = vmimg_get_be16(s + 100) & 15;

	if (incompat & ~INCOMPAT_KNOWN || version < 4 || version > 5 ||
		!(vmimg_get_be16(s + 100) & 0x2000))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"XFS version %u with features 0x%x is not read here", version, incompat);
	if (memcmp(s, "XFSB", 4) || xfs->block < 512 || xfs->block > 65536 ||
		!vmimg_is_pow2(xfs->block) || xfs->inode_size < 256 || xfs->inode_size > 2048 ||
		!vmimg_is_pow2(xfs->inode_size) || !xfs->group_blocks || xfs->group_shift > 31 ||
		xfs->group_blocks > UINT64_C(1) << xfs->group_shift || s[192] > 7 ||
		xfs->folder_block > 65536 || xfs->inode_shift > 15 ||
		xfs->block / xfs->inode_size != UINT64_C(1) << xfs->inode_shift ||
		xfs->blocks > VMIMG_UNKNOWN / 4 / xfs->block)
		return vmimg_fail(err, VMIMG_ECORRUPT, "the super block of XFS contradicts itself");
	return 0;
}

static int read_super(struct vmimg_xfs *xfs, struct vmimg_error *err)
{
	uint8_t s[512];
	struct vmimg_xfs_inode inode = { 0 };
	int failed;

	if (vmimg_io_pread(xfs->io, s, sizeof(s), 0, err))
		return -1;
	xfs->v5 = (vmimg_get_be16(s + 100) & 15) == 5;
	xfs->block = vmimg_get_be32(s + 4);
	xfs->blocks = vmimg_get_be64(s + 8);
	xfs->group_blocks = vmimg_get_be32(s + 84);
	xfs->inode_size = vmimg_get_be16(s + 104);
	xfs->inode_shift = s[123];
	xfs->group_shift = s[124];
	xfs->folder_block = xfs->block << (s[192] & 7);
	xfs->has_types = xfs->v5 ? vmimg_get_be32(s + 216) & INCOMPAT_TYPES
				 : vmimg_get_be32(s + 200) & FEATURE2_TYPES;
	xfs->big_times = xfs->v5 && vmimg_get_be32(s + 216) & INCOMPAT_BIG_TIMES;
	xfs->big_counts = xfs->v5 && vmimg_get_be32(s + 216) & INCOMPAT_BIG_COUNT;
	if (judge(xfs, s, err))
		return -1;
	failed = vmimg_xfs_inode(xfs, vmimg_get_be64(s + 56), &inode, &xfs->fs.root, err);
	free(inode.raw);
	if (!failed && xfs->fs.root.kind != VMIMG_NODE_DIR)
		failed = vmimg_fail(err, VMIMG_ECORRUPT, "the root of XFS is no folder");
	return failed;
}

static void xfs_close(struct vmimg_fs *fs)
{
	struct vmimg_xfs *xfs = xfs_of(fs);

	vmimg_table_free(xfs->table);
	vmimg_io_unref(xfs->io);
	free(xfs);
}

static const struct vmimg_fs_ops xfs_ops = {
	.list = vmimg_xfs_list,
	.lookup = vmimg_xfs_lookup,
	.read = xfs_read,
	.readlink = xfs_readlink,
	.close = xfs_close,
};

struct vmimg_fs *vmimg_xfs_open(struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_xfs *xfs = vmimg_new(struct vmimg_xfs, err);

	if (!xfs)
		return NULL;
	xfs->fs.ops = &xfs_ops;
	xfs->io = vmimg_io_ref(io);
	xfs->table = xfs->fs.reads = vmimg_table_new(io, err);
	if (!xfs->table || read_super(xfs, err)) {
		xfs_close(&xfs->fs);
		return NULL;
	}
	return &xfs->fs;
}

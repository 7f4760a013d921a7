/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext2, ext3 and ext4, read only (Linux kernel documentation, "ext4 Data Structures and
 * Algorithms"). The journal is not replayed: what was only in it is not seen.
 */
#include "inspect/ext.h"
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include "util/bytes.h"
#include "util/num.h"

#define ROOT       2
#define MAX_FOLDER (UINT64_C(256) << 20) /* bytes of one folder that are read */

static struct vmimg_ext *ext_of(struct vmimg_fs *fs)
{
	return (struct vmimg_ext *)fs;
}

/* ---- inodes ------------------------------------------------------------------------------ */

static int inode_at(struct vmimg_ext *ext, uint32_t number, uint64_t *at, struct vmimg_error *err)
{
	uint64_t group = (number - 1) / ext->shape.inodes_per_group, table;
	uint8_t desc[64] = { 0 };

	if (!number || number > ext->shape.inodes)
		return vmimg_fail(err, VMIMG_ECORRUPT, "there is no inode %u", number);
	if (vmimg_table_read(ext->table, desc, vmimg_min(ext->shape.desc_size, sizeof(desc)),
		    vmimg_ext_desc_at(&ext->shape, group), err))
		return -1;
	table = vmimg_get_le32(desc + 8) | (uint64_t)vmimg_get_le32(desc + 0x28) << 32;
	if (table >= ext->shape.blocks)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the inodes of group %" PRIu64 " lie past the end of the file system",
			group);
	*at = table * ext->shape.block +
		(uint64_t)((number - 1) % ext->shape.inodes_per_group) * ext->shape.inode_size;
	return 0;
}

static enum vmimg_node_kind kind_of(uint32_t mode)
{
	return S_ISREG(mode)    ? VMIMG_NODE_FILE
		: S_ISDIR(mode) ? VMIMG_NODE_DIR
		: S_ISLNK(mode) ? VMIMG_NODE_LINK
				: VMIMG_NODE_OTHER;
}

/* Either of node and inode may be NULL. */
static int read_inode(struct vmimg_ext *ext, uint32_t number, struct vmimg_node *node,
	struct vmimg_ext_inode *inode, struct vmimg_error *err)
{
	uint8_t raw[0x8c] = { 0 };
	uint64_t at;

	if (inode_at(ext, number, &at, err) ||
		vmimg_table_read(
			ext->table, raw, vmimg_min(ext->shape.inode_size, sizeof(raw)), at, err))
		return -1;
	if (inode) {
		inode->number = number;
		inode->flags = vmimg_get_le32(raw + 0x20);
		memcpy(inode->map, raw + 0x28, VMIMG_EXT_MAP);
	}
	if (!node)
		return 0;
	memset(node, 0, sizeof(*node));
	node->mode = vmimg_get_le16(raw);
	node->kind = kind_of(node->mode);
	node->uid = vmimg_get_le16(raw + 2) | (uint32_t)vmimg_get_le16(raw + 0x78) << 16;
	node->gid = vmimg_get_le16(raw + 0x18) | (uint32_t)vmimg_get_le16(raw + 0x7a) << 16;
	node->size = vmimg_get_le32(raw + 4) | (uint64_t)vmimg_get_le32(raw + 0x6c) << 32;
	node->mtime = (int32_t)vmimg_get_le32(raw + 0x10);
	if (ext->shape.inode_size > 128 && vmimg_get_le16(raw + 0x80) >= 12)
		node->mtime += (int64_t)(vmimg_get_le32(raw + 0x88) & 3) << 32;
	node->id = number;
	return 0;
}

/* ---- content ----------------------------------------------------------------------------- */

/* The part of small content that lies behind the inode: the attribute system.data. Empty when there
 * is none. */
static void find_inline(const uint8_t *raw, size_t size, const uint8_t **value, size_t *len)
{
	size_t base = 128 + (size_t)vmimg_get_le16(raw + 128) + 4, at = base;

	*len = 0;
	if (base > size || vmimg_get_le32(raw + base - 4) != 0xea020000)
		return;
	while (at + 16 <= size && vmimg_get_le32(raw + at)) {
		size_t name = raw[at], offset = vmimg_get_le16(raw + at + 2);
		size_t bytes = vmimg_get_le32(raw + at + 8);

		if (name == 4 && raw[at + 1] == 7 && at + 20 <= size &&
			!memcmp(raw + at + 16, "data", 4) &&
			vmimg_range_inside(base + offset, bytes, size)) {
			*value = raw + base + offset;
			*len = bytes;
			return;
		}
		at += (16 + name + 3) & ~(size_t)3;
	}
}

/* Content that lies in the inode itself; *bytes is the caller's to free. */
static int read_inline(struct vmimg_ext *ext, const struct vmimg_ext_inode *inode, uint8_t **bytes,
	size_t *len, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *raw = vmimg_alloc_buffer(ext->shape.inode_size, err), *all = NULL;
	const uint8_t *value = NULL;
	size_t more = 0;
	uint64_t at;

	if (!raw || inode_at(ext, inode->number, &at, err) ||
		vmimg_table_read(ext->table, raw, ext->shape.inode_size, at, err))
		return -1;
	if (ext->shape.inode_size > 160)
		find_inline(raw, ext->shape.inode_size, &value, &more);
	all = vmimg_alloc_array(1, VMIMG_EXT_MAP + more, err);
	if (!all)
		return -1;
	memcpy(all, inode->map, VMIMG_EXT_MAP);
	if (more)
		memcpy(all + VMIMG_EXT_MAP, value, more);
	*bytes = vmimg_take(all);
	*len = VMIMG_EXT_MAP + more;
	return 0;
}

static int copy_inline(struct vmimg_ext *ext, const struct vmimg_ext_inode *inode, uint8_t *buf,
	size_t len, uint64_t at, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = NULL;
	size_t have;

	if (read_inline(ext, inode, &bytes, &have, err))
		return -1;
	if (!vmimg_range_inside(at, len, have))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"inode %u is longer than the content it holds", inode->number);
	memcpy(buf, bytes + at, len);
	return 0;
}

static int read_content(struct vmimg_ext *ext, const struct vmimg_ext_inode *inode, uint8_t *buf,
	size_t len, uint64_t at, struct vmimg_error *err)
{
	if (inode->flags & VMIMG_EXT_INLINE)
		return copy_inline(ext, inode, buf, len, at, err);
	while (len) {
		uint64_t from, count, skip = at % ext->shape.block;
		size_t step;

		if (vmimg_ext_map(ext, inode, at / ext->shape.block, &from, &count, err))
			return -1;
		step = (size_t)vmimg_min(len, count * ext->shape.block - skip);
		if (!from)
			memset(buf, 0, step);
		else if (vmimg_io_pread(ext->io, buf, step, from * ext->shape.block + skip, err))
			return -1;
		buf += step;
		at += step;
		len -= step;
	}
	return 0;
}

static int ext_read(struct vmimg_fs *fs, const struct vmimg_node *node, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	struct vmimg_ext_inode inode;

	if (read_inode(ext_of(fs), (uint32_t)node->id, NULL, &inode, err))
		return -1;
	if (inode.flags & VMIMG_EXT_ENCRYPTED)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "the file is encrypted");
	return read_content(ext_of(fs), &inode, buf, len, at, err);
}

static int ext_readlink(struct vmimg_fs *fs, const struct vmimg_node *node, char *out, size_t cap,
	struct vmimg_error *err)
{
	size_t len = (size_t)vmimg_min(node->size, cap - 1);
	struct vmimg_ext_inode inode;

	if (read_inode(ext_of(fs), (uint32_t)node->id, NULL, &inode, err))
		return -1;
	if (inode.flags & VMIMG_EXT_ENCRYPTED)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "the link is encrypted");
	if (node->size < VMIMG_EXT_MAP && !(inode.flags & VMIMG_EXT_EXTENTS))
		memcpy(out, inode.map, len);
	else if (read_content(ext_of(fs), &inode, (uint8_t *)out, len, 0, err))
		return -1;
	out[len] = '\0';
	return 0;
}

/* ---- folders ----------------------------------------------------------------------------- */

/* What to do with each entry of a folder; more than 0: enough. */
struct scan {
	struct vmimg_ext *ext;
	vmimg_fs_each *each; /* NULL: look for name */
	void *ctx;
	const char *name;
	size_t len;
	struct vmimg_node *node;
	bool found;
};

static int visit(
	struct scan *scan, uint32_t number, const char *name, size_t len, struct vmimg_error *err)
{
	struct vmimg_node node;

	if (!scan->each) {
		scan->found = len == scan->len && !memcmp(name, scan->name, len);
		if (!scan->found)
			return 0;
		return read_inode(scan->ext, number, scan->node, NULL, err) ? -1 : 1;
	}
	if (read_inode(scan->ext, number, &node, NULL, err))
		return -1;
	return !scan->each(scan->ctx, name, len, &node);
}

static int scan_entries(
	struct scan *scan, const uint8_t *bytes, size_t size, struct vmimg_error *err)
{
	size_t at = 0;

	while (at + 8 <= size) {
		uint32_t number = vmimg_get_le32(bytes + at);
		size_t len = vmimg_get_le16(bytes + at + 4), name = bytes[at + 6];
		int enough = 0;

		len = size == 65536 && (len == 0 || len == 65535) ? 65536 : len;
		if (len < 8 || len % 4 || len > size - at || name + 8 > len)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"a folder has an entry of %zu bytes with a name of %zu", len, name);
		if (number && name)
			enough = visit(scan, number, (const char *)bytes + at + 8, name, err);
		if (enough)
			return enough;
		at += len;
	}
	return 0;
}

static int scan_inline(
	struct scan *scan, const struct vmimg_ext_inode *inode, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = NULL;
	size_t len;
	int enough;

	if (read_inline(scan->ext, inode, &bytes, &len, err))
		return -1;
	/* the parent's number first; the rest behind the inode is a region of its own */
	enough = scan_entries(scan, bytes + 4, VMIMG_EXT_MAP - 4, err);
	if (enough || len == VMIMG_EXT_MAP)
		return enough;
	return scan_entries(scan, bytes + VMIMG_EXT_MAP, len - VMIMG_EXT_MAP, err);
}

static int scan_folder(struct scan *scan, const struct vmimg_node *dir, struct vmimg_error *err)
{
	struct vmimg_ext *ext = scan->ext;
	VMIMG_AUTO(free) uint8_t *block = vmimg_alloc_buffer(ext->shape.block, err);
	uint64_t blocks = vmimg_div_up(dir->size, ext->shape.block), from, count,
		 budget = MAX_FOLDER;
	struct vmimg_ext_inode inode;

	if (!block || read_inode(ext, (uint32_t)dir->id, NULL, &inode, err))
		return -1;
	if (inode.flags & VMIMG_EXT_INLINE)
		return scan_inline(scan, &inode, err);
	for (uint64_t at = 0; at < blocks; at += count) {
		if (vmimg_ext_map(ext, &inode, at, &from, &count, err))
			return -1;
		count = vmimg_min(count, blocks - at);
		for (uint64_t i = 0; from && i < count; i++) {
			int enough;

			if (budget < ext->shape.block)
				return vmimg_fail(err, VMIMG_ELIMIT,
					"a folder of more than %" PRIu64 " MiB", MAX_FOLDER >> 20);
			budget -= ext->shape.block;
			if (vmimg_table_read(ext->table, block, ext->shape.block,
				    (from + i) * ext->shape.block, err))
				return -1;
			enough = scan_entries(scan, block, ext->shape.block, err);
			if (enough)
				return enough;
		}
	}
	return 0;
}

static int ext_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each,
	void *ctx, struct vmimg_error *err)
{
	struct scan scan = { .ext = ext_of(fs), .each = each, .ctx = ctx };

	return scan_folder(&scan, dir, err) < 0 ? -1 : 0;
}

static int ext_lookup(struct vmimg_fs *fs, const struct vmimg_node *dir, const char *name,
	size_t len, struct vmimg_node *node, bool *found, struct vmimg_error *err)
{
	struct scan scan = { .ext = ext_of(fs), .name = name, .len = len, .node = node };

	if (scan_folder(&scan, dir, err) < 0)
		return -1;
	*found = scan.found;
	return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

static int read_super(struct vmimg_ext *ext, struct vmimg_error *err)
{
	uint8_t super[VMIMG_EXT_SUPER];

	return vmimg_io_pread(ext->io, super, sizeof(super), VMIMG_EXT_SUPER, err) ||
			vmimg_ext_parse(super, &ext->shape, err)
		? -1
		: 0;
}

static void ext_close(struct vmimg_fs *fs)
{
	struct vmimg_ext *ext = ext_of(fs);

	vmimg_table_free(ext->table);
	vmimg_io_unref(ext->io);
	free(ext);
}

static const struct vmimg_fs_ops ext_ops = {
	.list = ext_list,
	.lookup = ext_lookup,
	.read = ext_read,
	.readlink = ext_readlink,
	.close = ext_close,
};

struct vmimg_fs *vmimg_ext_open(struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_ext *ext = vmimg_new(struct vmimg_ext, err);

	if (!ext)
		return NULL;
	ext->fs.ops = &ext_ops;
	ext->io = vmimg_io_ref(io);
	ext->table = vmimg_table_new(io, err);
	if (!ext->table || read_super(ext, err) ||
		read_inode(ext, ROOT, &ext->fs.root, NULL, err)) {
		ext_close(&ext->fs);
		return NULL;
	}
	if (ext->fs.root.kind != VMIMG_NODE_DIR) {
		vmimg_fail(err, VMIMG_ECORRUPT, "the root of the ext file system is no folder");
		ext_close(&ext->fs);
		return NULL;
	}
	return &ext->fs;
}

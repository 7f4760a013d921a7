/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ext2, ext3 and ext4, read only, by libext2fs over an io. What the library reads for one question
 * is counted: structures that lead in circles run into that, whatever it makes of them. The journal
 * is not replayed: what was only in it is not seen.
 */
#include "inspect/ext.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "inspect/libext2fs.h"
#include "io/table.h"
#include "util/num.h"

#define ROOT       2
#define MAX_FOLDER (UINT64_C(256) << 20) /* bytes of one folder that are read */
#define MAX_DESCS  (UINT64_C(64) << 20)  /* bytes of descriptors, which the library keeps */
#define ENCRYPTED  0x00000800U           /* flags of an inode */
#define EXTENTS    0x00080000U
#define MAP        60 /* bytes of an inode that are a map, or a short link */

struct ext {
	struct vmimg_fs fs;
	const struct vmimg_libext2fs *lib;
	struct vmimg_io *io;       /* shared */
	struct vmimg_table *table; /* over io */
	struct struct_io_manager manager;
	ext2_filsys e2;
	uint64_t budget;          /* blocks that may still be read */
	struct vmimg_error error; /* why a read failed; status OK: none did */
};

static struct ext *ext_of(struct vmimg_fs *fs)
{
	return (struct ext *)fs;
}

/* ---- what libext2fs reads through -------------------------------------------------------- */

static errcode_t cb_open(const char *name, int flags, io_channel *out)
{
	io_channel channel = calloc(1, sizeof(*channel));
	void *ext;

	(void)flags;
	if (!channel || sscanf(name, "cb:%p", &ext) != 1) {
		free(channel);
		return EXT2_ET_NO_MEMORY;
	}
	channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	channel->manager = &((struct ext *)ext)->manager;
	channel->private_data = ext;
	channel->block_size = 1024;
	channel->refcount = 1;
	*out = channel;
	return 0;
}

static errcode_t cb_close(io_channel channel)
{
	if (!--channel->refcount)
		free(channel);
	return 0;
}

static errcode_t cb_set_blksize(io_channel channel, int size)
{
	channel->block_size = size;
	return 0;
}

/* A negative count is one of bytes. */
static errcode_t cb_read(io_channel channel, unsigned long long block, int count, void *data)
{
	struct ext *ext = channel->private_data;
	uint64_t at,
		len = count < 0 ? (uint64_t) - (int64_t)count
				: (uint64_t)count * (uint64_t)channel->block_size;
	uint64_t cost = vmimg_div_up(len, 1024);
	int failed;

	if (cost > ext->budget) {
		vmimg_fail(
			&ext->error, VMIMG_ELIMIT, "its structures lead in circles, or on and on");
		return EXT2_ET_CORRUPT_SUPERBLOCK;
	}
	ext->budget -= cost;
	if (!vmimg_mul(block, (uint64_t)channel->block_size, &at) ||
		!vmimg_range_inside(at, len, vmimg_io_size(ext->io)))
		failed = vmimg_fail(&ext->error, VMIMG_ECORRUPT,
			"block %llu lies past the end of the file system", block);
	else if (len <= 65536)
		failed = vmimg_table_read(ext->table, data, (size_t)len, at, &ext->error);
	else
		failed = vmimg_io_pread(ext->io, data, (size_t)len, at, &ext->error);
	return failed ? EXT2_ET_SHORT_READ : 0;
}

static errcode_t cb_read32(io_channel channel, unsigned long block, int count, void *data)
{
	return cb_read(channel, block, count, data);
}

static errcode_t cb_write(io_channel channel, unsigned long long block, int count, const void *data)
{
	(void)channel;
	(void)block;
	(void)count;
	(void)data;
	return EXT2_ET_RO_FILSYS;
}

static errcode_t cb_write32(io_channel channel, unsigned long block, int count, const void *data)
{
	return cb_write(channel, block, count, data);
}

static errcode_t cb_flush(io_channel channel)
{
	(void)channel;
	return 0;
}

static const struct struct_io_manager manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "vmimg",
	.open = cb_open,
	.close = cb_close,
	.set_blksize = cb_set_blksize,
	.read_blk = cb_read32,
	.read_blk64 = cb_read,
	.write_blk = cb_write32,
	.write_blk64 = cb_write,
	.flush = cb_flush,
};

/* A new question: so many bytes may be read for it. */
static void ask(struct ext *ext, uint64_t bytes)
{
	ext->budget = vmimg_div_up(bytes, 1024);
	ext->error.status = VMIMG_OK;
}

/* What the library says went wrong; a read that failed says it better. */
static int fail(struct ext *ext, errcode_t code, struct vmimg_error *err)
{
	if (ext->error.status) {
		*err = ext->error;
		return -1;
	}
	if (code == EXT2_ET_NO_MEMORY)
		return vmimg_fail_nomem(err);
	return vmimg_fail(err, VMIMG_ECORRUPT, "ext: %s", ext->lib->error_message(code));
}

/* ---- inodes ------------------------------------------------------------------------------ */

static enum vmimg_node_kind kind_of(uint32_t mode)
{
	return S_ISREG(mode)    ? VMIMG_NODE_FILE
		: S_ISDIR(mode) ? VMIMG_NODE_DIR
		: S_ISLNK(mode) ? VMIMG_NODE_LINK
				: VMIMG_NODE_OTHER;
}

static int read_inode(struct ext *ext, uint32_t number, struct ext2_inode_large *inode,
	struct vmimg_node *node, struct vmimg_error *err)
{
	errcode_t code;

	memset(inode, 0, sizeof(*inode));
	code = ext->lib->ext2fs_read_inode_full(
		ext->e2, number, (struct ext2_inode *)inode, sizeof(*inode));
	if (code) {
		fail(ext, code, err);
		return vmimg_within(err, "inode %u", number);
	}
	memset(node, 0, sizeof(*node));
	node->mode = inode->i_mode;
	node->kind = kind_of(node->mode);
	node->uid = inode->i_uid | (uint32_t)inode->osd2.linux2.l_i_uid_high << 16;
	node->gid = inode->i_gid | (uint32_t)inode->osd2.linux2.l_i_gid_high << 16;
	node->size = inode->i_size | (uint64_t)inode->i_size_high << 32;
	node->mtime = (int32_t)inode->i_mtime;
	if (ext->e2->super->s_inode_size > 128 && inode->i_extra_isize >= 12)
		node->mtime += (int64_t)(inode->i_mtime_extra & 3) << 32;
	node->id = number;
	return 0;
}

/* ---- content ----------------------------------------------------------------------------- */

static int read_content(struct ext *ext, uint32_t number, char *buf, size_t len, uint64_t at,
	struct vmimg_error *err)
{
	ext2_file_t file;
	errcode_t code;
	unsigned got;

	ask(ext, len * UINT64_C(8) + (UINT64_C(4) << 20));
	code = ext->lib->ext2fs_file_open2(ext->e2, number, NULL, 0, &file);
	if (code)
		return fail(ext, code, err);
	code = ext->lib->ext2fs_file_llseek(file, at, EXT2_SEEK_SET, NULL);
	for (; !code && len; buf += got, len -= got) {
		code = ext->lib->ext2fs_file_read(
			file, buf, (unsigned)vmimg_min(len, 1 << 30), &got);
		if (!code && !got)
			code = EXT2_ET_SHORT_READ;
	}
	ext->lib->ext2fs_file_close(file);
	return code ? fail(ext, code, err) : 0;
}

static int ext_read(struct vmimg_fs *fs, const struct vmimg_node *node, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	struct ext2_inode_large inode;
	struct vmimg_node again;

	ask(ext_of(fs), 1 << 20);
	if (read_inode(ext_of(fs), (uint32_t)node->id, &inode, &again, err))
		return -1;
	if (inode.i_flags & ENCRYPTED)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "the file is encrypted");
	return read_content(ext_of(fs), (uint32_t)node->id, buf, len, at, err);
}

static int ext_readlink(struct vmimg_fs *fs, const struct vmimg_node *node, char *out, size_t cap,
	struct vmimg_error *err)
{
	size_t len = (size_t)vmimg_min(node->size, cap - 1);
	struct ext2_inode_large inode;
	struct vmimg_node again;

	ask(ext_of(fs), 1 << 20);
	if (read_inode(ext_of(fs), (uint32_t)node->id, &inode, &again, err))
		return -1;
	if (inode.i_flags & ENCRYPTED)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "the link is encrypted");
	if (node->size < MAP && !(inode.i_flags & EXTENTS))
		memcpy(out, inode.i_block, len);
	else if (read_content(ext_of(fs), (uint32_t)node->id, out, len, 0, err))
		return -1;
	out[len] = '\0';
	return 0;
}

/* ---- folders ----------------------------------------------------------------------------- */

struct scan {
	struct ext *ext;
	vmimg_fs_each *each; /* NULL: look for name */
	void *ctx;
	const char *name;
	size_t len;
	struct vmimg_node *node;
	bool found, failed;
	struct vmimg_error *err;
};

static int visit(ext2_ino_t dir, int entry, struct ext2_dir_entry *e, int offset, int size,
	char *buf, void *ctx)
{
	struct scan *scan = ctx;
	size_t len = e->name_len & 0xff;
	struct ext2_inode_large inode;
	struct vmimg_node node;

	(void)dir;
	(void)entry;
	(void)offset;
	(void)size;
	(void)buf;
	if (!scan->each && (len != scan->len || memcmp(e->name, scan->name, len)))
		return 0;
	if (read_inode(scan->ext, e->inode, &inode, &node, scan->err)) {
		scan->failed = true;
		return DIRENT_ABORT;
	}
	if (scan->each)
		return scan->each(scan->ctx, e->name, len, &node) ? 0 : DIRENT_ABORT;
	*scan->node = node;
	scan->found = true;
	return DIRENT_ABORT;
}

static int scan_folder(struct scan *scan, const struct vmimg_node *dir, struct vmimg_error *err)
{
	struct ext *ext = scan->ext;
	errcode_t code;

	scan->err = err;
	ask(ext, MAX_FOLDER);
	code = ext->lib->ext2fs_dir_iterate2(ext->e2, (ext2_ino_t)dir->id, 0, NULL, visit, scan);
	if (scan->failed)
		return -1;
	return code ? fail(ext, code, err) : 0;
}

static int ext_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each,
	void *ctx, struct vmimg_error *err)
{
	struct scan scan = { .ext = ext_of(fs), .each = each, .ctx = ctx };

	return scan_folder(&scan, dir, err);
}

static int ext_lookup(struct vmimg_fs *fs, const struct vmimg_node *dir, const char *name,
	size_t len, struct vmimg_node *node, bool *found, struct vmimg_error *err)
{
	struct scan scan = { .ext = ext_of(fs), .name = name, .len = len, .node = node };

	if (scan_folder(&scan, dir, err))
		return -1;
	*found = scan.found;
	return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

static int judge_super(struct ext *ext, struct vmimg_error *err)
{
	uint8_t super[VMIMG_EXT_SUPER];
	struct vmimg_ext_shape shape;
	uint64_t descs;

	if (vmimg_io_pread(ext->io, super, sizeof(super), VMIMG_EXT_SUPER, err) ||
		vmimg_ext_parse(super, &shape, err))
		return -1;
	descs = vmimg_div_up(shape.blocks, shape.blocks_per_group) * shape.desc_size;
	if (descs > MAX_DESCS)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"the ext file system has 0x%" PRIx64 " bytes of descriptors, 0x%" PRIx64
			" is the limit",
			descs, MAX_DESCS);
	return 0;
}

static int open_fs(struct ext *ext, struct vmimg_error *err)
{
	struct ext2_inode_large inode;
	char name[40];
	errcode_t code;

	ext->lib = vmimg_libext2fs_get();
	if (!ext->lib)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"files of ext are read by libext2fs, which cannot be loaded here");
	if (judge_super(ext, err))
		return -1;
	snprintf(name, sizeof(name), "cb:%p", (void *)ext);
	ask(ext, 2 * MAX_DESCS);
	code = ext->lib->ext2fs_open2(name, NULL,
		EXT2_FLAG_64BITS | EXT2_FLAG_FORCE | EXT2_FLAG_SKIP_MMP |
			EXT2_FLAG_IGNORE_CSUM_ERRORS,
		0, 0, &ext->manager, &ext->e2);
	if (code)
		return fail(ext, code, err);
	if (read_inode(ext, ROOT, &inode, &ext->fs.root, err))
		return -1;
	if (ext->fs.root.kind != VMIMG_NODE_DIR)
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "the root of the ext file system is no folder");
	return 0;
}

static void ext_close(struct vmimg_fs *fs)
{
	struct ext *ext = ext_of(fs);

	if (ext->e2)
		ext->lib->ext2fs_free(ext->e2);
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
	struct ext *ext = vmimg_new(struct ext, err);

	if (!ext)
		return NULL;
	ext->fs.ops = &ext_ops;
	ext->io = vmimg_io_ref(io);
	ext->manager = manager;
	ext->table = ext->fs.reads = vmimg_table_new(io, err);
	if (!ext->table || open_fs(ext, err)) {
		ext_close(&ext->fs);
		return NULL;
	}
	return &ext->fs;
}

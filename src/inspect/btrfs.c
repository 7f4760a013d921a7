/* SPDX-License-Identifier: Apache-2.0 */
/*
 * btrfs on one device, read only, from the default subvolume; subvolumes are folders. The log is
 * not replayed; checksums of nodes are verified where they are CRC-32C, those of data are not.
 */
#include "inspect/btrfs.h"
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include "util/bytes.h"
#include "util/num.h"
#include "util/sum.h"

#define SUPER_AT 65536U
#define SUPER    4096U
#define ARRAY_AT 811U /* chunks that the tree of chunks itself lies in */
#define ARRAY    2048U
#define KEY      17U
#define INODE    160U /* length of an inode */
#define ROOT     239U /* of a root, up to its level */
#define DIR_HEAD 30U  /* of an entry, before its name */
#define KNOWN \
	0x11fffU /* incompatible features: all but the second shape of extent trees, RAID's own */
#define UUID_META 0x400U
#define MAX_NAME  255U

static struct vmimg_btrfs *btrfs_of(struct vmimg_fs *fs)
{
	return (struct vmimg_btrfs *)fs;
}

/* ---- subvolumes -------------------------------------------------------------------------- */

/* The tree of a subvolume into btrfs->tree; *found: it is there. */
static int find_subvolume(
	struct vmimg_btrfs *btrfs, uint64_t number, bool *found, struct vmimg_error *err)
{
	struct vmimg_btrfs_key key = { number, VMIMG_BTRFS_ROOT, 0 };
	struct vmimg_btrfs_item item;

	*found = true;
	if (btrfs->subvolume == number)
		return 0;
	if (vmimg_btrfs_find(btrfs, &btrfs->roots, &key, &item, found, err))
		return -1;
	*found = *found && item.key.object == number && item.key.type == VMIMG_BTRFS_ROOT &&
		item.len >= ROOT;
	if (!*found)
		return 0;
	btrfs->tree =
		(struct vmimg_btrfs_tree){ vmimg_get_le64(item.bytes + 176), item.bytes[238] };
	btrfs->subvolume = number;
	return 0;
}

static int use_subvolume(struct vmimg_btrfs *btrfs, uint64_t number, struct vmimg_error *err)
{
	bool found;

	if (find_subvolume(btrfs, number, &found, err))
		return -1;
	return found ? 0
		     : vmimg_fail(err, VMIMG_ECORRUPT, "there is no subvolume %" PRIu64, number);
}

/* Whether a subvolume lies in another one: in a snapshot of that, its place is an empty folder. */
static int is_in(struct vmimg_btrfs *btrfs, uint64_t outer, uint64_t inner, bool *found,
	struct vmimg_error *err)
{
	struct vmimg_btrfs_key key = { outer, VMIMG_BTRFS_ROOT_REF, inner };
	struct vmimg_btrfs_item item;

	if (vmimg_btrfs_find(btrfs, &btrfs->roots, &key, &item, found, err))
		return -1;
	*found = *found && !vmimg_btrfs_compare(&item.key, &key);
	return 0;
}

/* ---- inodes ------------------------------------------------------------------------------ */

/* Numbers are unique in a subvolume only: id is made of both. more: subvolume, inode. */
static void set_place(struct vmimg_node *node, uint64_t subvolume, uint64_t inode)
{
	node->id = inode + (subvolume - VMIMG_BTRFS_FS_TREE) * UINT64_C(0x9e3779b97f4a7c15);
	node->more[0] = subvolume;
	node->more[1] = inode;
}

static int read_inode(struct vmimg_btrfs *btrfs, uint64_t subvolume, uint64_t inode,
	struct vmimg_node *node, struct vmimg_error *err)
{
	struct vmimg_btrfs_key key = { inode, VMIMG_BTRFS_INODE, 0 };
	struct vmimg_btrfs_item item;
	bool found;

	if (use_subvolume(btrfs, subvolume, err) ||
		vmimg_btrfs_find(btrfs, &btrfs->tree, &key, &item, &found, err))
		return -1;
	if (!found || vmimg_btrfs_compare(&item.key, &key) || item.len < INODE)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"there is no inode %" PRIu64 " in subvolume %" PRIu64, inode, subvolume);
	memset(node, 0, sizeof(*node));
	set_place(node, subvolume, inode);
	node->mode = vmimg_get_le32(item.bytes + 52);
	node->kind = S_ISREG(node->mode) ? VMIMG_NODE_FILE
		: S_ISDIR(node->mode)    ? VMIMG_NODE_DIR
		: S_ISLNK(node->mode)    ? VMIMG_NODE_LINK
					 : VMIMG_NODE_OTHER;
	node->uid = vmimg_get_le32(item.bytes + 44);
	node->gid = vmimg_get_le32(item.bytes + 48);
	node->size = vmimg_get_le64(item.bytes + 16);
	node->mtime = (int64_t)vmimg_get_le64(item.bytes + 136);
	return 0;
}

static int btrfs_read(struct vmimg_fs *fs, const struct vmimg_node *node, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	struct vmimg_btrfs *btrfs = btrfs_of(fs);

	if (use_subvolume(btrfs, node->more[0], err))
		return -1;
	return vmimg_btrfs_content(btrfs, &btrfs->tree, node->more[1], buf, len, at, err);
}

static int btrfs_readlink(struct vmimg_fs *fs, const struct vmimg_node *node, char *out, size_t cap,
	struct vmimg_error *err)
{
	size_t len = (size_t)vmimg_min(node->size, cap - 1);

	if (btrfs_read(fs, node, out, len, 0, err))
		return -1;
	out[len] = '\0';
	return 0;
}

/* ---- folders ----------------------------------------------------------------------------- */

struct entry {
	struct vmimg_btrfs_key place;
	size_t len;
	char name[MAX_NAME];
};

/* The entry at the beginning of an item; *used: how long it is. False: it makes no sense. */
static bool decode(const uint8_t *raw, size_t len, struct entry *entry, size_t *used)
{
	size_t name = len >= DIR_HEAD ? vmimg_get_le16(raw + 27) : 0;

	*used = DIR_HEAD + name + (name ? vmimg_get_le16(raw + 25) : 0);
	if (!name || name > MAX_NAME || *used > len)
		return false;
	entry->place = vmimg_btrfs_key(raw);
	entry->len = name;
	memcpy(entry->name, raw + DIR_HEAD, name);
	return true;
}

static int node_of(struct vmimg_btrfs *btrfs, const struct vmimg_node *dir,
	const struct entry *entry, struct vmimg_node *node, struct vmimg_error *err)
{
	uint64_t inner = entry->place.object;
	bool in;

	if (entry->place.type != VMIMG_BTRFS_ROOT)
		return read_inode(btrfs, dir->more[0], inner, node, err);
	if (is_in(btrfs, dir->more[0], inner, &in, err))
		return -1;
	if (in)
		return read_inode(btrfs, inner, VMIMG_BTRFS_FIRST, node, err);
	*node = (struct vmimg_node){ .kind = VMIMG_NODE_DIR, .mode = S_IFDIR | 0755 };
	set_place(node, dir->more[0], 0);
	node->id ^= inner << 32;
	return 0;
}

static int bad_folder(const struct vmimg_node *dir, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"folder %" PRIu64 " of subvolume %" PRIu64 " has an entry that makes no sense",
		dir->more[1], dir->more[0]);
}

/* By the order in which they were made; each has a key of its own. */
static int btrfs_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each,
	void *ctx, struct vmimg_error *err)
{
	struct vmimg_btrfs *btrfs = btrfs_of(fs);
	struct vmimg_btrfs_key key = { dir->more[1], VMIMG_BTRFS_DIR_INDEX, 0 };
	struct vmimg_btrfs_item item;
	struct vmimg_node node;
	struct entry entry;
	size_t used;
	bool found;

	do {
		if (use_subvolume(btrfs, dir->more[0], err) ||
			vmimg_btrfs_find(btrfs, &btrfs->tree, &key, &item, &found, err))
			return -1;
		if (!found || item.key.object != key.object || item.key.type != key.type)
			return 0;
		key = item.key;
		if (!decode(item.bytes, item.len, &entry, &used))
			return bad_folder(dir, err);
		if (node_of(btrfs, dir, &entry, &node, err))
			return -1;
		if (!each(ctx, entry.name, entry.len, &node))
			return 0;
	} while (vmimg_btrfs_next(&key));
	return 0;
}

/* Names are found by their sum; those with the same one share an item. */
static int btrfs_lookup(struct vmimg_fs *fs, const struct vmimg_node *dir, const char *name,
	size_t len, struct vmimg_node *node, bool *found, struct vmimg_error *err)
{
	struct vmimg_btrfs *btrfs = btrfs_of(fs);
	struct vmimg_btrfs_key key = { dir->more[1], VMIMG_BTRFS_DIR_ITEM,
		(uint32_t)~vmimg_crc32c(1, name, len) };
	struct vmimg_btrfs_item item;
	struct entry entry;
	size_t at = 0, used;

	if (use_subvolume(btrfs, dir->more[0], err) ||
		vmimg_btrfs_find(btrfs, &btrfs->tree, &key, &item, found, err))
		return -1;
	*found = *found && !vmimg_btrfs_compare(&item.key, &key);
	if (!*found)
		return 0;
	for (*found = false; at < item.len; at += used) {
		if (!decode(item.bytes + at, item.len - at, &entry, &used))
			return bad_folder(dir, err);
		*found = entry.len == len && !memcmp(entry.name, name, len);
		if (*found)
			return node_of(btrfs, dir, &entry, node, err);
	}
	return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

static int judge(struct vmimg_btrfs *btrfs, const uint8_t *s, struct vmimg_error *err)
{
	uint64_t incompat = vmimg_get_le64(s + 188);

	/* a second line of defence: it is not recognised otherwise */
	if (memcmp(s + 64, "_BHRfS_M", 8))
		return vmimg_fail(err, VMIMG_EFORMAT, "no btrfs");
	if (incompat & ~(uint64_t)KNOWN)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"btrfs with features 0x%" PRIx64 " is not read here", incompat);
	if (btrfs->crc && vmimg_crc32c(0, s + 32, SUPER - 32) != vmimg_get_le32(s))
		return vmimg_fail(err, VMIMG_ECORRUPT, "the super block has a wrong checksum");
	if (btrfs->node_size < 4096 || btrfs->node_size > 65536 ||
		!vmimg_is_pow2(btrfs->node_size) || btrfs->sector < 512 || btrfs->sector > 65536 ||
		!vmimg_is_pow2(btrfs->sector) || vmimg_get_le32(s + 160) > ARRAY)
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "the super block of btrfs contradicts itself");
	return 0;
}

static int read_array(
	struct vmimg_btrfs *btrfs, const uint8_t *array, size_t len, struct vmimg_error *err)
{
	for (size_t at = 0, used; at < len; at += KEY + used) {
		if (len - at < KEY)
			return vmimg_fail(err, VMIMG_ECORRUPT, "the chunks of btrfs are cut off");
		if (vmimg_btrfs_add_chunk(btrfs, vmimg_btrfs_key(array + at).offset,
			    array + at + KEY, len - at - KEY, &used, err))
			return -1;
	}
	return 0;
}

static int read_chunks(
	struct vmimg_btrfs *btrfs, const struct vmimg_btrfs_tree *tree, struct vmimg_error *err)
{
	struct vmimg_btrfs_key key = { VMIMG_BTRFS_FIRST, VMIMG_BTRFS_CHUNK, 0 };
	struct vmimg_btrfs_item item;
	size_t used;
	bool found;

	do {
		if (vmimg_btrfs_find(btrfs, tree, &key, &item, &found, err))
			return -1;
		if (!found || item.key.object != key.object || item.key.type != key.type)
			return 0;
		key = item.key;
		if (vmimg_btrfs_add_chunk(btrfs, key.offset, item.bytes, item.len, &used, err))
			return -1;
	} while (vmimg_btrfs_next(&key));
	return 0;
}

/* The subvolume that is mounted when none is named; without a word about it, the first one. */
static int default_subvolume(struct vmimg_btrfs *btrfs, uint64_t *number, struct vmimg_error *err)
{
	static const char name[] = "default";
	struct vmimg_btrfs_key key = { VMIMG_BTRFS_DEFAULT, VMIMG_BTRFS_DIR_ITEM,
		(uint32_t)~vmimg_crc32c(1, name, sizeof(name) - 1) };
	struct vmimg_btrfs_item item;
	struct entry entry;
	size_t used;
	bool found;

	*number = VMIMG_BTRFS_FS_TREE;
	if (vmimg_btrfs_find(btrfs, &btrfs->roots, &key, &item, &found, err))
		return -1;
	if (found && !vmimg_btrfs_compare(&item.key, &key) &&
		decode(item.bytes, item.len, &entry, &used) && entry.place.type == VMIMG_BTRFS_ROOT)
		*number = entry.place.object;
	return 0;
}

static int open_fs(struct vmimg_btrfs *btrfs, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *s = vmimg_alloc_array(1, SUPER, err);
	struct vmimg_btrfs_tree chunks;
	uint64_t number;

	if (!s || vmimg_io_pread(btrfs->io, s, SUPER, SUPER_AT, err))
		return -1;
	btrfs->sector = vmimg_get_le32(s + 144);
	btrfs->node_size = vmimg_get_le32(s + 148);
	btrfs->crc = !vmimg_get_le16(s + 196);
	btrfs->device = vmimg_get_le64(s + 201);
	memcpy(btrfs->fsid, s + (vmimg_get_le64(s + 188) & UUID_META ? 571 : 32), 16);
	btrfs->roots = (struct vmimg_btrfs_tree){ vmimg_get_le64(s + 80), s[198] };
	chunks = (struct vmimg_btrfs_tree){ vmimg_get_le64(s + 88), s[199] };
	if (judge(btrfs, s, err) || read_array(btrfs, s + ARRAY_AT, vmimg_get_le32(s + 160), err) ||
		read_chunks(btrfs, &chunks, err) || default_subvolume(btrfs, &number, err) ||
		read_inode(btrfs, number, VMIMG_BTRFS_FIRST, &btrfs->fs.root, err))
		return -1;
	return btrfs->fs.root.kind == VMIMG_NODE_DIR
		? 0
		: vmimg_fail(err, VMIMG_ECORRUPT, "the root of btrfs is no folder");
}

static void btrfs_close(struct vmimg_fs *fs)
{
	struct vmimg_btrfs *btrfs = btrfs_of(fs);

	for (unsigned i = 0; i < VMIMG_BTRFS_LEVELS; i++)
		free(btrfs->nodes[i].bytes);
	for (unsigned i = 0; i < VMIMG_ARRAY_LEN(btrfs->unpackers); i++)
		vmimg_unpacker_free(btrfs->unpackers[i]);
	free(btrfs->packed);
	free(btrfs->unpacked);
	free(btrfs->chunks);
	vmimg_io_unref(btrfs->io);
	free(btrfs);
}

static const struct vmimg_fs_ops btrfs_ops = {
	.list = btrfs_list,
	.lookup = btrfs_lookup,
	.read = btrfs_read,
	.readlink = btrfs_readlink,
	.close = btrfs_close,
};

struct vmimg_fs *vmimg_btrfs_open(struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_btrfs *btrfs = vmimg_new(struct vmimg_btrfs, err);

	if (!btrfs)
		return NULL;
	btrfs->fs.ops = &btrfs_ops;
	btrfs->io = vmimg_io_ref(io);
	if (open_fs(btrfs, err)) {
		btrfs_close(&btrfs->fs);
		return NULL;
	}
	return &btrfs->fs;
}

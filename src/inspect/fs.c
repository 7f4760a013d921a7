/* SPDX-License-Identifier: Apache-2.0 */
/* What is the same for all file systems: which reader, paths, and reading whole files. */
#include "inspect/fs.h"
#include <errno.h>
#include <string.h>
#include "io/table.h"
#include "util/num.h"
#include "util/text.h"

#define MAX_LINKS 40   /* as Linux */
#define MAX_PATH  8192 /* bytes still to walk */
#define MAX_DEPTH 256  /* folders on the way */

static const struct {
	const char *type;
	struct vmimg_fs *(*open)(struct vmimg_io *, struct vmimg_error *);
} readers[] = {
	{ "btrfs", vmimg_btrfs_open },
	{ "ext2", vmimg_ext_open },
	{ "ext3", vmimg_ext_open },
	{ "ext4", vmimg_ext_open },
	{ "vfat", vmimg_fat_open },
	{ "iso9660", vmimg_iso_open },
	{ "xfs", vmimg_xfs_open },
	{ "ntfs", vmimg_ntfs_open },
	{ "exfat", vmimg_exfat_open },
};

struct vmimg_fs *vmimg_fs_open(struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_fs_info info;

	return vmimg_fs_recognise(io, &info, err) ? NULL : vmimg_fs_open_as(io, &info, err);
}

struct vmimg_fs *vmimg_fs_open_as(
	struct vmimg_io *io, const struct vmimg_fs_info *info, struct vmimg_error *err)
{
	if (!info->type) {
		vmimg_fail(err, VMIMG_EFORMAT, "no file system that is known here");
		return NULL;
	}
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(readers); i++)
		if (!strcmp(readers[i].type, info->type))
			return readers[i].open(io, err);
	vmimg_fail(err, VMIMG_EUNSUPPORTED, "files inside %s are not read here", info->type);
	return NULL;
}

void vmimg_fs_close(struct vmimg_fs *fs)
{
	if (fs)
		fs->ops->close(fs);
}

void vmimg_fs_bound(struct vmimg_fs *fs, uint64_t bytes)
{
	if (fs->reads)
		vmimg_table_bound(fs->reads, bytes);
}

bool vmimg_fs_spent(const struct vmimg_fs *fs)
{
	return fs->reads && vmimg_table_spent(fs->reads);
}

/* ---- names ------------------------------------------------------------------------------- */

/* A name that can stand as one component of a path. */
static bool is_name(const char *name, size_t len)
{
	bool dots = (len == 1 && name[0] == '.') || (len == 2 && !memcmp(name, "..", 2));

	return len && !dots && !memchr(name, '/', len) && !memchr(name, '\0', len);
}

struct filter {
	struct vmimg_fs *fs;
	vmimg_fs_each *each;
	void *ctx;
};

static bool pass_names(void *ctx, const char *name, size_t len, const struct vmimg_node *node)
{
	const struct filter *filter = ctx;
	bool dots = (len == 1 || len == 2) && !memcmp(name, "..", len);

	if (is_name(name, len))
		return filter->each(filter->ctx, name, len, node);
	filter->fs->skipped += !dots;
	return true;
}

int vmimg_fs_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each, void *ctx,
	struct vmimg_error *err)
{
	struct filter filter = { fs, each, ctx };

	if (dir->kind != VMIMG_NODE_DIR)
		return vmimg_fail_sys(err, ENOTDIR, "listing");
	return fs->ops->list(fs, dir, pass_names, &filter, err);
}

struct search {
	const char *name;
	size_t len;
	bool folds, found;
	struct vmimg_node *node;
};

static bool compare(void *ctx, const char *name, size_t len, const struct vmimg_node *node)
{
	struct search *search = ctx;

	if (len != search->len ||
		(search->folds ? strncasecmp(name, search->name, len)
			       : memcmp(name, search->name, len)))
		return true;
	search->found = true;
	*search->node = *node;
	return false;
}

static int lookup(struct vmimg_fs *fs, const struct vmimg_node *dir, const char *name, size_t len,
	struct vmimg_node *node, bool *found, struct vmimg_error *err)
{
	struct search search = { name, len, fs->folds, false, node };

	if (fs->ops->lookup)
		return fs->ops->lookup(fs, dir, name, len, node, found, err);
	if (fs->ops->list(fs, dir, compare, &search, err))
		return -1;
	*found = search.found;
	return 0;
}

/* ---- paths ------------------------------------------------------------------------------- */

struct walk {
	struct vmimg_node stack[MAX_DEPTH]; /* the folders from the root to here */
	size_t depth;                       /* stack[depth] is where the walk stands */
	char left[MAX_PATH];                /* what remains of the path */
	unsigned links;
	bool follow;
};

static int set_left(struct walk *walk, const char *first, const char *rest, struct vmimg_error *err)
{
	size_t len = strlen(first), more = strlen(rest);

	if (len + more + 2 > sizeof(walk->left))
		return vmimg_fail_sys(err, ENAMETOOLONG, "links lead to a path");
	memmove(walk->left + len + 1, rest, more + 1);
	memcpy(walk->left, first, len);
	walk->left[len] = '/';
	return 0;
}

/* Puts a link's target in front of what remains. */
static int follow(struct vmimg_fs *fs, struct walk *walk, const struct vmimg_node *link,
	const char *rest, struct vmimg_error *err)
{
	char target[4096];

	if (++walk->links > MAX_LINKS)
		return vmimg_fail_sys(err, ELOOP, "following links");
	if (vmimg_fs_readlink(fs, link, target, sizeof(target), err))
		return -1;
	if (target[0] == '/')
		walk->depth = 0;
	return set_left(walk, target, rest, err);
}

/* One component: a step down, up, or along a link. *end: the walk ended at walk->stack[depth]. */
static int step(struct vmimg_fs *fs, struct walk *walk, bool *found, struct vmimg_error *err)
{
	char *name = walk->left + strspn(walk->left, "/");
	size_t len = strcspn(name, "/");
	char *rest = name + len;
	struct vmimg_node next;

	*found = true;
	if (!len || (len == 1 && name[0] == '.')) {
		memmove(walk->left, rest, strlen(rest) + 1);
		return 0;
	}
	if (walk->stack[walk->depth].kind != VMIMG_NODE_DIR) {
		*found = false;
		return 0;
	}
	if (len == 2 && !memcmp(name, "..", 2)) {
		walk->depth -= walk->depth > 0;
		memmove(walk->left, rest, strlen(rest) + 1);
		return 0;
	}
	if (lookup(fs, &walk->stack[walk->depth], name, len, &next, found, err))
		return -1;
	if (!*found)
		return 0;
	if (next.kind == VMIMG_NODE_LINK && (walk->follow || rest[strspn(rest, "/")]))
		return follow(fs, walk, &next, rest, err);
	if (walk->depth + 1 >= MAX_DEPTH)
		return vmimg_fail_sys(err, ENAMETOOLONG, "more than %d folders deep", MAX_DEPTH);
	walk->stack[++walk->depth] = next;
	memmove(walk->left, rest, strlen(rest) + 1);
	return 0;
}

static int walk_path(struct vmimg_fs *fs, const char *path, bool follow_last,
	struct vmimg_node *node, bool *found, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct walk *walk = vmimg_new(struct walk, err);

	if (!walk || set_left(walk, path, "", err))
		return -1;
	walk->stack[0] = fs->root;
	walk->follow = follow_last;
	*found = true;
	while (*found && walk->left[0])
		if (step(fs, walk, found, err))
			return -1;
	if (*found)
		*node = walk->stack[walk->depth];
	return 0;
}

static int within_path(const char *path, struct vmimg_error *err)
{
	char shown[120];

	return vmimg_within(err, "%s", vmimg_escape(shown, sizeof(shown), path, strlen(path)));
}

int vmimg_fs_find(struct vmimg_fs *fs, const char *path, struct vmimg_node *node, bool *found,
	struct vmimg_error *err)
{
	return walk_path(fs, path, true, node, found, err) ? within_path(path, err) : 0;
}

int vmimg_fs_resolve(struct vmimg_fs *fs, const char *path, bool follow_last,
	struct vmimg_node *node, struct vmimg_error *err)
{
	char shown[120];
	bool found;

	if (walk_path(fs, path, follow_last, node, &found, err))
		return within_path(path, err);
	return found ? 0
		     : vmimg_fail_sys(err, ENOENT, "%s",
			       vmimg_escape(shown, sizeof(shown), path, strlen(path)));
}

/* ---- files ------------------------------------------------------------------------------- */

int vmimg_fs_read(struct vmimg_fs *fs, const struct vmimg_node *node, void *buf, size_t len,
	uint64_t at, size_t *got, struct vmimg_error *err)
{
	size_t take;

	if (node->kind != VMIMG_NODE_FILE)
		return vmimg_fail_sys(err, node->kind == VMIMG_NODE_DIR ? EISDIR : EINVAL,
			"what is asked for is no file");
	take = at < node->size ? (size_t)vmimg_min(len, node->size - at) : 0;
	if (take && fs->ops->read(fs, node, buf, take, at, err))
		return -1;
	*got = take;
	return 0;
}

int vmimg_fs_readlink(struct vmimg_fs *fs, const struct vmimg_node *node, char *out, size_t cap,
	struct vmimg_error *err)
{
	if (node->kind != VMIMG_NODE_LINK || !fs->ops->readlink)
		return vmimg_fail_sys(err, EINVAL, "reading a link");
	return fs->ops->readlink(fs, node, out, cap, err);
}

char *vmimg_fs_read_file(
	struct vmimg_fs *fs, const char *path, size_t limit, size_t *len, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *bytes = NULL;
	struct vmimg_node node;
	size_t got;

	if (vmimg_fs_resolve(fs, path, true, &node, err))
		return NULL;
	if (node.kind == VMIMG_NODE_FILE && node.size > limit) {
		vmimg_fail(err, VMIMG_ELIMIT, "a file of %zu bytes or less is wanted", limit);
		within_path(path, err);
		return NULL;
	}
	bytes = vmimg_alloc_array(
		1, (size_t)(node.kind == VMIMG_NODE_FILE ? node.size : 0) + 1, err);
	if (!bytes || vmimg_fs_read(fs, &node, bytes, limit, 0, &got, err)) {
		within_path(path, err);
		return NULL;
	}
	*len = got;
	return vmimg_take(bytes);
}

struct file_io {
	struct vmimg_io io;
	struct vmimg_fs *fs;
	struct vmimg_node node;
};

static int file_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	struct file_io *file = (struct file_io *)io;

	return file->fs->ops->read(file->fs, &file->node, buf, len, at, err);
}

static void file_close(struct vmimg_io *io)
{
	free(io);
}

static const struct vmimg_io_ops file_ops = { .pread = file_pread, .close = file_close };

struct vmimg_io *vmimg_fs_file_io(
	struct vmimg_fs *fs, const struct vmimg_node *node, struct vmimg_error *err)
{
	struct file_io *file = vmimg_new(struct file_io, err);

	if (!file || vmimg_io_init(&file->io, &file_ops, NULL, err)) {
		free(file);
		return NULL;
	}
	file->fs = fs;
	file->node = *node;
	atomic_init(&file->io.size, node->kind == VMIMG_NODE_FILE ? node->size : 0);
	return &file->io;
}

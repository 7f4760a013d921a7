/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File systems: what lies at a stretch of a disk (recognise), and reading from it (open). Read
 * only, no mount, no root. Everything comes from strangers: names, labels and link targets are as
 * found and not fit to show; no walk leaves the tree; a loop ends.
 */
#pragma once
#include "io/io.h"

#define VMIMG_UNKNOWN UINT64_MAX

struct vmimg_fs_info {
	const char *type;    /* as blkid names it: "ext4", "vfat" …; NULL: nothing known */
	const char *variant; /* more exactly: "FAT32", "LUKS2" …; may be NULL */
	char label[384];     /* UTF-8 where the file system is sound; not fit to show */
	char uuid[40];       /* in the notation that the field uses for this type */
	uint64_t size, used; /* bytes; VMIMG_UNKNOWN: not said without reading much */
	uint32_t block;      /* bytes; 0: none */
	bool dirty;          /* was not unmounted, or has a journal to be replayed */
};

/* Reads a few sectors. What is not there, or not known, is no error: type NULL. */
int vmimg_fs_recognise(
	struct vmimg_io *io, struct vmimg_fs_info *info, struct vmimg_error *err) VMIMG_CHECKED;

enum vmimg_node_kind { VMIMG_NODE_FILE, VMIMG_NODE_DIR, VMIMG_NODE_LINK, VMIMG_NODE_OTHER };

/* The same, passing over those of that type: whose marks are there besides. */
int vmimg_fs_recognise_other(struct vmimg_io *io, const char *type, struct vmimg_fs_info *info,
	struct vmimg_error *err) VMIMG_CHECKED;

/* A file, folder, link or other thing in a tree: a value, valid while the file system is open. */
struct vmimg_node {
	enum vmimg_node_kind kind;
	uint32_t mode; /* as in stat(2), with the type */
	uint32_t uid, gid;
	uint64_t size;
	int64_t mtime;    /* seconds since 1970; 0: not known */
	uint64_t id;      /* the reader's: an inode's number, a first cluster … */
	uint64_t more[2]; /* the reader's */
};

/* False: stop; list() then returns 0. name has len bytes, and neither NUL nor slash; "." and ".."
 * are left out. */
typedef bool vmimg_fs_each(void *ctx, const char *name, size_t len, const struct vmimg_node *node);

struct vmimg_fs;
struct vmimg_table;
struct vmimg_fs_ops {
	int (*list)(struct vmimg_fs *, const struct vmimg_node *dir, vmimg_fs_each *, void *ctx,
		struct vmimg_error *);
	/* One name; NULL: list() serves. *found tells whether it is there. */
	int (*lookup)(struct vmimg_fs *, const struct vmimg_node *dir, const char *name, size_t len,
		struct vmimg_node *, bool *found, struct vmimg_error *);
	/* [at, at + len) of a file, all inside its size. */
	int (*read)(struct vmimg_fs *, const struct vmimg_node *, void *, size_t len, uint64_t at,
		struct vmimg_error *);
	/* The target, with a NUL, cut at cap. */
	int (*readlink)(struct vmimg_fs *, const struct vmimg_node *, char *out, size_t cap,
		struct vmimg_error *);
	void (*close)(struct vmimg_fs *);
};

struct vmimg_fs {
	const struct vmimg_fs_ops *ops;
	struct vmimg_node root;
	struct vmimg_table *reads; /* what folders are read through; NULL: no bound is needed */
	bool folds;                /* names differ by more than the case of letters */
	uint64_t skipped; /* entries left out of lists because of impossible names ("../x") */
};

/* Bytes that may be gone through in all file systems of a disk to tell what is on it: some hundred
 * names are asked for in each, and a stranger's folders may be long, and his file systems many. */
#define VMIMG_FS_PATIENCE (UINT64_C(1) << 29)
#define VMIMG_FS_MOST     128U /* that are opened for that */

/* The io is shared (referenced). VMIMG_EFORMAT: no file system; VMIMG_EUNSUPPORTED: one that is not
 * read here. One thread at a time. */
struct vmimg_fs *vmimg_fs_open(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
/* The same of what recognise has said already. */
struct vmimg_fs *vmimg_fs_open_as(struct vmimg_io *io, const struct vmimg_fs_info *info,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_fs_close(struct vmimg_fs *fs);
VMIMG_AUTO_DEFINE(vmimg_fs_close, struct vmimg_fs *)

/* From now on about so many bytes are read, UINT64_MAX any: a question that leads further fails
 * with VMIMG_ELIMIT. */
void vmimg_fs_bound(struct vmimg_fs *fs, uint64_t bytes);
/* Whether a question did. */
bool vmimg_fs_spent(const struct vmimg_fs *fs);

/* Path from the root, with or without a leading slash. Links are followed (the last one only with
 * follow), absolute ones from this tree's root; ".." at the root stays there. What is not there is
 * VMIMG_ESYSTEM with ENOENT. */
int vmimg_fs_resolve(struct vmimg_fs *fs, const char *path, bool follow, struct vmimg_node *node,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The same, and whether it is there; fails only when reading does. */
int vmimg_fs_find(struct vmimg_fs *fs, const char *path, struct vmimg_node *node, bool *found,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_fs_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each, void *ctx,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Up to len bytes; *got is less at the file's end. */
int vmimg_fs_read(struct vmimg_fs *fs, const struct vmimg_node *node, void *buf, size_t len,
	uint64_t at, size_t *got, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_fs_readlink(struct vmimg_fs *fs, const struct vmimg_node *node, char *out, size_t cap,
	struct vmimg_error *err) VMIMG_CHECKED;
/* A small file (at most limit bytes: else VMIMG_ELIMIT) in fresh memory, with a NUL after it; NULL
 * and *len untouched when it fails. */
char *vmimg_fs_read_file(struct vmimg_fs *fs, const char *path, size_t limit, size_t *len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* A file as an io, for readers of what lies inside it; keeps fs borrowed. */
struct vmimg_io *vmimg_fs_file_io(
	struct vmimg_fs *fs, const struct vmimg_node *node, struct vmimg_error *err) VMIMG_CHECKED;

/* Readers, one a file. Each takes what recognise said. */
struct vmimg_fs *vmimg_btrfs_open(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_fs *vmimg_ext_open(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_fs *vmimg_fat_open(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_fs *vmimg_iso_open(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_fs *vmimg_xfs_open(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_fs *vmimg_ntfs_open(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_fs *vmimg_exfat_open(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvmimg: virtual machine images, read, written, converted and checked.
 *
 * Handles are opaque. Functions that can fail return 0 or -1, makers return a pointer or NULL; both
 * fill *err, which the caller owns (usually on its stack) and which is never NULL. Outputs are set
 * on success and untouched on failure. Sizes and offsets are bytes. Nothing prints, exits or keeps
 * global state, and the library never opens a path that an image names unless the caller's resolver
 * does.
 *
 * Threads: an opened disk does not change, so any number of threads may read it at once. A handle
 * is closed by one thread, when no other uses it.
 */
#ifndef VMIMG_H
#define VMIMG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define VMIMG_API __attribute__((visibility("default")))
#else
#define VMIMG_API
#endif

enum vmimg_status {
	VMIMG_OK,
	VMIMG_ESYSTEM, /* the system failed; sys holds errno */
	VMIMG_ENOMEM,
	VMIMG_EFORMAT,      /* not this format, or none that is known */
	VMIMG_ECORRUPT,     /* the image contradicts itself, or is cut short */
	VMIMG_EUNSUPPORTED, /* sound, but not something that is done here */
	VMIMG_ELIMIT,       /* larger than agreed */
	VMIMG_EREFUSED,     /* against the policy on references or detection */
	VMIMG_EINVAL,       /* the caller asked for something impossible */
	VMIMG_EEXIST,       /* the output is there already */
	VMIMG_ELOCKED,      /* in use by another process */
	VMIMG_ECANCELLED,
};

struct vmimg_error {
	enum vmimg_status status;
	int sys;
	char text[240]; /* one line, what and where and what was found; fit to print */
};

struct vmimg_io;
struct vmimg_disk;

/* ---- bytes ------------------------------------------------------------------------------- */

/* A regular file or block device, read only. A change of it in place that was cut off is undone in
 * memory, by the undo file beside it. The caller closes it with vmimg_io_close(). */
VMIMG_API struct vmimg_io *vmimg_io_open_file(const char *path, struct vmimg_error *err);

/* What a caller brings. pread fills all of buf or fails, from any number of threads at once; close
 * is called once, when the last disk that reads it is closed; it may be NULL. */
struct vmimg_user_io {
	void *ctx;
	uint64_t size;
	int (*pread)(void *ctx, void *buf, size_t len, uint64_t at, struct vmimg_error *err);
	void (*close)(void *ctx);
};
VMIMG_API struct vmimg_io *vmimg_io_open_user(
	const struct vmimg_user_io *user, struct vmimg_error *err);
/* Gives the caller's share back; disks opened on it keep theirs. NULL is fine. */
VMIMG_API void vmimg_io_close(struct vmimg_io *io);

/* ---- references to other files ----------------------------------------------------------- */

/* A file that an image names. All text is as found in the image: escape it before showing it. */
struct vmimg_reference {
	const char *kind; /* "backing", "data-file", "extent", "parent" */
	const char *name;
	const char *format; /* as the image states it; NULL: not stated */
};

/* Opens, or refuses with VMIMG_EREFUSED, what an image names. from is the io of the image that
 * names it. The result belongs to the library. Called while a disk is being opened, on that thread.
 * A disk opened without a resolver refuses every reference that it needs. */
struct vmimg_resolver {
	struct vmimg_io *(*open)(const struct vmimg_resolver *resolver,
		const struct vmimg_reference *ref, const struct vmimg_io *from,
		struct vmimg_error *err);
	/* The same decision without opening: 0, or -1 with the reason. */
	int (*judge)(const struct vmimg_resolver *resolver, const struct vmimg_reference *ref,
		const struct vmimg_io *from, struct vmimg_error *err);
	/* For formats that know a parent by its identity alone: calls each with the name, fit for
	 * open, of every file that might be it and whose name ends in suffix (".vdi"), until it
	 * returns true. NULL: there is nowhere to search. */
	int (*search)(const struct vmimg_resolver *resolver, const char *suffix,
		const struct vmimg_io *from, bool (*each)(void *ctx, const char *name), void *ctx,
		struct vmimg_error *err);
};

/* Ready-made policies; static, nothing to free. */
VMIMG_API const struct vmimg_resolver *vmimg_resolver_none(void);
/* A relative name inside the image's own folder: a regular file, no symbolic link, no "..". */
VMIMG_API const struct vmimg_resolver *vmimg_resolver_beside(void);
/* Any local path; relative ones start at the image's folder. */
VMIMG_API const struct vmimg_resolver *vmimg_resolver_any(void);

/* ---- disks ------------------------------------------------------------------------------- */

/* A passphrase: any bytes. The caller keeps them until the disk is open. */
struct vmimg_secret {
	const void *bytes;
	size_t len;
};

struct vmimg_open {
	const char *format;                    /* NULL: detect */
	const struct vmimg_resolver *resolver; /* NULL: refuse every reference */
	const char *snapshot;                  /* id or name of an internal snapshot, or NULL */
	bool alone; /* open no other file: runs of other files have no place, and cannot be read */
	bool bare;    /* leave the parent alone: what it would answer for is absent */
	bool lenient; /* open what is damaged as far as it can be, for check and repair */
	/* Each is tried on every layer that is encrypted, and one must fit. Without any, such
	 * layers are opened all the same, and reading their data fails. */
	const struct vmimg_secret *secrets;
	size_t secret_count;
	/* Digests of PBKDF2 that trying them may cost, for each layer; 0: 2^25, which is what the
	 * headers of a few passphrases need that took two seconds each to make. */
	uint64_t max_iterations;
};

/* The io is shared, not taken over. options may be NULL. */
VMIMG_API struct vmimg_disk *vmimg_disk_open(
	struct vmimg_io *io, const struct vmimg_open *options, struct vmimg_error *err);
VMIMG_API void vmimg_disk_close(struct vmimg_disk *disk);
VMIMG_API uint64_t vmimg_disk_size(const struct vmimg_disk *disk);
VMIMG_API const char *vmimg_disk_format(const struct vmimg_disk *disk);
/* The guest's bytes [at, at + len), through the whole backing chain. Not past the disk's end. */
VMIMG_API int vmimg_disk_pread(
	struct vmimg_disk *disk, void *buf, size_t len, uint64_t at, struct vmimg_error *err);
/* What `vmimg info --json` prints, as text that the caller frees with free(). */
VMIMG_API char *vmimg_disk_info_json(struct vmimg_disk *disk, struct vmimg_error *err);

/* ---- finding out ------------------------------------------------------------------------- */

/* The name of the one format that claims the io, for vmimg_open.format. Two strong claims are
 * VMIMG_EREFUSED; a container that is no disk (gzip, tar …) is VMIMG_EFORMAT. What nothing claims
 * is "raw". */
VMIMG_API int vmimg_detect(struct vmimg_io *io, const char **format, struct vmimg_error *err);

enum vmimg_extent_kind {
	VMIMG_EXTENT_ABSENT, /* no layer has it: reads as zeroes */
	VMIMG_EXTENT_ZERO,   /* some layer says that it is zeroes */
	VMIMG_EXTENT_DATA,
	VMIMG_EXTENT_PACKED, /* compressed data */
};
struct vmimg_extent {
	enum vmimg_extent_kind kind;
	uint64_t len;   /* guest bytes, > 0, never past the disk's end; the next may be of the same
			   kind */
	unsigned depth; /* which layer answers: 0 is the disk itself, 1 its parent … */
	bool placed;    /* the bytes lie as they are in one file (DATA, not encrypted) … */
	uint64_t at;    /* … at this offset */
};
/* Where the guest's bytes from at < size on come from. From any number of threads at once. */
VMIMG_API int vmimg_disk_extent(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_extent *extent, struct vmimg_error *err);

/* How what takes long is to be run. NULL in its place, and zeroes, are fine. */
struct vmimg_work {
	unsigned threads; /* 0: one for each processor, at least 2 */
	/* Called by one thread at a time, in order, with guest bytes done. Anything but 0 ends the
	 * operation, with VMIMG_ECANCELLED. */
	int (*progress)(void *ctx, uint64_t done, uint64_t total);
	void *ctx;
};

#define VMIMG_DIGEST_TEXT 129 /* bytes that the longest digest takes, with its NUL */
/* The digest of all guest bytes in lower-case hexadecimal: "sha256" and what else OpenSSL has equal
 * those of the raw disk; "tree" is vmimg's own, which takes no time for holes: SHA-256 over the
 * text "vmimg-tree-1" with its NUL, the disk's size as 8 little-endian bytes and, for each block of
 * 64 KiB that is not all zero, its offset (8 bytes, little-endian) and its SHA-256. */
VMIMG_API int vmimg_disk_digest(struct vmimg_disk *disk, const char *algorithm,
	const struct vmimg_work *work, char hex[VMIMG_DIGEST_TEXT], struct vmimg_error *err);

struct vmimg_compared {
	bool same;          /* what one disk has more than the other must be zero */
	uint64_t differ_at; /* guest offset of the first byte that differs, when not the same */
	bool sizes_differ;
	bool second_failed; /* on failure: it was the second disk that could not be read */
};
VMIMG_API int vmimg_disk_compare(struct vmimg_disk *a, struct vmimg_disk *b,
	const struct vmimg_work *work, struct vmimg_compared *result, struct vmimg_error *err);

enum vmimg_severity {
	VMIMG_FINDING_NOTE,       /* odd, harmless */
	VMIMG_FINDING_LEAK,       /* space lost, data sound */
	VMIMG_FINDING_CORRUPTION, /* data wrong, or at risk when written */
	VMIMG_FINDING_ERROR,      /* could not be checked: a read failed */
};
struct vmimg_finding {
	enum vmimg_severity severity;
	const char *code; /* a constant word: "l2-entry-past-end" */
	uint64_t at;      /* where in the file; VMIMG_NOWHERE: not one place */
	char text[200];   /* one line, fit to print */
	/* The numbers that the text tells, for those who act on them. "refcount", "leaked-cluster":
	 * cluster, its refcount, its references; "copied-flag": table entry, refcount, and of an L1
	 * entry its index. Of all else, and of what repair fixed: none. */
	uint64_t numbers[3];
	unsigned number_count;
};
#define VMIMG_NOWHERE UINT64_MAX

/* What a check found: how many of each severity, and of what the image is made. */
struct vmimg_checked {
	uint64_t count[4]; /* by severity; more than were told, when the image is a ruin */
	uint64_t total_blocks, allocated_blocks, compressed_blocks, fragmented_blocks;
	uint64_t image_end; /* offset past the last byte in use */
};
/* Walks every structure of this layer once and unpacks every block, and then calls each (NULL:
 * nobody) with the findings in the order of their place, on this thread. Fails only when the check
 * could not be done. Open the disk with vmimg_open.lenient, so that damage is told and not refused.
 */
VMIMG_API int vmimg_disk_check(struct vmimg_disk *disk, const struct vmimg_work *work,
	void (*each)(void *ctx, const struct vmimg_finding *finding), void *ctx,
	struct vmimg_checked *result, struct vmimg_error *err);

/* ---- new images -------------------------------------------------------------------------- */

/* Levels of compression mean the same in every format. */
enum vmimg_level { VMIMG_LEVEL_DEFAULT, VMIMG_LEVEL_FAST, VMIMG_LEVEL_BEST };

/* An image to be made. It appears under its name when it is whole and in storage, with the other
 * files that it is made of, or not at all; a device is written where it is. All texts are the
 * caller's. */
struct vmimg_new {
	const char *path;    /* "-": standard output, for formats that go to a pipe */
	const char *format;  /* one of vmimg_format_names(); NULL: what path's suffix stands for */
	const char *options; /* "key=value,…" as of vmimg create -o; NULL: none */
	struct vmimg_disk *parent; /* what the image is to lie over; NULL: nothing */
	const char
		*parent_name; /* as it shall be written: absolute, or from the image's folder on */
	const struct vmimg_secret *secret; /* of an image that is to be encrypted; NULL: none */
	bool replace; /* an existing file may be replaced, unless it is in use */
	bool compress;
	enum vmimg_level level;
	bool unique;    /* random identities, not ones derived from the content */
	bool no_sync;   /* do not wait for storage */
	uint64_t epoch; /* seconds since 1970, where the format wants a time */
};
/* An image of an empty disk, or of one that is all in its parent. */
VMIMG_API int vmimg_image_create(
	const struct vmimg_new *image, uint64_t size, struct vmimg_error *err);
/* An image of disk, the guest's bytes through all its layers; with a parent, of what the disk's own
 * layer has, as an image over the parent. */
VMIMG_API int vmimg_image_convert(struct vmimg_disk *disk, const struct vmimg_new *image,
	const struct vmimg_work *work, struct vmimg_error *err);

/* ---- changes in place -------------------------------------------------------------------- */

/* An image that is open to be changed where it is, locked as QEMU locks it. Each change is atomic:
 * whatever moment a crash picks, the file is the old image or the new one (for vmimg_change_write:
 * each block is), at worst with space that nobody refers to. One thread at a time. */
struct vmimg_change;
/* options as for vmimg_disk_open; VMIMG_ELOCKED when somebody else uses the file. */
VMIMG_API struct vmimg_change *vmimg_change_open(
	const char *path, const struct vmimg_open *options, struct vmimg_error *err);
VMIMG_API void vmimg_change_close(struct vmimg_change *change);
/* The disk as it is now, to be read. Borrowed, until the next change. */
VMIMG_API struct vmimg_disk *vmimg_change_disk(const struct vmimg_change *change);
/* What lies past a smaller size is cut off, data or not; what a larger one adds is zero. */
VMIMG_API int vmimg_change_resize(
	struct vmimg_change *change, uint64_t size, struct vmimg_error *err);
/* Writes all of source over the guest's bytes from at on; it ends inside. It is in storage when
 * this returns. */
VMIMG_API int vmimg_change_write(struct vmimg_change *change, struct vmimg_disk *source,
	uint64_t at, const struct vmimg_work *work, struct vmimg_error *err);
enum vmimg_snapshot_act { VMIMG_SNAPSHOT_CREATE, VMIMG_SNAPSHOT_APPLY, VMIMG_SNAPSHOT_DELETE };
/* Snapshots inside the image, by id or name. VMIMG_EUNSUPPORTED: the format has none. */
VMIMG_API int vmimg_change_snapshot(struct vmimg_change *change, enum vmimg_snapshot_act act,
	const char *name, struct vmimg_error *err);
/* What the image says of itself: "uuid=new,adapter=lsilogic", with the keys of vmimg set. */
VMIMG_API int vmimg_change_set(
	struct vmimg_change *change, const char *settings, struct vmimg_error *err);
/* Gives back the space of all that is zero, and moves the file's end forward. *saved: bytes by
 * which the file became shorter. */
VMIMG_API int vmimg_change_compact(struct vmimg_change *change, const struct vmimg_work *work,
	uint64_t *saved, struct vmimg_error *err);

/* Repairs the image at path where it is, and first undoes a change that was cut off. What is to be
 * written is made in memory, and written under an undo file beside the image, so that a crash
 * leaves the image as it was or as it is to be. each (NULL: nobody) is called with what was fixed,
 * left says what a check still finds. format NULL: detect. VMIMG_EUNSUPPORTED: this format has no
 * repair. */
VMIMG_API int vmimg_image_repair(const char *path, const char *format,
	const struct vmimg_work *work, void (*each)(void *ctx, const struct vmimg_finding *fixed),
	void *ctx, struct vmimg_checked *left, struct vmimg_error *err);

/* ---- the build --------------------------------------------------------------------------- */

/* Names of the formats, in a NULL-terminated array that lives as long as the program. */
VMIMG_API const char *const *vmimg_format_names(void);
VMIMG_API const char *vmimg_version(void);

#ifdef __cplusplus
}
#endif
#endif

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

/* A regular file or block device, read only. The caller closes it with vmimg_io_close(). */
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

/* Names of the formats, in a NULL-terminated array that lives as long as the program. */
VMIMG_API const char *const *vmimg_format_names(void);
VMIMG_API const char *vmimg_version(void);

#ifdef __cplusplus
}
#endif
#endif

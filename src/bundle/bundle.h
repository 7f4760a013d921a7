/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bundles: machines and their drives in one archive, folder or set of files. A reader says which
 * machines there are and gives each drive's bytes as an io, in place; what is in those bytes is a
 * disk's business (disk/). A writer takes one machine and the bytes of its drives, one after
 * another. Like formats, bundles know nothing of each other; bundles.c names them all.
 */
#pragma once
#include "bundle/machine.h"
#include "bundle/tar.h"
#include "disk/disk.h"
#include "disk/sink.h"

struct vmimg_bundle_create;
struct vmimg_bundle_sink;

/* What detection may look at. */
struct vmimg_bundle_probe {
	const uint8_t *head; /* the first bytes of the file, at most VMIMG_PROBE_HEAD */
	size_t head_len;
	const char *name;            /* the file's own, without a folder; may be "" */
	const struct vmimg_tar *tar; /* its members, when it is a tar archive */
};

struct vmimg_bundle {
	const struct vmimg_bundle_format *format;
	struct vmimg_io *io;                   /* shared; an unwrapped one for .tar.gz */
	const struct vmimg_resolver *resolver; /* for files beside; borrowed, lives as long */
	uint64_t spool_limit;          /* bytes that a compressed drive may unpack to; 0: any */
	const char *key, *certificate; /* as given; NULL: none */
	const char *roots;             /* PEM: what verify trusts; borrowed; NULL: none */
	struct vmimg_tar *tar;         /* owned; NULL: not a tar archive */
	struct vmimg_machine *machines;
	size_t machine_count, machine_cap;
	struct vmimg_pool pool; /* of all texts */
	json_t *warnings;       /* strings: odd, but readable */
	void *state;            /* the reader's */
};

struct vmimg_bundle_format {
	const char *name;     /* "ova" */
	const char *title;    /* "an OVA archive" */
	const char *suffixes; /* of file names, "ova"; NULL: none */
	/* Pure. 0 to 100; the highest wins. */
	int (*probe)(const struct vmimg_bundle_probe *);
	/* Fills bundle->machines, or fails, leaving what it has made for close. */
	int (*open)(struct vmimg_bundle *, struct vmimg_error *);
	void (*close)(struct vmimg_bundle *);
	/* The bytes of a drive that has a file; the caller unrefs them. */
	struct vmimg_io *(*drive)(
		struct vmimg_bundle *, const struct vmimg_drive *, struct vmimg_error *);
	/* Adds to root what is not in the machines. NULL: nothing. */
	int (*describe)(struct vmimg_bundle *, json_t *root, struct vmimg_error *);
	/* Compares all digests and signatures. findings: array of objects {file, status, text};
	 * status is "ok" or what is wrong. NULL: nothing to verify. */
	int (*verify)(struct vmimg_bundle *, json_t *findings, struct vmimg_error *);
	/* NULL: read only. */
	struct vmimg_bundle_sink *(*create)(
		const struct vmimg_bundle_create *, struct vmimg_error *);
	bool rehearses; /* create heeds vmimg_bundle_create.rehearsed */
};

/* Every kind of bundle, ended by NULL: bundles.c */
extern const struct vmimg_bundle_format *const vmimg_bundle_formats[];
const struct vmimg_bundle_format *vmimg_bundle_format_find(const char *name);
const struct vmimg_bundle_format *vmimg_bundle_format_for_name(const char *name);

struct vmimg_bundle_open {
	const char *format;                    /* NULL: detect */
	const struct vmimg_resolver *resolver; /* NULL: refuse every file beside */
	uint64_t spool_limit;
	const char *key, *certificate; /* PEM texts, to decrypt and to verify with; may be NULL */
};

/* Whether the io is a bundle, by its first bytes and, in an archive, its members' names. *bundle =
 * NULL and 0: it is none. The io is shared, options are borrowed while the bundle is open. */
int vmimg_bundle_open(struct vmimg_io *io, const struct vmimg_bundle_open *options,
	struct vmimg_bundle **bundle, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_bundle_close(struct vmimg_bundle *bundle);
VMIMG_AUTO_DEFINE(vmimg_bundle_close, struct vmimg_bundle *)
void vmimg_bundle_warn(struct vmimg_bundle *bundle, const char *fmt, ...) VMIMG_PRINTF(2, 3);

/* Drives that are disks (or CD and floppy images), numbered from 1 through all machines. NULL: no
 * such number. */
const struct vmimg_drive *vmimg_bundle_drive(const struct vmimg_bundle *bundle, unsigned number);
/* The number of the only disk. VMIMG_EINVAL, listing them, when there are several; VMIMG_EFORMAT
 * when there is none. */
int vmimg_bundle_only_disk(
	const struct vmimg_bundle *bundle, unsigned *number, struct vmimg_error *err) VMIMG_CHECKED;
/* The drive's bytes: of an empty disk, zeroes without end of its capacity. */
struct vmimg_io *vmimg_bundle_open_drive(struct vmimg_bundle *bundle,
	const struct vmimg_drive *drive, struct vmimg_error *err) VMIMG_CHECKED;
/* The disk in it. Other files that it names (the parent of a delta) are looked for in the bundle
 * alone. */
struct vmimg_disk *vmimg_bundle_open_disk(struct vmimg_bundle *bundle,
	const struct vmimg_drive *drive, const struct vmimg_open *options,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Everything about it as an object of vmimg.info/1, without what only the caller knows. */
json_t *vmimg_bundle_json(struct vmimg_bundle *bundle, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- writing ----------------------------------------------------------------------------- */

struct vmimg_bundle_create {
	struct vmimg_io *io;             /* of the main file; empty */
	struct vmimg_siblings *siblings; /* for bundles of several files */
	const struct vmimg_machine
		*machine; /* its drives have a kind, a capacity and a file name */
	const struct vmimg_options *options; /* verified by the format; may be NULL */
	const char *name;                    /* what members are named after */
	const char *target;                  /* whom it is for: "ova-vmware"; NULL: anyone */
	const char *hash;                    /* of the manifest: "sha256"; NULL: the default */
	const char *key, *certificate;       /* PEM texts to sign with; NULL: unsigned */
	/* For kinds that rehearse, and an io that cannot go back: the same bundle, finished, written
	 * to where nothing is kept (io/null.h). Borrowed while the new sink is open. */
	const struct vmimg_bundle_sink *rehearsed;
	uint64_t epoch;
};

/* A bundle being written: begin, the caller writes the drive's file, end; for each drive in the
 * machine's order; then finish. */
struct vmimg_bundle_sink {
	const struct vmimg_bundle_sink_ops *ops;
	const char *disk_format;             /* that disks are to be in: "vmdk" */
	const struct vmimg_options *options; /* of that format; borrowed from the sink */
};

struct vmimg_bundle_sink_ops {
	/* *io is borrowed until end; it may be one that is written in order only. size: of the
	 * file, or VMIMG_TAR_SIZE_LATER. */
	int (*begin)(struct vmimg_bundle_sink *, size_t drive, uint64_t size, struct vmimg_io **io,
		struct vmimg_error *);
	/* populated: guest bytes that are not zero. */
	int (*end)(
		struct vmimg_bundle_sink *, size_t drive, uint64_t populated, struct vmimg_error *);
	int (*finish)(struct vmimg_bundle_sink *, struct vmimg_error *);
	void (*close)(struct vmimg_bundle_sink *);
};

void vmimg_bundle_sink_close(struct vmimg_bundle_sink *sink);
VMIMG_AUTO_DEFINE(vmimg_bundle_sink_close, struct vmimg_bundle_sink *)

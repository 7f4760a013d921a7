/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a format driver is: an address translator. It says where the guest's bytes live (map); the
 * generic code in this folder and the engines do all reading, unpacking, chaining and threading. A
 * driver never loops over guest data.
 *
 * Nothing in a disk changes after open: map() and the others are called from any number of threads.
 */
#pragma once
#include <jansson.h>
#include "codec/cipher.h"
#include "codec/codec.h"
#include "disk/options.h"
#include "io/io.h"
#include "util/guid.h"

struct vmimg_create;
struct vmimg_edit_ops;
struct vmimg_info;
struct vmimg_report;
struct vmimg_sink;

/* What detection may look at: the first and the last bytes of the file. Small files: all of it,
 * in both. */
#define VMIMG_PROBE_HEAD 69632 /* past the super block of btrfs at 64 KiB */
#define VMIMG_PROBE_TAIL 1024
struct vmimg_probe {
	const uint8_t *head, *tail;
	size_t head_len, tail_len;
	uint64_t size;
};

enum vmimg_run_kind {
	VMIMG_RUN_ABSENT, /* not in this image: ask the parent, else zeroes */
	VMIMG_RUN_ZERO,
	VMIMG_RUN_DATA,   /* the bytes lie at io, at */
	VMIMG_RUN_PACKED, /* inside a compressed block that lies at io, at */
};

struct vmimg_run {
	enum vmimg_run_kind kind;
	bool allocated;      /* ZERO only: space in the file is held for it all the same */
	bool encrypted;      /* DATA: cannot be read without a key */
	uint64_t len;        /* guest bytes, > 0, never past the disk's end */
	struct vmimg_io *io; /* borrowed from the disk; NULL: a file that was not opened */
	uint64_t at;         /* DATA, PACKED, allocated ZERO */
	struct vmimg_cipher *cipher; /* encrypted DATA: what decrypts it, borrowed; NULL: no key */
	uint64_t cipher_at; /* the byte that the one at `at` is for the cipher, whose sectors are
			     * counted so; its place in the sector is that of `at` */
	struct {
		const struct vmimg_codec *codec;
		uint32_t packed;   /* bytes at io, at: an upper bound, cut at the end of the file */
		uint32_t unpacked; /* bytes of the whole block, at most VMIMG_MAX_PACKED_BLOCK */
		uint32_t skip;     /* where in the unpacked block the run begins */
	} block;                   /* PACKED only */
};

/* A record of changed or dirty ranges that an image carries. One bit covers granularity bytes. */
struct vmimg_bitmap {
	char *name;           /* as found, NUL-terminated; owned by the disk */
	uint64_t granularity; /* bytes, a power of two */
	bool enabled;         /* recorded to while the guest writes */
	bool in_use;          /* was not closed: not to be trusted */
	uint64_t bits;        /* how many, rounded up over the disk's size */
};

/* Who an image is, as an image made on top of it has to note. What the format has not is zero. */
struct vmimg_identity {
	struct vmimg_guid uuid;     /* VHD: unique id; VDI: creation; VHDX: data write (linkage) */
	struct vmimg_guid modified; /* VDI: of the last change */
	uint32_t time;              /* VHD: its time stamp, as in the file */
	uint32_t cid;               /* VMDK */
};

struct vmimg_format {
	const char *name;
	const char *title;
	const char *suffixes; /* of file names, "qcow2 qcow"; NULL: none */
	bool snapshots;       /* open heeds vmimg_open.snapshot */
	bool adopts;          /* create heeds vmimg_create.adopt */
	/* Pure. How sure it is, 0 to 100; 50 and above is a strong match. */
	int (*probe)(const struct vmimg_probe *);
	/* Fills disk->size, ->block, ->parent, ->state …, or fails, leaving what it has made for
	 * close. disk->io is there. */
	int (*open)(struct vmimg_disk *, const struct vmimg_open *, struct vmimg_error *);
	/* Accepts what a failed open left. */
	void (*close)(struct vmimg_disk *);
	/* The run that begins at guest offset at < disk->size. The longer, the better. A failure may
	 * say in run->len, zero at first, for how many guest bytes it holds. */
	int (*map)(struct vmimg_disk *, uint64_t at, struct vmimg_run *, struct vmimg_error *);
	int (*describe)(struct vmimg_disk *, struct vmimg_info *, struct vmimg_error *);
	/* NULL: images of this format have no identity, so none can be a checked parent. */
	void (*identity)(const struct vmimg_disk *, struct vmimg_identity *);
	/* NULL: the format has no structure that could be wrong. */
	int (*check)(struct vmimg_disk *, struct vmimg_report *, struct vmimg_error *);
	/* One round of repair: the disk was opened alone and lenient, and rw is its io, open for
	 * writing. Fixes what it can of one kind, the deepest first, adding a finding for each fix;
	 * it is called again, on the disk opened anew, until it adds none. What it cannot fix stays
	 * for check to tell. NULL: not in place. */
	int (*repair)(struct vmimg_disk *, struct vmimg_io *rw, struct vmimg_report *fixed,
		struct vmimg_error *);
	/* The same of lost space alone, beside which worse may be wrong: one round does it. NULL: no
	 * such thing is done. */
	int (*repair_leaks)(struct vmimg_disk *, struct vmimg_io *rw, struct vmimg_report *fixed,
		struct vmimg_error *);
	/* Bits [first, first + count) of disk->bitmaps[index], lowest bit of bits[0] first. */
	int (*bitmap_read)(struct vmimg_disk *, size_t index, uint64_t first, uint64_t count,
		uint8_t *bits, struct vmimg_error *);
	/* NULL: read only. The io is empty, or a device. */
	struct vmimg_sink *(*create)(
		struct vmimg_io *, const struct vmimg_create *, struct vmimg_error *);
	/* The file's size when data bytes of the disk (whole blocks) are allocated in it. */
	int (*measure)(
		const struct vmimg_create *, uint64_t data, uint64_t *bytes, struct vmimg_error *);
	const struct vmimg_edit_ops *edit;       /* disk/edit.h; NULL: cannot be changed in place */
	const struct vmimg_option_spec *options; /* of create; ends with a NULL name */
};

/* Every format there is, ended by NULL; raw, which matches anything, is the last. format/formats.c
 */
extern const struct vmimg_format *const vmimg_formats[];
/* By name or by an old name of it (vpc); NULL: unknown. */
const struct vmimg_format *vmimg_format_find(const char *name);
/* By the suffix of a file's name; NULL: none fits. */
const struct vmimg_format *vmimg_format_for_name(const char *name);

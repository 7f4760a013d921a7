/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing an image in place. Each operation is atomic: whatever moment a crash picks, the file is
 * the old image or the new one, at worst with space that nobody refers to. How that is brought
 * about is the format's matter; doc/formats says it for each.
 *
 * One thread at a time, with the image locked against others, on a disk whose io can be written.
 * After an operation the disk's own state is out of date: close it and open it anew.
 */
#pragma once
#include "disk/disk.h"

struct vmimg_sink;

/* What an image is to name as its parent. Texts and disk are the caller's. */
struct vmimg_parent {
	const char *name;        /* as it shall be written: relative to the image, or absolute */
	const char *format;      /* NULL: not stated */
	struct vmimg_disk *disk; /* opened; its identity is noted. NULL: not at hand, so only the
				  * name and the format change, and the identity noted stays */
};

struct vmimg_update {
	/* The guest's content stays what it is through the chain (rebase, flatten, compact, or what
	 * an overlay hides): the identity by which children know the image stays as well. False:
	 * finish gives it a new one, derived from the old one and what was written, where the
	 * format asks for that (VMDK: CID; VHDX: data write GUID; VDI: modification UUID). */
	bool same_content;
	/* set_parent follows, of an image that may have no parent now: what is given as ZERO shall
	 * read as zeroes then, too. */
	bool new_parent;
	/* Nothing but zeroes comes, and nobody cares what is there: what gives no space back may
	 * stay, and the granule may be smaller for what gives some. finish may squeeze. */
	bool only_zeroes;
};

/* A change of the persistent bitmaps. */
enum vmimg_bitmap_act {
	VMIMG_BITMAP_ADD, /* empty */
	VMIMG_BITMAP_REMOVE,
	VMIMG_BITMAP_CLEAR,
	VMIMG_BITMAP_ENABLE,
	VMIMG_BITMAP_DISABLE,
	VMIMG_BITMAP_MERGE, /* adds source's bits */
};
struct vmimg_bitmap_change {
	enum vmimg_bitmap_act act;
	const char *name;
	uint64_t granularity; /* ADD: bytes, a power of two; 0: the cluster's, but 4 to 64 KiB */
	bool disabled;        /* ADD */
	struct vmimg_disk *source_disk; /* MERGE: where source is; may be the disk itself */
	const char *source;
};

/* A change of the passphrases that open an encrypted image: one more, or some less. */
struct vmimg_rekey {
	const struct vmimg_secret *new_secret; /* NULL: slots become inactive */
	int slot;                              /* this one; -1: a free one, or any */
	/* Inactive: slots that this one opens; NULL: slot is given. */
	const struct vmimg_secret *old_secret;
	const struct vmimg_secret *secrets; /* new: one of these opens the image now */
	size_t secret_count;
	unsigned iter_time; /* milliseconds */
};

/* What a format cannot do is NULL. */
struct vmimg_edit_ops {
	/* The guest's size. Shrinking cuts off what lies beyond; growing adds zeroes. */
	int (*resize)(struct vmimg_disk *, uint64_t size, struct vmimg_error *);
	/* Gives whole blocks of [from, to) that are nowhere a place in the file, without changing what
	 * they read as; held: storage, too. Optional. */
	int (*allocate)(struct vmimg_disk *, uint64_t from, uint64_t to, bool held,
		struct vmimg_error *);
	/* Internal snapshots. name is the user's; id or name select. Times are seconds and
	 * nanoseconds since 1970. */
	int (*snapshot_create)(struct vmimg_disk *, const char *name, uint64_t sec, uint32_t nsec,
		struct vmimg_error *);
	int (*snapshot_apply)(struct vmimg_disk *, const char *which, struct vmimg_error *);
	int (*snapshot_delete)(struct vmimg_disk *, const char *which, struct vmimg_error *);

	/*
	 * New content for this layer, as a sink over the image as it is (disk/sink.h): chunks come
	 * in guest order up to the disk's size; an ABSENT one (or piece) is left as it is, a ZERO
	 * one shall read as zeroes whatever the parent holds, and gives its space back where that
	 * can be; DATA is written, over the old block where that is the image's alone, else to a
	 * new one. Its granule is the smallest unit that can be written without reading what
	 * surrounds it. finish ends it: the tables, the barriers. Until finish has returned, each
	 * granule reads as before or as given; a crash, or close without finish, leaves at worst
	 * leaks. The disk stays open and may be read meanwhile, through the chain: granules that
	 * have not been stored read as before.
	 */
	struct vmimg_sink *(*update)(
		struct vmimg_disk *, const struct vmimg_update *, struct vmimg_error *);
	/* Drops all content of this layer, so that the parent (or nothing) shows: at once, or for a
	 * disk in several files one file after the other. */
	int (*empty)(struct vmimg_disk *, struct vmimg_error *);
	/* Names another parent; NULL: none any more. The caller has seen to the content. */
	int (*set_parent)(struct vmimg_disk *, const struct vmimg_parent *, struct vmimg_error *);
	/* Moves what lies at the file's end into its gaps, and cuts the file. *saved: bytes. */
	int (*squeeze)(struct vmimg_disk *, uint64_t *saved, struct vmimg_error *);
	/* What an image says of itself (uuid, adapter, creator, geometry …): settings lists the
	 * keys that set takes, ended by a NULL name. The guest's content does not depend on any. */
	int (*set)(struct vmimg_disk *, const struct vmimg_options *, struct vmimg_error *);
	const struct vmimg_option_spec *settings;
	/* Changes how the image is kept, not what it holds (qemu-img amend): the same. */
	int (*amend)(struct vmimg_disk *, const struct vmimg_options *, struct vmimg_error *);
	const struct vmimg_option_spec *amendable;
	/* At least one passphrase stays. */
	int (*rekey)(struct vmimg_disk *, const struct vmimg_rekey *, struct vmimg_error *);
	int (*bitmap)(
		struct vmimg_disk *, const struct vmimg_bitmap_change *, struct vmimg_error *);
};

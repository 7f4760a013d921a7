/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new image being written, by many threads. The engine cuts the guest's space into chunks, in
 * guest order and without gaps up to the disk's size, and takes each chunk through three steps:
 *
 *     pack    many at once, any order   compress, frame: needs no place in the file
 *     place   one at a time, in order   choose where things go, note it in the tables
 *     store   many at once, any order   the engine writes chunk->stores
 *
 * and at the end calls finish once. Because place runs in guest order, the file's bytes do not
 * depend on the number of threads, and a table whose range has passed can be written and forgotten.
 */
#pragma once
#include "codec/codec.h"
#include "disk/disk.h"

enum vmimg_piece_kind {
	VMIMG_PIECE_ABSENT,
	VMIMG_PIECE_ZERO,
	VMIMG_PIECE_DATA,
	VMIMG_PIECE_PACKED
};

/* One granule of a chunk. */
struct vmimg_piece {
	enum vmimg_piece_kind kind;
	uint32_t size;        /* bytes: the granule (less at the disk's end), or the packed size */
	const uint8_t *bytes; /* DATA: in chunk->data, or NULL: they lie where they shall (see
			       * vmimg_create.adopt); PACKED: the packed bytes */
};

/* One write that the engine shall do. Bytes stay valid until the chunk is done. */
struct vmimg_store {
	struct vmimg_io *io;
	uint64_t at;
	const uint8_t *bytes;
	size_t len;
	struct vmimg_cipher
		*cipher;    /* encrypts the bytes on their way; NULL: they go as they are */
	uint64_t cipher_at; /* as in struct vmimg_run; at a sector's beginning */
};

struct vmimg_chunk {
	uint64_t guest, len;        /* multiples of the sink's granule, but for the disk's end */
	enum vmimg_piece_kind kind; /* ABSENT or ZERO: all of it, of any length, and no pieces */
	uint8_t *data;              /* DATA: len bytes, followed by zeroes up to a whole granule */
	struct vmimg_piece *pieces; /* DATA: one for each granule */
	size_t piece_count;
	uint64_t digest;         /* when the sink wants it: of the data; to be added up */
	struct vmimg_run source; /* kind DATA: when all of the chunk is one plain run there, its
				  * place in the source; anything else: kind ABSENT */
	uint8_t *packed;         /* room for pack(): sink->pack_room bytes */
	struct vmimg_store
		*stores; /* filled by place(); room for piece_count + sink->more_stores */
	size_t store_count;
	struct vmimg_store
		clone; /* bytes unused: place() may set io, at and len (= len) to offer that
			* the source's blocks be shared instead of the stores written */
};

struct vmimg_sink {
	const struct vmimg_sink_ops *ops;
	uint64_t size;      /* of the disk */
	uint32_t granule;   /* bytes; unit of placement and of the test for zeroes; a power of 2 */
	uint32_t chunk;     /* bytes wanted in a chunk; a multiple of granule */
	uint32_t unit;      /* bytes that get space in the file at once; 0: a granule */
	size_t pack_room;   /* bytes of chunk->packed; 0: pack makes nothing */
	size_t more_stores; /* stores a chunk may need beyond one a piece */
	bool in_order;      /* store inside the turnstile: a pipe, a running digest */
	bool keeps_absent;  /* tells ABSENT from ZERO (it has a parent); else all are ZERO */
	bool wants_digest;
	bool blank_as_is;   /* a new image with nothing in it is left unwritten, and not zero */
	bool splits_zeroes; /* false: a whole chunk of data is DATA even where granules are zero */
	struct vmimg_io *clone_io;       /* where place() can offer clones to; NULL: it does not */
	const struct vmimg_codec *codec; /* takes blocks of this codec, one granule each, as they
					  * are packed in the source; NULL: none */
	enum vmimg_level level;          /* of the packers the engine makes */
	/* With vmimg_create.adopt: */
	uint64_t moved; /* bytes of the disk, from 0 on, that cannot stay where they lie: a multiple
			 * of granule, at which a chunk ends */
	uint64_t overlaid; /* bytes of the file, from 0 on, that are written over; at most moved */
};

struct vmimg_sink_ops {
	/* Once, before all others: what has to be written first. NULL: nothing. create() itself
	 * writes nothing, for the device may still hold an image. */
	int (*start)(struct vmimg_sink *, struct vmimg_error *);
	/* NULL: nothing to do. packer is this thread's, of sink->codec at the level asked for, or
	 * NULL when the sink has no codec. */
	int (*pack)(struct vmimg_sink *, struct vmimg_chunk *, struct vmimg_packer *,
		struct vmimg_error *);
	int (*place)(struct vmimg_sink *, struct vmimg_chunk *, struct vmimg_error *);
	/* All stores are done. Writes tables, then the header last. Does not sync. */
	int (*finish)(struct vmimg_sink *, struct vmimg_error *);
	/* Before finish: the source's bitmaps, when the format can carry them. NULL: it cannot. */
	int (*carry_bitmaps)(struct vmimg_sink *, struct vmimg_disk *, struct vmimg_error *);
	/* Bytes that carry_bitmaps takes. NULL as there, and where the options rule it out false. */
	bool (*measure_bitmaps)(
		const struct vmimg_sink *, const struct vmimg_disk *, uint64_t *bytes);
	void (*close)(struct vmimg_sink *);
};

/* More files that belong to an image: a split disk's extents, an external data file. They appear
 * together with the main file or not at all. */
struct vmimg_siblings {
	/* A new empty file of that name beside the main one. The caller unrefs it. */
	struct vmimg_io *(*create)(struct vmimg_siblings *, const char *name, struct vmimg_error *);
	const char *main_name; /* last component of the main file's name */
};

struct vmimg_create {
	uint64_t size;
	const struct vmimg_options *options; /* verified; NULL: none */
	struct vmimg_siblings *siblings;     /* NULL: the format must do with one file */
	struct vmimg_disk *parent;           /* opened, borrowed; NULL: none, or not to be opened */
	const char *parent_name;             /* as it shall be written; NULL: no parent */
	const char *parent_format;
	bool compress;
	enum vmimg_level level;
	const struct vmimg_secret *secret; /* of an encrypted image; NULL: none */
	bool dry;       /* nothing will be put into it: what takes time can be left out */
	bool unique;    /* random identities instead of derived ones */
	uint64_t epoch; /* seconds: what is written where a time must be */
	/*
	 * The io holds the disk already, byte for byte, and from here on is zero or ends; 0: it is
	 * empty. For formats that adopt. Up to here each byte of the disk stays at its own offset
	 * in the io, but for the first sink->moved ones: chunks below that come as always and are
	 * stored behind, along with the tables; the data of the others comes without bytes.
	 */
	uint64_t adopt;
};

/* What a device held is no image any more when this returns; unless it fails for the options. */
struct vmimg_sink *vmimg_sink_create(const struct vmimg_format *format, struct vmimg_io *io,
	const struct vmimg_create *create, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_sink_close(struct vmimg_sink *sink);
VMIMG_AUTO_DEFINE(vmimg_sink_close, struct vmimg_sink *)

/* For finish(), before what makes the file an image is written: on a device all else must have
 * arrived by then, or a crash leaves what looks whole and is not. A file needs no such care: it has
 * no name yet. */
int vmimg_sink_barrier(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;

/* For place(): adds a write; neighbours in memory and in the file become one. */
void vmimg_chunk_store(struct vmimg_chunk *chunk, struct vmimg_io *io, uint64_t at,
	const uint8_t *bytes, size_t len);
/* The same for bytes that are to be encrypted: whole sectors. cipher NULL: it is the same. */
void vmimg_chunk_store_sealed(struct vmimg_chunk *chunk, const struct vmimg_store *store);
/* The same for a piece at guest that lies in a block of that many bytes, at `at` in the file: when
 * all of the chunk is in that block, its place is offered for sharing as well. */
void vmimg_chunk_store_block(struct vmimg_chunk *chunk, struct vmimg_io *io, uint64_t at,
	uint64_t guest, const struct vmimg_piece *piece, uint64_t block);
/* For place() where what is ABSENT stays as it is: the chunk's data, and its zeroes, in guest
 * order. */
struct vmimg_chunk_visitor {
	int (*data)(void *ctx, struct vmimg_chunk *, uint64_t guest, const struct vmimg_piece *,
		struct vmimg_error *);
	int (*zeroes)(void *ctx, uint64_t guest, uint64_t len, struct vmimg_error *);
	/* Zeroes come as far as they go in the chunk, but cut at multiples of unit; 0: not cut. */
	uint64_t unit;
};
int vmimg_chunk_visit(struct vmimg_chunk *chunk, const struct vmimg_chunk_visitor *visitor,
	void *ctx, struct vmimg_error *err) VMIMG_CHECKED;
/* What the chunk adds to a hash of new content: its data's digest, and of zeroes, which change the
 * content as data does, where they are, not how they are cut. */
uint64_t vmimg_chunk_fold(const struct vmimg_chunk *chunk);
/* For pack(): packs every DATA piece of the chunk with packer into chunk->packed, back to back,
 * reserving head bytes before each (for a marker) and padding each to a multiple of align. A piece
 * that does not become smaller than its granule stays DATA, unless always is set. */
int vmimg_chunk_pack(struct vmimg_chunk *chunk, struct vmimg_packer *packer, uint32_t granule,
	size_t head, size_t align, bool always, struct vmimg_error *err) VMIMG_CHECKED;

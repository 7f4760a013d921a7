/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Free space in a file of equal blocks: where a new one goes, and which blocks have to move where
 * so that the file can end earlier. Units are the caller's (sectors, MiB, block numbers).
 *
 *     init; add() everything that is in use, blocks and other structures; room(); then take()
 * places
 *
 * and, to squeeze a file, plan(); then for every block that moves(), in the order of a table,
 * take() its new place. rewind() lets a second walk in the same order take the same places again,
 * so that data can be copied in one walk, and the table be changed in another, after a flush.
 *
 * Memory is bounded: where a file is more scattered than that allows, its gaps are not known,
 * places are at its end, and nothing moves.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "io/copier.h"

struct vmimg_blocks {
	uint64_t width;       /* of a block; > 0 */
	uint64_t step, phase; /* wanted: place % step == phase. 1, 0: anywhere */
	uint64_t end;         /* past all that is in use or taken */
	uint64_t limit;       /* blocks that begin here or later move */
	struct vmimg_blocks_run {
		uint64_t start, end;
	} * runs; /* in use, until room(); then the gaps */
	size_t count, cap;
	bool blind;        /* too scattered: gaps are not known */
	uint64_t used_end; /* end as room() found it */
	size_t gap;        /* that take() fills now */
	uint64_t filled;   /* places of it that are taken */
};

/* How many blocks begin at limit or later. */
typedef int vmimg_blocks_count(void *ctx, uint64_t limit, uint64_t *count, struct vmimg_error *err);

void vmimg_blocks_init(struct vmimg_blocks *blocks, uint64_t width, uint64_t step, uint64_t phase);
/* [start, start + len) is in use; in any order. What touches costs no memory when it comes in
 * order. */
int vmimg_blocks_add(struct vmimg_blocks *blocks, uint64_t start, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* After the last add(): finds the gaps, from `from` on, that hold a block. */
void vmimg_blocks_room(struct vmimg_blocks *blocks, uint64_t from);
/* The lowest place for a block that is free, else one at the end. */
uint64_t vmimg_blocks_take(struct vmimg_blocks *blocks);
/* Finds the lowest limit for which the gaps below hold all blocks that begin at or after it.
 * *moves: how many do. */
int vmimg_blocks_plan(struct vmimg_blocks *blocks, vmimg_blocks_count *count, void *ctx,
	uint64_t *moves, struct vmimg_error *err) VMIMG_CHECKED;
static inline bool vmimg_blocks_moves(const struct vmimg_blocks *blocks, uint64_t start)
{
	return start >= blocks->limit;
}
/* What squeeze() needs of an image. Visits come in the same order each time. */
typedef int vmimg_blocks_visit(void *ctx, uint64_t i, uint32_t start, struct vmimg_error *err);
struct vmimg_blocks_image {
	struct vmimg_io *io;
	void *ctx;
	/* Visits every entry of the table that leads to a block, until a visit fails. */
	int (*walk)(void *ctx, vmimg_blocks_visit *visit, void *visit_ctx, struct vmimg_error *);
	/* The block of entry i, all that it takes in the file, is given to copier. */
	int (*copy)(void *ctx, struct vmimg_copier *copier, uint64_t i, uint64_t from, uint64_t to,
		struct vmimg_error *);
	/* Entry i leads to that place from now on. */
	int (*lead)(void *ctx, uint64_t i, uint64_t to, struct vmimg_error *);
	/* Blocks from limit on will move, before the first one does; NULL: nothing to do. */
	int (*planned)(void *ctx, uint64_t limit, struct vmimg_error *);
	const struct vmimg_holes *holes; /* for the copier; NULL: there are none */
};
/* After room(): plans the moves and makes them. All copies are flushed before the first entry
 * changes: whatever a crash picks, an entry leads to one of two equal blocks. The last flush is
 * done; what is at or past limit is free then. */
int vmimg_blocks_squeeze(struct vmimg_blocks *blocks, const struct vmimg_blocks_image *image,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_blocks_rewind(struct vmimg_blocks *blocks);
/* Copies the bytes of a block inside a file; shared where that can be, holes as holes. The two
 * places do not overlap. */
int vmimg_blocks_copy(struct vmimg_io *io, uint64_t from, uint64_t to, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_blocks_done(struct vmimg_blocks *blocks);

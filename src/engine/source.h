/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts a disk into chunks of work, from its map: long stretches of zeroes or of nothing in one
 * piece each, data in pieces of a size that fits the processor's cache. Chunks come in guest order,
 * without gaps, each with the next ticket.
 */
#pragma once
#include <pthread.h>
#include "disk/sink.h"
#include "engine/overlap.h"

struct vmimg_source {
	struct vmimg_disk *disk;
	uint64_t end;      /* where to stop: the disk's size or, padded with zeroes, more */
	uint32_t granule;  /* every chunk begins and ends at a multiple, but for the end */
	uint32_t chunk;    /* bytes of data in a chunk */
	bool keep_absent;  /* tell what the top layer lacks from zeroes */
	bool fill;         /* zeroes are data */
	bool joins_zeroes; /* zeroes that are shorter than a chunk may be dealt as data: where there
			    * are many of them, a deal for each would be what takes the time */
	struct vmimg_overlap *overlap; /* told of every run of the disk itself; NULL: nobody asks */
	pthread_mutex_t lock;          /* guards all below, and the walk over the map */
	uint64_t next;
	uint64_t ticket;
	struct vmimg_run run; /* the run looked at last, and where it lies */
	uint64_t run_start, run_end;
};

struct vmimg_deal {
	uint64_t ticket;
	uint64_t guest, len; /* len 0: there is no more */
	enum vmimg_piece_kind kind;
	struct vmimg_run run; /* when one run covers all of the deal; else of kind ABSENT */
};

void vmimg_source_init(
	struct vmimg_source *source, struct vmimg_disk *disk, uint32_t granule, uint32_t chunk);
void vmimg_source_done(struct vmimg_source *source);
/* From any thread. */
int vmimg_source_deal(struct vmimg_source *source, struct vmimg_deal *deal,
	struct vmimg_error *err) VMIMG_CHECKED;

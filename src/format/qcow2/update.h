/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New content for an image that is there, as a sink. Data goes over the old cluster where that is
 * this place's alone, in the old state as in the new one; all else by shadow paging (change.h): an
 * L2 table that changes is written to a new place when guest order leaves its range, and finish
 * turns the header to the new L1 table. What an unchanged table says stays true throughout.
 */
#pragma once
#include "disk/edit.h"
#include "format/qcow2/bitmaps.h"

#define QCOW2_ALL UINT64_C(0xffffffff) /* subclusters */

struct vmimg_qcow2_writing {
	struct vmimg_sink sink;
	struct vmimg_qcow2_change c;
	struct vmimg_qcow2 *q;
	struct vmimg_qcow2_marks *marks; /* NULL: no bitmap records */
	struct vmimg_io *data;           /* as q->data, for writing */
	struct vmimg_reader *reader;
	bool raw; /* the data file is the guest's disk byte for byte */
	uint8_t *l1;
	bool l1_changed;
	uint8_t *l2, *l2_old; /* the table at hand, and what the image has */
	uint64_t l2_index;    /* which */
	bool l2_read;
	uint8_t *scratch;              /* a cluster */
	uint64_t zero_start, zero_end; /* of the guest: the last stretch of zeroes given */
};

/* update_clusters.c: where things can be written. entry is one of the L2 table at hand. */

/* The entry for guest, valid until the next call. */
int vmimg_qcow2_find_entry(struct vmimg_qcow2_writing *w, uint64_t guest, uint8_t **entry,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Writes the table at hand, if it has changed. */
int vmimg_qcow2_leave_l2(struct vmimg_qcow2_writing *w, struct vmimg_error *err) VMIMG_CHECKED;
/* Which subclusters of its cluster [guest, guest + len) is. */
uint64_t vmimg_qcow2_subclusters(const struct vmimg_qcow2_writing *w, uint64_t guest, uint64_t len);
/* What an entry says of subclusters, if there are any: which have bytes, and which are zeroes. */
void vmimg_qcow2_set_bits(
	const struct vmimg_qcow2_writing *w, uint8_t *entry, uint64_t allocated, uint64_t zero);
uint64_t vmimg_qcow2_allocated_bits(const struct vmimg_qcow2_writing *w, const uint8_t *entry);
uint64_t vmimg_qcow2_zero_bits(const struct vmimg_qcow2_writing *w, const uint8_t *entry);
/* Forgets where the cluster is. The subclusters' bits stay. */
int vmimg_qcow2_release(
	struct vmimg_qcow2_writing *w, uint8_t *entry, struct vmimg_error *err) VMIMG_CHECKED;
/* Compressed clusters have no subclusters: one that is changed in part is made plain first. */
int vmimg_qcow2_open_up(struct vmimg_qcow2_writing *w, uint8_t *entry, uint64_t guest,
	uint64_t given, struct vmimg_error *err) VMIMG_CHECKED;
/* Where given subclusters of the cluster can be written, which have bytes from then on; *at is the
 * cluster's place. */
int vmimg_qcow2_host_cluster(struct vmimg_qcow2_writing *w, uint8_t *entry, uint64_t guest,
	uint64_t given, uint64_t *at, struct vmimg_error *err) VMIMG_CHECKED;
/* Gives back the storage of [guest, guest + len), which is a part of its cluster, where the cluster
 * is plain and this place's alone. The image is not encrypted. */
int vmimg_qcow2_punch(struct vmimg_qcow2_writing *w, const uint8_t *entry, uint64_t guest,
	uint64_t len, struct vmimg_error *err) VMIMG_CHECKED;
/* Writes len bytes of scratch, encrypted where the image is. */
int vmimg_qcow2_write_scratch(struct vmimg_qcow2_writing *w, uint64_t at, uint64_t guest,
	size_t len, struct vmimg_error *err) VMIMG_CHECKED;

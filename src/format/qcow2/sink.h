/* SPDX-License-Identifier: Apache-2.0 */
/* The sink's insides: made in create.c, filled in sink.c, its bitmaps in sink_bitmaps.c. */
#pragma once
#include "format/qcow2/writer.h"

enum vmimg_qcow2_prealloc { PREALLOC_OFF, PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL };

struct vmimg_qcow2_sink {
	struct vmimg_sink sink;
	struct vmimg_io *io, *data; /* data: the data file, or the image; both shared */
	struct vmimg_qcow2_tail tail;
	struct vmimg_qcow2_header header;
	uint32_t cluster;
	bool extended, external;
	unsigned l2_bits;
	enum vmimg_qcow2_prealloc prealloc;
	char *backing_name, *backing_format, *data_name;

	uint8_t *l1;       /* the whole table, as it will be written */
	uint8_t *l2;       /* the table of the range that place() is in */
	uint64_t l2_index; /* which */
	uint64_t l2_at;    /* where it lies; 0: it has no entry yet */

	struct vmimg_qcow2_bitmaps bitmaps; /* count 0: none */

	struct vmimg_cipher *cipher;          /* NULL: not encrypted */
	struct vmimg_luks *luks;              /* NULL: not that method, or nothing is written */
	struct vmimg_luks_material luks_slot; /* of the first key slot */
	struct vmimg_qcow2_crypto crypto;     /* length 0: no header of LUKS */
};

/* create.c: gives the L1 table its place. */
int vmimg_qcow2_take_l1(struct vmimg_qcow2_sink *s, struct vmimg_error *err) VMIMG_CHECKED;
/* sink.c */
extern const struct vmimg_sink_ops vmimg_qcow2_sink_ops;
/* sink_bitmaps.c */
int vmimg_qcow2_carry_bitmaps(
	struct vmimg_sink *sink, struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
bool vmimg_qcow2_measure_bitmaps(
	const struct vmimg_sink *sink, const struct vmimg_disk *disk, uint64_t *bytes);
/* sink_header.c: the header cluster, written last. */
int vmimg_qcow2_write_header(struct vmimg_qcow2_sink *s, struct vmimg_error *err) VMIMG_CHECKED;

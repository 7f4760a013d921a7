/* SPDX-License-Identifier: Apache-2.0 */
/* What the changes of a VHD in place share: edit.c (sizes), update.c (content), shift.c (blocks
 * given up and moved), relate.c (parents) and settings.c. */
#pragma once
#include "disk/blocks.h"
#include "disk/edit.h"
#include "format/vhd/vhd.h"

/* What resizing does not mind; all else is to be repaired first. */
#define VMIMG_VHD_HARMLESS (VMIMG_VHD_SURPLUS | VMIMG_VHD_PARENT_TIME | VMIMG_VHD_HEAD_OLDER)

/* The image may be changed: it is whole, one file, and no device. Makes the copies of the footer
 * the same where a change was cut off between them. */
int vmimg_vhd_begin(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
/* One that has blocks, too. what: "emptying", for the message. */
int vmimg_vhd_begin_blocks(
	struct vmimg_disk *disk, const char *what, struct vmimg_error *err) VMIMG_CHECKED;

/* The footer, with its checksum, durably to that place. */
int vmimg_vhd_put_footer(struct vmimg_disk *disk, const struct vmimg_vhd_footer *footer,
	uint64_t at, struct vmimg_error *err) VMIMG_CHECKED;
/* The same to the end of the file (vhd->footer_at) and then to its start, where there is a copy. */
int vmimg_vhd_put_footers(struct vmimg_disk *disk, const struct vmimg_vhd_footer *footer,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The dynamic disk header to that place, not flushed: its first `len` bytes, 512 or all. What is
 * reserved stays as it is at vhd->footer.data_offset. */
int vmimg_vhd_put_header(struct vmimg_disk *disk, const struct vmimg_vhd_header *header,
	uint64_t at, size_t len, struct vmimg_error *err) VMIMG_CHECKED;

/*
 * The end of a file that grows while there is always a footer at it. Sectors are asked for; the
 * footer goes further away in large steps, and comes back at the end.
 */
struct vmimg_vhd_end {
	struct vmimg_disk *disk;
	struct vmimg_vhd_footer footer; /* the one at the end */
	uint64_t footer_at;             /* at this moment */
	uint64_t used_to; /* below, there may be bytes of old; above, the file is new and zero */
};
void vmimg_vhd_end_init(struct vmimg_vhd_end *end, struct vmimg_disk *disk);
/* Makes [at, at + len) usable: zero, and before the footer. */
int vmimg_vhd_end_extend(struct vmimg_vhd_end *end, uint64_t at, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Takes the footer to `at`, and cuts the file behind it. */
int vmimg_vhd_end_cut(
	struct vmimg_vhd_end *end, uint64_t at, struct vmimg_error *err) VMIMG_CHECKED;

/* All that is in use in the file, in sectors: init, add and room of disk/blocks.h. with_blocks:
 * not only the tables. */
int vmimg_vhd_space(struct vmimg_disk *disk, struct vmimg_blocks *blocks, bool with_blocks,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Xen's batmap says which blocks are full; one without a set bit is true of any blocks. Puts such a
 * one into the file's next free sectors, and lets the header name it; durable. Does nothing where
 * there is no batmap or no set bit. */
int vmimg_vhd_clear_batmap(struct vmimg_disk *disk, struct vmimg_blocks *blocks,
	struct vmimg_vhd_end *end, struct vmimg_error *err) VMIMG_CHECKED;

int vmimg_vhd_read_batmap(struct vmimg_vhd *vhd, struct vmimg_vhd_batmap *batmap,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Puts its header, with a map of no set bits, to that place; not flushed. */
int vmimg_vhd_put_batmap(struct vmimg_disk *disk, uint64_t header_at, uint64_t map_at,
	uint32_t sectors, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- the operations of disk/edit.h ---- */

struct vmimg_sink *vmimg_vhd_update(
	struct vmimg_disk *disk, const struct vmimg_update *update, struct vmimg_error *err);
int vmimg_vhd_empty(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhd_squeeze(
	struct vmimg_disk *disk, uint64_t *saved, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhd_change_parent(struct vmimg_disk *disk, const struct vmimg_parent *parent,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhd_set(struct vmimg_disk *disk, const struct vmimg_options *options,
	struct vmimg_error *err) VMIMG_CHECKED;
extern const struct vmimg_option_spec vmimg_vhd_settings[];

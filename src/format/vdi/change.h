/* SPDX-License-Identifier: Apache-2.0 */
/* What the changes of a VDI in place share: edit.c (sizes, emptying), update.c (content), squeeze.c
 * (blocks moved) and settings.c (parents and settings). */
#pragma once
#include "disk/blocks.h"
#include "disk/edit.h"
#include "format/vdi/vdi.h"

/* The image may be changed where it lies. */
int vmimg_vdi_begin(const struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
/* The error of those who find no number for one more block. */
int vmimg_vdi_fail_full(struct vmimg_error *err);
/* Flushes, writes the header's fields, all in its first sector, and flushes. What is not in *header
 * stays as it is in the file. */
int vmimg_vdi_put_header(struct vmimg_disk *disk, const struct vmimg_vdi_header *header,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Which numbers of blocks are in use: init, add and room of disk/blocks.h. */
int vmimg_vdi_space(struct vmimg_disk *disk, struct vmimg_blocks *blocks,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Moves blocks from the end of the file into gaps, sets the count in *header and writes it, and
 * cuts the file. */
int vmimg_vdi_close_gaps(struct vmimg_disk *disk, struct vmimg_vdi_header *header,
	struct vmimg_error *err) VMIMG_CHECKED;

struct vmimg_sink *vmimg_vdi_update(
	struct vmimg_disk *disk, const struct vmimg_update *update, struct vmimg_error *err);
int vmimg_vdi_change_parent(struct vmimg_disk *disk, const struct vmimg_parent *parent,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vdi_set(struct vmimg_disk *disk, const struct vmimg_options *options,
	struct vmimg_error *err) VMIMG_CHECKED;
extern const struct vmimg_option_spec vmimg_vdi_settings[];
int vmimg_vdi_squeeze(
	struct vmimg_disk *disk, uint64_t *saved, struct vmimg_error *err) VMIMG_CHECKED;

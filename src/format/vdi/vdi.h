/* SPDX-License-Identifier: Apache-2.0 */
/* VDI, shared between the files of this room. */
#pragma once
#include "disk/disk.h"
#include "format/vdi/layout.h"
#include "io/table.h"

/* Blocks up to this size are agreed to, and as much extra data before each. VirtualBox writes 1 MiB
 * and no extra data. */
#define VMIMG_VDI_MAX_BLOCK (UINT32_C(256) << 20)
/* Entries of a block map that are agreed to: 64 TiB in usual blocks, 256 MiB of map. */
#define VMIMG_VDI_MAX_BLOCKS (UINT32_C(1) << 26)

/* A header of any version, once it is understood. */
struct vmimg_vdi_header {
	uint16_t major, minor;
	uint32_t type, flags;
	char text[65], comment[VMIMG_VDI_COMMENT + 1];
	uint64_t map_at, data_at;
	uint32_t cylinders, heads, sectors, sector_size;
	uint64_t disk_size;
	uint32_t block_size, block_extra, blocks, allocated;
	struct vmimg_guid uuid, modified, link, parent_modified;
};

struct vmimg_vdi {
	struct vmimg_vdi_header header;
	struct vmimg_table *table; /* over disk->io */
	uint32_t entries;          /* of the map, as many as the disk has blocks */
};

/* Reads and validates the header at the start of io. */
int vmimg_vdi_read_header(struct vmimg_io *io, struct vmimg_vdi_header *header,
	struct vmimg_error *err) VMIMG_CHECKED;
bool vmimg_vdi_has_parent(const struct vmimg_vdi_header *header);

/* Notes the parent as a reference, looks for the image that it is, and opens it. */
int vmimg_vdi_open_parent(struct vmimg_disk *disk, const struct vmimg_open *options,
	struct vmimg_error *err) VMIMG_CHECKED;

/* Visits every entry of the map that leads to a block, until one of the visits fails. */
typedef int vmimg_vdi_visit(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err);
int vmimg_vdi_walk(struct vmimg_vdi *vdi, vmimg_vdi_visit *visit, void *ctx,
	struct vmimg_error *err) VMIMG_CHECKED;
/* More blocks than this cannot lie in the file. */
size_t vmimg_vdi_most_blocks(const struct vmimg_disk *disk);
/* Where block number `entry` lies in the file: its data, past the extra data. */
uint64_t vmimg_vdi_block_at(const struct vmimg_vdi *vdi, uint32_t entry);
/* What is wrong with a used entry, as a sentence; NULL: nothing. code may be NULL. */
const char *vmimg_vdi_judge_entry(
	const struct vmimg_disk *disk, uint64_t i, uint32_t entry, const char **code);
/* Bytes that there are of a block that the end of the file cuts; 0: it does not. */
uint64_t vmimg_vdi_cut(const struct vmimg_disk *disk, uint32_t entry);

/* ---- the format's operations ---- */

int vmimg_vdi_open(struct vmimg_disk *disk, const struct vmimg_open *options,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vdi_close(struct vmimg_disk *disk);
int vmimg_vdi_map(struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vdi_describe(
	struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vdi_check(struct vmimg_disk *disk, struct vmimg_report *report,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vdi_repair(struct vmimg_disk *disk, struct vmimg_io *rw, struct vmimg_report *fixed,
	struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_sink *vmimg_vdi_create(struct vmimg_io *io, const struct vmimg_create *create,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vdi_measure(const struct vmimg_create *create, uint64_t data, uint64_t *bytes,
	struct vmimg_error *err) VMIMG_CHECKED;
extern const struct vmimg_edit_ops vmimg_vdi_edit;

/* From one block in the file to the next: with its extra data. */
static inline uint64_t vmimg_vdi_stride(const struct vmimg_vdi_header *header)
{
	return (uint64_t)header->block_extra + header->block_size;
}

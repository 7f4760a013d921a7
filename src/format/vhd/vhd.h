/* SPDX-License-Identifier: Apache-2.0 */
/* VHD, shared between the files of this room. */
#pragma once
#include "disk/disk.h"
#include "format/vhd/layout.h"
#include "io/table.h"

/* The largest disk that a dynamic VHD's block table and Microsoft's tools can address. */
#define VMIMG_VHD_MAX_SIZE (UINT64_C(2040) << 30)
/* Blocks up to this size are known (writers use 512 KiB and 2 MiB). */
#define VMIMG_VHD_MAX_BLOCK (UINT32_C(256) << 20)
/* Entries of a block table that are agreed to: 64 MiB of it, 32 TiB of disk in usual blocks. */
#define VMIMG_VHD_MAX_ENTRIES (UINT64_C(1) << 24)

struct vmimg_vhd_geometry {
	uint16_t cylinders;
	uint8_t heads, sectors;
};

/* What is wrong, though the image can be read: told as warnings, and by check as findings. */
enum vmimg_vhd_flaw {
	VMIMG_VHD_HEAD_DAMAGED = 1, /* the copy of the footer at the start */
	VMIMG_VHD_TAIL_DAMAGED = 2, /* the footer at the end */
	VMIMG_VHD_HEAD_OLDER = 4,   /* both sound, not equal: the tail was taken */
	VMIMG_VHD_FOOTER_SUM = 8,   /* both copies equal, and their checksum wrong */
	VMIMG_VHD_HEADER_SUM = 16,  /* of the dynamic disk header */
	VMIMG_VHD_SURPLUS = 32,     /* fixed: the file holds more than the footer says */
	VMIMG_VHD_PARENT_TIME = 64, /* the parent was changed after its child was made */
};

struct vmimg_vhd {
	struct vmimg_vhd_footer footer;
	struct vmimg_vhd_header header; /* not of fixed disks */
	uint64_t footer_at;             /* of the one at the end; the file's size: there is none */
	unsigned flaws;                 /* enum vmimg_vhd_flaw */
	struct vmimg_io *io;            /* the bytes: disk->io, or the joined parts; owned */
	struct vmimg_table *table;      /* over io */
	struct vmimg_table *bitmaps;    /* the same, for what each block begins with */
	uint64_t bat_at;
	uint32_t entries;               /* of the BAT, as many as the disk has blocks */
	uint32_t bitmap_bytes;          /* of one block: whole sectors */
	uint64_t batmap_at;             /* of Xen's batmap header; 0: none */
	struct vmimg_vhd_batmap batmap; /* as it was when the image was opened */
	bool encrypted;                 /* a key's hash is there */
	unsigned parts;                 /* files that the image was split into; 1: one */
};

/* ---- footer.c ---- */

/* Ones' complement of the byte sum of len bytes, the four at sum_at left out. */
uint32_t vmimg_vhd_sum(const uint8_t *bytes, size_t len, size_t sum_at);
/* Finds and judges the copies of the footer: vhd->footer, ->footer_at, ->flaws. */
int vmimg_vhd_read_footer(struct vmimg_vhd *vhd, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether the bytes at the end of a file are a footer: its length, or 0. */
uint32_t vmimg_vhd_tail_len(const uint8_t *tail, size_t len);

/* ---- geometry.c ---- */

/* The specification's rule for a disk of so many sectors. */
struct vmimg_vhd_geometry vmimg_vhd_geometry_for(uint64_t sectors);
uint64_t vmimg_vhd_geometry_bytes(const struct vmimg_vhd_geometry *geometry);
/* The smallest size, not less than size, that a geometry can express; size itself when too large
 * for any. */
uint64_t vmimg_vhd_round_to_geometry(uint64_t size);
/* Whether its creator showed guests cylinders * heads * sectors. */
bool vmimg_vhd_goes_by_geometry(const struct vmimg_vhd_footer *footer);
/* The size that the guest saw, by the footer and by who made it. held: bytes there is room for. */
uint64_t vmimg_vhd_guest_size(const struct vmimg_vhd_footer *footer, uint64_t held);

/* ---- settings.c ---- */

/* Text of at most four characters, filled up with blanks. */
int vmimg_vhd_set_creator(
	uint8_t creator[4], const char *text, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- parent.c ---- */

/* Notes every name of the parent as a reference, and opens the first that is the right image. */
int vmimg_vhd_open_parent(struct vmimg_disk *disk, const struct vmimg_open *options,
	struct vmimg_error *err) VMIMG_CHECKED;

/* ---- the format's operations ---- */

int vmimg_vhd_open(struct vmimg_disk *disk, const struct vmimg_open *options,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vhd_close(struct vmimg_disk *disk);
int vmimg_vhd_map(struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhd_describe(
	struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhd_check(struct vmimg_disk *disk, struct vmimg_report *report,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhd_repair(struct vmimg_disk *disk, struct vmimg_io *rw, struct vmimg_report *fixed,
	struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_sink *vmimg_vhd_create(struct vmimg_io *io, const struct vmimg_create *create,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhd_measure(const struct vmimg_create *create, uint64_t data, uint64_t *bytes,
	struct vmimg_error *err) VMIMG_CHECKED;

extern const struct vmimg_edit_ops vmimg_vhd_edit;

/* BAT entry i: a sector number or VMIMG_VHD_UNUSED. */
int vmimg_vhd_bat_entry(
	struct vmimg_vhd *vhd, uint64_t i, uint32_t *sector, struct vmimg_error *err) VMIMG_CHECKED;
/* Visits every used entry of the BAT, until one of the visits fails. */
typedef int vmimg_vhd_visit(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err);
int vmimg_vhd_walk(struct vmimg_vhd *vhd, vmimg_vhd_visit *visit, void *ctx,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Sectors from the start of a block's bitmap to the end of its data. */
uint32_t vmimg_vhd_block_sectors(const struct vmimg_disk *disk);
/* More blocks than this cannot lie in the file side by side. */
size_t vmimg_vhd_most_blocks(const struct vmimg_disk *disk);
/* Whether the image, though opened alone, is the first of several files. */
bool vmimg_vhd_is_split(const struct vmimg_disk *disk);
/* Bytes of data that there are of a block that the end of a file without a footer cuts; 0: it cuts
 * none, or the sector bitmap as well. */
uint64_t vmimg_vhd_cut(const struct vmimg_disk *disk, uint32_t sector);
/* Whether [at, at + len) is before the footer, and no table lies there, Xen's batmap included. */
bool vmimg_vhd_is_free(const struct vmimg_vhd *vhd, uint64_t at, uint64_t len);
/* What is wrong with the place of Xen's batmap, as a sentence; NULL: nothing. Readers do not need
 * it. */
const char *vmimg_vhd_judge_batmap(
	const struct vmimg_vhd *vhd, const struct vmimg_vhd_batmap *batmap);
/* Whether a block, that is otherwise sound, lies over the batmap. */
bool vmimg_vhd_over_batmap(const struct vmimg_disk *disk, uint32_t sector);
/* What is wrong with a used BAT entry, as a sentence; NULL: nothing. code may be NULL. */
const char *vmimg_vhd_judge_entry(
	const struct vmimg_disk *disk, uint64_t i, uint32_t sector, const char **code);

/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the VHDX room share. doc/formats/vhdx.md explains the format. */
#pragma once
#include "disk/disk.h"
#include "disk/report.h"
#include "disk/sink.h"
#include "format/vhdx/layout.h"
#include "io/table.h"
#include "util/guid.h"

/* A stretch of the file. */
struct vhdx_range {
	uint64_t at, len;
};

/* A header, decoded and found to be sound. */
struct vhdx_head {
	uint64_t sequence;
	struct vmimg_guid file_write, data_write, log;
	struct vhdx_range log_range;
};

enum vhdx_log_state {
	VHDX_LOG_CLEAN,
	VHDX_LOG_REPLAYED, /* in memory */
	VHDX_LOG_UNUSED,   /* it was announced, but nothing was ever written to it */
	VHDX_LOG_TORN,     /* it was announced, and no entry of it is whole */
};

/* One pair of the parent locator, as UTF-8, not escaped. */
struct vhdx_pair {
	char *key, *value;
};

struct vhdx_locator {
	struct vhdx_pair *pairs;
	size_t count;
};

/* Metadata that was made up, since the file has none that could be right. */
enum vhdx_made_up {
	VHDX_MADE_UP_PHYSICAL = 1, /* 4096, as Windows has it */
	VHDX_MADE_UP_DISK_ID = 2,  /* from the data write GUID */
};

struct vhdx_params {
	uint64_t size;
	uint32_t block;
	uint32_t logical, physical; /* sector sizes */
	bool leave_allocated, has_parent;
	struct vmimg_guid disk_id; /* what SCSI page 83 tells the guest */
	unsigned made_up;
};

/* Where blocks are in the BAT, derived from the parameters. */
struct vhdx_geometry {
	uint64_t blocks;  /* payload blocks of the disk */
	uint64_t ratio;   /* payload blocks in a chunk */
	uint64_t entries; /* of the BAT, bitmap entries included */
};

struct vmimg_vhdx {
	struct vmimg_io *io; /* the file, or the replayed log over it; owned */
	struct vmimg_table *table;
	char *creator;       /* UTF-8, not escaped */
	unsigned head_index; /* which header, and which region table, is in use */
	unsigned regions_index;
	struct vhdx_head head;
	enum vhdx_log_state log;
	uint64_t log_entries; /* replayed */
	struct vhdx_range bat, metadata;
	struct vhdx_params params;
	struct vhdx_geometry geometry;
	struct vhdx_locator locator;
};

/* The checksum of a structure whose own le32 checksum field is at offset 4, as if that were zero.
 */
uint32_t vmimg_vhdx_checksum(const uint8_t *bytes, size_t len);
/* Whether the GUID, as it lies in the file, is the one that text names. */
bool vmimg_vhdx_is_guid(const uint8_t on_disk[16], const char *text);
void vmimg_vhdx_put_guid(uint8_t on_disk[16], const char *text);

/* header.c: the file's identifier, and header i (0 or 1). */
int vmimg_vhdx_read_creator(
	struct vmimg_io *io, char **creator, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhdx_read_header(struct vmimg_io *io, unsigned i, struct vhdx_head *head,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Not flushed. */
int vmimg_vhdx_put_header(struct vmimg_io *io, unsigned i, const struct vhdx_head *head,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Chooses the newer sound one; warns when one of them is not. */
int vmimg_vhdx_choose_header(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
/* Of an image that is not opened: by what its children know it. */
int vmimg_vhdx_peek(
	struct vmimg_io *io, struct vmimg_guid *data_write, struct vmimg_error *err) VMIMG_CHECKED;

/* region.c. Region table i, its entries handed to each. */
int vmimg_vhdx_read_regions(struct vmimg_io *io, unsigned i,
	int (*each)(void *ctx, const struct vhdx_region *, struct vmimg_error *), void *ctx,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Finds the BAT and the metadata, by the second table when the first is damaged. */
int vmimg_vhdx_find_regions(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;

/* log.c: makes vhdx->io what the file would be after a replay. */
int vmimg_vhdx_replay(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
/* The same of the file, after VHDX_LOG_REPLAYED. The header still tells of the log. */
int vmimg_vhdx_replay_into(
	struct vmimg_vhdx *vhdx, struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;

/* metadata.c: fills params and locator. lenient: an item that the content does not depend on may be
 * missing or wrong; the disk warns of it. */
int vmimg_vhdx_read_metadata(
	struct vmimg_disk *disk, bool lenient, struct vmimg_error *err) VMIMG_CHECKED;
/* blocks, ratio and entries of a disk; 0 bitmap entries past the last chunk unless it has a
 * parent. */
struct vhdx_geometry vmimg_vhdx_geometry(const struct vhdx_params *params);

/* item.c: items of the metadata region of an io, sound as read_metadata leaves it; changes of them
 * are written into the io. */
struct vhdx_item {
	unsigned index; /* in the table */
	struct vhdx_metadata_entry entry;
};
int vmimg_vhdx_find_item(struct vmimg_io *io, const struct vhdx_range *metadata, const char *guid,
	struct vhdx_item *item, bool *found, struct vmimg_error *err) VMIMG_CHECKED;
/* Puts the bytes in its place, or into the first gap that takes them; an item that is not there is
 * added, with those flags. */
int vmimg_vhdx_put_item(struct vmimg_io *io, const struct vhdx_range *metadata, const char *guid,
	uint32_t flags, const void *bytes, size_t len, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhdx_drop_item(struct vmimg_io *io, const struct vhdx_range *metadata, const char *guid,
	struct vmimg_error *err) VMIMG_CHECKED;

/* repair.c's part of check.c: what is wrong with a BAT entry. what goes on "BAT entry …,". */
struct vhdx_mender {
	int (*mend)(struct vhdx_mender *, const char *code, uint64_t index, uint64_t entry,
		const char *what, struct vmimg_error *);
};
/* The walk of check: the mender gets the entries that are wrong, which are not added to the report
 * then. */
int vmimg_vhdx_check_for(struct vmimg_disk *disk, struct vmimg_report *report,
	struct vhdx_mender *mender, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhdx_repair(struct vmimg_disk *disk, struct vmimg_io *rw, struct vmimg_report *fixed,
	struct vmimg_error *err);

/* locator.c. bytes is the whole metadata item. */
int vmimg_vhdx_read_locator(struct vhdx_locator *locator, const uint8_t *bytes, size_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vhdx_locator_done(struct vhdx_locator *locator);
/* NULL: the locator has no such key. */
const char *vmimg_vhdx_locator_value(const struct vhdx_locator *locator, const char *key);
/* Its bytes, in fresh memory, with another identity of the parent and another name of it (NULL:
 * what old says of that, as it is). */
uint8_t *vmimg_vhdx_make_locator(const struct vhdx_locator *old, const struct vmimg_guid *linkage,
	const char *name, size_t *len, struct vmimg_error *err) VMIMG_CHECKED;

/* parent.c */
int vmimg_vhdx_open_parent(struct vmimg_disk *disk, const struct vmimg_open *options,
	struct vmimg_error *err) VMIMG_CHECKED;

/* map.c. Where block b, and the sector bitmap of chunk c, are in the BAT. */
static inline uint64_t vhdx_payload_index(const struct vhdx_geometry *g, uint64_t b)
{
	return b + b / g->ratio;
}

static inline uint64_t vhdx_bitmap_index(const struct vhdx_geometry *g, uint64_t c)
{
	return c * (g->ratio + 1) + g->ratio;
}

static inline bool vhdx_is_bitmap_index(const struct vhdx_geometry *g, uint64_t index)
{
	return index % (g->ratio + 1) == g->ratio;
}

/* Of an entry that is no bitmap's. */
static inline uint64_t vhdx_block_of(const struct vhdx_geometry *g, uint64_t index)
{
	return index - index / (g->ratio + 1);
}

static inline bool vhdx_holds_data(uint64_t entry)
{
	return VHDX_BAT_STATE(entry) == VHDX_BLOCK_PRESENT ||
		VHDX_BAT_STATE(entry) == VHDX_BLOCK_PARTIAL;
}

/* A new file, planned: where its parts go. The first block is at data_at. */
struct vhdx_plan {
	struct vhdx_params params;
	struct vhdx_geometry geometry;
	struct vhdx_range log, metadata, bat;
	uint64_t data_at;
	struct vmimg_guid linkage; /* the parent's data write GUID; nil: no parent */
	uint8_t *locator;          /* of a child; owned */
	size_t locator_len;
	bool zero_state; /* zero blocks are noted as such */
	bool reserve;
};

/* plan.c: from the options. disk_id is left to be chosen, unless a parent gives it. */
int vmimg_vhdx_plan(struct vhdx_plan *plan, const struct vmimg_create *create,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vhdx_plan_done(struct vhdx_plan *plan);
/* write.c: everything but the BAT and the blocks, the identifier last. */
int vmimg_vhdx_write_head(struct vmimg_io *io, const struct vhdx_plan *plan,
	const struct vmimg_guid *file_write, const struct vmimg_guid *data_write,
	struct vmimg_error *err) VMIMG_CHECKED;

/* The room's half of struct vmimg_format. */
extern const struct vmimg_format vmimg_vhdx;
extern const struct vmimg_edit_ops vmimg_vhdx_edit;
int vmimg_vhdx_open(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err);
void vmimg_vhdx_close(struct vmimg_disk *disk);
int vmimg_vhdx_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err);
int vmimg_vhdx_describe(struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err);
int vmimg_vhdx_check(struct vmimg_disk *disk, struct vmimg_report *report, struct vmimg_error *err);
struct vmimg_sink *vmimg_vhdx_create(
	struct vmimg_io *io, const struct vmimg_create *create, struct vmimg_error *err);
int vmimg_vhdx_measure(
	const struct vmimg_create *create, uint64_t data, uint64_t *bytes, struct vmimg_error *err);

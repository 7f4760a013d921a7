/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rounds through the log ([MS-VHDX] 2.3). The entry is whole on the disk before a header names it,
 * and every table is in its place before a header forgets it; so a log that is announced is always
 * one that can be replayed, and one that is torn was never announced.
 */
#include "format/vhdx/change.h"
#include <inttypes.h>
#include <string.h>
#include "io/stage.h"
#include "util/num.h"

/* As many descriptors as QEMU replays: they fit the entry's first sector. */
#define DESC_MAX  126U
#define DESC_SIZE 32U
#define DESC_AT   64U
/* Pages a round may have before a chunk, or before a block of a stretch, begins: either adds at
 * most two pages of the BAT and 17 of a bitmap for each of two blocks. */
#define ROUND 80U

int vmimg_vhdx_derive(const struct vmimg_guid *old, uint64_t salt, const char *what,
	struct vmimg_guid *guid, struct vmimg_error *err)
{
	uint64_t seed = vmimg_get_le64(old->bytes) ^ vmimg_get_le64(old->bytes + 8) * 31 ^ salt;

	return vmimg_guid_make(guid, false, seed, what, err);
}

/* What the head says becomes the newer header. */
static int put_header(struct vhdx_change *c, struct vmimg_error *err)
{
	c->head.sequence++;
	if (vmimg_io_sync(c->io, err) ||
		vmimg_vhdx_put_header(c->io, 1U - c->head_index, &c->head, err))
		return -1;
	c->head_index = 1U - c->head_index;
	c->renamed = false;
	return vmimg_io_sync(c->io, err);
}

/* ---- opening ---- */

/* Opening an image does not look at the whole BAT; what is changed has to be sound. */
static int check_sound(struct vmimg_disk *disk, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_report *report = vmimg_new(struct vmimg_report, err);

	if (!report || vmimg_vhdx_check(disk, report, err))
		return -1;
	if (report->count[VMIMG_FINDING_CORRUPTION] || report->count[VMIMG_FINDING_ERROR])
		return vmimg_fail(err, VMIMG_EREFUSED,
			"the image is damaged (check tells how): repair it before it is changed");
	return 0;
}

/* What was replayed in memory is in the file now, and tables are read from there. */
static int look_at_file(struct vhdx_change *c, struct vmimg_error *err)
{
	struct vmimg_table *table = vmimg_table_new(c->io, err);

	if (!table)
		return -1;
	vmimg_table_free(c->vhdx->table);
	vmimg_io_unref(c->vhdx->io);
	c->vhdx->table = table;
	c->vhdx->io = vmimg_io_ref(c->io);
	return 0;
}

/* A log that waits is replayed, and then forgotten. */
static int settle_log(struct vhdx_change *c, struct vmimg_error *err)
{
	if (vmimg_guid_is_nil(&c->head.log))
		return 0;
	if (c->vhdx->log == VHDX_LOG_REPLAYED && vmimg_vhdx_replay_into(c->vhdx, c->io, err))
		return -1;
	c->head.log = (struct vmimg_guid){ 0 };
	return put_header(c, err) || look_at_file(c, err) ? -1 : 0;
}

static int check_log(const struct vhdx_range *log, uint64_t size, struct vmimg_error *err)
{
	if (log->len < VHDX_MIB || log->at % VHDX_MIB || log->at < VHDX_HEAD_END ||
		!vmimg_range_inside(log->at, log->len, size))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"its log, 0x%" PRIx64 " bytes at 0x%" PRIx64
			", is not whole MiB inside the file: convert it",
			log->len, log->at);
	return 0;
}

int vmimg_vhdx_change_open(
	struct vhdx_change *change, struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;

	*change = (struct vhdx_change){ .disk = disk,
		.vhdx = vhdx,
		.io = disk->io,
		.head_index = vhdx->head_index,
		.head = vhdx->head,
		.room = DESC_MAX,
		.hides = vhdx->params.has_parent };
	if (disk->io->is_device)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "it lies on a device");
	if (check_log(&vhdx->head.log_range, vmimg_io_size(disk->io), err) ||
		check_sound(disk, err) || settle_log(change, err))
		return -1;
	return vmimg_vhdx_space_load(change, err);
}

void vmimg_vhdx_change_done(struct vhdx_change *change)
{
	vmimg_io_unref(change->stage);
	free(change->space.used);
	free(change->freed);
	*change = (struct vhdx_change){ 0 };
}

int vmimg_vhdx_change_begin(struct vhdx_change *c, struct vmimg_error *err)
{
	if (c->stage)
		return 0;
	if (vmimg_vhdx_derive(&c->head.file_write, c->head.sequence, "vhdx file write",
		    &c->head.file_write, err) ||
		put_header(c, err))
		return -1;
	c->stage = vmimg_stage_open(c->io, err);
	return c->stage ? 0 : -1;
}

/* ---- rounds ---- */

void vmimg_vhdx_change_rename(struct vhdx_change *c, const struct vmimg_guid *data_write)
{
	c->head.data_write = *data_write;
	c->renamed = true;
}

int vmimg_vhdx_change_room(struct vhdx_change *c, struct vmimg_error *err)
{
	size_t count = 0;

	if (c->stage)
		vmimg_stage_pages(c->stage, &count);
	return count > ROUND ? vmimg_vhdx_change_commit(c, err) : 0;
}

/* Sets the log GUID, that of this round alone. */
static int name_round(struct vhdx_change *c, struct vmimg_error *err)
{
	return vmimg_vhdx_derive(
		&c->head.file_write, c->head.sequence, "vhdx log", &c->head.log, err);
}

/* The entry's first sector, and the sum over all of it. */
static void seal_entry(struct vhdx_change *c, uint8_t *entry, size_t len, size_t count)
{
	struct vhdx_log_entry head = { .magic = VHDX_LOG_ENTRY_MAGIC,
		.length = (uint32_t)len,
		.sequence = c->head.sequence,
		.descriptor_count = (uint32_t)count,
		.flushed_file_offset = vmimg_io_size(c->io),
		.last_file_offset = vmimg_io_size(c->io) };

	vmimg_guid_put_mixed(&c->head.log, head.log_guid);
	vhdx_log_entry_encode(&head, entry);
	head.checksum = vmimg_vhdx_checksum(entry, len);
	vhdx_log_entry_encode(&head, entry);
}

/* The descriptor's and the data sector's halves of a page. */
static void put_page(const struct vmimg_stage_page *page, uint64_t sequence, uint8_t *descriptor,
	uint8_t *sector)
{
	struct vhdx_log_desc desc = { .magic = VHDX_LOG_DESC_MAGIC,
		.trailing = vmimg_get_le32(page->bytes + VHDX_LOG_SECTOR - 4),
		.leading = vmimg_get_le64(page->bytes),
		.at = page->at,
		.sequence = sequence };
	struct vhdx_log_data data = { .magic = VHDX_LOG_DATA_MAGIC,
		.sequence_high = (uint32_t)(sequence >> 32),
		.sequence_low = (uint32_t)sequence };

	vhdx_log_desc_encode(&desc, descriptor);
	memcpy(sector, page->bytes, VHDX_LOG_SECTOR);
	vhdx_log_data_encode(&data, sector);
}

/* Puts the entry into the log; from the next header on it counts. */
static int log_entry(
	struct vhdx_change *c, uint8_t *entry, size_t len, size_t count, struct vmimg_error *err)
{
	seal_entry(c, entry, len, count);
	if (vmimg_io_sync(c->io, err) ||
		vmimg_io_pwrite(c->io, entry, len, c->head.log_range.at, err))
		return -1;
	return put_header(c, err);
}

static int forget_entry(struct vhdx_change *c, struct vmimg_error *err)
{
	c->head.log = (struct vmimg_guid){ 0 };
	return put_header(c, err);
}

static int log_pages(struct vhdx_change *c, const struct vmimg_stage_page *pages, size_t count,
	struct vmimg_error *err)
{
	size_t len = VHDX_LOG_SECTOR * (count + 1);
	VMIMG_AUTO(free) uint8_t *entry = vmimg_alloc_array(len, 1, err);

	if (!entry || name_round(c, err))
		return -1;
	for (size_t i = 0; i < count; i++)
		put_page(&pages[i], c->head.sequence, entry + DESC_AT + DESC_SIZE * i,
			entry + VHDX_LOG_SECTOR * (i + 1));
	return log_entry(c, entry, len, count, err);
}

/* A new stage, and a cache that has seen nothing of the old tables. */
static int renew(struct vhdx_change *c, struct vmimg_error *err)
{
	vmimg_io_unref(c->stage);
	c->stage = vmimg_stage_open(c->io, err);
	vmimg_table_forget(c->vhdx->table);
	return c->stage ? 0 : -1;
}

int vmimg_vhdx_change_commit(struct vhdx_change *c, struct vmimg_error *err)
{
	const struct vmimg_stage_page *pages;
	size_t count = 0;

	if (!c->stage)
		return 0;
	pages = vmimg_stage_pages(c->stage, &count);
	if (!count)
		return 0;
	if (count > c->room)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"%zu pages of tables change at once, its log takes %zu", count, c->room);
	if (log_pages(c, pages, count, err))
		return -1;
	for (size_t i = 0; i < count; i++)
		if (vmimg_io_pwrite(c->io, pages[i].bytes, VMIMG_STAGE_PAGE, pages[i].at, err))
			return -1;
	if (forget_entry(c, err) || renew(c, err))
		return -1;
	return vmimg_vhdx_space_settle(c, err);
}

int vmimg_vhdx_change_zero(
	struct vhdx_change *c, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint8_t entry[VHDX_LOG_SECTOR] = { 0 };
	struct vhdx_log_desc desc;

	if (vmimg_vhdx_change_begin(c, err) || vmimg_vhdx_change_commit(c, err) ||
		name_round(c, err))
		return -1;
	desc = (struct vhdx_log_desc){
		.magic = VHDX_LOG_ZERO_MAGIC, .leading = len, .at = at, .sequence = c->head.sequence
	};
	vhdx_log_desc_encode(&desc, entry + DESC_AT);
	if (log_entry(c, entry, sizeof(entry), 1, err) || vmimg_io_zero(c->io, at, len, err) ||
		forget_entry(c, err) || renew(c, err))
		return -1;
	return vmimg_vhdx_space_settle(c, err);
}

/* Both headers, so that either can be lost ([MS-VHDX] 2.2.2.1). */
int vmimg_vhdx_change_end(struct vhdx_change *c, struct vmimg_error *err)
{
	if (!c->stage)
		return 0;
	if (vmimg_vhdx_change_commit(c, err) || (c->renamed && put_header(c, err)) ||
		put_header(c, err))
		return -1;
	return vmimg_vhdx_space_cut(c, err) || vmimg_io_sync(c->io, err) ? -1 : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log ([MS-VHDX] 2.3): a ring of entries, each a header with descriptors and then data sectors,
 * all in units of 4 KiB. A file that was not closed has an active sequence of entries to be written
 * to their places; here that is done in memory, over the file, which stays as it is.
 *
 * The log is read whole, so it must be of a sensible size. Every sector is judged as the beginning
 * of an entry at most once; the bytes summed for that are limited too, since entries that a hostile
 * file claims may all overlap.
 */
#include <inttypes.h>
#include <string.h>
#include "format/vhdx/vhdx.h"
#include "io/overlay.h"
#include "util/num.h"
#include "util/sum.h"

/* Writers use 1 MiB. */
#define LOG_MAX     (64 * VHDX_MIB)
#define PATCHES_MAX ((size_t)1 << 20)
/* Past any file that holds 64 TiB of blocks and their tables. */
#define FILE_MAX   (2 * VHDX_DISK_MAX)
#define DESC_SIZE  32U
#define ENTRY_HEAD 64U

enum judgement { UNKNOWN, VALID, INVALID };

struct log {
	uint8_t *ring;
	uint32_t len;
	struct vmimg_guid guid;
	uint8_t *judged; /* one for each sector */
	uint64_t budget; /* bytes that may still be summed */
	bool ours;       /* a sector begins like an entry of this log */
};

/* Entries that follow each other without a gap; offsets are into the ring. */
struct sequence {
	uint32_t first_at;
	uint64_t count;
	uint32_t used; /* bytes */
	uint32_t last_at;
	struct vhdx_log_entry last;
};

struct patches {
	struct vmimg_patch *items;
	size_t count, cap;
};

static uint32_t wrap(const struct log *log, uint64_t at)
{
	return (uint32_t)(at % log->len);
}

/* CRC of an entry, whose own checksum counts as zero; it may run round the ring's end. */
static uint32_t sum_entry(const struct log *log, uint32_t at, uint32_t length)
{
	static const uint8_t zero[4];
	uint32_t before_end = (uint32_t)vmimg_min(length, log->len - at);
	uint32_t sum = vmimg_crc32c(0, log->ring + at, 4);

	sum = vmimg_crc32c(sum, zero, sizeof(zero));
	sum = vmimg_crc32c(sum, log->ring + at + 8, before_end - 8);
	return vmimg_crc32c(sum, log->ring, length - before_end);
}

/* Whether a whole entry begins at `at`. A torn one fails by its checksum. */
static int judge(struct log *log, uint32_t at, bool *valid, struct vmimg_error *err)
{
	struct vmimg_guid guid;
	struct vhdx_log_entry entry;

	*valid = false;
	vhdx_log_entry_decode(&entry, log->ring + at);
	vmimg_guid_get_mixed(&guid, entry.log_guid);
	if (entry.magic != VHDX_LOG_ENTRY_MAGIC || !vmimg_guid_equal(&guid, &log->guid))
		return 0;
	log->ours = true;
	if (!entry.length || entry.length % VHDX_LOG_SECTOR || entry.length > log->len ||
		entry.tail % VHDX_LOG_SECTOR || entry.tail >= log->len || !entry.sequence)
		return 0;
	if (entry.length > log->budget)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the log's entries claim far more than its %" PRIu32 " bytes", log->len);
	log->budget -= entry.length;
	*valid = sum_entry(log, at, entry.length) == entry.checksum;
	return 0;
}

static int is_entry(struct log *log, uint32_t at, bool *valid, struct vmimg_error *err)
{
	uint8_t *judged = &log->judged[at / VHDX_LOG_SECTOR];

	if (*judged == UNKNOWN) {
		if (judge(log, at, valid, err))
			return -1;
		*judged = *valid ? VALID : INVALID;
	}
	*valid = *judged == VALID;
	return 0;
}

/* The longest sequence from `at` on. count 0: none. */
static int follow(struct log *log, uint32_t at, struct sequence *sequence, struct vmimg_error *err)
{
	struct vhdx_log_entry entry;
	bool valid;

	*sequence = (struct sequence){ .first_at = at };
	for (; sequence->used < log->len; at = wrap(log, (uint64_t)at + entry.length)) {
		if (is_entry(log, at, &valid, err))
			return -1;
		if (!valid)
			break;
		vhdx_log_entry_decode(&entry, log->ring + at);
		if (entry.length > log->len - sequence->used ||
			(sequence->count && entry.sequence != sequence->last.sequence + 1))
			break;
		sequence->count++;
		sequence->used += entry.length;
		sequence->last_at = at;
		sequence->last = entry;
	}
	return 0;
}

/* Whether the newest entry's tail, where a replay starts, is one of the sequence's entries. */
static bool has_tail(const struct log *log, const struct sequence *sequence)
{
	uint32_t at = sequence->first_at;
	struct vhdx_log_entry entry;

	for (uint64_t i = 0; i < sequence->count; i++) {
		if (at == sequence->last.tail)
			return true;
		vhdx_log_entry_decode(&entry, log->ring + at);
		at = wrap(log, (uint64_t)at + entry.length);
	}
	return false;
}

/* The valid sequence with the newest entry; count 0: there is none. */
static int find_active(struct log *log, struct sequence *active, struct vmimg_error *err)
{
	uint64_t at = 0;

	*active = (struct sequence){ 0 };
	while (at < log->len) {
		struct sequence found;

		if (follow(log, (uint32_t)at, &found, err))
			return -1;
		if (!found.count) {
			at += VHDX_LOG_SECTOR;
			continue;
		}
		/* one without its tail has none either when it is looked at from a later entry on
		 */
		if (has_tail(log, &found) &&
			(!active->count || found.last.sequence > active->last.sequence))
			*active = found;
		at += found.used; /* past the end when it went round: all is seen then */
	}
	return 0;
}

static int add_patch(
	struct patches *patches, const struct vmimg_patch *patch, struct vmimg_error *err)
{
	if (patches->count == PATCHES_MAX)
		return vmimg_fail(
			err, VMIMG_ELIMIT, "the log has more than %zu descriptors", PATCHES_MAX);
	if (vmimg_grow_array(&patches->items, &patches->cap, patches->count + 1,
		    sizeof(*patches->items), err))
		return -1;
	patches->items[patches->count++] = *patch;
	return 0;
}

/* Turns a data sector into the bytes it stands for: its first 8 and last 4 are in the descriptor.
 */
static int restore_sector(
	uint8_t *sector, const struct vhdx_log_desc *desc, struct vmimg_error *err)
{
	struct vhdx_log_data data;

	vhdx_log_data_decode(&data, sector);
	if (data.magic != VHDX_LOG_DATA_MAGIC ||
		((uint64_t)data.sequence_high << 32 | data.sequence_low) != desc->sequence)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a data sector has the wrong signature or sequence number");
	vmimg_put_le64(sector, desc->leading);
	vmimg_put_le32(sector + VHDX_LOG_SECTOR - 4, desc->trailing);
	return 0;
}

/* One descriptor into a patch. *sector is the ring's offset of the next data sector. */
static int take_desc(struct log *log, const struct vhdx_log_desc *desc, uint64_t limit,
	uint64_t *sector, uint64_t end, struct vmimg_patch *patch, struct vmimg_error *err)
{
	bool zero = desc->magic == VHDX_LOG_ZERO_MAGIC;

	*patch = (struct vmimg_patch){ desc->at, zero ? desc->leading : VHDX_LOG_SECTOR, NULL };
	if (patch->at % VHDX_LOG_SECTOR || patch->len % VHDX_LOG_SECTOR ||
		!vmimg_range_inside(patch->at, patch->len, limit))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"it writes 0x%" PRIx64 " bytes at 0x%" PRIx64
			", not whole sectors of a file of 0x%" PRIx64,
			patch->len, patch->at, limit);
	if (zero)
		return 0;
	if (*sector + VHDX_LOG_SECTOR > end)
		return vmimg_fail(err, VMIMG_ECORRUPT, "its data sector is past the entry's end");
	patch->bytes = log->ring + wrap(log, *sector);
	if (restore_sector(log->ring + wrap(log, *sector), desc, err))
		return -1;
	*sector += VHDX_LOG_SECTOR;
	return 0;
}

/* All descriptors of the entry at `at`, which is valid. */
static int take_entry(struct log *log, uint32_t at, const struct vhdx_log_entry *entry,
	uint64_t limit, struct patches *patches, struct vmimg_error *err)
{
	uint64_t head = vmimg_align_up(
		ENTRY_HEAD + (uint64_t)DESC_SIZE * entry->descriptor_count, VHDX_LOG_SECTOR);
	uint64_t sector = at + head;

	if (head > entry->length)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"%" PRIu32 " descriptors do not fit its %" PRIu32 " bytes",
			entry->descriptor_count, entry->length);
	for (uint32_t i = 0; i < entry->descriptor_count; i++) {
		uint64_t where = (uint64_t)at + ENTRY_HEAD + DESC_SIZE * (uint64_t)i;
		struct vhdx_log_desc desc;
		struct vmimg_patch patch;

		vhdx_log_desc_decode(&desc, log->ring + wrap(log, where));
		if ((desc.magic != VHDX_LOG_ZERO_MAGIC && desc.magic != VHDX_LOG_DESC_MAGIC) ||
			desc.sequence != entry->sequence)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"descriptor %" PRIu32 " has the wrong signature or sequence number",
				i);
		if (take_desc(
			    log, &desc, limit, &sector, (uint64_t)at + entry->length, &patch, err))
			return vmimg_within(err, "descriptor %" PRIu32, i);
		if (patch.len && add_patch(patches, &patch, err))
			return -1;
	}
	return 0;
}

/* The entries from the newest one's tail to itself. Returns how many, or -1. */
static int64_t take_sequence(struct log *log, const struct sequence *active, uint64_t limit,
	struct patches *patches, struct vmimg_error *err)
{
	uint32_t at = active->last.tail;
	int64_t taken = 0;
	bool done = false;

	while (!done) {
		struct vhdx_log_entry entry;

		vhdx_log_entry_decode(&entry, log->ring + at);
		if (take_entry(log, at, &entry, limit, patches, err))
			return vmimg_within(
				err, "log entry %" PRIu64 " at 0x%" PRIx32, entry.sequence, at);
		done = at == active->last_at;
		at = wrap(log, (uint64_t)at + entry.length);
		taken++;
	}
	return taken;
}

/* How large the file will be. */
static int check_sizes(
	struct vmimg_io *io, const struct vhdx_log_entry *last, struct vmimg_error *err)
{
	if (last->flushed_file_offset > vmimg_io_size(io))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the log tells of a file of 0x%" PRIx64 " bytes, this one has 0x%" PRIx64
			": truncated",
			last->flushed_file_offset, vmimg_io_size(io));
	if (last->last_file_offset > FILE_MAX)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the log wants a file of 0x%" PRIx64 " bytes, more than any VHDX has",
			last->last_file_offset);
	return 0;
}

static int apply(struct vmimg_vhdx *vhdx, struct log *log, const struct sequence *active,
	struct vmimg_error *err)
{
	uint64_t size = vmimg_max(vmimg_io_size(vhdx->io), active->last.last_file_offset);
	struct patches patches = { 0 };
	struct vmimg_io *overlay = NULL;
	int64_t taken;

	if (check_sizes(vhdx->io, &active->last, err))
		return -1;
	taken = take_sequence(log, active, size, &patches, err);
	if (taken > 0)
		overlay = vmimg_overlay_open(
			vhdx->io, size, patches.items, patches.count, log->ring, err);
	free(patches.items);
	if (!overlay)
		return -1;
	log->ring = NULL; /* the overlay's */
	vmimg_io_unref(vhdx->io);
	vhdx->io = overlay;
	vhdx->log = VHDX_LOG_REPLAYED;
	vhdx->log_entries = (uint64_t)taken;
	return 0;
}

static int load(struct vmimg_vhdx *vhdx, struct log *log, struct vmimg_error *err)
{
	const struct vhdx_range *range = &vhdx->head.log_range;

	if (!range->len || !vmimg_range_inside(range->at, range->len, vmimg_io_size(vhdx->io)))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the log, 0x%" PRIx64 " bytes at 0x%" PRIx64
			", is in use but not inside the file",
			range->len, range->at);
	if (range->len > LOG_MAX)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"a log of %" PRIu64 " MiB is in use, %" PRIu64
			" MiB is the most that is read",
			range->len / VHDX_MIB, LOG_MAX / VHDX_MIB);
	log->len = (uint32_t)range->len;
	log->guid = vhdx->head.log;
	log->budget = 8 * range->len + 16 * VHDX_MIB;
	log->ring = vmimg_alloc_buffer(log->len, err);
	log->judged = vmimg_alloc_array(log->len / VHDX_LOG_SECTOR, 1, err);
	if (!log->ring || !log->judged)
		return -1;
	return vmimg_io_pread(vhdx->io, log->ring, log->len, range->at, err);
}

static int replay(struct vmimg_disk *disk, struct log *log, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;
	struct sequence active;

	if (load(vhdx, log, err) || find_active(log, &active, err))
		return -1;
	if (active.count) {
		if (apply(vhdx, log, &active, err))
			return -1;
		vmimg_disk_warn(disk,
			"the image was not closed: its log (entries: %" PRIu64
			") is replayed in memory, the file is left as it is",
			vhdx->log_entries);
		return 0;
	}
	vhdx->log = log->ours ? VHDX_LOG_TORN : VHDX_LOG_UNUSED;
	if (log->ours)
		vmimg_disk_warn(disk,
			"the image was not closed, and its log holds no whole entry: the tables "
			"are read as they were before it");
	return 0;
}

int vmimg_vhdx_replay(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;
	struct log log = { 0 };
	int result;

	if (vmimg_guid_is_nil(&vhdx->head.log))
		return 0;
	result = replay(disk, &log, err);
	free(log.ring);
	free(log.judged);
	return result ? vmimg_within(err, "log") : 0;
}

int vmimg_vhdx_replay_into(struct vmimg_vhdx *vhdx, struct vmimg_io *io, struct vmimg_error *err)
{
	return vmimg_overlay_apply(vhdx->io, io, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NTFS: the bitmap of clusters, which is the seventh file. Left alone when the volume is marked,
 * when the log was not closed (which fast start leaves so too), and when Windows is hibernated.
 */
#include <inttypes.h>
#include <string.h>
#include "inspect/fs.h"
#include "inspect/unused.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/zero.h"

#define LOG    2U /* numbers of files */
#define VOLUME 3U
#define BITMAP 6U

#define NAME        0x30U /* types of attributes */
#define INFORMATION 0x70U
#define DATA        0x80U

#define MARKS     0xc027U /* of a volume that must not be written */
#define LOG_CLEAN 0x0002U
#define NO_CLIENT 0xffffU
#define CHUNK     65536U

struct ntfs {
	struct vmimg_io *io;
	uint32_t cluster, record;
	uint64_t clusters, mft;
	uint8_t *bytes; /* a record, or a piece of the bitmap */
};

struct attribute {
	const uint8_t *at;
	size_t len;
};

static int corrupt(unsigned number, const char *what, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ECORRUPT, "file %u of NTFS: %s", number, what);
}

/* Puts back the last two bytes of each sector of a record, which hold a check number on disk. */
static bool undo_fixups(uint8_t *record, size_t size)
{
	size_t at = vmimg_get_le16(record + 4), count = vmimg_get_le16(record + 6);

	if (memcmp(record, "FILE", 4) || !count || at + 2 * count > size ||
		(count - 1) * 512 > size)
		return false;
	for (size_t i = 1; i < count; i++) {
		if (memcmp(record + 512 * i - 2, record + at, 2))
			return false;
		memcpy(record + 512 * i - 2, record + at + 2 * i, 2);
	}
	return true;
}

/* The first of these files' records lie together. */
static int read_record(struct ntfs *ntfs, unsigned number, struct vmimg_error *err)
{
	uint64_t at = ntfs->mft + (uint64_t)number * ntfs->record;

	if (vmimg_io_pread(ntfs->io, ntfs->bytes, ntfs->record, at, err))
		return -1;
	if (!undo_fixups(ntfs->bytes, ntfs->record) || !(ntfs->bytes[22] & 1) ||
		vmimg_get_le64(ntfs->bytes + 32))
		return corrupt(number, "its record makes no sense", err);
	return 0;
}

/* The attribute of that type without a name, which lies in the record that was read last. */
static int find(const struct ntfs *ntfs, unsigned number, uint32_t type, bool resident,
	struct attribute *found, struct vmimg_error *err)
{
	size_t at = vmimg_get_le16(ntfs->bytes + 20);

	while (at + 64 <= ntfs->record && vmimg_get_le32(ntfs->bytes + at) != UINT32_MAX) {
		const uint8_t *raw = ntfs->bytes + at;
		size_t len = vmimg_get_le32(raw + 4);

		if (len < 24 || len > ntfs->record - at)
			break;
		found->at = raw;
		found->len = len;
		if (vmimg_get_le32(raw) == type && !raw[9] && !raw[8] == resident &&
			(resident || (len >= 64 && !vmimg_get_le16(raw + 12))))
			return 0;
		at += len;
	}
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"file %u of NTFS has no attribute 0x%x of the usual kind", number, type);
}

static int value_of(const struct attribute *a, unsigned number, size_t least, const uint8_t **value,
	struct vmimg_error *err)
{
	size_t len = vmimg_get_le32(a->at + 16), at = vmimg_get_le16(a->at + 20);

	if (len < least || !vmimg_range_inside(at, len, a->len))
		return corrupt(number, "an attribute is too short", err);
	*value = a->at + at;
	return 0;
}

/* ---- content that lies in clusters ------------------------------------------------------- */

struct runs {
	const uint8_t *at, *end;
	uint64_t cluster, count; /* the run that was read last */
};

static uint64_t get_number(const uint8_t *at, unsigned len, bool is_signed)
{
	uint64_t value = is_signed && len && at[len - 1] & 0x80 ? UINT64_MAX : 0;

	while (len--)
		value = value << 8 | at[len];
	return value;
}

static int runs_of(
	const struct attribute *a, unsigned number, struct runs *runs, struct vmimg_error *err)
{
	size_t at = vmimg_get_le16(a->at + 32);

	if (vmimg_get_le64(a->at + 16) || at < 64 || at > a->len)
		return corrupt(number, "its list of runs makes no sense", err);
	*runs = (struct runs){ a->at + at, a->at + a->len, 0, 0 };
	return 0;
}

static int next_run(
	const struct ntfs *ntfs, unsigned number, struct runs *runs, struct vmimg_error *err)
{
	unsigned count_len, from_len;

	if (runs->at >= runs->end || !*runs->at)
		return corrupt(number, "its runs are fewer than it has bytes", err);
	count_len = *runs->at & 15;
	from_len = *runs->at >> 4;
	if (!count_len || count_len > 8 || !from_len || from_len > 8 ||
		count_len + from_len >= (size_t)(runs->end - runs->at))
		return corrupt(number, "a run makes no sense", err);
	runs->count = get_number(runs->at + 1, count_len, false);
	runs->cluster += get_number(runs->at + 1 + count_len, from_len, true);
	runs->at += 1 + count_len + from_len;
	if (!runs->count || !vmimg_range_inside(runs->cluster, runs->count, ntfs->clusters))
		return corrupt(number, "a run lies outside the volume", err);
	return 0;
}

/* ---- whether the volume is at rest ------------------------------------------------------- */

static int judge_marks(struct ntfs *ntfs, struct vmimg_error *err)
{
	struct attribute a;
	const uint8_t *value = NULL;

	if (read_record(ntfs, VOLUME, err) || find(ntfs, VOLUME, INFORMATION, true, &a, err) ||
		value_of(&a, VOLUME, 12, &value, err))
		return -1;
	if (vmimg_get_le16(value + 10) & MARKS)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"it is marked dirty (0x%x): check it in Windows (chkdsk /f)",
			vmimg_get_le16(value + 10));
	return 0;
}

/* A page that says how the log was left. False: it is none. An emptied log is all ones. */
static bool restart_page(const uint8_t *page, uint64_t *newest, bool *clean)
{
	size_t at = vmimg_get_le16(page + 24);
	uint64_t number;

	if (memcmp(page, "RSTR", 4) || at < 30 || at > 480)
		return false;
	number = vmimg_get_le64(page + at);
	if (number < *newest)
		return true;
	*newest = number;
	*clean = vmimg_get_le16(page + 28) < 2 &&
		(vmimg_get_le16(page + at + 14) & LOG_CLEAN ||
			vmimg_get_le16(page + at + 12) == NO_CLIENT);
	return true;
}

static int judge_log(struct ntfs *ntfs, struct vmimg_error *err)
{
	uint8_t pages[2][512];
	struct attribute a;
	struct runs runs;
	uint64_t newest = 0;
	bool clean = false;

	if (read_record(ntfs, LOG, err) || find(ntfs, LOG, DATA, false, &a, err) ||
		runs_of(&a, LOG, &runs, err) || next_run(ntfs, LOG, &runs, err))
		return -1;
	if (runs.count < vmimg_div_up(8192, ntfs->cluster))
		return corrupt(LOG, "it is in too many pieces", err);
	for (unsigned i = 0; i < 2; i++)
		if (vmimg_io_pread(ntfs->io, pages[i], sizeof(pages[i]),
			    runs.cluster * ntfs->cluster + i * 4096, err))
			return -1;
	if (vmimg_get_le64(pages[0]) == UINT64_MAX && vmimg_get_le64(pages[1]) == UINT64_MAX)
		return 0;
	if (restart_page(pages[0], &newest, &clean) + restart_page(pages[1], &newest, &clean) &&
		clean)
		return 0;
	return vmimg_fail(err, VMIMG_EREFUSED,
		"its log was not closed: shut Windows down wholly (shutdown /s /t 0)");
}

/* The file begins with "wake", or is zeroes, once the machine was started again. */
static int judge_hibernation(struct vmimg_io *io, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_fs_close) struct vmimg_fs *fs = vmimg_fs_open(io, err);
	struct vmimg_node node;
	char magic[4] = "";
	size_t got;
	bool found;

	if (!fs || vmimg_fs_find(fs, "/hiberfil.sys", &node, &found, err))
		return -1;
	if (!found)
		return 0;
	if (vmimg_fs_read(fs, &node, magic, sizeof(magic), 0, &got, err))
		return -1;
	if (vmimg_is_zero(magic, sizeof(magic)) || !memcmp(magic, "wake", 4) ||
		!memcmp(magic, "WAKE", 4))
		return 0;
	return vmimg_fail(err, VMIMG_EREFUSED,
		"Windows is hibernated: shut it down wholly (shutdown /s /t 0)");
}

/* ---- the bitmap -------------------------------------------------------------------------- */

static int add_runs(struct ntfs *ntfs, struct runs *runs, struct vmimg_unused_sink *sink,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bits = vmimg_alloc_buffer(CHUNK, err);
	uint64_t first = 0, clear = 0;

	if (!bits)
		return -1;
	while (first < ntfs->clusters) {
		uint64_t left;

		if (next_run(ntfs, BITMAP, runs, err))
			return -1;
		left = runs->count * ntfs->cluster;
		for (uint64_t at = runs->cluster * ntfs->cluster; left && first < ntfs->clusters;) {
			size_t step = (size_t)vmimg_min(left, CHUNK);
			uint64_t count = vmimg_min(step * UINT64_C(8), ntfs->clusters - first);

			if (vmimg_io_pread(ntfs->io, bits, step, at, err) ||
				vmimg_unused_add_bits(sink, bits, count, first * ntfs->cluster,
					ntfs->cluster, &clear, err))
				return -1;
			first += count;
			at += step;
			left -= step;
		}
	}
	return 0;
}

static int add_bitmap(struct ntfs *ntfs, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	static const uint8_t name[] = "$\0B\0i\0t\0m\0a\0p";
	struct attribute a;
	const uint8_t *value = NULL;
	struct runs runs;

	if (read_record(ntfs, BITMAP, err) || find(ntfs, BITMAP, NAME, true, &a, err) ||
		value_of(&a, BITMAP, 66 + sizeof(name), &value, err))
		return -1;
	if (value[64] != 7 || memcmp(value + 66, name, sizeof(name)))
		return corrupt(BITMAP, "it is not the bitmap", err);
	if (find(ntfs, BITMAP, DATA, false, &a, err) || runs_of(&a, BITMAP, &runs, err))
		return -1;
	if (vmimg_get_le64(a.at + 56) < vmimg_div_up(ntfs->clusters, 8))
		return corrupt(BITMAP, "it is too short for the volume", err);
	return add_runs(ntfs, &runs, sink, err);
}

/* Sizes are a count or, negative, a power of two. 0: impossible. */
static uint32_t size_of(uint8_t code, uint32_t unit)
{
	uint64_t size = code <= 0x80 ? (uint64_t)code * unit
		: code >= 0xe0      ? UINT64_C(1) << (256U - code)
				    : 0;

	return size && size <= UINT32_C(2097152) ? (uint32_t)size : 0;
}

static int read_boot(struct ntfs *ntfs, struct vmimg_error *err)
{
	uint8_t s[512];
	uint32_t sector;
	uint64_t size;

	if (vmimg_io_pread(ntfs->io, s, sizeof(s), 0, err))
		return -1;
	sector = vmimg_get_le16(s + 11);
	ntfs->cluster = size_of(s[13], sector);
	ntfs->record = ntfs->cluster ? size_of(s[64], ntfs->cluster) : 0;
	if (memcmp(s + 3, "NTFS    ", 8) || sector < 256 || sector > 4096 || ntfs->record < 512 ||
		ntfs->record > CHUNK || ntfs->record % 512)
		return vmimg_fail(err, VMIMG_ECORRUPT, "the boot sector of NTFS makes no sense");
	if (!vmimg_mul(vmimg_get_le64(s + 40), sector, &size) || size > vmimg_io_size(ntfs->io) ||
		!vmimg_mul(vmimg_get_le64(s + 48), ntfs->cluster, &ntfs->mft))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the file system is larger than where it lies, or its table outside");
	ntfs->clusters = size / ntfs->cluster;
	return 0;
}

int vmimg_unused_ntfs(struct vmimg_io *io, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_buffer(CHUNK, err);
	struct ntfs ntfs = { .io = io, .bytes = bytes };

	return !bytes || read_boot(&ntfs, err) || judge_marks(&ntfs, err) ||
			judge_log(&ntfs, err) || judge_hibernation(io, err) ||
			add_bitmap(&ntfs, sink, err)
		? -1
		: 0;
}

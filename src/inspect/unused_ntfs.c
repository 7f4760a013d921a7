/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NTFS: the bitmap of clusters, which is the seventh file. Left alone when the volume is marked,
 * when the log was not closed (which fast start leaves so too), and when Windows is hibernated.
 */
#include <inttypes.h>
#include <string.h>
#include "inspect/ntfs.h"
#include "inspect/unused.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/zero.h"

#define LOG    2U /* numbers of files */
#define VOLUME 3U
#define BITMAP 6U
#define NAME   0x30U /* type of an attribute */

#define MARKS     0xc027U /* of a volume that must not be written */
#define LOG_CLEAN 0x0002U
#define NO_CLIENT 0xffffU
#define CHUNK     65536U

static int corrupt(unsigned number, const char *what, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ECORRUPT, "file %u of NTFS: %s", number, what);
}

/* The first bytes of an attribute that has at least so many. */
static int read_attribute(struct vmimg_ntfs *ntfs, unsigned number, uint32_t type, void *buf,
	size_t len, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_ntfs_done) struct vmimg_ntfs_stream stream = { 0 };
	bool found;

	if (vmimg_ntfs_open_stream(ntfs, number, type, "", &stream, &found, err))
		return -1;
	if (!found || stream.size < len)
		return corrupt(number, "an attribute is missing, or too short", err);
	return vmimg_ntfs_read(ntfs, &stream, buf, len, 0, err);
}

/* ---- whether the volume is at rest ------------------------------------------------------- */

static int judge_marks(struct vmimg_ntfs *ntfs, struct vmimg_error *err)
{
	uint8_t value[12];

	if (read_attribute(ntfs, VOLUME, VMIMG_NTFS_INFO, value, sizeof(value), err))
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

static int judge_log(struct vmimg_ntfs *ntfs, struct vmimg_error *err)
{
	uint8_t pages[2][4096];
	uint64_t newest = 0;
	bool clean = false;

	if (read_attribute(ntfs, LOG, VMIMG_NTFS_DATA, pages, sizeof(pages), err))
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
static int judge_hibernation(struct vmimg_fs *fs, struct vmimg_error *err)
{
	struct vmimg_node node;
	char magic[4] = "";
	size_t got;
	bool found;

	if (vmimg_fs_find(fs, "/hiberfil.sys", &node, &found, err))
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

static int add_bits(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *bitmap,
	struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bits = vmimg_alloc_buffer(CHUNK, err);
	uint64_t clear = 0;

	if (!bits)
		return -1;
	for (uint64_t first = 0; first < ntfs->clusters; first += CHUNK * 8) {
		uint64_t count = vmimg_min(CHUNK * 8, ntfs->clusters - first);

		if (vmimg_ntfs_read(
			    ntfs, bitmap, bits, (size_t)vmimg_div_up(count, 8), first / 8, err) ||
			vmimg_unused_add_bits(sink, bits, count, first * ntfs->cluster,
				ntfs->cluster, &clear, err))
			return -1;
	}
	return 0;
}

static int add_bitmap(
	struct vmimg_ntfs *ntfs, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	static const uint8_t name[] = "$\0B\0i\0t\0m\0a\0p";
	VMIMG_AUTO(vmimg_ntfs_done) struct vmimg_ntfs_stream bitmap = { 0 };
	uint8_t key[66 + sizeof(name)];
	bool found;

	if (read_attribute(ntfs, BITMAP, NAME, key, sizeof(key), err))
		return -1;
	if (key[64] != 7 || memcmp(key + 66, name, sizeof(name)))
		return corrupt(BITMAP, "it is not the bitmap", err);
	if (vmimg_ntfs_open_stream(ntfs, BITMAP, VMIMG_NTFS_DATA, "", &bitmap, &found, err))
		return -1;
	if (!found || bitmap.unit || bitmap.valid < vmimg_div_up(ntfs->clusters, 8) ||
		bitmap.size < bitmap.valid)
		return corrupt(BITMAP, "it is too short for the volume", err);
	for (size_t i = 0; i < bitmap.count; i++)
		if (bitmap.runs[i].lcn == VMIMG_UNKNOWN)
			return corrupt(BITMAP, "it has holes", err);
	return add_bits(ntfs, &bitmap, sink, err);
}

int vmimg_unused_ntfs(struct vmimg_io *io, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_fs_close) struct vmimg_fs *fs = vmimg_ntfs_open(io, err);
	struct vmimg_ntfs *ntfs = (struct vmimg_ntfs *)fs;

	if (!fs)
		return -1;
	if (ntfs->clusters > vmimg_io_size(io) / ntfs->cluster)
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "the file system is larger than where it lies");
	return judge_marks(ntfs, err) || judge_log(ntfs, err) || judge_hibernation(fs, err) ||
			add_bitmap(ntfs, sink, err)
		? -1
		: 0;
}

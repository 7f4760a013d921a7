/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NTFS: the bitmap of clusters, which is the seventh file. Left alone when the volume is marked,
 * when the log was not closed (which fast start leaves so too), when Windows is hibernated, and
 * when there are shadow copies: what a file that was deleted since had in it stays where it was, in
 * clusters that are free, until they are written to.
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

#define MARKS     0xc027U /* of a volume that must not be written */
#define LOG_CLEAN 0x0002U
#define NO_CLIENT 0xffffU
#define CHUNK     65536U

#define SHADOW_HEAD       0x1e00U
#define SHADOW_BLOCK      16384U
#define SHADOW_ENTRY      128U
#define SHADOW_COPY       2U
#define MAX_SHADOW_BLOCKS 64U /* 64 copies are the most, and a block has 127 entries */

static int open_stream(struct vmimg_ntfs *ntfs, uint64_t number, uint32_t type, uint64_t least,
	struct vmimg_ntfs_stream *stream, struct vmimg_error *err)
{
	bool found;

	if (vmimg_ntfs_open_stream(ntfs, number, type, "", stream, &found, err))
		return -1;
	if (found && !stream->flags && stream->size >= least && stream->valid >= least)
		return 0;
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"file %" PRIu64 " of NTFS has no plain attribute 0x%x of %" PRIu64 " bytes", number,
		type, least);
}

/* ---- whether the volume is at rest ------------------------------------------------------- */

static int judge_marks(struct vmimg_ntfs *ntfs, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_ntfs_done) struct vmimg_ntfs_stream stream = { 0 };
	uint8_t marks[2];

	if (open_stream(ntfs, VOLUME, VMIMG_NTFS_INFO, 12, &stream, err) ||
		vmimg_ntfs_read(ntfs, &stream, marks, sizeof(marks), 10, err))
		return -1;
	if (vmimg_get_le16(marks) & MARKS)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"it is marked dirty (0x%x): check it in Windows (chkdsk /f)",
			vmimg_get_le16(marks));
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
	VMIMG_AUTO(vmimg_ntfs_done) struct vmimg_ntfs_stream stream = { 0 };
	uint8_t pages[2][512];
	uint64_t newest = 0;
	bool clean = false, first, second;

	if (open_stream(ntfs, LOG, VMIMG_NTFS_DATA, 8192, &stream, err))
		return -1;
	for (unsigned i = 0; i < 2; i++)
		if (vmimg_ntfs_read(ntfs, &stream, pages[i], sizeof(pages[i]), i * 4096, err))
			return -1;
	if (vmimg_get_le64(pages[0]) == UINT64_MAX && vmimg_get_le64(pages[1]) == UINT64_MAX)
		return 0;
	first = restart_page(pages[0], &newest, &clean);
	second = restart_page(pages[1], &newest, &clean);
	if ((first || second) && clean)
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

/* ---- shadow copies (libvshadow's "Volume Shadow Snapshot (VSS) format") -------------------- */

/* Every block of theirs begins with it. */
static const uint8_t shadow_mark[16] = { 0x6b, 0x87, 0x08, 0x38, 0x76, 0xc1, 0x48, 0x4e, 0xb7, 0xae,
	0x04, 0x04, 0x6e, 0x6c, 0xc7, 0x52 };

/* Whether a block of the catalogue has one; *next: where the catalogue goes on. */
static int look_for_shadows(
	struct vmimg_io *io, uint64_t *next, bool *found, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *block = vmimg_alloc_buffer(SHADOW_BLOCK, err);

	if (!block || vmimg_io_pread(io, block, SHADOW_BLOCK, *next, err))
		return -1;
	if (memcmp(block, shadow_mark, sizeof(shadow_mark)))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"its catalogue of shadow copies is not where it should be, at 0x%" PRIx64,
			*next);
	for (size_t at = SHADOW_ENTRY; at < SHADOW_BLOCK; at += SHADOW_ENTRY)
		*found |= vmimg_get_le64(block + at) == SHADOW_COPY;
	*next = vmimg_get_le64(block + 40);
	return 0;
}

static int judge_shadows(struct vmimg_io *io, struct vmimg_error *err)
{
	uint8_t head[128];
	uint64_t next;
	bool found = false;

	if (vmimg_io_pread(io, head, sizeof(head), SHADOW_HEAD, err))
		return -1;
	if (memcmp(head, shadow_mark, sizeof(shadow_mark)))
		return 0;
	next = vmimg_get_le64(head + 48);
	for (unsigned i = 0; next && !found && i < MAX_SHADOW_BLOCKS; i++)
		if (look_for_shadows(io, &next, &found, err))
			return -1;
	return found || next ? vmimg_fail(err, VMIMG_EREFUSED,
				       "it has shadow copies, of which much lies where it is free: "
				       "delete them first (vssadmin delete shadows /all)")
			     : 0;
}

/* ---- the bitmap -------------------------------------------------------------------------- */

/* The boot sector and the table of files are in use, or it is not the bitmap. */
static int judge_bitmap(
	struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *bitmap, struct vmimg_error *err)
{
	const uint64_t used[] = { 0, ntfs->mft.count ? ntfs->mft.runs[0].lcn : 0 };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(used); i++) {
		uint8_t bits;

		if (vmimg_ntfs_read(ntfs, bitmap, &bits, 1, used[i] / 8, err))
			return -1;
		if (!(bits >> used[i] % 8 & 1))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"cluster %" PRIu64 " of NTFS is said to be free", used[i]);
	}
	return 0;
}

static int add_bitmap(
	struct vmimg_ntfs *ntfs, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_ntfs_done) struct vmimg_ntfs_stream bitmap = { 0 };
	VMIMG_AUTO(free) uint8_t *bits = vmimg_alloc_buffer(CHUNK, err);
	uint64_t clear = 0, count;

	if (ntfs->clusters > vmimg_io_size(ntfs->io) / ntfs->cluster)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the file system (%" PRIu64 " clusters of %u) is larger than where it lies",
			ntfs->clusters, ntfs->cluster);
	if (!bits ||
		open_stream(ntfs, BITMAP, VMIMG_NTFS_DATA, vmimg_div_up(ntfs->clusters, 8), &bitmap,
			err) ||
		judge_bitmap(ntfs, &bitmap, err))
		return -1;
	for (uint64_t first = 0; first < ntfs->clusters; first += count) {
		count = vmimg_min(CHUNK * UINT64_C(8), ntfs->clusters - first);
		if (vmimg_ntfs_read(
			    ntfs, &bitmap, bits, (size_t)vmimg_div_up(count, 8), first / 8, err) ||
			vmimg_unused_add_bits(sink, bits, count, first * ntfs->cluster,
				ntfs->cluster, &clear, err))
			return -1;
	}
	return 0;
}

int vmimg_unused_ntfs(struct vmimg_io *io, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_fs_close) struct vmimg_fs *fs = vmimg_ntfs_open(io, err);
	struct vmimg_ntfs *ntfs = (struct vmimg_ntfs *)fs;

	if (!fs || judge_marks(ntfs, err) || judge_log(ntfs, err) || judge_hibernation(fs, err) ||
		judge_shadows(io, err))
		return -1;
	return add_bitmap(ntfs, sink, err);
}

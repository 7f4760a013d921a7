/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reparse points that are links ([MS-FSCC] 2.1.2): symbolic links and junctions of Windows, and the
 * links of its Linux subsystem. A target on a drive, "\??\C:\Users", is taken as one on this
 * volume: which letter it had is not known to it.
 */
#include <inttypes.h>
#include <string.h>
#include "inspect/ntfs.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/utf16.h"

#define MAX_REPARSE 16384U /* bytes, as Windows agrees to */

/* A target as the rest of the world spells it. In place. */
static void spell(char *target)
{
	char *from = target;

	if (!strncmp(from, "\\??\\", 4) || !strncmp(from, "\\\\?\\", 4))
		from += 4;
	if (((from[0] | 32) >= 'a' && (from[0] | 32) <= 'z') && from[1] == ':')
		from += 2;
	memmove(target, from, strlen(from) + 1);
	for (char *c = target; *c; c++)
		if (*c == '\\')
			*c = '/';
}

/* The target in the bytes of a reparse point, in fresh memory. */
static char *target_of(uint64_t number, const uint8_t *raw, size_t size, struct vmimg_error *err)
{
	uint32_t tag = vmimg_get_le32(raw);
	size_t names = tag == VMIMG_TAG_SYMLINK ? 20 : 16, at, len;
	char *target;

	if (tag == VMIMG_TAG_LX_LINK && size >= 12) {
		target = strndup((const char *)raw + 12, size - 12);
		if (!target)
			vmimg_fail_nomem(err);
		return target;
	}
	at = size >= 12 ? names + vmimg_get_le16(raw + 8) : size;
	len = size >= 12 ? vmimg_get_le16(raw + 10) : 0;
	if (!len || !vmimg_range_inside(at, len, size)) {
		vmimg_fail(err, VMIMG_ECORRUPT,
			"the link in MFT record %" PRIu64
			" is damaged: its target of %zu bytes at %zu lies outside its %zu",
			number, len, at, size);
		return NULL;
	}
	target = vmimg_utf16_decode(raw + at, len, false, err);
	if (target)
		spell(target);
	return target;
}

int vmimg_ntfs_readlink(struct vmimg_fs *fs, const struct vmimg_node *node, char *out, size_t cap,
	struct vmimg_error *err)
{
	struct vmimg_ntfs *ntfs = (struct vmimg_ntfs *)fs;
	VMIMG_AUTO(vmimg_ntfs_done) struct vmimg_ntfs_stream stream = { 0 };
	VMIMG_AUTO(free) uint8_t *raw = NULL;
	VMIMG_AUTO(free) char *target = NULL;
	bool found;

	if (vmimg_ntfs_open_stream(ntfs, node->id, VMIMG_NTFS_REPARSE, "", &stream, &found, err))
		return -1;
	if (!found || stream.size < 8 || stream.size > MAX_REPARSE)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the link in MFT record %" PRIu64
			" is damaged: it has a reparse point of %" PRIu64 " bytes",
			node->id, found ? stream.size : 0);
	raw = vmimg_alloc_buffer((size_t)stream.size, err);
	if (!raw || vmimg_ntfs_read(ntfs, &stream, raw, (size_t)stream.size, 0, err))
		return -1;
	target = target_of(node->id, raw, (size_t)stream.size, err);
	if (!target)
		return -1;
	strncpy(out, target, cap - 1);
	out[cap - 1] = '\0';
	return 0;
}

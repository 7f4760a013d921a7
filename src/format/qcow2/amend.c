/* SPDX-License-Identifier: Apache-2.0 */
/* How an image is kept, changed by one write of the header: its version, the names in it, lazy
 * refcounts, and the size. */
#include <inttypes.h>
#include <string.h>
#include "disk/edit.h"
#include "format/qcow2/change.h"
#include "util/num.h"

const struct vmimg_option_spec vmimg_qcow2_amendable[] = {
	{ "compat", VMIMG_OPTION_CHOICE, "1.1|v3|0.10|v2", "the version: from 0.10 to 1.1 only" },
	{ "size", VMIMG_OPTION_SIZE, NULL, "the guest's, as resize does" },
	{ "backing_file", VMIMG_OPTION_TEXT, NULL, "another backing file; empty: none" },
	{ "backing_fmt", VMIMG_OPTION_TEXT, NULL, "the backing file's format" },
	{ "data_file", VMIMG_OPTION_TEXT, NULL, "another name of the external data file" },
	{ "data_file_raw", VMIMG_OPTION_BOOL, NULL,
		"off: the data file need not be the disk as it is any more" },
	{ "lazy_refcounts", VMIMG_OPTION_BOOL, NULL, "refcounts need not be written at once" },
	{ 0 },
};

/* ---- version 2 to 3 ---- */

/* Bit 0 has no meaning in version 2, and is the zero flag in version 3. */
static int check_l2(struct vmimg_qcow2_change *c, uint64_t at, uint8_t *l2, struct vmimg_error *err)
{
	if (vmimg_qcow2_read_l2(c, at, l2, err))
		return -1;
	for (uint32_t i = 0; i < c->q->cluster; i += 8) {
		uint64_t entry = vmimg_get_be64(l2 + i);

		if (!(entry & QCOW2_COMPRESSED) && entry & QCOW2_ZERO)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"the L2 entry at 0x%" PRIx64
				" has a bit set that would mean zeroes in compat=1.1: convert it",
				at + i);
	}
	return 0;
}

static int check_tree(
	struct vmimg_qcow2_change *c, uint64_t at, uint32_t entries, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *l2 = vmimg_alloc_buffer(c->q->cluster, err);
	VMIMG_AUTO(free) uint8_t *l1 = NULL;

	if (entries > QCOW2_MAX_L1_ENTRIES)
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "an L1 table of %" PRIu32 " entries", entries);
	if (!l2 || vmimg_qcow2_read_l1(c, at, entries, &l1, err))
		return -1;
	for (uint64_t i = 0; i < entries; i++) {
		uint64_t table = vmimg_get_be64(l1 + i * 8) & QCOW2_OFFSET;

		if (table && check_l2(c, table, l2, err))
			return -1;
	}
	return 0;
}

/* Snapshots get the fields that version 3 asks for. */
static int upgrade(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = c->q;

	if (check_tree(c, q->header.l1_offset, q->header.l1_size, err))
		return -1;
	for (size_t i = 0; i < q->snapshot_count; i++)
		if (check_tree(
			    c, q->snapshots[i].entry.l1_offset, q->snapshots[i].entry.l1_size, err))
			return -1;
	c->header.version = 3;
	c->new_head = true;
	return q->snapshot_count ? vmimg_qcow2_write_snapshots(c, NULL, NULL, err) : 0;
}

static int set_version(
	struct vmimg_qcow2_change *c, const struct vmimg_options *options, struct vmimg_error *err)
{
	const char *compat = vmimg_options_text(options, "compat", NULL);
	uint32_t wanted = !compat                                 ? c->header.version
		: !strcmp(compat, "1.1") || !strcmp(compat, "v3") ? 3
								  : 2;

	if (wanted == c->header.version)
		return 0;
	return wanted == 3 ? upgrade(c, err)
			   : vmimg_fail(err, VMIMG_EUNSUPPORTED,
				     "compat=0.10 cannot be made of compat=1.1 in place: convert "
				     "it (-o compat=0.10)");
}

/* ---- the rest ---- */

static int set_flags(
	struct vmimg_qcow2_change *c, const struct vmimg_options *options, struct vmimg_error *err)
{
	bool lazy = c->header.compatible & QCOW2_COMPATIBLE_LAZY;
	bool raw = c->header.autoclear & QCOW2_AUTOCLEAR_RAW_DATA;

	if (vmimg_options_bool(options, "data_file_raw", raw) && !raw)
		return vmimg_fail(
			err, VMIMG_EUNSUPPORTED, "data_file_raw cannot be set on existing images");
	if (!vmimg_options_bool(options, "data_file_raw", raw))
		c->header.autoclear &= ~QCOW2_AUTOCLEAR_RAW_DATA;
	lazy = vmimg_options_bool(options, "lazy_refcounts", lazy);
	if (lazy && c->header.version < 3)
		return vmimg_fail(err, VMIMG_EINVAL, "lazy_refcounts needs compat=1.1");
	c->header.compatible &= ~QCOW2_COMPATIBLE_LAZY;
	c->header.compatible |= lazy ? QCOW2_COMPATIBLE_LAZY : 0;
	return 0;
}

static int set_names(
	struct vmimg_qcow2_change *c, const struct vmimg_options *options, struct vmimg_error *err)
{
	const char *backing = vmimg_options_text(options, "backing_file", NULL);
	const char *format = vmimg_options_text(options, "backing_fmt", NULL);
	const char *data = vmimg_options_text(options, "data_file", NULL);

	if (data && !c->q->external)
		return vmimg_fail(err, VMIMG_EINVAL,
			"data_file can only be set for images that use an external data file");
	c->new_head = c->new_head || backing || format || data;
	c->data_name = data ? data : c->data_name;
	c->backing_name = !backing ? c->backing_name : *backing ? backing : NULL;
	/* the format stated before is of the file before */
	if (format || backing)
		c->backing_format = format;
	return vmimg_qcow2_check_names(c, err);
}

static int act(
	struct vmimg_qcow2_change *c, const struct vmimg_options *options, struct vmimg_error *err)
{
	uint64_t size = vmimg_options_size(options, "size", c->header.size);

	if (set_version(c, options, err) || set_flags(c, options, err) ||
		set_names(c, options, err))
		return -1;
	if (size != c->header.size &&
		(vmimg_qcow2_check_resize(c->disk, size, err) ||
			vmimg_qcow2_change_size(c, size, err)))
		return -1;
	return vmimg_qcow2_change_commit(c, err);
}

int vmimg_qcow2_amend(
	struct vmimg_disk *disk, const struct vmimg_options *options, struct vmimg_error *err)
{
	struct vmimg_qcow2_change c;
	int failed = vmimg_qcow2_change_begin(&c, disk, err);

	if (!failed)
		failed = act(&c, options, err) || vmimg_qcow2_give_back(&c, err);
	vmimg_qcow2_change_done(&c);
	return failed ? -1 : 0;
}

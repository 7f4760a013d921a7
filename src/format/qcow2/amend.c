/* SPDX-License-Identifier: Apache-2.0 */
/* How an image is kept: the names in it, lazy refcounts and the size, the width of refcounts, and
 * its version. Each step is made by one write of the header, and leaves an image with the same
 * content. */
#include <inttypes.h>
#include <string.h>
#include "disk/edit.h"
#include "format/qcow2/amend.h"
#include "util/num.h"

const struct vmimg_option_spec vmimg_qcow2_amendable[] = {
	{ "compat", VMIMG_OPTION_CHOICE, "1.1|v3|0.10|v2",
		"the version; to 0.10 only what that can say" },
	{ "size", VMIMG_OPTION_SIZE, NULL, "the guest's, as resize does" },
	{ "backing_file", VMIMG_OPTION_TEXT, NULL, "another backing file; empty: none" },
	{ "backing_fmt", VMIMG_OPTION_TEXT, NULL, "the backing file's format" },
	{ "data_file", VMIMG_OPTION_TEXT, NULL, "another name of the external data file" },
	{ "data_file_raw", VMIMG_OPTION_BOOL, NULL,
		"off: the data file need not be the disk as it is any more" },
	{ "lazy_refcounts", VMIMG_OPTION_BOOL, NULL, "refcounts need not be written at once" },
	{ "refcount_bits", VMIMG_OPTION_SIZE, NULL, "1 to 64, a power of 2" },
	{ 0 },
};

/* What is asked for. */
struct wish {
	const struct vmimg_options *options;
	uint32_t version;
	unsigned order; /* of refcounts */
};

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
		c->backing_format = vmimg_qcow2_format_name(format);
	return vmimg_qcow2_check_names(c, err);
}

/* ---- steps, each a change that is made as a whole ---- */

static int change_rest(
	struct vmimg_qcow2_change *c, const struct wish *wish, struct vmimg_error *err)
{
	uint64_t size = vmimg_options_size(wish->options, "size", c->header.size);

	if ((wish->version > c->header.version && vmimg_qcow2_upgrade(c, err)) ||
		set_flags(c, wish->options, err) || set_names(c, wish->options, err))
		return -1;
	if (size != c->header.size &&
		(vmimg_qcow2_check_resize(c->disk, size, err) ||
			vmimg_qcow2_change_size(c, size, err)))
		return -1;
	return 0;
}

static int change_down(
	struct vmimg_qcow2_change *c, const struct wish *wish, struct vmimg_error *err)
{
	(void)wish;
	return vmimg_qcow2_downgrade(c, err);
}

static int make_change(struct vmimg_disk *disk, const struct wish *wish,
	int (*step)(struct vmimg_qcow2_change *, const struct wish *, struct vmimg_error *),
	struct vmimg_error *err)
{
	struct vmimg_qcow2_change c;
	int failed = vmimg_qcow2_change_begin(&c, disk, err);

	if (!failed)
		failed = step(&c, wish, err) || vmimg_qcow2_change_commit(&c, err) ||
			vmimg_qcow2_give_back(&c, err);
	vmimg_qcow2_change_done(&c);
	return failed ? -1 : 0;
}

/* What is known of the disk is out of date after a step: then it is opened anew. */
static struct vmimg_disk *open_anew(
	struct vmimg_disk *disk, struct vmimg_disk **opened, struct vmimg_error *err)
{
	struct vmimg_open options = { .format = "qcow2", .alone = true };

	vmimg_disk_close(*opened);
	return *opened = vmimg_disk_open(disk->io, &options, err);
}

/* ---- the wish ---- */

static int read_wish(struct wish *wish, const struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *h = &vmimg_qcow2_of(disk)->header;
	const char *compat = vmimg_options_text(wish->options, "compat", NULL);
	uint64_t bits = vmimg_options_size(
		wish->options, "refcount_bits", UINT64_C(1) << h->refcount_order);

	wish->version = !compat                                   ? h->version
		: !strcmp(compat, "1.1") || !strcmp(compat, "v3") ? 3
								  : 2;
	if (!bits || bits > 64 || bits & (bits - 1))
		return vmimg_fail(err, VMIMG_EINVAL,
			"Refcount width must be a power of two and may not exceed 64 bits");
	wish->order = vmimg_log2(bits);
	if (wish->version < 3 && bits != 16)
		return vmimg_fail(err, VMIMG_EINVAL,
			"Refcount widths other than 16 bits require compatibility level 1.1 or "
			"above (use compat=1.1 or greater)");
	if (wish->version < 3 && vmimg_options_bool(wish->options, "lazy_refcounts", false))
		return vmimg_fail(err, VMIMG_EINVAL,
			"Lazy refcounts only supported with compatibility level 1.1 and above "
			"(use compat=1.1 or greater)");
	return wish->version < h->version
		? vmimg_qcow2_check_downgrade(
			  disk, vmimg_options_size(wish->options, "size", h->size), err)
		: 0;
}

/* Whether there is more to do than the width of refcounts, and a lower version. */
static bool asks_more(const struct wish *wish, const struct vmimg_qcow2_header *h)
{
	for (size_t i = 0; i < wish->options->count; i++)
		if (strcmp(wish->options->items[i].key, "compat") != 0 &&
			strcmp(wish->options->items[i].key, "refcount_bits") != 0)
			return true;
	return wish->version > h->version;
}

int vmimg_qcow2_amend(
	struct vmimg_disk *disk, const struct vmimg_options *options, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header old = vmimg_qcow2_of(disk)->header;
	struct wish wish = { .options = options };
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *opened = NULL;
	struct vmimg_disk *now = disk;

	if (read_wish(&wish, disk, err))
		return -1;
	if (asks_more(&wish, &old)) {
		if (make_change(disk, &wish, change_rest, err) ||
			vmimg_qcow2_settle_size(
				disk, vmimg_options_size(options, "size", old.size), err) ||
			!(now = open_anew(disk, &opened, err)))
			return -1;
	}
	if (wish.order != old.refcount_order &&
		(vmimg_qcow2_set_width(now, wish.order, err) ||
			!(now = open_anew(disk, &opened, err))))
		return -1;
	return wish.version < old.version ? make_change(now, &wish, change_down, err) : 0;
}

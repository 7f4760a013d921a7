/* SPDX-License-Identifier: Apache-2.0 */
/* One logical volume as an io: its segments, each striped over one place or several. */
#include "inspect/lvm_volume.h"
#include <inttypes.h>
#include <string.h>
#include "util/num.h"
#include "util/text.h"

#define SECTOR       512U
#define MAX_SEGMENTS 65536U
#define MAX_STRIPES  128U

struct stripe {
	struct vmimg_io *io;
	uint64_t at;
};

struct segment {
	uint64_t first, len;  /* bytes of the volume */
	uint64_t step;        /* bytes of a stripe; len: only one */
	size_t stripe, count; /* which of the stripes are its */
};

struct volume {
	struct vmimg_io io;
	struct segment *segments;
	struct stripe *stripes; /* each holds a reference */
	size_t count, cap, stripe_count, stripe_cap;
};

static int volume_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	struct volume *volume = (struct volume *)io;
	char *to = buf;

	while (len) {
		size_t low = 0, high = volume->count;
		uint64_t within, row;
		const struct segment *s;
		const struct stripe *stripe;
		size_t part;

		while (high - low > 1) {
			size_t middle = (low + high) / 2;

			*(volume->segments[middle].first <= at ? &low : &high) = middle;
		}
		s = &volume->segments[low];
		within = at - s->first;
		row = within / s->step;
		stripe = &volume->stripes[s->stripe + row % s->count];
		part = (size_t)vmimg_min(
			vmimg_min(len, s->step - within % s->step), s->len - within);
		if (vmimg_io_pread(stripe->io, to, part,
			    stripe->at + row / s->count * s->step + within % s->step, err))
			return -1;
		to += part;
		at += part;
		len -= part;
	}
	return 0;
}

static void volume_close(struct vmimg_io *io)
{
	struct volume *volume = (struct volume *)io;

	for (size_t i = 0; i < volume->stripe_count; i++)
		vmimg_io_unref(volume->stripes[i].io);
	free(volume->segments);
	free(volume->stripes);
	free(volume);
}

static const struct vmimg_io_ops volume_ops = { .pread = volume_pread, .close = volume_close };

/* ---- from the text ----------------------------------------------------------------------- */

/* Identities in the text have hyphens: 6-4-4-4-4-4-6. */
static bool same_id(const char *id, const char *text)
{
	size_t n = 0;

	for (; text && *text; text++)
		if (*text != '-' && (n == 32 || id[n++] != *text))
			return false;
	return n == 32;
}

/* A physical volume of the disk by its name in the group, and where extents begin on it. */
static int find_pv(const struct vmimg_lvm_pv *pvs, size_t count, const struct vmimg_lvm_node *group,
	const char *name, struct vmimg_io **io, uint64_t *start, struct vmimg_error *err)
{
	const struct vmimg_lvm_node *pv =
		vmimg_lvm_find(vmimg_lvm_find(group, "physical_volumes"), name);
	const char *id = vmimg_lvm_string(pv, "id");
	char shown[60];

	for (size_t i = 0; i < count; i++) {
		if (!same_id(pvs[i].id, id))
			continue;
		*io = pvs[i].io;
		if (!vmimg_mul(vmimg_lvm_number(pv, "pe_start"), SECTOR, start))
			return vmimg_fail(err, VMIMG_ECORRUPT, "extents begin past the end");
		return 0;
	}
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"a part of it is on '%s', which is not on this disk",
		vmimg_escape(shown, sizeof(shown), name, strlen(name)));
}

static int add_stripes(struct volume *volume, struct segment *s, const struct vmimg_lvm_pv *pvs,
	size_t count, const struct vmimg_lvm_node *group, const struct vmimg_lvm_node *node,
	uint64_t extent, struct vmimg_error *err)
{
	const struct vmimg_lvm_node *item = vmimg_lvm_find(node, "stripes");
	uint64_t rows = vmimg_div_up(s->len, s->step), each;

	each = vmimg_div_up(rows, s->count) * s->step;
	if (s->count == 1)
		each = s->len;
	item = item ? item->first : NULL;
	if (vmimg_grow_array(&volume->stripes, &volume->stripe_cap, s->stripe + s->count,
		    sizeof(*volume->stripes), err))
		return -1;
	for (size_t i = 0; i < s->count; i++, item = item->next->next) {
		struct stripe *stripe = &volume->stripes[volume->stripe_count];
		struct vmimg_io *io = NULL;
		uint64_t start = 0, at;

		if (!item || !item->text || !item->next)
			return vmimg_fail(err, VMIMG_ECORRUPT, "a segment has too few stripes");
		if (find_pv(pvs, count, group, item->text, &io, &start, err))
			return -1;
		if (!vmimg_mul(item->next->number, extent, &at) || !vmimg_add(at, start, &at) ||
			!vmimg_range_inside(at, each, vmimg_io_size(io)))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"a segment reaches past the end of its physical volume");
		stripe->io = vmimg_io_ref(io);
		stripe->at = at;
		volume->stripe_count++;
	}
	return 0;
}

/* Segments come in order and leave nothing out. */
static int add_segment(struct volume *volume, const struct vmimg_lvm_pv *pvs, size_t count,
	const struct vmimg_lvm_node *group, const struct vmimg_lvm_node *node, uint64_t extent,
	struct vmimg_error *err)
{
	const char *type = vmimg_lvm_string(node, "type");
	uint64_t first, len, stripes = vmimg_lvm_number(node, "stripe_count"), size;
	struct segment *s;
	char shown[60];

	if (!type || strcmp(type, "striped"))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a logical volume of type '%s' is not seen through here",
			type ? vmimg_escape(shown, sizeof(shown), type, strlen(type)) : "");
	if (volume->count >= MAX_SEGMENTS || !stripes || stripes > MAX_STRIPES)
		return vmimg_fail(err, VMIMG_ELIMIT, "too many segments or stripes");
	if (!vmimg_mul(vmimg_lvm_number(node, "start_extent"), extent, &first) ||
		!vmimg_mul(vmimg_lvm_number(node, "extent_count"), extent, &len) || !len ||
		first != vmimg_io_size(&volume->io) || !vmimg_add(first, len, &size) ||
		size > INT64_MAX ||
		!vmimg_mul(vmimg_lvm_number(node, "stripe_size"), SECTOR, &size) ||
		(stripes > 1 && !size))
		return vmimg_fail(err, VMIMG_ECORRUPT, "its segments make no sense");
	if (vmimg_grow_array(&volume->segments, &volume->cap, volume->count + 1, sizeof(*s), err))
		return -1;
	s = &volume->segments[volume->count++];
	*s = (struct segment){ first, len, stripes > 1 ? size : len, volume->stripe_count,
		(size_t)stripes };
	atomic_init(&volume->io.size, first + len);
	return add_stripes(volume, s, pvs, count, group, node, extent, err);
}

struct vmimg_io *vmimg_lvm_volume_open(const struct vmimg_lvm_pv *pvs, size_t count,
	const struct vmimg_lvm_node *group, const struct vmimg_lvm_node *node,
	struct vmimg_error *err)
{
	struct volume *volume = vmimg_new(struct volume, err);
	uint64_t extent = 0;
	int failed = 0;

	if (!volume || vmimg_io_init(&volume->io, &volume_ops, NULL, err)) {
		free(volume);
		return NULL;
	}
	if (!vmimg_mul(vmimg_lvm_number(group, "extent_size"), SECTOR, &extent))
		failed = vmimg_fail(err, VMIMG_ECORRUPT, "its extents are too large");
	for (node = node->first; node && !failed; node = node->next)
		if (node->first && vmimg_lvm_find(node, "extent_count"))
			failed = add_segment(volume, pvs, count, group, node, extent, err);
	if (!failed && !volume->count)
		failed = vmimg_fail(err, VMIMG_ECORRUPT, "it has no segments");
	if (!failed)
		return &volume->io;
	vmimg_io_unref(&volume->io);
	return NULL;
}

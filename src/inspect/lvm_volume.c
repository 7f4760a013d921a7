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
#define MAX_PLACES   256U /* physical volumes of a group */

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

/* Once for all volumes: a group may name many, and a volume each of them often. Those after the
 * first MAX_PLACES are on other disks. */
int vmimg_lvm_find_ground(const struct vmimg_lvm_pv *pvs, size_t count,
	const struct vmimg_lvm_node *group, struct vmimg_lvm_ground *ground,
	struct vmimg_error *err)
{
	const struct vmimg_lvm_node *pv = vmimg_lvm_find(group, "physical_volumes");

	*ground = (struct vmimg_lvm_ground){ 0 };
	if (!vmimg_mul(vmimg_lvm_number(group, "extent_size"), SECTOR, &ground->extent))
		ground->extent = UINT64_MAX; /* no segment has so many bytes */
	ground->places = vmimg_alloc_array(MAX_PLACES, sizeof(*ground->places), err);
	if (!ground->places)
		return -1;
	for (pv = pv ? pv->first : NULL; pv && ground->count < MAX_PLACES; pv = pv->next) {
		struct vmimg_lvm_place *place = &ground->places[ground->count++];
		const char *id = vmimg_lvm_string(pv, "id");

		place->name = pv->key;
		for (size_t i = 0; i < count && !place->io; i++)
			place->io = same_id(pvs[i].id, id) ? pvs[i].io : NULL;
		if (!vmimg_mul(vmimg_lvm_number(pv, "pe_start"), SECTOR, &place->start))
			place->start = UINT64_MAX;
	}
	return 0;
}

static int find_place(const struct vmimg_lvm_ground *ground, const char *name,
	const struct vmimg_lvm_place **place, struct vmimg_error *err)
{
	char shown[60];
	size_t i = 0;

	while (i < ground->count && strcmp(ground->places[i].name, name))
		i++;
	*place = &ground->places[i];
	if (i < ground->count && (*place)->io)
		return 0;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"a part of it is on '%s', which is not on this disk",
		vmimg_escape(shown, sizeof(shown), name, strlen(name)));
}

static int add_stripes(struct volume *volume, struct segment *s,
	const struct vmimg_lvm_ground *ground, const struct vmimg_lvm_node *node,
	struct vmimg_error *err)
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
		const struct vmimg_lvm_place *place = NULL;
		uint64_t at;

		if (!item || !item->text || !item->next)
			return vmimg_fail(err, VMIMG_ECORRUPT, "a segment has too few stripes");
		if (find_place(ground, item->text, &place, err))
			return -1;
		if (!vmimg_mul(item->next->number, ground->extent, &at) ||
			!vmimg_add(at, place->start, &at) ||
			!vmimg_range_inside(at, each, vmimg_io_size(place->io)))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"a segment reaches past the end of its physical volume");
		stripe->io = vmimg_io_ref(place->io);
		stripe->at = at;
		volume->stripe_count++;
	}
	return 0;
}

/* Segments come in order and leave nothing out. */
static int add_segment(struct volume *volume, const struct vmimg_lvm_ground *ground,
	const struct vmimg_lvm_node *node, struct vmimg_error *err)
{
	const char *type = vmimg_lvm_string(node, "type");
	uint64_t first, len, stripes = vmimg_lvm_number(node, "stripe_count"), size;
	uint64_t extent = ground->extent;
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
	return add_stripes(volume, s, ground, node, err);
}

struct vmimg_io *vmimg_lvm_volume_open(const struct vmimg_lvm_ground *ground,
	const struct vmimg_lvm_node *node, struct vmimg_error *err)
{
	struct volume *volume = vmimg_new(struct volume, err);
	int failed = 0;

	if (!volume || vmimg_io_init(&volume->io, &volume_ops, NULL, err)) {
		free(volume);
		return NULL;
	}
	for (node = node->first; node && !failed; node = node->next)
		if (node->first && vmimg_lvm_find(node, "extent_count"))
			failed = add_segment(volume, ground, node, err);
	if (!failed && !volume->count)
		failed = vmimg_fail(err, VMIMG_ECORRUPT, "it has no segments");
	if (!failed)
		return &volume->io;
	vmimg_io_unref(&volume->io);
	return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Labels, areas of metadata, and which text of a group is the newest. */
#include "inspect/lvm.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>
#include "inspect/lvm_text.h"
#include "inspect/lvm_volume.h"
#include "util/bytes.h"
#include "util/num.h"

#define SECTOR      512U
#define AREA_HEAD   512U                /* a header, before the ring */
#define MAX_TEXT    (UINT32_C(4) << 20) /* of all groups of a disk; nodes take 20 times as much */
#define MAX_VOLUMES 1024U               /* of a disk: physical ones, and logical ones */
#define CRC_START   0xf597a6cfU
#define ID          32U /* letters of an identity, in which the text has hyphens besides */

struct group {
	char *bytes;
	struct vmimg_lvm_text *text;
	const struct vmimg_lvm_node *section;
	uint64_t version;
	uint32_t len, sum; /* of the text */
};

struct vmimg_lvm {
	struct vmimg_lvm_pv *pvs;
	struct group *groups;
	size_t pv_count, pv_cap, group_count, group_cap;
	uint64_t read; /* bytes of text */
	size_t listed; /* logical volumes */
};

struct vmimg_lvm *vmimg_lvm_new(struct vmimg_error *err)
{
	return vmimg_new(struct vmimg_lvm, err);
}

static void group_done(struct group *group)
{
	vmimg_lvm_text_free(group->text);
	free(group->bytes);
}

void vmimg_lvm_free(struct vmimg_lvm *lvm)
{
	for (size_t i = 0; lvm && i < lvm->pv_count; i++)
		vmimg_io_unref(lvm->pvs[i].io);
	for (size_t i = 0; lvm && i < lvm->group_count; i++)
		group_done(&lvm->groups[i]);
	if (lvm) {
		free(lvm->pvs);
		free(lvm->groups);
	}
	free(lvm);
}

/* ---- groups ------------------------------------------------------------------------------ */

/* The one section of the text that is a group; other keys beside it tell who wrote it. */
static const struct vmimg_lvm_node *group_section(const struct vmimg_lvm_text *text)
{
	const struct vmimg_lvm_node *node = vmimg_lvm_root(text)->first;

	while (node && !(vmimg_lvm_string(node, "id") && vmimg_lvm_number(node, "extent_size")))
		node = node->next;
	return node;
}

/* Takes over the group. The newest text of each identity is kept. */
static int add_group(struct vmimg_lvm *lvm, struct group *group, struct vmimg_error *err)
{
	const char *id = vmimg_lvm_string(group->section, "id");

	for (size_t i = 0; i < lvm->group_count; i++) {
		struct group *known = &lvm->groups[i], older = *known;

		if (strcmp(vmimg_lvm_string(known->section, "id"), id))
			continue;
		if (group->version > known->version) {
			*known = *group;
			*group = older;
		}
		group_done(group);
		return 0;
	}
	if (vmimg_grow_array(
		    &lvm->groups, &lvm->group_cap, lvm->group_count + 1, sizeof(*group), err)) {
		group_done(group);
		return -1;
	}
	lvm->groups[lvm->group_count++] = *group;
	return 0;
}

/* The text at offset of a ring, which may go on at its beginning, behind the header. */
static int read_ring(struct vmimg_io *io, uint64_t area, uint64_t size, uint64_t offset, char *out,
	size_t len, struct vmimg_error *err)
{
	size_t first = (size_t)vmimg_min(len, size - offset);

	if (vmimg_io_pread(io, out, first, area + offset, err))
		return -1;
	return first < len ? vmimg_io_pread(io, out + first, len - first, area + AREA_HEAD, err)
			   : 0;
}

/* All physical volumes of a group have the same text. */
static bool is_known(const struct vmimg_lvm *lvm, uint64_t len, uint32_t sum)
{
	for (size_t i = 0; i < lvm->group_count; i++)
		if (lvm->groups[i].len == len && lvm->groups[i].sum == sum)
			return true;
	return false;
}

static int read_text(struct vmimg_lvm *lvm, struct vmimg_io *io, uint64_t area, const uint8_t *head,
	struct vmimg_error *err)
{
	uint64_t size = vmimg_get_le64(head + 32), offset = vmimg_get_le64(head + 40);
	uint64_t len = vmimg_get_le64(head + 48);
	struct group group = { .sum = vmimg_get_le32(head + 56) };
	uLong sum;

	if (!vmimg_range_inside(area, size, vmimg_io_size(io)) || size <= AREA_HEAD ||
		offset < AREA_HEAD || offset >= size || len > size - AREA_HEAD || len > MAX_TEXT)
		return vmimg_fail(err, VMIMG_ECORRUPT, "the metadata of LVM lies outside its area");
	if (is_known(lvm, len, group.sum))
		return 0;
	lvm->read += len;
	if (lvm->read > MAX_TEXT)
		return vmimg_fail(
			err, VMIMG_ELIMIT, "more than %u bytes of LVM's metadata", MAX_TEXT);
	group.len = (uint32_t)len;
	group.bytes = vmimg_alloc_array(1, (size_t)len + 1, err);
	if (!group.bytes || read_ring(io, area, size, offset, group.bytes, (size_t)len, err)) {
		group_done(&group);
		return -1;
	}
	sum = ~crc32(~CRC_START & 0xffffffffU, (const Bytef *)group.bytes, (uInt)len);
	if ((uint32_t)sum != group.sum) {
		group_done(&group);
		return vmimg_fail(err, VMIMG_ECORRUPT, "the checksum of LVM's metadata is wrong");
	}
	group.text = vmimg_lvm_parse(group.bytes, (size_t)len, err);
	group.section = group.text ? group_section(group.text) : NULL;
	if (!group.section) {
		if (group.text)
			vmimg_fail(err, VMIMG_ECORRUPT, "the metadata of LVM has no volume group");
		group_done(&group);
		return -1;
	}
	group.version = vmimg_lvm_number(group.section, "seqno");
	return add_group(lvm, &group, err);
}

/* An area that holds no text, or is told to be left alone, is none. */
static int read_area(
	struct vmimg_lvm *lvm, struct vmimg_io *io, uint64_t area, struct vmimg_error *err)
{
	uint8_t head[64];

	if (vmimg_io_pread(io, head, sizeof(head), area, err))
		return -1;
	if (memcmp(head + 4, " LVM2 x[5A%r0N*>", 16) || vmimg_get_le64(head + 24) != area)
		return vmimg_fail(err, VMIMG_ECORRUPT, "an area of LVM's metadata has no header");
	if (!vmimg_get_le64(head + 40) || vmimg_get_le32(head + 60) & 1)
		return 0;
	return read_text(lvm, io, area, head, err);
}

/* ---- labels ------------------------------------------------------------------------------ */

static int find_label(struct vmimg_io *io, uint8_t *sector, struct vmimg_error *err)
{
	for (uint64_t i = 0; i < 4; i++) {
		if (vmimg_io_pread(io, sector, SECTOR, i * SECTOR, err))
			return -1;
		if (!memcmp(sector, "LABELONE", 8) && !memcmp(sector + 24, "LVM2 001", 8) &&
			vmimg_get_le32(sector + 20) <= SECTOR - ID - 24)
			return 0;
	}
	/* a second line of defence: it is not recognised otherwise */
	return vmimg_fail(err, VMIMG_ECORRUPT, "there is no label of LVM");
}

/* Lists of places end with a zero; those of data come first. */
static int read_areas(struct vmimg_lvm *lvm, struct vmimg_io *io, const uint8_t *sector, size_t at,
	struct vmimg_error *err)
{
	struct vmimg_error first = { 0 };
	bool areas = false, any = false;

	for (; at + 16 <= SECTOR; at += 16) {
		uint64_t place = vmimg_get_le64(sector + at);

		if (!place && areas)
			break;
		areas |= !place;
		if (!place || !areas)
			continue;
		if (!read_area(lvm, io, place, err))
			any = true;
		else if (err->status == VMIMG_ENOMEM)
			return -1;
		else
			first = *err;
	}
	if (!first.status || any)
		return 0;
	*err = first;
	return -1;
}

int vmimg_lvm_add(struct vmimg_lvm *lvm, struct vmimg_io *io, struct vmimg_error *err)
{
	uint8_t sector[SECTOR];
	struct vmimg_lvm_pv *pv;
	size_t at;

	if (find_label(io, sector, err))
		return -1;
	/* a second line of defence: fewer volumes are looked into */
	if (lvm->pv_count >= MAX_VOLUMES)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %u physical volumes", MAX_VOLUMES);
	if (vmimg_grow_array(&lvm->pvs, &lvm->pv_cap, lvm->pv_count + 1, sizeof(*pv), err))
		return -1;
	at = vmimg_get_le32(sector + 20);
	pv = &lvm->pvs[lvm->pv_count++];
	memset(pv, 0, sizeof(*pv));
	memcpy(pv->id, sector + at, ID);
	pv->io = vmimg_io_ref(io);
	return read_areas(lvm, io, sector, at + ID + 8, err);
}

/* ---- logical volumes --------------------------------------------------------------------- */

static bool is_visible(const struct vmimg_lvm_node *volume)
{
	const struct vmimg_lvm_node *status = vmimg_lvm_find(volume, "status");

	for (status = status ? status->first : NULL; status; status = status->next)
		if (status->text && !strcmp(status->text, "VISIBLE"))
			return true;
	return false;
}

static int list_group(struct vmimg_lvm *lvm, const struct vmimg_lvm_node *group,
	vmimg_lvm_each *each, void *ctx, struct vmimg_error *err)
{
	const struct vmimg_lvm_node *volumes = vmimg_lvm_find(group, "logical_volumes");
	const struct vmimg_lvm_node *volume = volumes ? volumes->first : NULL;
	VMIMG_AUTO(free) struct vmimg_lvm_place *places = NULL;
	struct vmimg_lvm_ground ground;

	if (vmimg_lvm_find_ground(lvm->pvs, lvm->pv_count, group, &ground, err))
		return -1;
	places = ground.places;
	for (; volume && lvm->listed < MAX_VOLUMES; volume = volume->next) {
		struct vmimg_error why = { 0 };
		struct vmimg_io *io;
		char name[260];

		if (!is_visible(volume))
			continue;
		lvm->listed++;
		snprintf(name, sizeof(name), "%.127s/%.127s", group->key, volume->key);
		io = vmimg_lvm_volume_open(&ground, volume, &why);
		if (!io && why.status == VMIMG_ENOMEM) {
			*err = why;
			return -1;
		}
		if (each(ctx, name, io, &why, err))
			return -1;
	}
	return 0;
}

int vmimg_lvm_list(struct vmimg_lvm *lvm, vmimg_lvm_each *each, void *ctx, struct vmimg_error *err)
{
	for (size_t i = 0; i < lvm->group_count; i++)
		if (list_group(lvm, lvm->groups[i].section, each, ctx, err))
			return -1;
	return 0;
}

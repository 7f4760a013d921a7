/* SPDX-License-Identifier: Apache-2.0 */
/* What a new VHD is to be, from the options, and how large its file becomes. */
#include <inttypes.h>
#include <string.h>
#include "format/vhd/sink.h"
#include "util/num.h"

#define CHUNK   (256U << 10)
#define GRANULE 4096U
#define BLOCK   (2U << 20)

/* Options, understood. */
struct wish {
	uint32_t type, block_size;
	uint64_t size;
};

static int choose_type(const struct vmimg_create *create, uint32_t *type, struct vmimg_error *err)
{
	bool child = create->parent_name != NULL;
	const char *name = vmimg_options_text(
		create->options, "subformat", child ? "differencing" : "dynamic");

	*type = !strcmp(name, "fixed")     ? VMIMG_VHD_FIXED
		: !strcmp(name, "dynamic") ? VMIMG_VHD_DYNAMIC
					   : VMIMG_VHD_DIFFERENCING;
	if (child != (*type == VMIMG_VHD_DIFFERENCING))
		return vmimg_fail(err, VMIMG_EINVAL,
			child ? "a %s VHD has no parent (subformat=differencing has)"
			      : "a %s VHD needs a parent, named with -b",
			name);
	if (create->compress)
		return vmimg_fail(err, VMIMG_EINVAL, "a VHD cannot be compressed");
	return 0;
}

static int check_parent(const struct vmimg_create *create, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_disk *parent = create->parent;

	if (!parent)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a differencing VHD notes its parent's unique id, so the parent has to be "
			"opened");
	if (strcmp(parent->format->name, "vhd"))
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a VHD is a VHD, not %s",
			parent->format->title);
	if (parent->size != size)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a differencing VHD is as large as its parent: %" PRIu64
			" bytes, not %" PRIu64,
			parent->size, size);
	return 0;
}

static int read_wish(const struct vmimg_create *create, struct wish *wish, struct vmimg_error *err)
{
	uint64_t block = vmimg_options_size(create->options, "block_size", BLOCK);

	if (choose_type(create, &wish->type, err))
		return -1;
	if (!vmimg_is_pow2(block) || block < VMIMG_VHD_ALIGN || block > VMIMG_VHD_MAX_BLOCK)
		return vmimg_fail(err, VMIMG_EINVAL,
			"block_size is a power of two from 4 KiB to 256 MiB, not %" PRIu64, block);
	if (create->size > VMIMG_VHD_MAX_SIZE)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a VHD holds at most 2040 GiB, not %" PRIu64 " bytes (vhdx holds more)",
			create->size);
	wish->block_size = (uint32_t)block;
	wish->size = vmimg_align_up(create->size, VMIMG_VHD_SECTOR);
	if (!vmimg_options_bool(create->options, "force_size", true))
		wish->size = vmimg_vhd_round_to_geometry(wish->size);
	if (wish->type != VMIMG_VHD_FIXED &&
		vmimg_div_up(wish->size, block) > VMIMG_VHD_MAX_ENTRIES)
		return vmimg_fail(err, VMIMG_EINVAL, "the blocks are too small for the disk");
	return 0;
}

/* ---- the sink ---- */

static int set_identity(
	struct vmimg_vhd_sink *s, const struct vmimg_create *create, struct vmimg_error *err)
{
	const char *uuid = vmimg_options_text(create->options, "uuid", NULL);
	const char *creator = vmimg_options_text(create->options, "creator", "win ");

	if (vmimg_vhd_set_creator(s->creator, creator, err))
		return -1;
	s->unique = create->unique;
	s->has_uuid = uuid != NULL;
	if (uuid && !vmimg_guid_parse(&s->uuid, uuid, strlen(uuid)))
		return vmimg_fail(err, VMIMG_EINVAL, "uuid is 8-4-4-4-12 hexadecimal digits");
	s->sink.wants_digest = !s->has_uuid && !s->unique;
	s->timestamp = create->epoch > VMIMG_VHD_EPOCH
		? (uint32_t)vmimg_min(create->epoch - VMIMG_VHD_EPOCH, UINT32_MAX)
		: 0;
	s->content = s->sink.size;
	return 0;
}

static int set_parent(
	struct vmimg_vhd_sink *s, const struct vmimg_create *create, struct vmimg_error *err)
{
	if (check_parent(create, s->sink.size, err))
		return -1;
	create->parent->format->identity(create->parent, &s->parent);
	s->content ^=
		vmimg_get_be64(s->parent.uuid.bytes) ^ vmimg_get_be64(s->parent.uuid.bytes + 8);
	s->parent_name = vmimg_strdup(create->parent_name, err);
	return s->parent_name ? 0 : -1;
}

static uint32_t bitmap_bytes_for(uint32_t block_size)
{
	return (uint32_t)vmimg_align_up(
		vmimg_div_up(block_size / VMIMG_VHD_SECTOR, 8), VMIMG_VHD_SECTOR);
}

static uint64_t tables_end_for(const struct wish *wish)
{
	uint64_t entries = vmimg_div_up(wish->size, wish->block_size);
	uint64_t end = VMIMG_VHD_FOOTER_SIZE + VMIMG_VHD_HEADER_SIZE +
		vmimg_align_up(4 * entries, VMIMG_VHD_SECTOR);

	return end + (wish->type == VMIMG_VHD_DIFFERENCING ? VMIMG_VHD_LOCATOR_SPACE : 0);
}

static int set_tables(struct vmimg_vhd_sink *s, const struct wish *wish, struct vmimg_error *err)
{
	s->block_size = wish->block_size;
	s->bitmap_bytes = bitmap_bytes_for(wish->block_size);
	s->entries = (uint32_t)vmimg_div_up(wish->size, wish->block_size);
	s->bat_at = VMIMG_VHD_FOOTER_SIZE + VMIMG_VHD_HEADER_SIZE;
	s->tables_end = tables_end_for(wish);
	s->end = vmimg_vhd_first_block(s->tables_end, s->bitmap_bytes);
	s->bitmap = vmimg_alloc_array(s->bitmap_bytes, 1, err);
	s->bat = vmimg_alloc_buffer((size_t)VMIMG_VHD_WINDOW * 4, err);
	if (!s->bitmap || !s->bat)
		return -1;
	memset(s->bat, 0xff, (size_t)VMIMG_VHD_WINDOW * 4);
	return 0;
}

static void set_sink(struct vmimg_vhd_sink *s, struct vmimg_io *io, const struct wish *wish)
{
	bool fixed = wish->type == VMIMG_VHD_FIXED, child = wish->type == VMIMG_VHD_DIFFERENCING;

	s->type = wish->type;
	s->io = vmimg_io_ref(io);
	s->sink = (struct vmimg_sink){ .ops = fixed ? &vmimg_vhd_fixed_ops : &vmimg_vhd_dynamic_ops,
		.size = wish->size,
		.granule = GRANULE,
		.chunk = CHUNK,
		.unit = fixed ? 0 : wish->block_size,
		.in_order = io->in_order,
		.keeps_absent = child,
		.splits_zeroes = !io->in_order,
		.clone_io = io };
}

struct vmimg_sink *vmimg_vhd_create(
	struct vmimg_io *io, const struct vmimg_create *create, struct vmimg_error *err)
{
	struct vmimg_vhd_sink *s;
	struct wish wish;

	if (read_wish(create, &wish, err))
		return NULL;
	if (io->in_order && wish.type != VMIMG_VHD_FIXED) {
		vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"only a fixed VHD can be written to a pipe (-o subformat=fixed)");
		return NULL;
	}
	s = vmimg_new(struct vmimg_vhd_sink, err);
	if (!s)
		return NULL;
	set_sink(s, io, &wish);
	if (set_identity(s, create, err) ||
		(wish.type == VMIMG_VHD_DIFFERENCING && set_parent(s, create, err)) ||
		(wish.type != VMIMG_VHD_FIXED && set_tables(s, &wish, err))) {
		vmimg_vhd_sink_close(&s->sink);
		return NULL;
	}
	return &s->sink;
}

int vmimg_vhd_measure(
	const struct vmimg_create *create, uint64_t data, uint64_t *bytes, struct vmimg_error *err)
{
	struct wish wish;

	if (read_wish(create, &wish, err))
		return -1;
	if (wish.type == VMIMG_VHD_FIXED) {
		*bytes = wish.size + VMIMG_VHD_FOOTER_SIZE;
		return 0;
	}
	data = vmimg_min(
		vmimg_div_up(data, wish.block_size), vmimg_div_up(wish.size, wish.block_size));
	*bytes = vmimg_vhd_blocks_end(tables_end_for(&wish), data, wish.block_size,
			 bitmap_bytes_for(wish.block_size)) +
		VMIMG_VHD_FOOTER_SIZE;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What a new VHDX will be like, from the options: parameters, and where its parts go. */
#include <inttypes.h>
#include <string.h>
#include "format/vhdx/vhdx.h"
#include "util/num.h"

#define LOG_DEFAULT VHDX_MIB
#define LOG_LARGEST (4095 * VHDX_MIB) /* its length has 32 bits */

#define ADOPTED_BLOCKS (UINT64_C(1) << 20) /* a BAT of 8 MiB */

/* Small disks get small blocks, large ones a small BAT: the steps that QEMU takes. Of an adopted
 * disk a whole block has to be moved, so it gets the smallest until the BAT is of that size. */
static uint64_t default_block(const struct vmimg_create *create)
{
	uint64_t size = create->size, block = VHDX_BLOCK_MIN;

	while (create->adopt && size / block > ADOPTED_BLOCKS)
		block *= 2;
	if (create->adopt)
		return block;
	if (size > UINT64_C(32) << 40)
		return 64 * VHDX_MIB;
	if (size > UINT64_C(100) << 30)
		return 32 * VHDX_MIB;
	return size > UINT64_C(1) << 30 ? 16 * VHDX_MIB : 8 * VHDX_MIB;
}

static int set_block(
	struct vhdx_params *params, const struct vmimg_create *create, struct vmimg_error *err)
{
	uint64_t block = vmimg_options_size(create->options, "block_size", 0);

	block = block ? block : default_block(create);
	if (!vmimg_is_pow2(block) || block < VHDX_BLOCK_MIN || block > VHDX_BLOCK_MAX)
		return vmimg_fail(err, VMIMG_EINVAL,
			"block_size=%" PRIu64 " is not a power of two from 1M to 256M", block);
	params->block = (uint32_t)block;
	return 0;
}

static int get_sector(const struct vmimg_create *create, const char *key, uint32_t otherwise,
	uint32_t *sector, struct vmimg_error *err)
{
	uint64_t size = vmimg_options_size(create->options, key, otherwise);

	if (size != 512 && size != 4096)
		return vmimg_fail(
			err, VMIMG_EINVAL, "%s=%" PRIu64 " is neither 512 nor 4096", key, size);
	*sector = (uint32_t)size;
	return 0;
}

static int set_sectors(
	struct vhdx_params *params, const struct vmimg_create *create, struct vmimg_error *err)
{
	uint32_t usual = create->parent ? create->parent->sector_size : 512;

	if (get_sector(create, "logical_sector_size", usual, &params->logical, err) ||
		get_sector(create, "physical_sector_size", 4096, &params->physical, err))
		return -1;
	if (create->parent && params->logical != usual)
		return vmimg_fail(err, VMIMG_EINVAL,
			"the parent has sectors of %" PRIu32 " bytes: a child has the same", usual);
	params->size = vmimg_align_up(create->size, params->logical);
	return 0;
}

static int set_params(
	struct vhdx_params *params, const struct vmimg_create *create, struct vmimg_error *err)
{
	const char *subformat = vmimg_options_text(create->options, "subformat", "dynamic");

	if (create->compress)
		return vmimg_fail(err, VMIMG_EINVAL, "a VHDX image cannot be compressed");
	if (create->size > VHDX_DISK_MAX)
		return vmimg_fail(err, VMIMG_EINVAL,
			"%" PRIu64 " bytes are more than the 64 TiB that a VHDX can have",
			create->size);
	params->leave_allocated = !strcmp(subformat, "fixed");
	params->has_parent = create->parent_name;
	if (create->adopt && (params->leave_allocated || params->has_parent))
		return vmimg_fail(err, VMIMG_EINVAL,
			"data that stays where it is becomes a dynamic disk without a parent");
	if (params->has_parent && params->leave_allocated)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a disk with a parent cannot be fixed (subformat=fixed)");
	return set_block(params, create, err) || set_sectors(params, create, err) ? -1 : 0;
}

/* A child has its parent's disk id, which belongs to the guest, and notes its state. */
static int set_parent(
	struct vhdx_plan *plan, const struct vmimg_create *create, struct vmimg_error *err)
{
	const struct vmimg_disk *parent = create->parent;
	const struct vmimg_vhdx *vhdx;

	if (!create->parent_name)
		return 0;
	if (!parent)
		return vmimg_fail(err, VMIMG_EINVAL,
			"the parent has to be opened, for its identity to be noted");
	if (parent->format != &vmimg_vhdx)
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a VHDX is a VHDX, not %s",
			parent->format->title);
	vhdx = parent->state;
	plan->params.disk_id = vhdx->params.disk_id;
	plan->linkage = vhdx->head.data_write;
	plan->locator = vmimg_vhdx_make_locator(&(struct vhdx_locator){ 0 }, &plan->linkage,
		create->parent_name, &plan->locator_len, err);
	return plan->locator ? 0 : -1;
}

static int set_layout(
	struct vhdx_plan *plan, const struct vmimg_create *create, struct vmimg_error *err)
{
	uint64_t log = vmimg_options_size(create->options, "log_size", LOG_DEFAULT);

	log = log ? log : LOG_DEFAULT;
	if (log % VHDX_MIB || log > LOG_LARGEST)
		return vmimg_fail(err, VMIMG_EINVAL,
			"log_size=%" PRIu64 " is not 1M to 4095M, whole MiB", log);
	plan->geometry = vmimg_vhdx_geometry(&plan->params);
	plan->log = (struct vhdx_range){ vmimg_max(VHDX_HEAD_END,
						 vmimg_align_up(create->adopt,
							 plan->params.block)),
		log };
	plan->metadata = (struct vhdx_range){ plan->log.at + log, VHDX_MIB };
	plan->bat = (struct vhdx_range){ plan->metadata.at + plan->metadata.len,
		vmimg_max(vmimg_align_up(plan->geometry.entries * 8, VHDX_MIB), VHDX_MIB) };
	plan->data_at = plan->bat.at + plan->bat.len;
	return 0;
}

int vmimg_vhdx_plan(
	struct vhdx_plan *plan, const struct vmimg_create *create, struct vmimg_error *err)
{
	*plan = (struct vhdx_plan){ 0 };
	if (set_params(&plan->params, create, err) || set_layout(plan, create, err))
		return -1;
	plan->zero_state = vmimg_options_bool(create->options, "block_state_zero", false);
	plan->reserve = plan->params.leave_allocated;
	return set_parent(plan, create, err);
}

void vmimg_vhdx_plan_done(struct vhdx_plan *plan)
{
	free(plan->locator);
	plan->locator = NULL;
}

int vmimg_vhdx_measure(
	const struct vmimg_create *create, uint64_t data, uint64_t *bytes, struct vmimg_error *err)
{
	struct vmimg_create alone = *create;
	struct vhdx_plan plan;
	uint64_t blocks;

	alone.parent_name = NULL; /* the locator has room in any case; it need not be made */
	if (vmimg_vhdx_plan(&plan, &alone, err))
		return -1;
	blocks = plan.reserve ? plan.geometry.blocks : vmimg_div_up(data, plan.params.block);
	*bytes = plan.data_at + blocks * plan.params.block;
	vmimg_vhdx_plan_done(&plan);
	return 0;
}

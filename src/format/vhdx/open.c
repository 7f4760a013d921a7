/* SPDX-License-Identifier: Apache-2.0 */
/* Opening, from the fixed structures inward: header, log, regions, metadata, parent. Everything
 * after the log is read through it. */
#include "format/vhdx/vhdx.h"
#include "util/num.h"

static int open_tables(struct vmimg_disk *disk, bool lenient, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;

	if (vmimg_vhdx_replay(disk, err) || vmimg_vhdx_find_regions(disk, err) ||
		vmimg_vhdx_read_metadata(disk, lenient, err))
		return -1;
	vhdx->table = vmimg_table_new(vhdx->io, err);
	return vhdx->table ? 0 : -1;
}

int vmimg_vhdx_open(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = vmimg_new(struct vmimg_vhdx, err);

	if (!vhdx)
		return -1;
	disk->state = vhdx;
	vhdx->io = vmimg_io_ref(disk->io);
	if (vmimg_vhdx_read_creator(vhdx->io, &vhdx->creator, err) ||
		vmimg_vhdx_choose_header(disk, err) || open_tables(disk, options->lenient, err))
		return -1;
	disk->size = vhdx->params.size;
	disk->sector_size = vhdx->params.logical;
	disk->block = vhdx->params.block;
	return vhdx->params.has_parent ? vmimg_vhdx_open_parent(disk, options, err) : 0;
}

void vmimg_vhdx_close(struct vmimg_disk *disk)
{
	struct vmimg_vhdx *vhdx = disk->state;

	if (!vhdx)
		return;
	vmimg_table_free(vhdx->table);
	vmimg_vhdx_locator_done(&vhdx->locator);
	vmimg_io_unref(vhdx->io);
	free(vhdx->creator);
	free(vhdx);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The archive is put together as pieces, and packed on its way out: nothing is copied in between.
 */
#include <stdio.h>
#include "bundle/cloud.h"
#include "bundle/tar_sparse.h"
#include "codec/gzip.h"

struct out {
	struct vmimg_io *io;
	uint64_t at;
};

static int put(void *ctx, const uint8_t *bytes, size_t len, struct vmimg_error *err)
{
	struct out *out = ctx;

	if (vmimg_io_pwrite(out->io, bytes, len, out->at, err))
		return -1;
	out->at += len;
	return 0;
}

static int add(struct vmimg_pieces *archive, const struct vmimg_uec_plan *plan, const char *suffix,
	struct vmimg_io *io, struct vmimg_error *err)
{
	char name[128];

	snprintf(name, sizeof(name), "%.90s%s", plan->name, suffix);
	return vmimg_tar_add_sparse(archive, name, io, plan->epoch, err);
}

int vmimg_uec_write(const struct vmimg_uec_plan *plan, struct vmimg_io *io, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_pieces_done) struct vmimg_pieces archive = { 0 };
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *whole = NULL;
	struct out out = { .io = io };

	if (add(&archive, plan, ".img", plan->root, err) ||
		add(&archive, plan, "-vmlinuz", plan->kernel, err) ||
		(plan->ramdisk && add(&archive, plan, "-initrd", plan->ramdisk, err)) ||
		vmimg_tar_add_end(&archive, err))
		return -1;
	whole = vmimg_pieces_join(&archive, "archive", err);
	return whole ? vmimg_gzip_run(whole, put, NULL, &out, plan->cancel, err) : -1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Another backing file: the header's fields and its extension, in one write (head.c). */
#include <string.h>
#include "disk/edit.h"
#include "format/qcow2/change.h"

int vmimg_qcow2_check_names(const struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	size_t len = c->backing_name ? strlen(c->backing_name) : 0;

	if (c->backing_name && (!len || len > QCOW2_MAX_BACKING))
		return vmimg_fail(err, VMIMG_EINVAL,
			"the name of a backing file has 1 to %u bytes, not %zu", QCOW2_MAX_BACKING,
			len);
	if (len && c->header.autoclear & QCOW2_AUTOCLEAR_RAW_DATA)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"an image whose data file is raw has no backing file");
	return 0;
}

int vmimg_qcow2_set_parent(
	struct vmimg_disk *disk, const struct vmimg_parent *parent, struct vmimg_error *err)
{
	struct vmimg_qcow2_change c;
	int failed = vmimg_qcow2_change_begin(&c, disk, err);

	c.new_head = true;
	c.backing_name = parent ? parent->name : NULL;
	c.backing_format = parent ? vmimg_qcow2_format_name(parent->format) : NULL;
	if (!failed)
		failed = vmimg_qcow2_check_names(&c, err) || vmimg_qcow2_change_commit(&c, err);
	vmimg_qcow2_change_done(&c);
	return failed ? -1 : 0;
}

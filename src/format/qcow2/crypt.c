/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encrypted images. Data clusters are, compressed ones and all tables are not. LUKS counts sectors
 * by where they lie in the file, the old method by where they are on the disk.
 */
#include "format/qcow2/crypt.h"
#include <inttypes.h>
#include <string.h>
#include "disk/info.h"
#include "format/qcow2/change.h"
#include "util/num.h"

struct vmimg_luks_area vmimg_qcow2_luks_area(const struct vmimg_disk *disk)
{
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);

	return (struct vmimg_luks_area){ disk->io, q->crypto.offset, q->crypto.length };
}

/* What the header and its extension say, without a key. */
static int read_luks(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	struct vmimg_luks_area area = vmimg_qcow2_luks_area(disk);

	if (!q->crypto.offset || q->crypto.offset % q->cluster)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the LUKS header is at 0x%" PRIx64 ", not a multiple of the cluster size",
			q->crypto.offset);
	if (!vmimg_range_inside(area.at, area.len, vmimg_io_size(disk->io)))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the LUKS header of 0x%" PRIx64 " bytes at 0x%" PRIx64
			" reaches past the end of the file",
			area.len, area.at);
	q->luks = vmimg_new(struct vmimg_luks, err);
	if (!q->luks)
		return -1;
	return vmimg_luks_read(q->luks, &area, err)
		? vmimg_within(err, "LUKS header at 0x%" PRIx64, q->crypto.offset)
		: 0;
}

int vmimg_qcow2_open_crypt(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	bool luks = q->header.crypt_method == QCOW2_CRYPT_LUKS;
	struct vmimg_luks_area area = vmimg_qcow2_luks_area(disk);

	if (luks && read_luks(disk, err))
		return -1;
	if (q->header.crypt_method == QCOW2_CRYPT_NONE || !options->secret_count)
		return 0;
	q->cipher = luks ? vmimg_luks_cipher(q->luks, &area, options, err)
			 : vmimg_disk_old_cipher(options, err);
	return q->cipher ? 0 : -1;
}

void vmimg_qcow2_close_crypt(struct vmimg_qcow2 *q)
{
	vmimg_cipher_free(q->cipher);
	free(q->luks);
}

void vmimg_qcow2_seal_run(const struct vmimg_qcow2 *q, uint64_t guest, struct vmimg_run *run)
{
	if (q->header.crypt_method == QCOW2_CRYPT_NONE || run->kind != VMIMG_RUN_DATA)
		return;
	run->encrypted = true;
	run->cipher = q->cipher;
	run->cipher_at = vmimg_qcow2_cipher_at(q, run->at, guest);
}

void vmimg_qcow2_describe_crypt(const struct vmimg_qcow2 *q, struct vmimg_info *info)
{
	json_t *encrypt;

	if (q->header.crypt_method == QCOW2_CRYPT_NONE)
		return;
	vmimg_json_bool(info->root, "encrypted", true);
	encrypt = json_object();
	if (q->luks)
		vmimg_luks_describe(q->luks, encrypt);
	else
		vmimg_json_text(encrypt, "format", "aes");
	json_object_set_new(info->specific, "encrypt", encrypt);
}

/* Key slots are written over where they are: nothing else may be there, and nothing come there. */
static int check_area(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	const struct vmimg_qcow2_crypto *area = &c->q->crypto;
	uint64_t refs = 1, at = area->offset, end = at + area->length;

	if (vmimg_qcow2_check_singles(c, err))
		return -1;
	for (; refs == 1 && at < end; at += c->q->cluster)
		if (vmimg_qcow2_change_refs(c, at, &refs, err))
			return -1;
	return refs == 1 ? 0
			 : vmimg_fail(err, VMIMG_ECORRUPT,
				   "the LUKS header has a cluster with refcount %" PRIu64
				   ": something else may be there",
				   refs);
}

int vmimg_qcow2_rekey(
	struct vmimg_disk *disk, const struct vmimg_rekey *wanted, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	struct vmimg_luks_area area = vmimg_qcow2_luks_area(disk);
	struct vmimg_qcow2_change c;
	int failed;

	if (!q->luks)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"key slots are those of LUKS, which this image has not");
	failed = vmimg_qcow2_change_begin(&c, disk, err) || check_area(&c, err);
	vmimg_qcow2_change_done(&c);
	return failed ? -1 : vmimg_luks_rekey(q->luks, &area, wanted, err);
}

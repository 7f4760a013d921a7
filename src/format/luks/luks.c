/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume of LUKS version 1 (LUKS1 On-Disk Format Specification 1.2.3) in a file of its own. The
 * guest's disk may itself begin with LUKS, so the claim is as weak as one on what raw disks hold.
 */
#include "format/luks/luks.h"
#include <inttypes.h>
#include <string.h>
#include "disk/edit.h"
#include "disk/info.h"
#include "util/num.h"

#define SURE_ENOUGH 40 /* below a strong claim: a fixed VHD may have it inside */

static struct vmimg_luks_area area_of(const struct vmimg_disk *disk)
{
	const struct vmimg_luks_image *image = disk->state;

	return (struct vmimg_luks_area){ disk->io, 0, image->payload };
}

static int luks_probe(const struct vmimg_probe *probe)
{
	struct vmimg_luks_header header;

	if (probe->head_len < 6 || memcmp(probe->head, LUKS_MAGIC, 6))
		return 0;
	if (probe->head_len < LUKS_HEADER_SIZE) /* cut off: opening says so */
		return SURE_ENOUGH;
	vmimg_luks_header_decode(&header, probe->head);
	return header.version == 1 ? SURE_ENOUGH : 0;
}

/* Where the payload begins bounds all that comes before. */
static int find_payload(struct vmimg_disk *disk, uint64_t *payload, struct vmimg_error *err)
{
	uint8_t raw[LUKS_HEADER_SIZE];
	struct vmimg_luks_header header;

	if (vmimg_io_size(disk->io) < sizeof(raw))
		return vmimg_fail(err, VMIMG_EFORMAT, "no LUKS volume: too short");
	if (vmimg_io_pread(disk->io, raw, sizeof(raw), 0, err))
		return -1;
	if (memcmp(raw, LUKS_MAGIC, 6))
		return vmimg_fail(err, VMIMG_EFORMAT, "no LUKS volume: no header at its beginning");
	vmimg_luks_header_decode(&header, raw);
	*payload = header.payload_offset * (uint64_t)VMIMG_SECTOR;
	if (header.version != 1)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "LUKS version %u is not known (1 is)",
			header.version);
	if (!*payload)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"it is a header alone, whose data is elsewhere");
	return *payload <= vmimg_io_size(disk->io)
		? 0
		: vmimg_fail(err, VMIMG_ECORRUPT,
			  "the data begins at 0x%" PRIx64 ", past the end of the file (0x%" PRIx64
			  ")",
			  *payload, vmimg_io_size(disk->io));
}

static int luks_open(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_luks_image *image = disk->state = vmimg_new(struct vmimg_luks_image, err);
	struct vmimg_luks_area area;

	if (!image || find_payload(disk, &image->payload, err))
		return -1;
	area = area_of(disk);
	if (vmimg_luks_read(&image->luks, &area, err))
		return -1;
	disk->size = vmimg_align_down(vmimg_io_size(disk->io) - image->payload, VMIMG_SECTOR);
	if (!options->secret_count)
		return 0;
	image->cipher = vmimg_luks_cipher(&image->luks, &area, options, err);
	return image->cipher ? 0 : -1;
}

static void luks_close(struct vmimg_disk *disk)
{
	struct vmimg_luks_image *image = disk->state;

	if (!image)
		return;
	vmimg_cipher_free(image->cipher);
	free(image);
}

/* Holes of the file are no zeroes: they decrypt to noise, as they do for everyone. */
static int luks_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	const struct vmimg_luks_image *image = disk->state;

	(void)err;
	*run = (struct vmimg_run){ .kind = VMIMG_RUN_DATA,
		.encrypted = true,
		.len = disk->size - at,
		.io = disk->io,
		.at = image->payload + at,
		.cipher = image->cipher,
		.cipher_at = at };
	return 0;
}

static int luks_describe(struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err)
{
	const struct vmimg_luks_image *image = disk->state;

	(void)err;
	vmimg_json_bool(info->root, "encrypted", true);
	vmimg_luks_describe(&image->luks, info->specific);
	json_object_del(info->specific, "format"); /* of use where a method is one of several */
	return 0;
}

static int luks_rekey(
	struct vmimg_disk *disk, const struct vmimg_rekey *wanted, struct vmimg_error *err)
{
	struct vmimg_luks_image *image = disk->state;
	struct vmimg_luks_area area = area_of(disk);

	return vmimg_luks_rekey(&image->luks, &area, wanted, err);
}

/* What the file gains reads as noise, as in every such volume. */
static int luks_resize(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_luks_image *image = disk->state;
	uint64_t end = image->payload + vmimg_align_up(size, VMIMG_SECTOR);

	if (disk->io->is_device)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "a device has the size that it has");
	return vmimg_io_resize(disk->io, end, err) ? -1 : vmimg_io_sync(disk->io, err);
}

static const struct vmimg_edit_ops luks_edit = {
	.resize = luks_resize,
	.rekey = luks_rekey,
};

const struct vmimg_format vmimg_luks = {
	.name = "luks",
	.title = "a LUKS volume",
	.suffixes = "luks",
	.probe = luks_probe,
	.open = luks_open,
	.close = luks_close,
	.map = luks_map,
	.describe = luks_describe,
	.create = vmimg_luks_create,
	.measure = vmimg_luks_measure,
	.edit = &luks_edit,
	.options = vmimg_luks_options,
};

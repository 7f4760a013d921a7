/* SPDX-License-Identifier: Apache-2.0 */
/* Headers and the room between them. The bytes depend on names, sizes and the epoch alone. */
#include <inttypes.h>
#include <stdio.h>
#include "bundle/tar_header.h"
#include "util/num.h"
#include "util/text.h"

#define OCTAL_LIMIT (UINT64_C(1) << 33) /* 11 octal digits: 8 GiB */

struct vmimg_tar_writer {
	struct vmimg_io *io;
	uint64_t epoch;
	uint64_t end;    /* of what is there */
	uint64_t header; /* of the member begun, with name; 0 names: none is */
	char name[256];
	uint64_t size; /* as begin was told */
	bool open;
};

struct vmimg_tar_writer *vmimg_tar_writer_new(
	struct vmimg_io *io, uint64_t epoch, struct vmimg_error *err)
{
	struct vmimg_tar_writer *writer = vmimg_new(struct vmimg_tar_writer, err);

	if (!writer)
		return NULL;
	writer->io = vmimg_io_ref(io);
	writer->epoch = vmimg_min(epoch, OCTAL_LIMIT - 1);
	return writer;
}

void vmimg_tar_writer_free(struct vmimg_tar_writer *writer)
{
	if (!writer)
		return;
	vmimg_io_unref(writer->io);
	free(writer);
}

static void put_octal(uint8_t *field, size_t len, uint64_t value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%0*" PRIo64, (int)len - 1, value);
	memcpy(field, digits, len);
}

/* Where name is cut so that the front fits into prefix and the rest into name; NULL: nowhere. */
static const char *find_cut(const char *name)
{
	for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/'))
		if (slash - name <= 155 && strlen(slash + 1) <= 100 && slash[1])
			return slash;
	return NULL;
}

static int put_name(struct vmimg_tar_header *h, const char *name, struct vmimg_error *err)
{
	size_t len = strlen(name);
	const char *cut = len > 100 ? find_cut(name) : NULL;
	char shown[80];

	if (len > 100 && !cut)
		return vmimg_fail(err, VMIMG_EINVAL,
			"\"%s\" is too long a name for a tar archive (100 bytes)",
			vmimg_escape(shown, sizeof(shown), name, len));
	if (cut)
		memcpy(h->prefix, name, (size_t)(cut - name));
	name = cut ? cut + 1 : name;
	memcpy(h->name, name, strlen(name));
	return 0;
}

/* ustar; with a size that it cannot hold, GNU's own, whose numbers may be base-256. */
static void put_size(struct vmimg_tar_header *h, uint64_t size)
{
	if (size < OCTAL_LIMIT) {
		memcpy(h->magic,
			"ustar\0"
			"00",
			8);
		put_octal(h->size, sizeof(h->size), size);
		return;
	}
	memcpy(h->magic, "ustar  ", 8);
	h->size[0] = 0x80;
	vmimg_put_be64(h->size + 4, size);
}

static int write_header(struct vmimg_tar_writer *writer, uint64_t size, struct vmimg_error *err)
{
	uint8_t block[VMIMG_TAR_BLOCK] = { 0 };
	struct vmimg_tar_header h = { .type = '0' };
	char sum[8];

	if (put_name(&h, writer->name, err))
		return -1;
	put_octal(h.mode, sizeof(h.mode), 0644);
	put_octal(h.uid, sizeof(h.uid), 0);
	put_octal(h.gid, sizeof(h.gid), 0);
	put_octal(h.mtime, sizeof(h.mtime), writer->epoch);
	put_size(&h, size);
	vmimg_tar_header_encode(&h, block);
	snprintf(sum, sizeof(sum), "%06" PRIo32, vmimg_tar_sum(block, false));
	memcpy(block + 148, sum, 7);
	block[155] = ' ';
	return vmimg_io_pwrite(writer->io, block, sizeof(block), writer->header, err);
}

int vmimg_tar_begin(struct vmimg_tar_writer *writer, const char *name, uint64_t size, uint64_t *at,
	struct vmimg_error *err)
{
	struct vmimg_tar_header scratch = { 0 };

	if (strlen(name) >= sizeof(writer->name) || put_name(&scratch, name, err))
		return vmimg_fail(err, VMIMG_EINVAL, "a name is too long for a tar archive");
	snprintf(writer->name, sizeof(writer->name), "%s", name);
	writer->header = writer->end;
	writer->size = size;
	writer->open = true;
	if (size != VMIMG_TAR_SIZE_LATER && write_header(writer, size, err))
		return -1;
	if (size == VMIMG_TAR_SIZE_LATER && writer->io->in_order)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a tar archive on a pipe needs each file's size before its first byte, and "
			"that of %s is known after its last: name an output file",
			name);
	writer->end += VMIMG_TAR_BLOCK;
	*at = writer->end;
	return 0;
}

int vmimg_tar_end(struct vmimg_tar_writer *writer, uint64_t size, struct vmimg_error *err)
{
	uint64_t padded = vmimg_align_up(size, VMIMG_TAR_BLOCK);

	writer->open = false;
	if (writer->size == VMIMG_TAR_SIZE_LATER) {
		if (write_header(writer, size, err))
			return -1;
	} else if (writer->size != size) {
		return vmimg_fail(err, VMIMG_EINVAL,
			"%s was to have %" PRIu64 " bytes and has %" PRIu64, writer->name,
			writer->size, size);
	}
	if (padded > size &&
		vmimg_io_write_zeroes(writer->io, writer->end + size, padded - size, err))
		return -1;
	writer->end += padded;
	return 0;
}

int vmimg_tar_put(struct vmimg_tar_writer *writer, const char *name, const void *bytes, size_t len,
	struct vmimg_error *err)
{
	uint64_t at;

	if (vmimg_tar_begin(writer, name, len, &at, err) ||
		vmimg_io_pwrite(writer->io, bytes, len, at, err))
		return -1;
	return vmimg_tar_end(writer, len, err);
}

int vmimg_tar_finish(struct vmimg_tar_writer *writer, struct vmimg_error *err)
{
	if (vmimg_io_write_zeroes(writer->io, writer->end, (size_t)2 * VMIMG_TAR_BLOCK, err))
		return -1;
	writer->end += (size_t)2 * VMIMG_TAR_BLOCK;
	return 0;
}

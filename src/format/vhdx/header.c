/* SPDX-License-Identifier: Apache-2.0 */
/* The identifier at the file's start and the two headers ([MS-VHDX] 2.2.1, 2.2.2). One of the
 * headers may be torn at any time: the other one then counts. */
#include <inttypes.h>
#include <string.h>
#include "format/vhdx/vhdx.h"
#include "util/num.h"
#include "util/sum.h"
#include "util/utf16.h"

uint32_t vmimg_vhdx_checksum(const uint8_t *bytes, size_t len)
{
	static const uint8_t zero[4];
	uint32_t sum = vmimg_crc32c(0, bytes, 4);

	sum = vmimg_crc32c(sum, zero, sizeof(zero));
	return vmimg_crc32c(sum, bytes + 8, len - 8);
}

bool vmimg_vhdx_is_guid(const uint8_t on_disk[16], const char *text)
{
	uint8_t wanted[16];

	vmimg_vhdx_put_guid(wanted, text);
	return !memcmp(on_disk, wanted, sizeof(wanted));
}

void vmimg_vhdx_put_guid(uint8_t on_disk[16], const char *text)
{
	struct vmimg_guid guid = { 0 };

	vmimg_guid_parse(&guid, text, strlen(text));
	vmimg_guid_put_mixed(&guid, on_disk);
}

int vmimg_vhdx_read_creator(struct vmimg_io *io, char **creator, struct vmimg_error *err)
{
	uint8_t bytes[VHDX_CREATOR_AT + VHDX_CREATOR_SIZE];
	char *text;

	if (vmimg_io_pread(io, bytes, sizeof(bytes), 0, err))
		return -1;
	if (memcmp(bytes, VHDX_FILE_ID, VHDX_CREATOR_AT))
		return vmimg_fail(err, VMIMG_EFORMAT,
			"not a VHDX: it does not begin with \"" VHDX_FILE_ID "\"");
	text = vmimg_utf16_decode(bytes + VHDX_CREATOR_AT, VHDX_CREATOR_SIZE, false, err);
	if (!text)
		return -1;
	*creator = text;
	return 0;
}

/* What a header with the right checksum may still say wrongly. */
static int validate(const struct vhdx_header *raw, unsigned i, struct vmimg_error *err)
{
	if (raw->version != VHDX_VERSION)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"header %u is of format version %u, not %u", i + 1, raw->version,
			VHDX_VERSION);
	if (raw->log_version != VHDX_LOG_VERSION)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "header %u names log version %u, not %u",
			i + 1, raw->log_version, VHDX_LOG_VERSION);
	if (raw->log_at % VHDX_MIB || raw->log_length % VHDX_MIB ||
		(raw->log_length && raw->log_at < VHDX_HEAD_END))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"header %u puts the log at 0x%" PRIx64 ", length 0x%" PRIx32
			": not whole MiB past the headers",
			i + 1, raw->log_at, raw->log_length);
	return 0;
}

int vmimg_vhdx_read_header(
	struct vmimg_io *io, unsigned i, struct vhdx_head *head, struct vmimg_error *err)
{
	uint8_t bytes[VHDX_HEADER_SIZE];
	struct vhdx_header raw;
	uint32_t sum;

	if (vmimg_io_pread(io, bytes, sizeof(bytes), VHDX_HEADER_AT(i), err))
		return -1;
	vhdx_header_decode(&raw, bytes);
	if (raw.magic != VHDX_HEADER_MAGIC)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"header %u at 0x%" PRIx64 " has signature 0x%08" PRIx32 ", not \"head\"",
			i + 1, VHDX_HEADER_AT(i), raw.magic);
	sum = vmimg_vhdx_checksum(bytes, sizeof(bytes));
	if (sum != raw.checksum)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"header %u at 0x%" PRIx64 " has checksum 0x%08" PRIx32
			", its bytes give 0x%08" PRIx32,
			i + 1, VHDX_HEADER_AT(i), raw.checksum, sum);
	if (validate(&raw, i, err))
		return -1;
	head->sequence = raw.sequence;
	head->log_range = (struct vhdx_range){ raw.log_at, raw.log_length };
	vmimg_guid_get_mixed(&head->file_write, raw.file_write_guid);
	vmimg_guid_get_mixed(&head->data_write, raw.data_write_guid);
	vmimg_guid_get_mixed(&head->log, raw.log_guid);
	return 0;
}

int vmimg_vhdx_put_header(
	struct vmimg_io *io, unsigned i, const struct vhdx_head *head, struct vmimg_error *err)
{
	uint8_t bytes[VHDX_HEADER_SIZE] = { 0 };
	struct vhdx_header raw = { .magic = VHDX_HEADER_MAGIC,
		.sequence = head->sequence,
		.log_version = VHDX_LOG_VERSION,
		.version = VHDX_VERSION,
		.log_length = (uint32_t)head->log_range.len,
		.log_at = head->log_range.at };

	vmimg_guid_put_mixed(&head->file_write, raw.file_write_guid);
	vmimg_guid_put_mixed(&head->data_write, raw.data_write_guid);
	vmimg_guid_put_mixed(&head->log, raw.log_guid);
	vhdx_header_encode(&raw, bytes);
	raw.checksum = vmimg_vhdx_checksum(bytes, sizeof(bytes));
	vhdx_header_encode(&raw, bytes);
	return vmimg_io_pwrite(io, bytes, sizeof(bytes), VHDX_HEADER_AT(i), err);
}

/* The newer sound one of both. why: of the other one, where *damaged. */
static int choose(struct vmimg_io *io, struct vhdx_head *head, unsigned *chosen, bool *damaged,
	struct vmimg_error *why, struct vmimg_error *err)
{
	struct vhdx_head heads[2];
	struct vmimg_error said[2];
	bool bad[2];

	for (unsigned i = 0; i < 2; i++) {
		bad[i] = vmimg_vhdx_read_header(io, i, &heads[i], &said[i]) != 0;
		if (bad[i] && said[i].status == VMIMG_ESYSTEM) { /* it may be the newer one */
			*err = said[i];
			return -1;
		}
	}
	if (bad[0] && bad[1]) {
		*err = said[0];
		return vmimg_within(err, "neither header is sound");
	}
	*chosen = bad[0] || (!bad[1] && heads[1].sequence > heads[0].sequence);
	*head = heads[*chosen];
	*damaged = bad[!*chosen];
	if (*damaged)
		*why = said[!*chosen];
	return 0;
}

int vmimg_vhdx_choose_header(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;
	struct vmimg_error why;
	bool damaged;

	if (choose(disk->io, &vhdx->head, &vhdx->head_index, &damaged, &why, err))
		return -1;
	if (damaged)
		vmimg_disk_warn(disk, "%s; header %u is used", why.text, vhdx->head_index + 1);
	return 0;
}

int vmimg_vhdx_peek(struct vmimg_io *io, struct vmimg_guid *data_write, struct vmimg_error *err)
{
	struct vhdx_head head;
	struct vmimg_error why;
	unsigned chosen;
	bool damaged;

	if (choose(io, &head, &chosen, &damaged, &why, err))
		return -1;
	*data_write = head.data_write;
	return 0;
}

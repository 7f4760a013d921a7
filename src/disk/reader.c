/* SPDX-License-Identifier: Apache-2.0 */
/* Turning runs into bytes. One reader belongs to one thread. */
#include <inttypes.h>
#include <string.h>
#include "disk/disk.h"
#include "util/limits.h"
#include "util/num.h"

struct vmimg_reader {
	const struct vmimg_codec *codec; /* of unpacker */
	struct vmimg_unpacker *unpacker;
	uint8_t *packed, *unpacked;
	size_t packed_cap, unpacked_cap;
	size_t packed_len;   /* of packed: what the block really took */
	struct vmimg_io *io; /* the block that unpacked holds: only compared, never used */
	uint64_t at;
	uint32_t block_len; /* 0: none */
	size_t got;         /* of block_len: how much the block really holds; the rest is zero */
};

struct vmimg_reader *vmimg_reader_new(struct vmimg_error *err)
{
	return vmimg_new(struct vmimg_reader, err);
}

void vmimg_reader_free(struct vmimg_reader *reader)
{
	if (!reader)
		return;
	vmimg_unpacker_free(reader->unpacker);
	free(reader->packed);
	free(reader->unpacked);
	free(reader);
}

static int make_room(uint8_t **buf, size_t *cap, size_t want, struct vmimg_error *err)
{
	if (want <= *cap)
		return 0;
	free(*buf);
	*cap = 0;
	*buf = vmimg_alloc_buffer(want, err);
	if (!*buf)
		return -1;
	*cap = want;
	return 0;
}

static int prepare(
	struct vmimg_reader *reader, const struct vmimg_run *run, struct vmimg_error *err)
{
	if (run->block.unpacked > VMIMG_MAX_PACKED_BLOCK ||
		run->block.packed > 2 * VMIMG_MAX_PACKED_BLOCK)
		return vmimg_fail(err, VMIMG_ELIMIT, "a compressed block of %" PRIu32 " bytes",
			run->block.unpacked);
	if (reader->codec != run->block.codec) {
		vmimg_unpacker_free(reader->unpacker);
		reader->codec = NULL;
		reader->unpacker = run->block.codec->unpacker_new(err);
		if (!reader->unpacker)
			return -1;
		reader->codec = run->block.codec;
	}
	return make_room(&reader->packed, &reader->packed_cap, run->block.packed, err) ||
			make_room(
				&reader->unpacked, &reader->unpacked_cap, run->block.unpacked, err)
		? -1
		: 0;
}

static int unpack(struct vmimg_reader *reader, const struct vmimg_run *run, struct vmimg_error *err)
{
	if (vmimg_io_pread(run->io, reader->packed, run->block.packed, run->at, err))
		return -1;
	if (reader->unpacker->unpack(reader->unpacker, reader->packed, run->block.packed,
		    reader->unpacked, run->block.unpacked, &reader->packed_len, &reader->got, err))
		return -1;
	memset(reader->unpacked + reader->got, 0, run->block.unpacked - reader->got);
	return 0;
}

/* The last block of a disk may be short, as long as it has what the run needs. */
static int check_got(
	struct vmimg_reader *reader, const struct vmimg_run *run, struct vmimg_error *err)
{
	uint64_t need = vmimg_min(run->block.skip + run->len, run->block.unpacked);

	if (reader->got >= need)
		return 0;
	return vmimg_fail(err, VMIMG_ECORRUPT, "it unpacks to %zu bytes, %" PRIu64 " are needed",
		reader->got, need);
}

int vmimg_reader_block(struct vmimg_reader *reader, const struct vmimg_run *run,
	const uint8_t **packed, size_t *packed_len, const uint8_t **unpacked,
	struct vmimg_error *err)
{
	bool held = reader->block_len == run->block.unpacked && reader->io == run->io &&
		reader->at == run->at;

	if (!held) {
		reader->block_len = 0;
		if (prepare(reader, run, err))
			return -1;
		if (unpack(reader, run, err))
			return vmimg_within(err, "compressed block at 0x%" PRIx64 " of %s", run->at,
				vmimg_io_name(run->io));
		reader->io = run->io;
		reader->at = run->at;
		reader->block_len = run->block.unpacked;
	}
	if (check_got(reader, run, err))
		return vmimg_within(err, "compressed block at 0x%" PRIx64 " of %s", run->at,
			vmimg_io_name(run->io));
	*packed = reader->packed;
	*packed_len = reader->packed_len;
	*unpacked = reader->unpacked;
	return 0;
}

/* Whole sectors straight into buf; of one that is needed in part, all is read. */
static int read_sealed(const struct vmimg_run *run, uint64_t skip, uint8_t *buf, size_t len,
	struct vmimg_error *err)
{
	uint8_t sector[VMIMG_SECTOR];

	while (len) {
		uint64_t at = run->at + skip, number = (run->cipher_at + skip) / VMIMG_SECTOR;
		size_t within = at % VMIMG_SECTOR, step = vmimg_align_down(len, VMIMG_SECTOR);
		bool whole = !within && step;
		uint8_t *to = whole ? buf : sector;

		step = whole ? step : sizeof(sector);
		if (vmimg_io_pread(run->io, to, step, at - within, err) ||
			vmimg_cipher_decrypt(run->cipher, number, to, to, step, err))
			return -1;
		step = vmimg_min(step - within, len);
		if (!whole)
			memcpy(buf, sector + within, step);
		buf += step;
		skip += step;
		len -= step;
	}
	return 0;
}

int vmimg_reader_run(struct vmimg_reader *reader, const struct vmimg_run *run, uint64_t skip,
	void *buf, size_t len, struct vmimg_error *err)
{
	const uint8_t *packed, *unpacked;
	size_t packed_len;

	if (run->kind == VMIMG_RUN_ABSENT || run->kind == VMIMG_RUN_ZERO) {
		memset(buf, 0, len);
		return 0;
	}
	if (!run->io) /* a second line of defence: who opens an image alone reads no data */
		return vmimg_fail(
			err, VMIMG_EREFUSED, "the data lies in another file, which was not opened");
	if (run->encrypted && !run->cipher)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"the data of %s is encrypted, and no secret was given (--secret-file)",
			vmimg_io_name(run->io));
	if (run->encrypted)
		return read_sealed(run, skip, buf, len, err);
	if (run->kind == VMIMG_RUN_DATA)
		return vmimg_io_pread(run->io, buf, len, run->at + skip, err);
	if (vmimg_reader_block(reader, run, &packed, &packed_len, &unpacked, err))
		return -1;
	memcpy(buf, unpacked + run->block.skip + skip, len);
	return 0;
}

int vmimg_reader_pread(struct vmimg_reader *reader, struct vmimg_disk *disk, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	uint8_t *to = buf;

	if (len && !vmimg_range_inside(at, len, disk->size))
		return vmimg_fail(err, VMIMG_EINVAL,
			"%zu bytes at %" PRIu64 " reach past the disk's end (%" PRIu64 ")", len, at,
			disk->size);
	while (len) {
		struct vmimg_run run;
		size_t step;

		if (vmimg_disk_resolve(disk, at, &run, NULL, err))
			return -1;
		step = (size_t)vmimg_min(len, run.len);
		if (vmimg_reader_run(reader, &run, 0, to, step, err))
			return vmimg_within(err, "guest offset 0x%" PRIx64, at);
		to += step;
		at += step;
		len -= step;
	}
	return 0;
}

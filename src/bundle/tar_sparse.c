/* SPDX-License-Identifier: Apache-2.0 */
/* The map of data comes first: four entries in the header, 21 in each block after it. A file that
 * ends in a hole has an empty entry at its end. */
#include "bundle/tar_sparse.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "bundle/tar_header.h"
#include "io/sparse.h"
#include "io/window.h"
#include "util/num.h"
#include "util/text.h"

#define BLOCK  VMIMG_TAR_BLOCK
#define RECORD 10240U /* what tar reads at once */

struct map {
	struct vmimg_sparse_run *runs;
	size_t count, cap;
	uint64_t stored;
};

/* Octal with a NUL after it or, what does not fit, base-256. */
static void put_number(uint8_t *field, size_t len, uint64_t value)
{
	char digits[24];

	if (value >> (3 * (len - 1)) == 0) {
		snprintf(digits, sizeof(digits), "%0*" PRIo64, (int)len - 1, value);
		memcpy(field, digits, len);
		return;
	}
	memset(field, 0, len);
	for (size_t i = 0; i < 8; i++)
		field[len - 1 - i] = (uint8_t)(value >> (8 * i));
	field[0] |= 0x80;
}

static int add_run(struct map *map, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	struct vmimg_sparse_run *last = map->count ? &map->runs[map->count - 1] : NULL;

	map->stored += len;
	if (last && len && last->at + last->len == at) {
		last->len += len;
		return 0;
	}
	if (vmimg_grow_array(&map->runs, &map->cap, map->count + 1, sizeof(*map->runs), err))
		return -1;
	map->runs[map->count++] = (struct vmimg_sparse_run){ at, len };
	return 0;
}

static int make_map(struct vmimg_io *io, struct map *map, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io), len;
	bool hole = false;

	for (uint64_t at = 0; at < size; at += len) {
		if (vmimg_io_extent(io, at, &hole, &len, err) ||
			(!hole && add_run(map, at, vmimg_min(len, size - at), err)))
			return -1;
	}
	return hole ? add_run(map, size, 0, err) : 0;
}

static void put_entry(uint8_t *to, const struct vmimg_sparse_run *run)
{
	put_number(to, VMIMG_TAR_ENTRY / 2, run->at);
	put_number(to + VMIMG_TAR_ENTRY / 2, VMIMG_TAR_ENTRY / 2, run->len);
}

static void put_header(uint8_t block[BLOCK], const char *name, const struct map *map, uint64_t size,
	uint64_t epoch)
{
	bool sparse = map->stored < size;
	struct vmimg_tar_header h = { .type = sparse ? 'S' : '0', .magic = "ustar  " };
	char sum[8];

	memcpy(h.name, name, strlen(name));
	put_number(h.mode, sizeof(h.mode), 0644);
	put_number(h.uid, sizeof(h.uid), 0);
	put_number(h.gid, sizeof(h.gid), 0);
	put_number(h.size, sizeof(h.size), map->stored);
	put_number(h.mtime, sizeof(h.mtime), epoch);
	memset(block, 0, BLOCK);
	vmimg_tar_header_encode(&h, block);
	for (size_t i = 0; sparse && i < map->count && i < VMIMG_TAR_GNU_ENTRY_COUNT; i++)
		put_entry(block + VMIMG_TAR_GNU_ENTRIES + i * VMIMG_TAR_ENTRY, &map->runs[i]);
	if (sparse) {
		block[VMIMG_TAR_GNU_MORE] = map->count > VMIMG_TAR_GNU_ENTRY_COUNT;
		put_number(block + VMIMG_TAR_GNU_REAL_SIZE, 12, size);
	}
	snprintf(sum, sizeof(sum), "%06" PRIo32, vmimg_tar_sum(block, false) & 0777777);
	memcpy(block + 148, sum, 7);
	block[155] = ' ';
}

static int add_map(struct vmimg_pieces *archive, const struct map *map, struct vmimg_error *err)
{
	for (size_t i = VMIMG_TAR_GNU_ENTRY_COUNT; i < map->count;) {
		uint8_t block[BLOCK] = { 0 };

		for (size_t k = 0; k < VMIMG_TAR_BLOCK_ENTRIES && i < map->count; k++, i++)
			put_entry(block + k * VMIMG_TAR_ENTRY, &map->runs[i]);
		block[VMIMG_TAR_BLOCK_MORE] = i < map->count;
		if (vmimg_pieces_bytes(archive, block, sizeof(block), err))
			return -1;
	}
	return 0;
}

static int add_data(struct vmimg_pieces *archive, const struct map *map, struct vmimg_io *io,
	struct vmimg_error *err)
{
	for (size_t i = 0; i < map->count; i++) {
		VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *stretch = NULL;

		if (!map->runs[i].len)
			continue;
		stretch = vmimg_window_open(io, map->runs[i].at, map->runs[i].len, NULL, err);
		if (!stretch || vmimg_pieces_io(archive, stretch, err))
			return -1;
	}
	return vmimg_pieces_fill(archive, vmimg_align_up(archive->size, BLOCK), err);
}

int vmimg_tar_add_sparse(struct vmimg_pieces *archive, const char *name, struct vmimg_io *io,
	uint64_t epoch, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);
	struct map map = { 0 };
	uint8_t block[BLOCK];
	int failed = -1;

	if (strlen(name) > 100 || !vmimg_tar_name_is_safe(name))
		return vmimg_fail(
			err, VMIMG_EINVAL, "'%.120s' cannot be the name of a member", name);
	if (!make_map(io, &map, err)) {
		bool sparse = map.stored < size;

		put_header(block, name, &map, size, epoch);
		failed = vmimg_pieces_bytes(archive, block, sizeof(block), err) ||
			(sparse && add_map(archive, &map, err)) || add_data(archive, &map, io, err);
	}
	free(map.runs);
	return failed ? -1 : 0;
}

int vmimg_tar_add_end(struct vmimg_pieces *archive, struct vmimg_error *err)
{
	return vmimg_pieces_fill(
		archive, vmimg_align_up(archive->size + 2 * (uint64_t)BLOCK, RECORD), err);
}

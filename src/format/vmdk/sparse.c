/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Headers of sparse extents: decoded, validated and turned into one description, whatever their
 * kind, so that the rest of the room need not tell them apart.
 */
#include <inttypes.h>
#include "format/vmdk/vmdk.h"
#include "util/num.h"
#include "util/zero.h"

/* 2^26 tables are 2 PiB of guest with the usual 64 KiB grains, and a directory of 256 MiB. */
#define MAX_TABLES (UINT64_C(1) << 26)
#define MAX_GRAIN  (UINT64_C(2) << 20)
/* Directory entries looked at when opening: 4 MiB of them, 128 TiB of guest. */
#define LOOK_AT (UINT64_C(1) << 20)

int vmimg_vmdk_file_kind(struct vmimg_io *io, enum vmdk_file_kind *kind, struct vmimg_error *err)
{
	uint8_t head[1024] = { 0 };
	size_t len = (size_t)vmimg_min(sizeof(head), vmimg_io_size(io));
	uint32_t magic;

	if (vmimg_io_pread(io, head, len, 0, err))
		return -1;
	magic = vmimg_get_le32(head);
	*kind = VMDK_FILE_OTHER;
	if (magic == VMDK_MAGIC || magic == VMDK_COWD_MAGIC ||
		vmimg_get_le64(head) == VMDK_SE_MAGIC)
		*kind = VMDK_FILE_SPARSE;
	else if (vmimg_vmdk_descriptor_probe(head, len))
		*kind = VMDK_FILE_TEXT;
	return 0;
}

/* ---- what the kinds have in common ---- */

/* Sectors out of a header, as bytes that are surely no more than 2^62. */
static int to_bytes(uint64_t sectors, const char *field, uint64_t *bytes, struct vmimg_error *err)
{
	if (sectors > VMIMG_MAX_DISK / VMDK_SECTOR)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"header: %s is 0x%" PRIx64 " sectors, more than any file or disk has",
			field, sectors);
	*bytes = sectors * VMDK_SECTOR;
	return 0;
}

/* Checks and sets the geometry of the tables. */
static int set_shape(struct vmdk_grains *g, uint64_t capacity, uint64_t grain_sectors,
	uint64_t entries, struct vmimg_error *err)
{
	if (!vmimg_is_pow2(grain_sectors) || grain_sectors > MAX_GRAIN / VMDK_SECTOR)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"header: a grain of %" PRIu64
			" sectors (a power of two up to 4096 is possible)",
			grain_sectors);
	if (!entries || entries > VMDK_COWD_ENTRIES)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"header: %" PRIu64 " entries in a grain table", entries);
	if (to_bytes(capacity, "capacity", &g->capacity, err))
		return -1;
	g->grain = (uint32_t)(grain_sectors * VMDK_SECTOR);
	g->entries = (uint32_t)entries;
	g->gd_count = vmimg_div_up(g->capacity, vmimg_vmdk_table_span(g));
	if (g->gd_count > MAX_TABLES)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"header: %" PRIu64 " grain tables, of at most %" PRIu64, g->gd_count,
			MAX_TABLES);
	return 0;
}

static bool directory_inside(const struct vmdk_grains *g, uint64_t at, struct vmimg_io *io)
{
	return vmimg_range_inside(at, g->gd_count * g->entry_size, vmimg_io_size(io));
}

/* ---- hosted ---- */

/* Whether every entry of the directory at `at` (or the first million) is absent or names a table
 * inside the file. *bad: the first that does not. */
static int directory_sound(const struct vmdk_grains *g, struct vmimg_io *io, uint64_t at,
	bool *sound, uint64_t *bad, struct vmimg_error *err)
{
	uint64_t count = vmimg_min(g->gd_count, LOOK_AT), size = vmimg_io_size(io), table_at;
	uint8_t window[4096];

	*sound = directory_inside(g, at, io);
	*bad = 0;
	for (uint64_t i = 0; *sound && i < count;) {
		uint64_t step = vmimg_min(count - i, sizeof(window) / g->entry_size);

		if (vmimg_io_pread(io, window, (size_t)(step * g->entry_size),
			    at + i * g->entry_size, err))
			return -1;
		for (uint64_t k = 0; *sound && k < step; k++, i++) {
			enum vmdk_entry_kind kind = vmimg_vmdk_directory_entry(
				g, window + k * g->entry_size, &table_at);

			*sound = kind != VMDK_ENTRY_BAD &&
				(kind != VMDK_ENTRY_AT ||
					vmimg_range_inside(
						table_at, vmimg_vmdk_table_len(g, i), size));
			*bad = i;
		}
	}
	return 0;
}

static int lose_directory(struct vmdk_grains *g, struct vmimg_disk *disk, struct vmimg_io *io,
	struct vmimg_error *err)
{
	g->lost = true;
	vmimg_disk_warn(disk, "the grain directory at 0x%" PRIx64 " is damaged", g->gd_at);
	if (directory_inside(g, g->gd_at, io) &&
		vmimg_vmdk_regular(g, io, g->gd_at, &g->regular, err))
		return -1;
	return g->rgd_at && directory_inside(g, g->rgd_at, io)
		? vmimg_vmdk_regular(g, io, g->rgd_at, &g->regular_rgd, err)
		: 0;
}

/*
 * A first directory with entries that cannot be gives way to a sound redundant one. When the header
 * places it outside the file the header itself is not to be trusted, its other offset included:
 * then only the lenient try.
 */
static int choose_directory(struct vmdk_grains *g, struct vmimg_disk *disk, struct vmimg_io *io,
	bool lenient, struct vmimg_error *err)
{
	bool sound, other_sound;
	uint64_t bad, unused;

	if (directory_sound(g, io, g->gd_at, &sound, &bad, err))
		return -1;
	if (sound)
		return 0;
	if (!g->rgd_at || (!lenient && !directory_inside(g, g->gd_at, io)) ||
		directory_sound(g, io, g->rgd_at, &other_sound, &unused, err) || !other_sound) {
		/* but for the lenient, reading it will be the error */
		return lenient ? lose_directory(g, disk, io, err) : 0;
	}
	vmimg_disk_warn(disk,
		"entry %" PRIu64 " of the grain directory at 0x%" PRIx64
		" is damaged: the redundant one at 0x%" PRIx64 " is used",
		bad, g->gd_at, g->rgd_at);
	g->through_rgd = true;
	g->gd_at = g->rgd_at;
	return 0;
}

static bool line_ends_bad(const struct vmdk_header *h)
{
	return (h->flags & VMDK_FLAG_NEWLINE) && memcmp(h->line_ends, VMDK_LINE_ENDS, 4);
}

static int check_header(const struct vmdk_header *h, bool lenient, struct vmimg_error *err)
{
	if (h->version < 1 || h->version > 3)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"header: version %" PRIu32 " (1 to 3 are known)", h->version);
	if (line_ends_bad(h) && !lenient)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"header: the line ends at offset 73 are %02x %02x %02x %02x, not 0a 20 0d "
			"0a: damaged by a text-mode transfer? copy it again in binary mode",
			h->line_ends[0], h->line_ends[1], h->line_ends[2], h->line_ends[3]);
	if (h->entries_per_table > 512)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"header: %" PRIu32 " entries in a grain table (at most 512)",
			h->entries_per_table);
	if ((h->flags & VMDK_FLAG_PACKED) && h->compress_algorithm != VMDK_COMPRESS_ZLIB)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"header: compression %u (1, deflate, is known)", h->compress_algorithm);
	return 0;
}

/* A marker has a size of 0, its type, and nothing else. What is not so misleads only those who read
 * the stream from its start. */
static int check_marker(struct vmimg_disk *disk, uint64_t at, uint32_t type, const char *what,
	struct vmimg_error *err)
{
	uint8_t bytes[VMDK_SECTOR];
	struct vmdk_marker marker;

	if (vmimg_io_pread(disk->io, bytes, sizeof(bytes), at, err))
		return -1;
	vmdk_marker_decode(&marker, bytes);
	if (marker.size || marker.type != type || !vmimg_is_zero(bytes + 16, sizeof(bytes) - 16))
		vmimg_disk_warn(disk, "the marker of %s is damaged", what);
	return 0;
}

/* The footer: a second header, before the end-of-stream marker, that knows where the directory is.
 */
static int read_footer(struct vmdk_header *h, struct vmimg_disk *disk, struct vmimg_io *io,
	struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);
	struct vmdk_header footer;
	uint8_t bytes[512];

	if (size < 3 * VMDK_SECTOR ||
		vmimg_io_pread(io, bytes, sizeof(bytes), size - 2 * VMDK_SECTOR, err))
		return vmimg_fail(err, VMIMG_ECORRUPT, "too short for a stream with a footer");
	vmdk_header_decode(&footer, bytes);
	if (footer.magic != VMDK_MAGIC)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"no footer at 0x%" PRIx64 ": the stream is cut short, or more was added",
			size - 2 * VMDK_SECTOR);
	if (check_header(&footer, false, err))
		return vmimg_within(err, "footer");
	if (footer.capacity != h->capacity || footer.grain_size != h->grain_size ||
		footer.entries_per_table != h->entries_per_table)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"footer and header contradict each other (capacity 0x%" PRIx64
			" and 0x%" PRIx64 " sectors)",
			footer.capacity, h->capacity);
	if (footer.gd_offset == VMDK_GD_AT_END)
		return vmimg_fail(err, VMIMG_ECORRUPT, "footer: no grain directory");
	if (footer.version != h->version || footer.descriptor_offset != h->descriptor_offset ||
		footer.descriptor_size != h->descriptor_size)
		vmimg_disk_warn(disk, "the footer names another descriptor than the header");
	if (io == disk->io &&
		(check_marker(
			 disk, size - 3 * VMDK_SECTOR, VMDK_MARKER_FOOTER, "the footer", err) ||
			check_marker(disk, size - VMDK_SECTOR, VMDK_MARKER_EOS,
				"the end of the stream", err)))
		return -1;
	h->gd_offset = footer.gd_offset;
	return 0;
}

/* Without the footer a stream may still say in its markers what is where: for the lenient. */
static int find_directory(struct vmdk_grains *g, struct vmdk_header *h, struct vmimg_disk *disk,
	struct vmimg_io *io, bool lenient, struct vmimg_error *err)
{
	const uint32_t stream = VMDK_FLAG_PACKED | VMDK_FLAG_MARKERS;

	if (!read_footer(h, disk, io, err))
		return 0;
	if (!lenient || err->status != VMIMG_ECORRUPT || (h->flags & stream) != stream)
		return -1;
	vmimg_disk_warn(disk, "%s", err->text);
	h->gd_offset = 0;
	g->lost = true;
	return 0;
}

static int place_hosted(struct vmdk_grains *g, const struct vmdk_header *h, struct vmimg_io *io,
	struct vmimg_error *err)
{
	uint64_t descriptor_end;

	if (to_bytes(h->gd_offset, "gdOffset", &g->gd_at, err) ||
		to_bytes(h->overhead, "overHead", &g->overhead, err) ||
		to_bytes(h->descriptor_offset, "descriptorOffset", &g->descriptor_at, err) ||
		to_bytes(h->descriptor_size, "descriptorSize", &g->descriptor_len, err))
		return -1;
	if ((h->flags & VMDK_FLAG_REDUNDANT) && h->rgd_offset &&
		h->rgd_offset <= VMIMG_MAX_DISK / VMDK_SECTOR)
		g->rgd_at = h->rgd_offset * VMDK_SECTOR;
	if (!g->descriptor_at || !g->descriptor_len) {
		g->descriptor_at = g->descriptor_len = 0;
		return 0;
	}
	descriptor_end = g->descriptor_at + g->descriptor_len;
	if (descriptor_end > vmimg_io_size(io))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the descriptor at 0x%" PRIx64
			" reaches past the end of the file (0x%" PRIx64 "): truncated?",
			g->descriptor_at, vmimg_io_size(io));
	return 0;
}

static int read_hosted(struct vmdk_grains *g, struct vmimg_disk *disk, struct vmimg_io *io,
	bool lenient, struct vmimg_error *err)
{
	struct vmdk_header h;
	uint8_t bytes[512];

	if (vmimg_io_pread(io, bytes, sizeof(bytes), 0, err))
		return -1;
	vmdk_header_decode(&h, bytes);
	if (check_header(&h, lenient, err) ||
		set_shape(g, h.capacity, h.grain_size, h.entries_per_table, err))
		return -1;
	g->at_end = h.gd_offset == VMDK_GD_AT_END;
	if (g->at_end && find_directory(g, &h, disk, io, lenient, err))
		return -1;
	g->line_ends_bad = line_ends_bad(&h);
	if (g->line_ends_bad)
		vmimg_disk_warn(disk, "the line ends in the header are damaged");
	g->kind = VMDK_HOSTED;
	g->version = h.version;
	g->flags = h.flags;
	g->entry_size = 4;
	g->packed = h.flags & VMDK_FLAG_PACKED;
	g->zeroed = h.flags & VMDK_FLAG_ZEROED;
	g->unclean = h.unclean;
	if (place_hosted(g, &h, io, err))
		return -1;
	return g->lost ? 0 : choose_directory(g, disk, io, lenient, err);
}

/* ---- COWD ---- */

static int read_cowd(struct vmdk_grains *g, struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmdk_cowd h;
	uint8_t bytes[2048];

	if (vmimg_io_pread(io, bytes, sizeof(bytes), 0, err))
		return -1;
	vmdk_cowd_decode(&h, bytes);
	if (h.version != 1)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"COWD header: version %" PRIu32 " (1 is known)", h.version);
	if (set_shape(g, h.capacity, h.grain_size, VMDK_COWD_ENTRIES, err))
		return vmimg_within(err, "COWD");
	if (h.gd_entries < g->gd_count)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"COWD header: %" PRIu32
			" grain directory entries, its capacity takes %" PRIu64,
			h.gd_entries, g->gd_count);
	g->kind = VMDK_COWD_KIND;
	g->version = h.version;
	g->flags = h.flags;
	g->entry_size = 4;
	g->gd_at = h.gd_offset * VMDK_SECTOR;
	g->overhead = sizeof(bytes);
	g->unclean = h.unclean;
	return 0;
}

/* ---- seSparse ---- */

/* The layout of the journal has never been published: an extent that needs it is not read. */
static int read_volatile(struct vmdk_grains *g, const struct vmdk_se_header *h,
	struct vmimg_disk *disk, struct vmimg_io *io, bool lenient, struct vmimg_error *err)
{
	struct vmdk_se_volatile v;
	uint8_t bytes[512];
	uint64_t at = 0;

	if (to_bytes(h->volatile_offset, "volatile header offset", &at, err) ||
		vmimg_io_pread(io, bytes, sizeof(bytes), at, err))
		return vmimg_within(err, "seSparse");
	vmdk_se_volatile_decode(&v, bytes);
	if (v.magic != VMDK_SE_VOLATILE_MAGIC)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"seSparse: no volatile header at 0x%" PRIx64 " (magic 0x%" PRIx64 ")", at,
			v.magic);
	if (!v.replay_journal)
		return 0;
	if (!lenient)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"seSparse: its journal has to be replayed first: open and close the "
			"disk in ESXi");
	g->unclean = true;
	vmimg_disk_warn(disk, "seSparse: the journal was not replayed, its changes are missing");
	return 0;
}

static int read_se(struct vmdk_grains *g, struct vmimg_disk *disk, struct vmimg_io *io,
	bool lenient, struct vmimg_error *err)
{
	struct vmdk_se_header h;
	uint8_t bytes[512];
	uint64_t gd_len = 0;

	if (vmimg_io_pread(io, bytes, sizeof(bytes), 0, err))
		return -1;
	vmdk_se_header_decode(&h, bytes);
	if (h.version != VMDK_SE_VERSION)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"seSparse header: version 0x%" PRIx64 " (2.1 is known)", h.version);
	if (h.table_size > VMDK_COWD_ENTRIES * 8 / VMDK_SECTOR)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"seSparse header: grain tables of %" PRIu64 " sectors", h.table_size);
	if (set_shape(g, h.capacity, h.grain_size, h.table_size * VMDK_SECTOR / 8, err) ||
		to_bytes(h.gd_offset, "grain directory offset", &g->gd_at, err) ||
		to_bytes(h.gd_size, "grain directory size", &gd_len, err) ||
		to_bytes(h.tables_offset, "grain tables offset", &g->tables_at, err) ||
		to_bytes(h.grains_offset, "grains offset", &g->data_at, err))
		return vmimg_within(err, "seSparse");
	if (gd_len / 8 < g->gd_count)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"seSparse header: a grain directory of %" PRIu64
			" bytes, its capacity takes %" PRIu64 " entries",
			gd_len, g->gd_count);
	g->kind = VMDK_SE_KIND;
	g->version = 2;
	g->flags = (uint32_t)h.flags;
	g->entry_size = 8;
	g->overhead = sizeof(bytes);
	return read_volatile(g, &h, disk, io, lenient, err);
}

int vmimg_vmdk_grains_read(struct vmdk_grains *g, struct vmimg_disk *disk, struct vmimg_io *io,
	bool lenient, struct vmimg_error *err)
{
	uint8_t magic[8] = { 0 };

	memset(g, 0, sizeof(*g));
	if (vmimg_io_pread(io, magic, (size_t)vmimg_min(sizeof(magic), vmimg_io_size(io)), 0, err))
		return -1;
	if (vmimg_get_le32(magic) == VMDK_MAGIC)
		return read_hosted(g, disk, io, lenient, err);
	if (vmimg_get_le32(magic) == VMDK_COWD_MAGIC)
		return read_cowd(g, io, err);
	if (vmimg_get_le64(magic) == VMDK_SE_MAGIC)
		return read_se(g, disk, io, lenient, err);
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"%s is not a sparse extent (it begins with %02x %02x %02x %02x)", vmimg_io_name(io),
		magic[0], magic[1], magic[2], magic[3]);
}

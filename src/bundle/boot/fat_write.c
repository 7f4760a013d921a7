/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every file and folder lies in one run of clusters, in the order of the plan; the table of
 * clusters follows from that. The root folder, a label first, comes before all.
 */
#include "bundle/fat.h"
#include "bundle/pieces.h"
#include <ctype.h>
#include <string.h>
#include <time.h>
#include "util/layout.h"
#include "util/num.h"

#define SECTOR       512U
#define RESERVED     32U    /* sectors in front of the first table */
#define LEAST        65525U /* clusters of FAT32 */
#define FOLDER_BYTES 4096U  /* of every folder: 128 entries */
#define ENTRY        32U
#define END_OF_CHAIN 0x0fffffffU
#define MEDIA        0x0ffffff8U
#define MAX_FILES    32U

#define BOOT(F, B)                 \
	B(3, jump, 0)              \
	B(8, oem, 3)               \
	F(le16, sector, 11)        \
	F(u8, cluster_sectors, 13) \
	F(le16, reserved, 14)      \
	F(u8, tables, 16)          \
	F(u8, media, 21)           \
	F(le16, track, 24)         \
	F(le16, heads, 26)         \
	F(le32, hidden, 28)        \
	F(le32, sectors, 32)       \
	F(le32, table_sectors, 36) \
	F(le32, root, 44)          \
	F(le16, fsinfo, 48)        \
	F(le16, backup, 50)        \
	F(u8, drive, 64)           \
	F(u8, signature, 66)       \
	F(le32, volume_id, 67)     \
	B(11, label, 71)           \
	B(8, type, 82)             \
	F(le16, end, 510)
VMIMG_LAYOUT(fat_boot, SECTOR, BOOT);

#define DIRECTORY(F, B)           \
	B(11, name, 0)            \
	F(u8, attributes, 11)     \
	F(u8, lower, 12)          \
	F(le16, made_time, 14)    \
	F(le16, made_date, 16)    \
	F(le16, read_date, 18)    \
	F(le16, cluster_high, 20) \
	F(le16, time, 22)         \
	F(le16, date, 24)         \
	F(le16, cluster_low, 26)  \
	F(le32, size, 28)
VMIMG_LAYOUT(fat_entry, ENTRY, DIRECTORY);

enum { ATTR_LABEL = 0x08, ATTR_FOLDER = 0x10, ATTR_ARCHIVE = 0x20 };
enum { LOWER_NAME = 0x08, LOWER_SUFFIX = 0x10 };

struct place {
	uint32_t first, count; /* clusters; first 0: empty */
};

struct fat {
	const struct vmimg_fat_plan *plan;
	uint32_t cluster; /* bytes */
	uint32_t clusters, table_sectors;
	struct place root, places[MAX_FILES];
	uint32_t used; /* clusters */
};

uint64_t vmimg_fat_size(uint64_t bytes)
{
	uint64_t size = bytes + bytes / 32 + (UINT64_C(4) << 20);

	return vmimg_align_up(vmimg_max(size, UINT64_C(40) << 20), UINT64_C(1) << 20);
}

/* ---- where everything goes ---- */

static uint64_t data_start(const struct fat *fat)
{
	return (RESERVED + UINT64_C(2) * fat->table_sectors) * SECTOR;
}

/* Clusters and tables that fill the size. The table is reckoned for all sectors: a few too many. */
static int settle_size(struct fat *fat, struct vmimg_error *err)
{
	uint64_t sectors = fat->plan->size / SECTOR, clusters;

	fat->cluster = fat->plan->size >= (UINT64_C(512) << 20) ? 4096 : 512;
	clusters = (sectors - RESERVED) / (fat->cluster / SECTOR);
	fat->table_sectors = (uint32_t)vmimg_div_up((clusters + 2) * 4, SECTOR);
	clusters = (fat->plan->size - data_start(fat)) / fat->cluster;
	if (sectors > UINT32_MAX || clusters < LEAST)
		return vmimg_fail(err, VMIMG_EINVAL,
			"an EFI system partition of that size cannot be made as FAT32");
	fat->clusters = (uint32_t)clusters;
	return 0;
}

static int take_clusters(
	struct fat *fat, uint64_t bytes, struct place *place, struct vmimg_error *err)
{
	uint64_t count = vmimg_div_up(bytes, fat->cluster);

	if (bytes > UINT32_MAX || count > fat->clusters - fat->used)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a kernel or ramdisk is too large for an EFI system partition");
	place->first = count ? fat->used + 2 : 0;
	place->count = (uint32_t)count;
	fat->used += (uint32_t)count;
	return 0;
}

static int place_all(struct fat *fat, struct vmimg_error *err)
{
	const struct vmimg_fat_plan *plan = fat->plan;

	if (plan->count > MAX_FILES)
		return vmimg_fail(err, VMIMG_EINVAL, "too many files for one folder");
	if (settle_size(fat, err) || take_clusters(fat, FOLDER_BYTES, &fat->root, err))
		return -1;
	for (unsigned i = 0; i < plan->count; i++) {
		struct vmimg_io *io = plan->files[i].io;

		if (take_clusters(fat, io ? vmimg_io_size(io) : FOLDER_BYTES, &fat->places[i], err))
			return -1;
	}
	return 0;
}

/* ---- folders ---- */

static void set_times(struct fat_entry *entry, uint64_t epoch)
{
	time_t when = (time_t)epoch;
	struct tm tm;

	entry->date = 1 << 5 | 1; /* 1980-01-01 */
	entry->time = 0;
	if (gmtime_r(&when, &tm) && tm.tm_year >= 80 && tm.tm_year <= 207) {
		entry->date =
			(uint16_t)((tm.tm_year - 80) << 9 | (tm.tm_mon + 1) << 5 | tm.tm_mday);
		entry->time = (uint16_t)(tm.tm_hour << 11 | tm.tm_min << 5 | tm.tm_sec / 2);
	}
	entry->made_date = entry->read_date = entry->date;
	entry->made_time = entry->time;
}

/* "initrd.img" as "INITRD  IMG", with the marks that bring its lower case back. */
static void set_name(struct fat_entry *entry, const char *name)
{
	const char *dot = strchr(name, '.');
	size_t stem = dot ? (size_t)(dot - name) : strlen(name);

	memset(entry->name, ' ', sizeof(entry->name));
	for (size_t i = 0; i < stem && i < 8; i++)
		entry->name[i] = (uint8_t)toupper((unsigned char)name[i]);
	for (size_t i = 0; dot && dot[1 + i] && i < 3; i++)
		entry->name[8 + i] = (uint8_t)toupper((unsigned char)dot[1 + i]);
	if (islower((unsigned char)name[0]))
		entry->lower = LOWER_NAME | (dot ? LOWER_SUFFIX : 0);
}

static void set_place(struct fat_entry *entry, const struct place *place)
{
	entry->cluster_high = (uint16_t)(place->first >> 16);
	entry->cluster_low = (uint16_t)place->first;
}

static void put_dots(const struct fat *fat, unsigned folder, uint8_t *bytes)
{
	const struct vmimg_fat_file *file = &fat->plan->files[folder - 1];
	struct fat_entry self = { .attributes = ATTR_FOLDER }, above = self;

	set_times(&self, fat->plan->epoch);
	set_times(&above, fat->plan->epoch);
	memcpy(self.name, ".          ", 11);
	memcpy(above.name, "..         ", 11);
	set_place(&self, &fat->places[folder - 1]);
	if (file->folder) /* the root is cluster 0 here */
		set_place(&above, &fat->places[file->folder - 1]);
	fat_entry_encode(&self, bytes);
	fat_entry_encode(&above, bytes + ENTRY);
}

/* The entries of a folder (0: the root). */
static void put_folder(const struct fat *fat, unsigned folder, uint8_t bytes[FOLDER_BYTES])
{
	struct fat_entry label = { .attributes = ATTR_LABEL };
	uint8_t *next = bytes + (folder ? 2 : 1) * ENTRY;

	memset(bytes, 0, FOLDER_BYTES);
	if (folder) {
		put_dots(fat, folder, bytes);
	} else {
		memset(label.name, ' ', sizeof(label.name));
		memcpy(label.name, fat->plan->label, strnlen(fat->plan->label, 11));
		set_times(&label, fat->plan->epoch);
		label.read_date = label.made_date = label.made_time = 0;
		fat_entry_encode(&label, bytes);
	}
	for (unsigned i = 0; i < fat->plan->count; i++) {
		const struct vmimg_fat_file *file = &fat->plan->files[i];
		struct fat_entry entry = { .attributes = file->io ? ATTR_ARCHIVE : ATTR_FOLDER };

		if (file->folder != folder)
			continue;
		entry.size = file->io ? (uint32_t)vmimg_io_size(file->io) : 0;
		set_name(&entry, file->name);
		set_times(&entry, fat->plan->epoch);
		set_place(&entry, &fat->places[i]);
		fat_entry_encode(&entry, next);
		next += ENTRY;
	}
}

/* ---- the front ---- */

static void put_boot(const struct fat *fat, uint8_t out[SECTOR])
{
	const struct vmimg_fat_plan *plan = fat->plan;
	struct fat_boot boot = { .jump = { 0xeb, 0x58, 0x90 },
		.oem = "MSDOS5.0",
		.sector = SECTOR,
		.cluster_sectors = (uint8_t)(fat->cluster / SECTOR),
		.reserved = RESERVED,
		.tables = 2,
		.media = 0xf8,
		.track = 63,
		.heads = 255,
		.hidden = plan->hidden,
		.sectors = (uint32_t)(plan->size / SECTOR),
		.table_sectors = fat->table_sectors,
		.root = fat->root.first,
		.fsinfo = 1,
		.backup = 6,
		.drive = 0x80,
		.signature = 0x29,
		.volume_id = plan->volume_id,
		.type = "FAT32   ",
		.end = 0xaa55 };

	memset(boot.label, ' ', sizeof(boot.label));
	memcpy(boot.label, plan->label, strnlen(plan->label, sizeof(boot.label)));
	memset(out, 0, SECTOR);
	fat_boot_encode(&boot, out);
}

static void put_fsinfo(const struct fat *fat, uint8_t out[SECTOR])
{
	memset(out, 0, SECTOR);
	vmimg_put_le32(out, 0x41615252);
	vmimg_put_le32(out + 484, 0x61417272);
	vmimg_put_le32(out + 488, fat->clusters - fat->used);
	vmimg_put_le32(out + 492, fat->used + 2);
	vmimg_put_le32(out + 508, 0xaa550000);
}

static int add_front(const struct fat *fat, struct vmimg_pieces *pieces, struct vmimg_error *err)
{
	uint8_t front[RESERVED * SECTOR] = { 0 };

	put_boot(fat, front);
	put_fsinfo(fat, front + SECTOR);
	vmimg_put_le32(front + 2 * SECTOR + 508, 0xaa550000);
	memcpy(front + 6 * (size_t)SECTOR, front, 3 * (size_t)SECTOR);
	return vmimg_pieces_bytes(pieces, front, sizeof(front), err);
}

static void put_chain(uint8_t *table, const struct place *place)
{
	for (uint32_t i = 0; i < place->count; i++)
		vmimg_put_le32(table + 4 * ((size_t)place->first + i),
			i + 1 < place->count ? place->first + i + 1 : END_OF_CHAIN);
}

static int add_tables(const struct fat *fat, struct vmimg_pieces *pieces, struct vmimg_error *err)
{
	size_t used = ((size_t)fat->used + 2) * 4, whole = (size_t)fat->table_sectors * SECTOR;
	VMIMG_AUTO(free) uint8_t *table = vmimg_alloc_array(1, used, err);

	if (!table)
		return -1;
	vmimg_put_le32(table, MEDIA);
	vmimg_put_le32(table + 4, END_OF_CHAIN);
	put_chain(table, &fat->root);
	for (unsigned i = 0; i < fat->plan->count; i++)
		put_chain(table, &fat->places[i]);
	for (unsigned copy = 0; copy < 2; copy++)
		if (vmimg_pieces_bytes(pieces, table, used, err) ||
			vmimg_pieces_zeroes(pieces, whole - used, err))
			return -1;
	return 0;
}

static int add_folder(const struct fat *fat, unsigned folder, struct vmimg_pieces *pieces,
	struct vmimg_error *err)
{
	uint8_t bytes[FOLDER_BYTES];

	put_folder(fat, folder, bytes);
	return vmimg_pieces_bytes(pieces, bytes, sizeof(bytes), err);
}

static int add_data(const struct fat *fat, struct vmimg_pieces *pieces, struct vmimg_error *err)
{
	if (add_folder(fat, 0, pieces, err))
		return -1;
	for (unsigned i = 0; i < fat->plan->count; i++) {
		struct vmimg_io *io = fat->plan->files[i].io;
		uint64_t end = data_start(fat) +
			((uint64_t)fat->places[i].first + fat->places[i].count - 2) * fat->cluster;

		if (!fat->places[i].count)
			continue;
		if (io ? vmimg_pieces_io(pieces, io, err) : add_folder(fat, i + 1, pieces, err))
			return -1;
		if (vmimg_pieces_fill(pieces, end, err))
			return -1;
	}
	return vmimg_pieces_fill(pieces, fat->plan->size, err);
}

struct vmimg_io *vmimg_fat_write(const struct vmimg_fat_plan *plan, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_pieces_done) struct vmimg_pieces pieces = { 0 };
	struct fat fat = { .plan = plan };

	if (place_all(&fat, err) || add_front(&fat, &pieces, err) ||
		add_tables(&fat, &pieces, err) || add_data(&fat, &pieces, err))
		return NULL;
	return vmimg_pieces_join(&pieces, "EFI system partition", err);
}

int vmimg_fat_settle(struct vmimg_io *io, uint64_t epoch, struct vmimg_error *err)
{
	uint8_t sector[SECTOR], folder[FOLDER_BYTES];
	struct fat_boot boot;
	struct fat_entry entry;
	uint64_t at;

	if (vmimg_io_pread(io, sector, sizeof(sector), 0, err))
		return -1;
	fat_boot_decode(&boot, sector);
	/* boot code goes into the first sector alone: its copy follows */
	if (vmimg_io_pwrite(io, sector, sizeof(sector), boot.backup * (uint64_t)SECTOR, err))
		return -1;
	at = (boot.reserved + UINT64_C(2) * boot.table_sectors) * SECTOR;
	if (vmimg_io_pread(io, folder, sizeof(folder), at, err))
		return -1;
	for (uint8_t *p = folder; p < folder + sizeof(folder); p += ENTRY) {
		if (p[0] == 0 || p[0] == 0xe5) {
			memset(p + (p[0] ? 1 : 0), 0, ENTRY - (p[0] ? 1 : 0));
			continue;
		}
		fat_entry_decode(&entry, p);
		if (entry.attributes == ATTR_LABEL)
			continue;
		set_times(&entry, epoch);
		p[13] = 0; /* tenths of the second it was made */
		fat_entry_encode(&entry, p);
	}
	return vmimg_io_pwrite(io, folder, sizeof(folder), at, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Volume descriptors, folders and files of an ISO 9660 image. A file's content is one extent, or
 * several whose records follow each other. */
#include "inspect/iso9660.h"
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include "inspect/rockridge.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/utf16.h"

#define FIRST_SECTOR    16U
#define MAX_DESCRIPTORS 64U
#define MAX_FOLDER      (UINT32_C(64) << 20)
#define MAX_EXTENTS     4096U
#define FLAG_DIR        0x02
#define FLAG_ASSOCIATED 0x04
#define FLAG_MORE       0x80

/* Where a node's more[] points: the first of its records, and how many extents it has. 0: it is
 * interleaved with another file. */
enum { RECORD_AT, EXTENTS };

struct iso {
	struct vmimg_fs fs;
	struct vmimg_io *io;       /* shared */
	struct vmimg_table *table; /* over io */
	struct vmimg_iso_volume volume;
	uint32_t block;    /* bytes of a logical block */
	bool rock, joliet; /* the tree that is read */
	size_t skip;       /* of System Use areas, */
	uint64_t left;     /* and what may still be read of those that go on elsewhere */
};

/* One record, decoded. */
struct record {
	uint64_t at; /* on disk */
	size_t len;
	uint32_t start, size; /* block; bytes */
	uint8_t flags;
	uint8_t bytes[256];
	const uint8_t *name;
	size_t name_len;
};

static struct iso *iso_of(struct vmimg_fs *fs)
{
	return (struct iso *)fs;
}

/* ---- records ----------------------------------------------------------------------------- */

/* The record at *at of a folder that ends at end; *at moves past it. *none: there is no more. */
static int read_record(struct iso *iso, uint64_t *at, uint64_t end, struct record *r, bool *none,
	struct vmimg_error *err)
{
	*none = true;
	for (;;) {
		if (*at >= end)
			return 0;
		if (vmimg_table_read(iso->table, r->bytes, 1, *at, err))
			return -1;
		if (r->bytes[0])
			break;
		*at = vmimg_align_down(*at, VMIMG_ISO_SECTOR) + VMIMG_ISO_SECTOR;
	}
	r->len = r->bytes[0];
	if (r->len <= VMIMG_ISO_RECORD || r->len > end - *at)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a folder's record at 0x%" PRIx64 " has an impossible length of %zu", *at,
			r->len);
	if (vmimg_table_read(iso->table, r->bytes, r->len, *at, err))
		return -1;
	r->at = *at;
	r->start = vmimg_get_le32(r->bytes + 2) + r->bytes[1];
	r->size = vmimg_get_le32(r->bytes + 10);
	r->flags = r->bytes[25];
	r->name = r->bytes + VMIMG_ISO_RECORD;
	r->name_len = r->bytes[32];
	if (VMIMG_ISO_RECORD + r->name_len > r->len)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the name in a folder's record at 0x%" PRIx64 " is longer than the record",
			*at);
	*at += r->len;
	*none = false;
	return 0;
}

/* The System Use area: behind the name, which is padded to an even length. */
static const uint8_t *system_use(const struct record *r, size_t *len)
{
	size_t from = VMIMG_ISO_RECORD + r->name_len + !(r->name_len & 1);

	*len = from < r->len ? r->len - from : 0;
	return r->bytes + from;
}

static bool is_self_or_parent(const struct record *r)
{
	return r->name_len == 1 && r->name[0] <= 1;
}

/* "NAME.EXT;1" without what ISO 9660 alone needs. */
static size_t plain_len(const char *name, size_t len)
{
	const char *version = memrchr(name, ';', len);

	if (version)
		len = (size_t)(version - name);
	return len > 1 && name[len - 1] == '.' ? len - 1 : len;
}

struct named {
	char *text; /* owned; NULL: other holds it */
	const char *name;
	size_t len;
};

static int name_of(const struct iso *iso, const struct record *r, const struct vmimg_rock *rock,
	struct named *named, struct vmimg_error *err)
{
	named->text = NULL;
	if (iso->rock && rock->name_len) {
		named->name = rock->name;
		named->len = rock->name_len;
	} else if (iso->joliet) {
		named->text = vmimg_utf16_decode(r->name, r->name_len, true, err);
		if (!named->text)
			return -1;
		named->name = named->text;
		named->len = plain_len(named->text, strlen(named->text));
	} else {
		named->name = (const char *)r->name;
		named->len = plain_len(named->name, r->name_len);
	}
	return 0;
}

static enum vmimg_node_kind kind_of(const struct vmimg_node *node)
{
	return S_ISDIR(node->mode)    ? VMIMG_NODE_DIR
		: S_ISLNK(node->mode) ? VMIMG_NODE_LINK
		: S_ISREG(node->mode) ? VMIMG_NODE_FILE
				      : VMIMG_NODE_OTHER;
}

static void set_node(struct vmimg_node *node, const struct record *r, const struct vmimg_rock *rock)
{
	bool dir = r->flags & FLAG_DIR;

	*node = (struct vmimg_node){ .mode = dir ? 040555 : 0100444,
		.size = r->size,
		.mtime = vmimg_iso_time(r->bytes + 18),
		.id = r->start,
		.more = { r->at, 1 } };
	if (rock->has_mode) {
		node->mode = rock->mode;
		node->uid = rock->uid;
		node->gid = rock->gid;
	}
	if (rock->has_time)
		node->mtime = rock->mtime;
	if (rock->packed)
		node->size = rock->unpacked;
	node->kind = kind_of(node);
	if (dir || rock->child)
		node->kind = VMIMG_NODE_DIR;
	else if (node->kind == VMIMG_NODE_DIR)
		node->kind = VMIMG_NODE_OTHER;
	if (node->kind == VMIMG_NODE_LINK)
		node->size = rock->link_len;
}

/* ---- folders ----------------------------------------------------------------------------- */

/* A folder that lies elsewhere because it would be too deep: its own record tells its size. */
static int follow_child(
	struct iso *iso, uint32_t sector, struct vmimg_node *node, struct vmimg_error *err)
{
	uint64_t at = (uint64_t)sector * iso->block;
	struct record self;
	bool none;

	if (read_record(iso, &at, at + VMIMG_ISO_SECTOR, &self, &none, err))
		return -1;
	if (none || !(self.flags & FLAG_DIR))
		return vmimg_fail(err, VMIMG_ECORRUPT, "a moved folder is not where it should be");
	node->id = sector;
	node->size = self.size;
	node->mode = 040555;
	return 0;
}

struct scan {
	struct iso *iso;
	vmimg_fs_each *each;
	void *ctx;
	uint64_t at, end;
};

static bool is_interleaved(const struct record *r)
{
	return r->bytes[26] || r->bytes[27];
}

/* Adds the extents that follow, which have records of their own. */
static int take_more(
	struct scan *scan, struct record *r, struct vmimg_node *node, struct vmimg_error *err)
{
	bool none, interleaved = is_interleaved(r);

	while (r->flags & FLAG_MORE) {
		if (read_record(scan->iso, &scan->at, scan->end, r, &none, err))
			return -1;
		if (none || node->more[EXTENTS] >= MAX_EXTENTS)
			return vmimg_fail(
				err, VMIMG_ECORRUPT, "a file's extents are not all there");
		node->size += r->size;
		node->more[EXTENTS]++;
		interleaved |= is_interleaved(r);
	}
	if (interleaved)
		node->more[EXTENTS] = 0;
	return 0;
}

static int visit(struct scan *scan, struct record *r, struct vmimg_rock *rock, bool *enough,
	struct vmimg_error *err)
{
	struct iso *iso = scan->iso;
	struct vmimg_node node;
	struct named named;
	size_t len;
	const uint8_t *area = system_use(r, &len);
	int failed;

	memset(rock, 0, sizeof(*rock));
	if (iso->rock && vmimg_rock_read(iso->table, area, len, iso->skip, rock, &iso->left, err))
		return -1;
	if (name_of(iso, r, rock, &named, err))
		return -1;
	set_node(&node, r, rock);
	failed = rock->child ? follow_child(iso, rock->child, &node, err) : 0;
	if (!failed && !rock->relocated && !(r->flags & FLAG_ASSOCIATED)) {
		char name[1024]; /* take_more() reads other records into r */
		size_t take = vmimg_min(named.len, sizeof(name));

		memcpy(name, named.name, take);
		failed = take_more(scan, r, &node, err);
		if (!failed)
			*enough = !scan->each(scan->ctx, name, take, &node);
	}
	free(named.text);
	return failed;
}

static int iso_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each,
	void *ctx, struct vmimg_error *err)
{
	struct iso *iso = iso_of(fs);
	VMIMG_AUTO(free) struct vmimg_rock *rock = vmimg_new(struct vmimg_rock, err);
	struct scan scan = { iso, each, ctx, dir->id * iso->block, 0 };
	struct record r;
	bool none, enough = false;

	if (!rock)
		return -1;
	if (dir->size > MAX_FOLDER)
		return vmimg_fail(err, VMIMG_ELIMIT, "a folder of %" PRIu64 " bytes", dir->size);
	scan.end = scan.at + dir->size;
	iso->left = MAX_FOLDER;
	if (read_record(iso, &scan.at, scan.end, &r, &none, err))
		return -1;
	if (none || !is_self_or_parent(&r))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the folder at 0x%" PRIx64 " does not begin with itself",
			dir->id * iso->block);
	while (!enough) {
		if (read_record(iso, &scan.at, scan.end, &r, &none, err))
			return -1;
		if (none)
			return 0;
		if (!is_self_or_parent(&r) && visit(&scan, &r, rock, &enough, err))
			return -1;
	}
	return 0;
}

/* ---- content ----------------------------------------------------------------------------- */

static int read_record_at(struct iso *iso, uint64_t at, struct record *r, struct vmimg_error *err)
{
	bool none;

	if (read_record(iso, &at, at + 256, r, &none, err))
		return -1;
	/* a second line of defence: it was there when the folder was listed */
	return none ? vmimg_fail(err, VMIMG_ECORRUPT, "a folder's record has gone") : 0;
}

/* A file of several extents: its records are walked again. */
static int read_extents(struct iso *iso, const struct vmimg_node *node, uint8_t *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	uint64_t next = node->more[RECORD_AT];
	bool none;

	for (uint64_t i = 0; i < node->more[EXTENTS] && len; i++) {
		struct record r;
		size_t step;

		if (read_record(iso, &next, UINT64_MAX / 2, &r, &none, err))
			return -1;
		if (at >= r.size) {
			at -= r.size;
			continue;
		}
		step = (size_t)vmimg_min(len, r.size - at);
		if (vmimg_io_pread(iso->io, buf, step, (uint64_t)r.start * iso->block + at, err))
			return -1;
		buf += step;
		len -= step;
		at = 0;
	}
	/* a second line of defence: the file's size is their sum */
	return len ? vmimg_fail(err, VMIMG_ECORRUPT, "a file's extents are too short") : 0;
}

static int rock_of(struct iso *iso, const struct vmimg_node *node, struct vmimg_rock *rock,
	struct vmimg_error *err)
{
	const uint8_t *area;
	struct record r;
	size_t len;

	if (read_record_at(iso, node->more[RECORD_AT], &r, err))
		return -1;
	area = system_use(&r, &len);
	iso->left = MAX_FOLDER;
	return vmimg_rock_read(iso->table, area, len, iso->skip, rock, &iso->left, err);
}

static int iso_read(struct vmimg_fs *fs, const struct vmimg_node *node, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	struct iso *iso = iso_of(fs);
	VMIMG_AUTO(free) struct vmimg_rock *rock = NULL;

	if (!node->more[EXTENTS])
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the file is interleaved with another, and not read here");
	if (node->more[EXTENTS] > 1)
		return read_extents(iso, node, buf, len, at, err);
	if (iso->rock) {
		rock = vmimg_new(struct vmimg_rock, err);
		if (!rock || rock_of(iso, node, rock, err))
			return -1;
		if (rock->packed)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"the file is compressed (zisofs), which is not read here");
	}
	return vmimg_io_pread(iso->io, buf, len, node->id * iso->block + at, err);
}

static int iso_readlink(struct vmimg_fs *fs, const struct vmimg_node *node, char *out, size_t cap,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_rock *rock = vmimg_new(struct vmimg_rock, err);
	size_t len;

	if (!rock || rock_of(iso_of(fs), node, rock, err))
		return -1;
	len = vmimg_min(rock->link_len, cap - 1);
	memcpy(out, rock->link, len);
	out[len] = '\0';
	return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

static void set_text(char *to, const uint8_t *from, size_t len)
{
	while (len && (from[len - 1] == ' ' || !from[len - 1]))
		len--;
	memcpy(to, from, len);
	to[len] = '\0';
}

static void take_primary(struct iso *iso, const uint8_t *s)
{
	struct vmimg_iso_volume *v = &iso->volume;

	set_text(v->system, s + 8, 32);
	set_text(v->volume, s + 40, 32);
	set_text(v->set, s + 190, 128);
	set_text(v->publisher, s + 318, 128);
	set_text(v->preparer, s + 446, 128);
	set_text(v->application, s + 574, 128);
	iso->block = vmimg_get_le16(s + 128);
	v->size = (uint64_t)vmimg_get_le32(s + 80) * iso->block;
}

static void set_root(struct iso *iso, const uint8_t *descriptor, uint64_t at)
{
	const uint8_t *r = descriptor + 156;

	iso->fs.root = (struct vmimg_node){ .kind = VMIMG_NODE_DIR,
		.mode = 040555,
		.size = vmimg_get_le32(r + 10),
		.mtime = vmimg_iso_time(r + 18),
		.id = vmimg_get_le32(r + 2) + r[1],
		.more = { at + 156, 1 } };
}

/* Whether the root's first record has Rock Ridge: names or modes, not just System Use. */
static int find_rock(struct iso *iso, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_rock *rock = vmimg_new(struct vmimg_rock, err);
	uint64_t at = iso->fs.root.id * iso->block;
	struct record self;
	const uint8_t *area;
	size_t len;
	bool none;

	if (!rock || read_record(iso, &at, at + iso->fs.root.size, &self, &none, err))
		return -1;
	if (none)
		return 0;
	area = system_use(&self, &len);
	if (!vmimg_rock_begins(area, len, &iso->skip))
		return 0;
	iso->left = MAX_FOLDER;
	if (vmimg_rock_read(iso->table, area, len, 0, rock, &iso->left, err))
		return -1;
	iso->volume.rock_ridge = rock->any;
	return 0;
}

static bool is_joliet(const uint8_t *s)
{
	return s[88] == '%' && s[89] == '/' && (s[90] == '@' || s[90] == 'C' || s[90] == 'E');
}

static int read_descriptors(struct iso *iso, struct vmimg_error *err)
{
	uint8_t s[VMIMG_ISO_SECTOR], joliet[VMIMG_ISO_SECTOR] = { 0 };
	uint64_t joliet_at = 0;

	for (uint64_t i = FIRST_SECTOR; i < FIRST_SECTOR + MAX_DESCRIPTORS; i++) {
		uint64_t at = i * VMIMG_ISO_SECTOR;

		if (vmimg_io_pread(iso->io, s, sizeof(s), at, err))
			return -1;
		if (memcmp(s + 1, "CD001", 5) || s[0] == 255)
			break;
		if (s[0] == 1 && !iso->block) {
			take_primary(iso, s);
			set_root(iso, s, at);
		} else if (s[0] == 0 && !memcmp(s + 7, "EL TORITO SPECIFICATION", 23)) {
			iso->volume.boot_at = vmimg_get_le32(s + 71);
		} else if (s[0] == 2 && is_joliet(s) && !joliet_at) {
			memcpy(joliet, s, sizeof(s));
			joliet_at = at;
		}
	}
	if (iso->block < 512 || iso->block > VMIMG_ISO_SECTOR || !vmimg_is_pow2(iso->block))
		return vmimg_fail(err, VMIMG_ECORRUPT, "the volume has logical blocks of %u bytes",
			iso->block);
	iso->volume.joliet = joliet_at != 0;
	if (find_rock(iso, err))
		return -1;
	iso->rock = iso->volume.rock_ridge;
	iso->joliet = !iso->rock && joliet_at;
	if (iso->joliet)
		set_root(iso, joliet, joliet_at);
	iso->volume.names = iso->rock ? "Rock Ridge" : iso->joliet ? "Joliet" : "plain";
	iso->fs.folds = !iso->rock;
	return 0;
}

static void iso_close(struct vmimg_fs *fs)
{
	struct iso *iso = iso_of(fs);

	vmimg_table_free(iso->table);
	vmimg_io_unref(iso->io);
	free(iso);
}

static const struct vmimg_fs_ops iso_ops = {
	.list = iso_list,
	.read = iso_read,
	.readlink = iso_readlink,
	.close = iso_close,
};

struct vmimg_fs *vmimg_iso_open(struct vmimg_io *io, struct vmimg_error *err)
{
	struct iso *iso = vmimg_new(struct iso, err);

	if (!iso)
		return NULL;
	iso->fs.ops = &iso_ops;
	iso->io = vmimg_io_ref(io);
	iso->table = iso->fs.reads = vmimg_table_new(io, err);
	if (!iso->table || read_descriptors(iso, err)) {
		iso_close(&iso->fs);
		return NULL;
	}
	return &iso->fs;
}

const struct vmimg_iso_volume *vmimg_iso_volume(const struct vmimg_fs *fs)
{
	return &((const struct iso *)fs)->volume;
}

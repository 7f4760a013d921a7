/* SPDX-License-Identifier: Apache-2.0 */
/* Walking the headers of an archive, once, into a list of members. */
#include <inttypes.h>
#include <stdio.h>
#include "bundle/tar_header.h"
#include "io/sparse.h"
#include "io/window.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/pool.h"
#include "util/text.h"
#include "util/zero.h"

struct vmimg_tar {
	struct vmimg_io *io;
	struct vmimg_pool pool;
	struct vmimg_tar_member *members;
	size_t count, cap;
	size_t runs; /* stretches of all sparse members */
	bool odd;    /* pax headers or sparse members */
};

/* What came before a member's own header and changes it. */
struct before {
	char *long_name; /* GNU; freed by walk() */
	char *records;   /* pax: what the texts of pax point into; freed by walk() */
	struct vmimg_tar_pax pax;
};

static void before_done(struct before *b)
{
	free(b->long_name);
	free(b->records);
	free(b->pax.runs);
	*b = (struct before){ .pax = { .size = VMIMG_TAR_NONE,
				      .sparse_size = VMIMG_TAR_NONE,
				      .sparse_major = VMIMG_TAR_NONE,
				      .sparse_minor = VMIMG_TAR_NONE } };
}

static int fail_at(struct vmimg_error *err, uint64_t at, const char *what)
{
	return vmimg_fail(err, VMIMG_ECORRUPT, "tar header at 0x%" PRIx64 ": %s", at, what);
}

/* Text of the archive with a NUL; to be freed. */
static char *read_text(struct vmimg_tar *tar, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	char *text;

	if (len > VMIMG_MAX_TAR_TEXT) {
		vmimg_fail(err, VMIMG_ELIMIT,
			"tar: %" PRIu64 " bytes of extended header at 0x%" PRIx64
			", of which %d are read",
			len, at, VMIMG_MAX_TAR_TEXT);
		return NULL;
	}
	text = vmimg_alloc_array(1, len + 1, err);
	if (text && vmimg_io_pread(tar->io, text, len, at, err)) {
		free(text);
		return NULL;
	}
	return text;
}

/* ---- sparse members ---------------------------------------------------------------------- */

static int add_run(struct vmimg_tar *tar, struct vmimg_sparse_run **runs, size_t *cap, size_t count,
	uint64_t at, uint64_t len, struct vmimg_error *err)
{
	if (++tar->runs > VMIMG_MAX_TAR_RUNS)
		return vmimg_fail(err, VMIMG_ELIMIT, "tar: more than %d stretches of sparse files",
			VMIMG_MAX_TAR_RUNS);
	if (vmimg_grow_array(runs, cap, count + 1, sizeof(**runs), err))
		return -1;
	(*runs)[count] = (struct vmimg_sparse_run){ at, len };
	return 0;
}

static int keep_runs(struct vmimg_tar *tar, struct vmimg_tar_member *member,
	const struct vmimg_sparse_run *runs, size_t count, struct vmimg_error *err)
{
	struct vmimg_sparse_run *kept =
		vmimg_pool_alloc(&tar->pool, (count + 1) * sizeof(*runs), err);

	if (!kept)
		return -1;
	if (count)
		memcpy(kept, runs, count * sizeof(*runs));
	member->runs = kept;
	member->run_count = count;
	return 0;
}

struct gnu_map {
	struct vmimg_sparse_run *runs;
	size_t count, cap;
};

/* Entries of one block; an empty one ends them. */
static int gnu_entries(struct vmimg_tar *tar, struct gnu_map *map, const uint8_t *entry, size_t n,
	struct vmimg_error *err)
{
	for (size_t i = 0; i < n && entry[0]; i++, entry += VMIMG_TAR_ENTRY) {
		uint64_t at, len;

		if (!vmimg_tar_number(entry, 12, &at) || !vmimg_tar_number(entry + 12, 12, &len))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"tar: entry %zu of a sparse map is no number", map->count);
		if (add_run(tar, &map->runs, &map->cap, map->count, at, len, err))
			return -1;
		map->count++;
	}
	return 0;
}

/* Old GNU: the map is in the header and in blocks after it. Moves member->at past them. */
static int gnu_sparse(struct vmimg_tar *tar, struct vmimg_tar_member *member, const uint8_t *block,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_sparse_run *runs = NULL;
	struct gnu_map map = { 0 };
	bool more = block[VMIMG_TAR_GNU_MORE];
	int failed;

	if (!vmimg_tar_number(block + VMIMG_TAR_GNU_REAL_SIZE, 12, &member->size))
		return fail_at(err, member->header, "the size of a sparse file is no number");
	failed = gnu_entries(
		tar, &map, block + VMIMG_TAR_GNU_ENTRIES, VMIMG_TAR_GNU_ENTRY_COUNT, err);
	while (!failed && more) {
		uint8_t next[VMIMG_TAR_BLOCK];

		failed = vmimg_io_pread(tar->io, next, sizeof(next), member->at, err) ||
			gnu_entries(tar, &map, next, VMIMG_TAR_BLOCK_ENTRIES, err);
		more = next[VMIMG_TAR_BLOCK_MORE];
		member->at += sizeof(next);
	}
	runs = map.runs;
	return failed ? -1 : keep_runs(tar, member, runs, map.count, err);
}

/* pax 0.1: "offset,length,offset,length" */
static int pax_map(struct vmimg_tar *tar, struct vmimg_tar_member *member, const char *text,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_sparse_run *runs = NULL;
	size_t count = 0, cap = 0;

	while (*text) {
		uint64_t at, len;

		if (!vmimg_tar_decimal(&text, ',', &at) ||
			!(vmimg_tar_decimal(&text, ',', &len) ||
				(vmimg_tar_decimal(&text, '\0', &len) && text--)))
			return fail_at(
				err, member->header, "the map of a sparse file is malformed");
		if (add_run(tar, &runs, &cap, count, at, len, err))
			return -1;
		count++;
	}
	return keep_runs(tar, member, runs, count, err);
}

/* The map of pax 1.0, in front of the data: lines with the count and then offset, length, …, filled
 * up to a whole block. */
static int pax_map_in_data(
	struct vmimg_tar *tar, struct vmimg_tar_member *member, struct vmimg_error *err)
{
	uint64_t room = vmimg_min(member->stored, VMIMG_MAX_TAR_TEXT), count, taken;
	VMIMG_AUTO(free) char *text = read_text(tar, member->at, room, err);
	VMIMG_AUTO(free) struct vmimg_sparse_run *runs = NULL;
	const char *p = text;
	size_t cap = 0;

	if (!text)
		return -1;
	if (!vmimg_tar_decimal(&p, '\n', &count))
		return fail_at(err, member->header, "the map of a sparse file has no count");
	for (size_t i = 0; i < count; i++) {
		uint64_t at, len;

		if (!vmimg_tar_decimal(&p, '\n', &at) || !vmimg_tar_decimal(&p, '\n', &len))
			return fail_at(
				err, member->header, "the map of a sparse file is cut short");
		if (add_run(tar, &runs, &cap, i, at, len, err))
			return -1;
	}
	taken = vmimg_align_up((uint64_t)(p - text), VMIMG_TAR_BLOCK);
	if (taken > member->stored)
		return fail_at(err, member->header, "the map of a sparse file is cut short");
	member->at += taken;
	member->stored -= taken;
	return keep_runs(tar, member, runs, count, err);
}

static int pax_sparse(struct vmimg_tar *tar, struct vmimg_tar_member *member,
	const struct vmimg_tar_pax *pax, struct vmimg_error *err)
{
	if (pax->sparse_size == VMIMG_TAR_NONE)
		return 0;
	member->size = pax->sparse_size;
	if (pax->sparse_major == 1)
		return pax_map_in_data(tar, member, err);
	if (pax->sparse_map)
		return pax_map(tar, member, pax->sparse_map, err);
	return keep_runs(tar, member, pax->runs, pax->run_count, err);
}

/* ---- members ----------------------------------------------------------------------------- */

static enum vmimg_tar_kind kind_of(uint8_t type, const char *name)
{
	size_t len = strlen(name);

	switch (type) {
	case '\0':
	case '0':
	case '7':
	case 'S':
		return len && name[len - 1] == '/' ? VMIMG_TAR_FOLDER : VMIMG_TAR_FILE;
	case '5':
		return VMIMG_TAR_FOLDER;
	case '1':
	case '2':
		return VMIMG_TAR_LINK;
	default:
		return VMIMG_TAR_OTHER;
	}
}

/* The name from wherever it is kept, without what says "here" at its beginning. */
static const char *member_name(struct vmimg_tar *tar, const struct vmimg_tar_header *h,
	const struct before *before, struct vmimg_error *err)
{
	bool ustar = !memcmp(h->magic, "ustar\0", 6);
	const char *name = before->pax.sparse_name ? before->pax.sparse_name
		: before->pax.path                 ? before->pax.path
						   : before->long_name;
	char joined[100 + 1 + 155 + 1];

	if (!name) {
		snprintf(joined, sizeof(joined), "%.155s%s%.100s",
			ustar ? (const char *)h->prefix : "", ustar && h->prefix[0] ? "/" : "",
			(const char *)h->name);
		name = joined;
	}
	while (!strncmp(name, "./", 2))
		name += 2;
	if (strlen(name) > VMIMG_MAX_NAME) {
		vmimg_fail(err, VMIMG_ELIMIT, "tar: a name of %zu bytes", strlen(name));
		return NULL;
	}
	return vmimg_pool_text(&tar->pool, name, err);
}

/* A member that is no extended header. *next: where the one after it begins. */
static int take_member(struct vmimg_tar *tar, uint64_t at, const uint8_t *block, uint64_t stored,
	const struct before *before, uint64_t *next, struct vmimg_error *err)
{
	struct vmimg_tar_member member = { .header = at, .at = at + VMIMG_TAR_BLOCK };
	struct vmimg_tar_header h;

	vmimg_tar_header_decode(&h, block);
	if (tar->count >= VMIMG_MAX_TAR_MEMBERS)
		return vmimg_fail(
			err, VMIMG_ELIMIT, "tar: more than %d members", VMIMG_MAX_TAR_MEMBERS);
	member.name = member_name(tar, &h, before, err);
	if (!member.name)
		return -1;
	member.kind = kind_of(h.type, member.name);
	if (before->pax.size != VMIMG_TAR_NONE)
		stored = before->pax.size;
	if (h.type >= '1' && h.type <= '6') /* whose size field means something else */
		stored = 0;
	member.stored = member.size = stored;
	if (h.type == 'S' && gnu_sparse(tar, &member, block, err))
		return -1;
	if (!vmimg_range_inside(member.at, stored, vmimg_io_size(tar->io)))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the member at 0x%" PRIx64 ", of %" PRIu64
			" bytes, reaches past the end of the file (0x%" PRIx64 "): truncated?",
			at, stored, vmimg_io_size(tar->io));
	*next = member.at + vmimg_align_up(stored, VMIMG_TAR_BLOCK);
	if (pax_sparse(tar, &member, &before->pax, err) ||
		vmimg_grow_array(
			&tar->members, &tar->cap, tar->count + 1, sizeof(*tar->members), err))
		return -1;
	tar->odd |= member.runs != NULL;
	tar->members[tar->count++] = member;
	return 0;
}

/* GNU's long names, and pax records, that go with the next member. */
static int take_extended(struct vmimg_tar *tar, uint64_t at, uint8_t type, uint64_t len,
	struct before *before, struct vmimg_error *err)
{
	char *text = read_text(tar, at + VMIMG_TAR_BLOCK, len, err);

	if (!text)
		return -1;
	tar->odd |= type == 'x' || type == 'g';
	if (type == 'L') {
		free(before->long_name);
		before->long_name = text;
		return 0;
	}
	if (type != 'x') { /* for all members (g), or of links (K): nothing that counts here */
		free(text);
		return 0;
	}
	free(before->records);
	before->records = text;
	return vmimg_tar_pax_parse(&before->pax, text, len, err);
}

static bool is_extended(uint8_t type)
{
	return type == 'x' || type == 'g' || type == 'L' || type == 'K';
}

/* One header. *next = 0: the archive ends here. */
static int take_header(struct vmimg_tar *tar, uint64_t at, struct before *before, uint64_t *next,
	struct vmimg_error *err)
{
	uint8_t block[VMIMG_TAR_BLOCK];
	uint64_t size;

	*next = 0;
	if (vmimg_io_pread(tar->io, block, sizeof(block), at, err))
		return -1;
	if (vmimg_is_zero(block, sizeof(block)))
		return 0;
	if (!vmimg_tar_probe(block, sizeof(block)))
		return fail_at(err, at, "its checksum is wrong");
	if (!vmimg_tar_number(block + 124, 12, &size))
		return fail_at(err, at, "its size is no number, negative, or more than 2^63");
	if (!is_extended(block[156])) {
		int failed = take_member(tar, at, block, size, before, next, err);

		before_done(before);
		return failed;
	}
	*next = at + VMIMG_TAR_BLOCK + vmimg_align_up(size, VMIMG_TAR_BLOCK);
	return take_extended(tar, at, block[156], size, before, err);
}

/* ---- names ------------------------------------------------------------------------------- */

bool vmimg_tar_name_is_safe(const char *name)
{
	for (;;) {
		size_t len = strcspn(name, "/");

		if (!len || (len == 1 && name[0] == '.') ||
			(len == 2 && name[0] == '.' && name[1] == '.'))
			return false;
		if (!name[len])
			return true;
		name += len + 1;
	}
}

static int compare_text(const void *a, const void *b)
{
	const char *const *left = a, *const *right = b;

	return strcmp(*left, *right);
}

/* Whether a folder on the way to name is a link of this archive. */
static bool goes_through(const char *name, const char *const *links, size_t count)
{
	char part[VMIMG_MAX_NAME + 1];
	const char *key = part;

	for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - name), name);
		if (bsearch(&key, links, count, sizeof(*links), compare_text))
			return true;
	}
	return false;
}

static int refuse_name(const char *name, const char *why, struct vmimg_error *err)
{
	char shown[100];

	return vmimg_fail(err, VMIMG_EREFUSED, "tar member \"%s\" %s",
		vmimg_escape(shown, sizeof(shown), name, strlen(name)), why);
}

static int compare_members(const void *a, const void *b)
{
	const struct vmimg_tar_member *const *left = a, *const *right = b;
	int order = strcmp((*left)->name, (*right)->name);

	return order ? order : (*left)->header < (*right)->header ? -1 : 1;
}

/* As tar unpacks: of files of one name the last one stays. */
static int note_replaced(struct vmimg_tar *tar, struct vmimg_error *err)
{
	VMIMG_AUTO(free)
	struct vmimg_tar_member **files = vmimg_alloc_array(tar->count, sizeof(*files), err);
	size_t count = 0;

	if (!files)
		return -1;
	for (size_t i = 0; i < tar->count; i++)
		if (tar->members[i].kind == VMIMG_TAR_FILE)
			files[count++] = &tar->members[i];
	qsort(files, count, sizeof(*files), compare_members);
	for (size_t i = 1; i < count; i++)
		files[i - 1]->replaced = !strcmp(files[i - 1]->name, files[i]->name);
	return 0;
}

static int check_names(const struct vmimg_tar *tar, struct vmimg_error *err)
{
	VMIMG_AUTO(free)
	const char **links = vmimg_alloc_array(tar->count + 1, sizeof(*links), err);
	size_t count = 0;

	if (!links)
		return -1;
	for (size_t i = 0; i < tar->count; i++)
		if (tar->members[i].kind == VMIMG_TAR_LINK)
			links[count++] = tar->members[i].name;
	qsort(links, count, sizeof(*links), compare_text);
	for (size_t i = 0; i < tar->count; i++) {
		const struct vmimg_tar_member *m = &tar->members[i];

		if (m->kind == VMIMG_TAR_FILE && !vmimg_tar_name_is_safe(m->name))
			return refuse_name(m->name, "leads out of the archive", err);
		if (count && goes_through(m->name, links, count))
			return refuse_name(m->name, "lies behind a link of the archive", err);
	}
	return 0;
}

/* ---- the archive ------------------------------------------------------------------------- */

static int walk(struct vmimg_tar *tar, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(tar->io), at = 0;
	struct before before = { 0 };
	int failed = 0;

	before_done(&before);
	for (unsigned extended = 0; !failed && at < size; extended++) {
		size_t members = tar->count;
		uint64_t next;

		failed = take_header(tar, at, &before, &next, err);
		if (failed || !next)
			break;
		if (tar->count > members)
			extended = 0;
		if (extended > VMIMG_MAX_TAR_EXTENDED)
			failed = fail_at(err, at, "too many extended headers before one member");
		at = next;
	}
	before_done(&before);
	return failed;
}

struct vmimg_tar *vmimg_tar_open(struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_tar *tar = vmimg_new(struct vmimg_tar, err);

	if (!tar)
		return NULL;
	tar->io = vmimg_io_ref(io);
	if (walk(tar, err) || check_names(tar, err) || note_replaced(tar, err)) {
		vmimg_within(err, "%s", vmimg_io_name(io));
		vmimg_tar_free(tar);
		return NULL;
	}
	return tar;
}

void vmimg_tar_free(struct vmimg_tar *tar)
{
	if (!tar)
		return;
	vmimg_io_unref(tar->io);
	vmimg_pool_done(&tar->pool);
	free(tar->members);
	free(tar);
}

bool vmimg_tar_is_odd(const struct vmimg_tar *tar)
{
	return tar->odd;
}

size_t vmimg_tar_count(const struct vmimg_tar *tar)
{
	return tar->count;
}

const struct vmimg_tar_member *vmimg_tar_member(const struct vmimg_tar *tar, size_t i)
{
	return &tar->members[i];
}

const struct vmimg_tar_member *vmimg_tar_find(const struct vmimg_tar *tar, const char *name)
{
	for (size_t i = tar->count; i-- > 0;)
		if (tar->members[i].kind == VMIMG_TAR_FILE && !strcmp(tar->members[i].name, name))
			return &tar->members[i];
	return NULL;
}

struct vmimg_io *vmimg_tar_open_member(
	const struct vmimg_tar *tar, const struct vmimg_tar_member *member, struct vmimg_error *err)
{
	if (member->runs)
		return vmimg_sparse_open(tar->io, member->at, member->runs, member->run_count,
			member->size, member->name, err);
	return vmimg_window_open(tar->io, member->at, member->size, member->name, err);
}

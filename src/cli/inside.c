/* SPDX-License-Identifier: Apache-2.0 */
/* From IMAGE:VOLUME/PATH to a node of a file system, and what walks over trees share. */
#include "cli/inside.h"
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include "inspect/view.h"
#include "util/text.h"

size_t cli_image_length(const char *word)
{
	if (access(word, F_OK) == 0)
		return strlen(word);
	for (const char *colon = strchr(word, ':'); colon; colon = strchr(colon + 1, ':')) {
		VMIMG_AUTO(free) char *name = strndup(word, (size_t)(colon - word));

		if (name && access(name, F_OK) == 0)
			return (size_t)(colon - word);
	}
	return strcspn(word, ":");
}

struct words {
	char *image, *rest; /* owned */
};

static int split(const char *word, struct words *words, struct vmimg_error *err)
{
	size_t len = cli_image_length(word);

	words->image = strndup(word, len);
	words->rest = strdup(word[len] ? word + len + 1 : word + len);
	return words->image && words->rest ? 0 : vmimg_fail_nomem(err);
}

static int find(struct cli_inside *inside, const struct words *words, bool follow,
	const struct cli_common *common, struct vmimg_error *err)
{
	struct cli_open how = { .format = common->format, .refs = CLI_REFS_BESIDE };
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *view = NULL;
	VMIMG_AUTO(free) char *volume = NULL;
	const struct vmimg_disk *disk;
	size_t len;

	if (cli_image_open(&inside->image, words->image, common, &how, err))
		return -1;
	disk = inside->image.disk;
	view = vmimg_view_open(inside->image.disk, err);
	if (!view || vmimg_inspection_open(&inside->inspection, view, disk->sector_size, err))
		return -1;
	len = vmimg_inspection_name_len(&inside->inspection, words->rest);
	volume = strndup(words->rest, len);
	inside->path = strdup(words->rest[len] ? words->rest + len : "/");
	if (!volume || !inside->path)
		return vmimg_fail_nomem(err);
	inside->volume = vmimg_inspection_find(&inside->inspection, volume, err);
	if (!inside->volume)
		return -1;
	inside->fs = inside->volume->fs;
	return vmimg_fs_resolve(inside->fs, inside->path, follow, &inside->node, err);
}

int cli_inside_open(struct cli_inside *inside, const char *word, bool follow,
	const struct cli_common *common, struct vmimg_error *err)
{
	struct words words = { 0 };
	int failed = split(word, &words, err) || find(inside, &words, follow, common, err);

	free(words.image);
	free(words.rest);
	return failed ? -1 : 0;
}

void cli_inside_close(struct cli_inside *inside)
{
	vmimg_inspection_done(&inside->inspection);
	cli_image_close(&inside->image);
	free(inside->path);
	memset(inside, 0, sizeof(*inside));
}

void cli_inside_warn(const struct cli_inside *inside, const struct cli_common *common)
{
	if (inside->fs->skipped && !common->quiet)
		cli_warn("warning: left out %" PRIu64 " entries with impossible names",
			inside->fs->skipped);
}

/* ---- folders ----------------------------------------------------------------------------- */

#define MAX_ENTRIES (UINT32_C(2) << 20)

struct reading {
	struct cli_entries *entries;
	struct vmimg_error *err;
	bool failed;
};

static bool keep(void *ctx, const char *name, size_t len, const struct vmimg_node *node)
{
	struct reading *reading = ctx;
	struct cli_entries *entries = reading->entries;
	struct cli_entry *entry;

	reading->failed = true;
	if (entries->count >= MAX_ENTRIES) {
		vmimg_fail(reading->err, VMIMG_ELIMIT, "a folder of more than %u entries",
			MAX_ENTRIES);
		return false;
	}
	if (vmimg_grow_array(&entries->list, &entries->cap, entries->count + 1,
		    sizeof(*entries->list), reading->err))
		return false;
	entry = &entries->list[entries->count];
	entry->name = strndup(name, len);
	if (!entry->name) {
		vmimg_fail_nomem(reading->err);
		return false;
	}
	entry->node = *node;
	entries->count++;
	reading->failed = false;
	return true;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct cli_entry *)a)->name, ((const struct cli_entry *)b)->name);
}

int cli_entries_read(struct cli_entries *entries, struct vmimg_fs *fs, const struct vmimg_node *dir,
	struct vmimg_error *err)
{
	struct reading reading = { entries, err, false };

	if (vmimg_fs_list(fs, dir, keep, &reading, err) || reading.failed)
		return -1;
	if (entries->count)
		qsort(entries->list, entries->count, sizeof(*entries->list), by_name);
	return 0;
}

void cli_entries_free(struct cli_entries *entries)
{
	for (size_t i = 0; i < entries->count; i++)
		free(entries->list[i].name);
	free(entries->list);
	memset(entries, 0, sizeof(*entries));
}

/* ---- loops ------------------------------------------------------------------------------- */

static size_t slot_of(const uint64_t *ids, size_t cap, uint64_t id)
{
	size_t at = (size_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (cap - 1);

	while (ids[at] && ids[at] != id)
		at = (at + 1) & (cap - 1);
	return at;
}

static int grow(struct cli_visited *visited, struct vmimg_error *err)
{
	size_t cap = visited->cap ? visited->cap * 2 : 256;
	uint64_t *ids;

	if (visited->count * 2 < visited->cap)
		return 0;
	ids = vmimg_alloc_array(cap, sizeof(*ids), err);
	if (!ids)
		return -1;
	for (size_t i = 0; i < visited->cap; i++)
		if (visited->ids[i])
			ids[slot_of(ids, cap, visited->ids[i])] = visited->ids[i];
	free(visited->ids);
	visited->ids = ids;
	visited->cap = cap;
	return 0;
}

int cli_visit(struct cli_visited *visited, uint64_t id, const char *path, struct vmimg_error *err)
{
	char shown[120];
	size_t at;

	if (grow(visited, err))
		return -1;
	id++; /* 0 is a free place, and the root of a FAT */
	at = slot_of(visited->ids, visited->cap, id);
	if (visited->ids[at])
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"%s: this folder has been met before: the tree is a loop",
			vmimg_escape(shown, sizeof(shown), path, strlen(path)));
	visited->ids[at] = id;
	visited->count++;
	return 0;
}

bool cli_visited_has(const struct cli_visited *visited, uint64_t id)
{
	return visited->cap && visited->ids[slot_of(visited->ids, visited->cap, id + 1)];
}

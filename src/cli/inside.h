/* SPDX-License-Identifier: Apache-2.0 */
/* Files inside images, as the verbs ls, cat and cp name them: IMAGE:PATH, or IMAGE:VOLUME/PATH with
 * a partition's number. */
#pragma once
#include "cli/open.h"
#include "inspect/inspect.h"

struct cli_inside {
	struct cli_image image;
	struct vmimg_inspection inspection;
	struct vmimg_fs *fs; /* of the volume chosen; borrowed */
	struct vmimg_volume *volume;
	char *path;             /* from its root, with a leading slash; owned */
	struct vmimg_node node; /* what the path names */
};

/* How much of a word IMAGE:PATH is the image: up to the first colon before which there is a file of
 * that name. */
size_t cli_image_length(const char *word);

/* follow: a link at the path's end is followed. */
int cli_inside_open(struct cli_inside *inside, const char *word, bool follow,
	const struct cli_common *common, struct vmimg_error *err) VMIMG_CHECKED;
void cli_inside_close(struct cli_inside *inside);
static inline void cli_inside_close_auto(struct cli_inside *inside)
{
	cli_inside_close(inside);
}
/* Says how many entries were left out because of their names. */
void cli_inside_warn(const struct cli_inside *inside, const struct cli_common *common);

/* An entry of a folder, kept. */
struct cli_entry {
	char *name; /* as found */
	struct vmimg_node node;
};
struct cli_entries {
	struct cli_entry *list;
	size_t count, cap;
};
/* All of a folder, sorted by name. */
int cli_entries_read(struct cli_entries *entries, struct vmimg_fs *fs, const struct vmimg_node *dir,
	struct vmimg_error *err) VMIMG_CHECKED;
void cli_entries_free(struct cli_entries *entries);
static inline void cli_entries_free_auto(struct cli_entries *entries)
{
	cli_entries_free(entries);
}

/* Folders that a recursive walk has been to: no sound tree has one twice. */
struct cli_visited {
	uint64_t *ids; /* a hash table; 0: free */
	size_t count, cap;
};
int cli_visit(struct cli_visited *visited, uint64_t id, const char *path,
	struct vmimg_error *err) VMIMG_CHECKED;
bool cli_visited_has(const struct cli_visited *visited, uint64_t id);
#define CLI_MAX_FOLDERS 256 /* one inside the other */

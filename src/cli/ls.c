/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg ls: what a folder inside an image holds. */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "cli/inside.h"
#include "util/text.h"

struct args {
	struct cli_common common;
	bool detail, recursive;
};

struct lister {
	const struct args *args;
	struct vmimg_fs *fs;
	struct cli_visited visited;
	json_t *list;  /* with --json */
	bool bad_link; /* one was told of: there may be a million */
};

static void mode_text(char out[11], uint32_t mode)
{
	static const char bits[] = "rwxrwxrwx";

	out[0] = S_ISDIR(mode)   ? 'd'
		: S_ISLNK(mode)  ? 'l'
		: S_ISREG(mode)  ? '-'
		: S_ISCHR(mode)  ? 'c'
		: S_ISBLK(mode)  ? 'b'
		: S_ISFIFO(mode) ? 'p'
		: S_ISSOCK(mode) ? 's'
				 : '?';
	for (unsigned i = 0; i < 9; i++)
		out[1 + i] = mode & (0400U >> i) ? bits[i] : '-';
	if (mode & S_ISUID)
		out[3] = mode & S_IXUSR ? 's' : 'S';
	if (mode & S_ISGID)
		out[6] = mode & S_IXGRP ? 's' : 'S';
	if (mode & S_ISVTX)
		out[9] = mode & S_IXOTH ? 't' : 'T';
	out[10] = '\0';
}

static char *link_target(struct lister *lister, const struct vmimg_node *node)
{
	char target[4096];
	struct vmimg_error err;

	if (node->kind != VMIMG_NODE_LINK)
		return NULL;
	if (!vmimg_fs_readlink(lister->fs, node, target, sizeof(target), &err))
		return strdup(target);
	if (!lister->bad_link)
		cli_warn("warning: %s", err.text);
	lister->bad_link = true;
	return NULL;
}

static const char *type_of(const struct vmimg_node *node)
{
	static const char *const names[] = { "file", "folder", "link", "other" };

	return names[node->kind];
}

static void add_json(struct lister *lister, const char *path, const struct vmimg_node *node)
{
	VMIMG_AUTO(free) char *target = link_target(lister, node);
	json_t *item = json_object();
	char mode[12];

	snprintf(mode, sizeof(mode), "%04o", node->mode & 07777);
	vmimg_json_text(item, "path", path);
	vmimg_json_text(item, "type", type_of(node));
	vmimg_json_text(item, "mode", mode);
	vmimg_json_uint(item, "uid", node->uid);
	vmimg_json_uint(item, "gid", node->gid);
	vmimg_json_uint(item, "size", node->size);
	json_object_set_new(item, "mtime", json_integer(node->mtime));
	if (target)
		vmimg_json_text(item, "target", target);
	json_array_append_new(lister->list, item);
}

static void print_detail(struct lister *lister, const struct vmimg_node *node)
{
	time_t when = (time_t)node->mtime;
	char mode[11], date[24] = "-";
	struct tm tm;

	mode_text(mode, node->mode);
	if (node->mtime && gmtime_r(&when, &tm))
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M", &tm);
	printf("%s %5u %5u %12" PRIu64 " %16s ", mode, node->uid, node->gid, node->size, date);
	(void)lister;
}

static void show(
	struct lister *lister, const char *path, const char *name, const struct vmimg_node *node)
{
	const char *shown = lister->args->recursive ? path : name;
	VMIMG_AUTO(free) char *text = vmimg_escape_dup(shown, strlen(shown));
	VMIMG_AUTO(free) char *target = NULL;
	VMIMG_AUTO(free) char *escaped = NULL;

	if (lister->list) {
		add_json(lister, path, node);
		return;
	}
	if (lister->args->detail) {
		print_detail(lister, node);
		target = link_target(lister, node);
		escaped = target ? vmimg_escape_dup(target, strlen(target)) : NULL;
	}
	printf("%s%s%s\n", text ? text : "?", escaped ? " -> " : "", escaped ? escaped : "");
}

static int list_folder(struct lister *lister, const char *path, const struct vmimg_node *dir,
	unsigned depth, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_entries_free) struct cli_entries entries = { 0 };

	if (depth > CLI_MAX_FOLDERS)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %d folders deep", CLI_MAX_FOLDERS);
	if (lister->args->recursive && cli_visit(&lister->visited, dir->id, path, err))
		return -1;
	if (cli_entries_read(&entries, lister->fs, dir, err))
		return -1;
	for (size_t i = 0; i < entries.count; i++) {
		const struct cli_entry *entry = &entries.list[i];
		VMIMG_AUTO(free) char *below = NULL;

		if (asprintf(&below, "%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/",
			    entry->name) < 0)
			return vmimg_fail_nomem(err);
		show(lister, below, entry->name, &entry->node);
		if (lister->args->recursive && entry->node.kind == VMIMG_NODE_DIR &&
			list_folder(lister, below, &entry->node, depth + 1, err))
			return -1;
	}
	return 0;
}

static int list(struct cli_inside *inside, const struct args *args, struct vmimg_error *err)
{
	struct lister lister = { .args = args, .fs = inside->fs };
	json_t *root;
	int failed = 0;

	if (args->common.json)
		lister.list = json_array();
	if (inside->node.kind == VMIMG_NODE_DIR)
		failed = list_folder(&lister, inside->path, &inside->node, 0, err);
	else
		show(&lister, inside->path, inside->path, &inside->node);
	free(lister.visited.ids);
	if (failed) {
		json_decref(lister.list);
		return -1;
	}
	cli_inside_warn(inside, &args->common);
	if (!args->common.json)
		return CLI_OK;
	root = json_object();
	json_object_set_new(root, "schema", json_string("vmimg.ls/1"));
	json_object_set_new(root, "entries", lister.list);
	return cli_print_json(stdout, root, err);
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_inside_close) struct cli_inside inside = { 0 };

	if (cli_inside_open(&inside, call->words[0], false, &args->common, err))
		return -1;
	return list(&inside, args, err);
}

static const struct cli_option options[] = {
	{ 'l', NULL, NULL, "with mode, owner, size and time (UTC)", cli_set_flag,
		offsetof(struct args, detail) },
	{ 'R', "recursive", NULL, "with everything below", cli_set_flag,
		offsetof(struct args, recursive) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_report_options,
	cli_source_options, NULL };

const struct cli_verb cli_ls = {
	.name = "ls",
	.operands = "IMAGE:[PARTITION]/PATH",
	.summary = "Lists files inside an image",
	.detail = "Without a partition's number, the only file system is meant, or the one with "
		  "the\noperating system.",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.reach = CLI_READS_INSIDE,
	.options = groups,
	.run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vmimg cp: files and folders out of an image. Names come from a stranger: every step down is made
 * with a folder's descriptor, no link is followed, nothing that exists is replaced, and a link that
 * leads out of what is copied is left out.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/inside.h"
#include "io/file.h"
#include "io/limit.h"
#include "util/num.h"
#include "util/text.h"
#include "util/zero.h"

#define PIECE (1U << 20)
#define LEAST (UINT64_C(1) << 30) /* may always be written */

struct args {
	struct cli_common common;
	bool force;
};

struct copier {
	const struct args *args;
	struct vmimg_fs *fs;
	const struct cli_files *spared; /* those of the image */
	struct vmimg_budget budget;
	struct cli_visited visited, made; /* folders of the image; inodes of files written here */
	uint8_t *buf;                     /* PIECE bytes */
	uint64_t files, folders, links, left_out;
};

static void leave_out(struct copier *copier, const char *path, const char *why)
{
	char shown[200];

	copier->left_out++;
	if (!copier->args->common.quiet && copier->left_out <= 20)
		cli_warn("warning: left out %s: %s",
			vmimg_escape(shown, sizeof(shown), path, strlen(path)), why);
}

static int fail_write(const char *path, struct vmimg_error *err)
{
	char shown[120];
	int sys = errno;

	vmimg_escape(shown, sizeof(shown), path, strlen(path));
	if (sys == EEXIST)
		return vmimg_fail(
			err, VMIMG_EEXIST, "%s exists already (--force replaces it)", shown);
	return vmimg_fail_sys(err, sys, "%s", shown);
}

/* ---- files ------------------------------------------------------------------------------- */

static int copy_content(struct copier *copier, const struct vmimg_node *node, struct vmimg_io *out,
	struct vmimg_error *err)
{
	uint64_t at = 0;
	size_t got;

	/* A size that a stranger made up may take years to read as zeroes: the limit comes first.
	 * Before it the last byte, for a file that is not all there is not merely too large. */
	if (node->size &&
		vmimg_fs_read(copier->fs, node, copier->buf, 1, node->size - 1, &got, err))
		return -1;
	if (vmimg_io_resize(out, node->size, err))
		return -1;
	for (;; at += got) {
		if (vmimg_fs_read(copier->fs, node, copier->buf, PIECE, at, &got, err))
			return -1;
		if (!got)
			return 0;
		if (!vmimg_is_zero(copier->buf, got) &&
			vmimg_io_pwrite(out, copier->buf, got, at, err))
			return -1;
	}
}

/* What was there before gives way, but never what this run has written: two names of the image may
 * be the same here, where case does not count. */
static int replace(struct copier *copier, int folder, const char *name, const char *path,
	struct vmimg_error *err)
{
	char shown[120];
	struct stat st;

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : fail_write(path, err);
	if (cli_visited_has(&copier->made, st.st_ino))
		return vmimg_fail(err, VMIMG_EEXIST,
			"%s was written a moment ago under a name that is the same here",
			vmimg_escape(shown, sizeof(shown), path, strlen(path)));
	if (cli_files_has(copier->spared, &st))
		return vmimg_fail(err, VMIMG_EINVAL,
			"%s is being read: it cannot be the output as well",
			vmimg_escape(shown, sizeof(shown), path, strlen(path)));
	return unlinkat(folder, name, 0) ? fail_write(path, err) : 0;
}

static int copy_file(struct copier *copier, const struct vmimg_node *node, int folder,
	const char *name, const char *path, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *file = NULL;
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *out = NULL;
	int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, fd;
	char shown[120];
	struct stat st;

	if (copier->args->force && replace(copier, folder, name, path, err))
		return -1;
	fd = openat(folder, name, flags, node->mode & 0777); /* less what umask takes */
	if (fd < 0)
		return fail_write(path, err);
	if (fstat(fd, &st)) {
		close(fd);
		return fail_write(path, err);
	}
	file = vmimg_file_from_fd(fd, true, name, err);
	out = file ? vmimg_limit_open(file, &copier->budget, err) : NULL;
	if (!out || copy_content(copier, node, out, err)) {
		struct vmimg_error why = *err;

		if (unlinkat(folder, name, 0))
			cli_warn("warning: part of a file stays behind: %s", strerror(errno));
		*err = why;
		return vmimg_within(
			err, "%s", vmimg_escape(shown, sizeof(shown), path, strlen(path)));
	}
	copier->files++;
	return copier->args->force ? cli_visit(&copier->made, st.st_ino, path, err) : 0;
}

/* ---- links ------------------------------------------------------------------------------- */

/* Whether a link in a folder depth levels below the top of the copy stays inside it. A name on the
 * way may be a link to the top: who goes up after it leads nobody knows where. */
static bool stays_inside(const char *target, unsigned depth)
{
	bool named = false;

	if (*target == '/' || !*target)
		return false;
	while (*target) {
		size_t len = strcspn(target, "/");

		if (len == 2 && !memcmp(target, "..", 2)) {
			if (named || !depth--)
				return false;
		} else if (!(len == 1 && *target == '.')) {
			named = true;
		}
		target += len + strspn(target + len, "/");
	}
	return true;
}

static int copy_link(struct copier *copier, const struct vmimg_node *node, int folder,
	const char *name, const char *path, unsigned depth, struct vmimg_error *err)
{
	char target[4096];

	if (vmimg_fs_readlink(copier->fs, node, target, sizeof(target), err))
		return -1;
	if (!stays_inside(target, depth ? depth - 1 : 0)) {
		leave_out(copier, path, "a link that leads out of what is copied");
		return 0;
	}
	if (symlinkat(target, folder, name))
		return fail_write(path, err);
	copier->links++;
	return 0;
}

/* ---- trees ------------------------------------------------------------------------------- */

/* depth: how far below the top of the copy, which has none, it lies. */
static int copy_node(struct copier *copier, const struct vmimg_node *node, int folder,
	const char *name, const char *path, unsigned depth, struct vmimg_error *err);

static int copy_entries(struct copier *copier, const struct vmimg_node *dir, int folder,
	const char *path, unsigned depth, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_entries_free) struct cli_entries entries = { 0 };

	if (depth > CLI_MAX_FOLDERS)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %d folders deep", CLI_MAX_FOLDERS);
	if (cli_visit(&copier->visited, dir->id, path, err) ||
		cli_entries_read(&entries, copier->fs, dir, err))
		return -1;
	for (size_t i = 0; i < entries.count; i++) {
		VMIMG_AUTO(free) char *below = NULL;

		if (asprintf(&below, "%s/%s", path, entries.list[i].name) < 0)
			return vmimg_fail_nomem(err);
		if (copy_node(copier, &entries.list[i].node, folder, entries.list[i].name, below,
			    depth + 1, err))
			return -1;
	}
	return 0;
}

static int copy_folder(struct copier *copier, const struct vmimg_node *node, int folder,
	const char *name, const char *path, unsigned depth, struct vmimg_error *err)
{
	int fd, failed;

	if (mkdirat(folder, name, 0700))
		return fail_write(path, err);
	fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fail_write(path, err);
	failed = copy_entries(copier, node, fd, path, depth, err);
	if (!failed && fchmod(fd, (node->mode & 0777) | 0700))
		failed = fail_write(path, err);
	close(fd);
	copier->folders++;
	return failed;
}

static int copy_node(struct copier *copier, const struct vmimg_node *node, int folder,
	const char *name, const char *path, unsigned depth, struct vmimg_error *err)
{
	switch (node->kind) {
	case VMIMG_NODE_FILE:
		return copy_file(copier, node, folder, name, path, err);
	case VMIMG_NODE_DIR:
		return copy_folder(copier, node, folder, name, path, depth, err);
	case VMIMG_NODE_LINK:
		return copy_link(copier, node, folder, name, path, depth, err);
	case VMIMG_NODE_OTHER:
		break;
	}
	leave_out(copier, path, "a device, pipe or socket");
	return 0;
}

/* ---- the target -------------------------------------------------------------------------- */

/* The last component of a path inside the image; the image's root has none. */
static const char *base_name(char *path)
{
	size_t len = strlen(path);
	char *slash;

	while (len > 1 && path[len - 1] == '/')
		path[--len] = '\0';
	slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* Into an existing folder, under its own name; else as the name that target gives. */
static int open_target(const char *target, char *source, char **name, int *folder, bool *merge,
	struct vmimg_error *err)
{
	const char *slash = strrchr(target, '/');
	VMIMG_AUTO(free) char *parent = NULL;
	struct stat st;
	bool into = !stat(target, &st) && S_ISDIR(st.st_mode);
	const char *base = into ? base_name(source) : slash ? slash + 1 : target;

	parent = into   ? strdup(target)
		: slash ? strndup(target, (size_t)(slash - target) + 1)
			: strdup(".");
	*merge = into && !*base;
	*name = strdup(base);
	if (!parent || !*name)
		return vmimg_fail_nomem(err);
	if ((!*base && !into) || !strcmp(base, ".") || !strcmp(base, ".."))
		return vmimg_fail(err, VMIMG_EINVAL, "the target needs a name");
	*folder = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *folder < 0 ? fail_write(parent, err) : 0;
}

static int copy(struct cli_inside *inside, const char *target, const struct args *args,
	struct vmimg_error *err)
{
	uint64_t most = args->common.max_output;
	struct copier copier = { .args = args, .fs = inside->fs, .spared = &inside->image.files };
	VMIMG_AUTO(free) char *name = NULL;
	int folder = -1, failed;
	bool merge;

	copier.budget.limit = most
		? most
		: vmimg_max(LEAST, vmimg_min(inside->image.disk->size, UINT64_MAX / 4) * 4);
	copier.buf = vmimg_alloc_buffer(PIECE, err);
	failed = !copier.buf || open_target(target, inside->path, &name, &folder, &merge, err);
	if (!failed && merge)
		failed = copy_entries(&copier, &inside->node, folder, target, 0, err);
	else if (!failed)
		failed = copy_node(&copier, &inside->node, folder, name, name, 0, err);
	if (folder >= 0)
		close(folder);
	free(copier.buf);
	free(copier.visited.ids);
	free(copier.made.ids);
	if (failed)
		return -1;
	cli_inside_warn(inside, &args->common);
	if (copier.left_out > 20)
		cli_warn("warning: left out %" PRIu64 " in all", copier.left_out);
	return CLI_OK;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_inside_close) struct cli_inside inside = { 0 };

	if (!strchr(call->words[0], ':') && strchr(call->words[1], ':'))
		return vmimg_fail(err, VMIMG_EINVAL,
			"%.80s: files are copied out of an image, not into one", call->words[1]);
	if (cli_inside_open(&inside, call->words[0], true, &args->common, err))
		return -1;
	return copy(&inside, call->words[1], args, err);
}

static const struct cli_option options[] = {
	{ 0, "force", NULL, "replace existing files", cli_set_flag, offsetof(struct args, force) },
	{ 'q', "quiet", NULL, "do not tell what is left out", cli_set_flag,
		offsetof(struct args, common.quiet) },
	{ 0, "max-output", "SIZE", "write no more than that (4 times the disk, at least 1G)",
		cli_set_size, offsetof(struct args, common.max_output) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	NULL };

const struct cli_verb cli_cp = {
	.name = "cp",
	.operands = "IMAGE:[PARTITION]/PATH TARGET",
	.summary = "Copies files and folders out of an image",
	.detail = "Owners and times are not carried over. Links that lead out of what is copied "
		  "are left\nout, and said.",
	.least = 2,
	.most = 2,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

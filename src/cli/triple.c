/* SPDX-License-Identifier: Apache-2.0 */
/* In a folder only regular files count, not what links lead to, and no hidden ones. */
#include "cli/triple.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bundle/cloud.h"
#include "bundle/kernel.h"
#include "bundle/ramdisk.h"
#include "inspect/inspect.h"
#include "inspect/trees.h"
#include "inspect/view.h"
#include "io/file.h"
#include "io/memory.h"
#include "util/num.h"
#include "util/text.h"

#define FILES_MAX 256U /* of a folder, each of which is looked into */

static const struct {
	const char *what, *option, *key;
} kinds[CLI_TRIPLE] = {
	{ "kernel", "--aki", "kernel" },
	{ "ramdisk", "--ari", "ramdisk" },
	{ "root file system", "--ami", "file" },
};

bool cli_is_folder(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISDIR(st.st_mode);
}

void cli_triple_done(struct cli_triple *triple)
{
	for (size_t i = 0; i < CLI_TRIPLE; i++) {
		vmimg_io_unref(triple->parts[i].io);
		free(triple->parts[i].name);
	}
	memset(triple, 0, sizeof(*triple));
}

/* ---- what a file is ---- */

/* The storage fails, or memory does; anything else only means that the file is something else. */
static bool is_trouble(const struct vmimg_error *err)
{
	return err->status == VMIMG_ESYSTEM || err->status == VMIMG_ENOMEM;
}

/* A disk of any format that is one file system from end to end. */
static int look_for_root(struct vmimg_io *io, bool *is, struct vmimg_error *err)
{
	struct vmimg_open options = { .resolver = vmimg_resolver_none() };
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = vmimg_disk_open(io, &options, err);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *view = NULL;
	struct vmimg_summary summary;

	*is = false;
	if (!disk)
		return is_trouble(err) ? -1 : 0;
	view = vmimg_view_open(disk, err);
	if (!view || vmimg_inspection_summary(view, disk->sector_size, &summary, err))
		return is_trouble(err) ? -1 : 0;
	*is = vmimg_type_may_be_root(summary.alone.type);
	return 0;
}

/* *kind = CLI_TRIPLE: none of the three. */
static int look(struct vmimg_io *io, unsigned *kind, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_ramdisk *ramdisk = vmimg_new(struct vmimg_ramdisk, err);
	struct vmimg_kernel kernel;
	bool root;

	if (!ramdisk)
		return -1;
	*kind = CLI_TRIPLE_KERNEL;
	if (!vmimg_kernel_read(io, &kernel, err))
		return 0;
	*kind = CLI_TRIPLE_RAMDISK;
	if (!is_trouble(err) && !vmimg_ramdisk_read(io, ramdisk, err))
		return 0;
	if (is_trouble(err) || look_for_root(io, &root, err))
		return -1;
	*kind = root ? CLI_TRIPLE_ROOT : CLI_TRIPLE;
	return 0;
}

static int put(struct cli_triple *triple, unsigned kind, const char *name, struct vmimg_io *io,
	struct vmimg_error *err)
{
	struct cli_triple_part *part = &triple->parts[kind];

	part->name = vmimg_strdup(name, err);
	part->io = vmimg_io_ref(io);
	return part->name ? 0 : -1;
}

static int enter_sandbox(const struct cli_common *common, struct vmimg_error *err)
{
	return common->sandbox ? cli_sandbox_enter(common->sandbox, common->untrusted, err) : 0;
}

/* ---- in a folder ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
	char *list[FILES_MAX];
	unsigned count;
};

static void names_done_auto(struct names *names)
{
	while (names->count)
		free(names->list[--names->count]);
}

static int list_folder(int fd, struct names *names, struct vmimg_error *err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *entry;
	struct stat st;
	int failed = 0;

	if (!dir)
		return vmimg_fail_sys(err, errno, "listing it");
	while (!failed && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' ||
			fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) ||
			!S_ISREG(st.st_mode))
			continue;
		if (names->count == FILES_MAX)
			failed = vmimg_fail(err, VMIMG_ELIMIT,
				"more than %u files: name those that are meant (vmimg info --aki, "
				"--ari, --ami)",
				FILES_MAX);
		else if ((names->list[names->count] = vmimg_strdup(entry->d_name, err)))
			names->count++;
		else
			failed = -1;
	}
	closedir(dir);
	qsort(names->list, names->count, sizeof(*names->list), by_name);
	return failed;
}

static struct vmimg_io *open_inside(
	int folder, const char *path, const char *name, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *full = NULL;
	int fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0) {
		vmimg_fail_sys(err, errno, "%.100s", name);
		return NULL;
	}
	if (asprintf(&full, "%s/%s", path, name) < 0) {
		full = NULL;
		close(fd);
		vmimg_fail_nomem(err);
		return NULL;
	}
	return vmimg_file_from_path_fd(fd, full, err);
}

static int fail_two(
	const struct cli_triple *triple, unsigned kind, const char *name, struct vmimg_error *err)
{
	const char *first = triple->parts[kind].name;
	char a[80], b[80];

	return vmimg_fail(err, VMIMG_EINVAL,
		"two files could be its %s, %s and %s: give it a folder with one, or name the one "
		"that is meant",
		kinds[kind].what, vmimg_escape(a, sizeof(a), first, strlen(first)),
		vmimg_escape(b, sizeof(b), name, strlen(name)));
}

static int take_folder(struct cli_triple *triple, int fd, const char *path, struct vmimg_error *err)
{
	__attribute__((cleanup(names_done_auto))) struct names names = { .count = 0 };
	unsigned kind;

	if (list_folder(fd, &names, err))
		return -1;
	for (unsigned i = 0; i < names.count; i++) {
		VMIMG_AUTO(vmimg_io_unref)
		struct vmimg_io *io = open_inside(fd, path, names.list[i], err);

		if (!io || look(io, &kind, err))
			return -1;
		if (kind == CLI_TRIPLE)
			continue;
		if (triple->parts[kind].io)
			return fail_two(triple, kind, names.list[i], err);
		if (put(triple, kind, names.list[i], io, err))
			return -1;
	}
	for (kind = 0; kind < CLI_TRIPLE; kind++)
		if (kind != CLI_TRIPLE_RAMDISK && !triple->parts[kind].io)
			return vmimg_fail(err, VMIMG_EFORMAT,
				"it is a folder, and not one of an AMI: there is no %s in it",
				kinds[kind].what);
	return 0;
}

int cli_triple_folder(struct cli_triple *triple, const char *path, const struct cli_common *common,
	struct vmimg_error *err)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), failed;

	if (fd < 0)
		return vmimg_fail_sys(err, errno, "%.200s", path);
	failed = enter_sandbox(common, err) || take_folder(triple, fd, path, err);
	close(fd);
	return failed ? vmimg_within(err, "%.200s", path) : 0;
}

/* ---- named one by one ---- */

static int check_kind(unsigned want, struct vmimg_io *io, struct vmimg_error *err)
{
	unsigned kind;

	if (look(io, &kind, err))
		return -1;
	if (kind == want)
		return 0;
	return vmimg_fail(err, VMIMG_EFORMAT, "%s is no %s%s%s", vmimg_io_name(io),
		kinds[want].what, kind == CLI_TRIPLE ? "" : ", but a ",
		kind == CLI_TRIPLE ? "" : kinds[kind].what);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The description knows them by their names alone. */
static int check_names(const struct cli_triple *triple, struct vmimg_error *err)
{
	for (unsigned i = 0; i < CLI_TRIPLE; i++)
		for (unsigned k = 0; k < i; k++)
			if (triple->parts[i].name && triple->parts[k].name &&
				!strcmp(triple->parts[i].name, triple->parts[k].name))
				return vmimg_fail(err, VMIMG_EINVAL,
					"%s and %s name files that are called the same",
					kinds[k].option, kinds[i].option);
	return 0;
}

int cli_triple_named(struct cli_triple *triple, const struct cli_named *named,
	const struct cli_common *common, struct vmimg_error *err)
{
	const char *const paths[CLI_TRIPLE] = { named->aki, named->ari, named->ami };

	if (!named->aki || !named->ami)
		return vmimg_fail(err, VMIMG_EINVAL,
			"an AMI has a kernel (--aki FILE) and a root file system (--ami FILE)");
	for (unsigned i = 0; i < CLI_TRIPLE; i++) {
		VMIMG_AUTO(vmimg_io_unref)
		struct vmimg_io *io = paths[i] ? vmimg_file_open(paths[i], false, err) : NULL;

		if (paths[i] && (!io || put(triple, i, base_name(paths[i]), io, err)))
			return vmimg_within(err, "%s", kinds[i].option);
	}
	if (check_names(triple, err) || enter_sandbox(common, err))
		return -1;
	for (unsigned i = 0; i < CLI_TRIPLE; i++)
		if (paths[i] && check_kind(i, triple->parts[i].io, err))
			return vmimg_within(err, "%s", kinds[i].option);
	return 0;
}

/* ---- as a bundle ---- */

static struct cli_triple_part *find(const struct vmimg_resolver *self, const char *name)
{
	struct cli_triple *triple = (struct cli_triple *)(uintptr_t)self;

	for (size_t i = 0; i < CLI_TRIPLE; i++)
		if (triple->parts[i].name && !strcmp(triple->parts[i].name, name))
			return &triple->parts[i];
	return NULL;
}

static int judge_part(const struct vmimg_resolver *self, const struct vmimg_reference *ref,
	const struct vmimg_io *from, struct vmimg_error *err)
{
	(void)from;
	return find(self, ref->name)
		? 0
		: vmimg_fail(err, VMIMG_EREFUSED, "it is not one of the AMI's files");
}

static struct vmimg_io *open_part(const struct vmimg_resolver *self,
	const struct vmimg_reference *ref, const struct vmimg_io *from, struct vmimg_error *err)
{
	return judge_part(self, ref, from, err) ? NULL : vmimg_io_ref(find(self, ref->name)->io);
}

static json_t *describe(const struct cli_triple *triple, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *name = vmimg_strdup(triple->parts[CLI_TRIPLE_ROOT].name, err);
	struct vmimg_kernel kernel;
	json_t *root;

	if (!name || vmimg_kernel_read(triple->parts[CLI_TRIPLE_KERNEL].io, &kernel, err))
		return NULL;
	*strchrnul(name, '.') = '\0';
	root = vmimg_ami_properties(name, &kernel);
	for (size_t i = 0; i < CLI_TRIPLE; i++) {
		const char *file = triple->parts[i].name;

		if (!file || !json_object_set_new(root, kinds[i].key, json_string(file)))
			continue;
		vmimg_fail(err, VMIMG_EINVAL, "the name of its %s is not UTF-8", kinds[i].what);
		json_decref(root);
		return NULL;
	}
	return root;
}

struct vmimg_io *cli_triple_describe(
	struct cli_triple *triple, const char *name, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_memory_new(name, err);
	json_t *root = io ? describe(triple, err) : NULL;
	VMIMG_AUTO(free) char *text = root ? json_dumps(root, 0) : NULL;

	if (root && !text)
		vmimg_fail_nomem(err);
	json_decref(root);
	if (!text || vmimg_io_pwrite(io, text, strlen(text), 0, err))
		return NULL;
	triple->resolver = (struct vmimg_resolver){ open_part, judge_part, NULL };
	return vmimg_take(io);
}

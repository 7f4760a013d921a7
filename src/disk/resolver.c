/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three policies on files that an image names. "beside" lets the kernel do the judging:
 * openat2(2) beneath the image's own folder, following no symbolic link, so that there is no
 * comparing of path strings to get wrong.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/openat2.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "disk/disk.h"
#include "io/file.h"
#include "util/limits.h"

/* The folder of the image, to be freed. */
static char *folder_of(const struct vmimg_io *from, struct vmimg_error *err)
{
	const char *path = vmimg_file_path(from);
	VMIMG_AUTO(free) char *copy = path ? vmimg_strdup(path, err) : NULL;

	if (!path)
		vmimg_fail(err, VMIMG_EREFUSED, "the image has no folder to look in");
	return copy ? vmimg_strdup(dirname(copy), err) : NULL;
}

static char *join(const char *folder, const char *name, struct vmimg_error *err)
{
	char *path;

	bool alone = name[0] == '/' || !strcmp(folder, ".");

	if (asprintf(&path, "%s%s%s", alone ? "" : folder, alone ? "" : "/", name) < 0) {
		vmimg_fail_nomem(err);
		return NULL;
	}
	return path;
}

/* json:… and protocol:… mean something else to other programs, and are never followed. */
static bool is_url(const char *name)
{
	size_t word =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");

	return word > 1 && name[word] == ':' && strncmp(name, "file:", 5);
}

static int judge_none(const struct vmimg_resolver *self, const struct vmimg_reference *ref,
	const struct vmimg_io *from, struct vmimg_error *err)
{
	(void)self, (void)ref, (void)from;
	return vmimg_fail(err, VMIMG_EREFUSED,
		"references to other files are not followed here (--refs=beside or any)");
}

static struct vmimg_io *open_none(const struct vmimg_resolver *self,
	const struct vmimg_reference *ref, const struct vmimg_io *from, struct vmimg_error *err)
{
	(void)!judge_none(self, ref, from, err);
	return NULL;
}

/* What can be said from the name alone. */
static int judge_name(const char *name, struct vmimg_error *err)
{
	if (!*name || strlen(name) > VMIMG_MAX_NAME)
		return vmimg_fail(err, VMIMG_EREFUSED, "the name is empty or too long");
	for (const char *p = name; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return vmimg_fail(err, VMIMG_EREFUSED,
				"a name with control characters is not followed");
	if (is_url(name))
		return vmimg_fail(err, VMIMG_EREFUSED,
			"URLs and json: names inside an image are never followed");
	return 0;
}

static int judge_any(const struct vmimg_resolver *self, const struct vmimg_reference *ref,
	const struct vmimg_io *from, struct vmimg_error *err)
{
	(void)self, (void)from;
	return judge_name(ref->name, err);
}

/* A plain relative name: no leading slash and no component "..". */
static int judge_relative(const char *name, struct vmimg_error *err)
{
	if (judge_name(name, err))
		return -1;
	if (name[0] == '/')
		return vmimg_fail(err, VMIMG_EREFUSED,
			"an absolute path is not followed (--refs=any allows it)");
	for (const char *p = name; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
		if (!strncmp(p, "..", 2) && (p[2] == '/' || !p[2]))
			return vmimg_fail(err, VMIMG_EREFUSED,
				"a path with .. is not followed (--refs=any allows it)");
	return 0;
}

/* Opens name beneath folder. Returns a descriptor, or -1 with err set. */
static int open_beneath(const char *folder, const char *name, struct vmimg_error *err)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	int at = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, why;
	struct stat st;

	if (at < 0)
		return vmimg_fail_sys(err, errno, "the image's folder");
	fd = (int)syscall(SYS_openat2, at, name, &how, sizeof(how));
	why = errno;
	close(at);
	if (fd < 0 && (why == ELOOP || why == EXDEV))
		return vmimg_fail(err, VMIMG_EREFUSED,
			"it is, or lies behind, a symbolic link (--refs=any allows it)");
	if (fd < 0)
		return vmimg_fail_sys(err, why, "opening it beside the image");
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return vmimg_fail(err, VMIMG_EREFUSED,
			"it is not a regular file (--refs=any allows devices)");
	}
	return fd;
}

static struct vmimg_io *open_beside(const struct vmimg_resolver *self,
	const struct vmimg_reference *ref, const struct vmimg_io *from, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *folder = NULL;
	VMIMG_AUTO(free) char *path = NULL;
	int fd;

	(void)self;
	if (judge_relative(ref->name, err) || !(folder = folder_of(from, err)))
		return NULL;
	path = join(folder, ref->name, err);
	fd = path ? open_beneath(folder, ref->name, err) : -1;
	return fd < 0 ? NULL : vmimg_file_from_path_fd(fd, path, err);
}

static int judge_beside(const struct vmimg_resolver *self, const struct vmimg_reference *ref,
	const struct vmimg_io *from, struct vmimg_error *err)
{
	(void)self, (void)from;
	return judge_relative(ref->name, err);
}

static struct vmimg_io *open_any(const struct vmimg_resolver *self,
	const struct vmimg_reference *ref, const struct vmimg_io *from, struct vmimg_error *err)
{
	const char *name = strncmp(ref->name, "file:", 5) ? ref->name : ref->name + 5;
	VMIMG_AUTO(free) char *folder = NULL;
	VMIMG_AUTO(free) char *path = NULL;

	if (judge_any(self, ref, from, err))
		return NULL;
	folder = name[0] == '/' ? vmimg_strdup("", err) : folder_of(from, err);
	path = folder ? join(folder, name, err) : NULL;
	return path ? vmimg_file_open(path, false, err) : NULL;
}

static bool ends_in(const char *name, const char *suffix)
{
	size_t len = strlen(name), tail = strlen(suffix);

	return len > tail && !strcasecmp(name + len - tail, suffix);
}

static int compare_names(const void *a, const void *b)
{
	const char *const *left = a, *const *right = b;

	return strcmp(*left, *right);
}

struct names {
	char **items;
	size_t count, cap;
};

static void names_done(struct names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->items[i]);
	free(names->items);
}

/* Every file of folder whose name ends in suffix, sorted, each with prefix (may be NULL) before it.
 */
static int list_folder(struct names *names, const char *folder, const char *prefix,
	const char *suffix, struct vmimg_error *err)
{
	DIR *dir = opendir(folder);
	const struct dirent *entry;
	int result = 0;

	if (!dir)
		return vmimg_fail_sys(err, errno, "listing the image's folder");
	while (!result && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || !ends_in(entry->d_name, suffix))
			continue;
		if (names->count == VMIMG_MAX_CANDIDATES)
			result = vmimg_fail(err, VMIMG_ELIMIT,
				"more than %d files could be the parent", VMIMG_MAX_CANDIDATES);
		else if (vmimg_grow_array(&names->items, &names->cap, names->count + 1,
				 sizeof(char *), err) ||
			!(names->items[names->count] = prefix ? join(prefix, entry->d_name, err)
							      : vmimg_strdup(entry->d_name, err)))
			result = -1;
		else
			names->count++;
	}
	closedir(dir);
	if (!result && names->count)
		qsort(names->items, names->count, sizeof(char *), compare_names);
	return result;
}

/* Offers the files of one folder. *found: each has accepted one. */
static int search_folder(const char *folder, const char *prefix, const char *suffix,
	bool (*each)(void *, const char *), void *ctx, bool *found, struct vmimg_error *err)
{
	struct names names = { 0 };
	int result = list_folder(&names, folder, prefix, suffix, err);

	*found = false;
	for (size_t i = 0; !result && !*found && i < names.count; i++)
		*found = each(ctx, names.items[i]);
	names_done(&names);
	return result;
}

static int search_beside(const struct vmimg_resolver *self, const char *suffix,
	const struct vmimg_io *from, bool (*each)(void *, const char *), void *ctx,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *folder = folder_of(from, err);
	bool found;

	(void)self;
	return folder ? search_folder(folder, NULL, suffix, each, ctx, &found, err) : -1;
}

/* Snapshots often lie in a folder of their own, inside that of the disk: that one is searched too.
 */
static int search_any(const struct vmimg_resolver *self, const char *suffix,
	const struct vmimg_io *from, bool (*each)(void *, const char *), void *ctx,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *folder = folder_of(from, err);
	VMIMG_AUTO(free) char *above = folder ? join(folder, "..", err) : NULL;
	bool found;

	(void)self;
	if (!above || search_folder(folder, NULL, suffix, each, ctx, &found, err))
		return -1;
	return found ? 0 : search_folder(above, "..", suffix, each, ctx, &found, err);
}

const struct vmimg_resolver *vmimg_resolver_none(void)
{
	static const struct vmimg_resolver none = { open_none, judge_none, NULL };

	return &none;
}

const struct vmimg_resolver *vmimg_resolver_beside(void)
{
	static const struct vmimg_resolver beside = { open_beside, judge_beside, search_beside };

	return &beside;
}

const struct vmimg_resolver *vmimg_resolver_any(void)
{
	static const struct vmimg_resolver any = { open_any, judge_any, search_any };

	return &any;
}

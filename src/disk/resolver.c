/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three policies on files that an image names. "beside" lets the kernel do the judging:
 * openat2(2) beneath the image's own folder, following no symbolic link, so that there is no
 * comparing of path strings to get wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/openat2.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
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

	if (asprintf(&path, "%s%s%s", name[0] == '/' ? "" : folder, name[0] == '/' ? "" : "/",
		    name) < 0) {
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

const struct vmimg_resolver *vmimg_resolver_none(void)
{
	static const struct vmimg_resolver none = { open_none, judge_none };

	return &none;
}

const struct vmimg_resolver *vmimg_resolver_beside(void)
{
	static const struct vmimg_resolver beside = { open_beside, judge_beside };

	return &beside;
}

const struct vmimg_resolver *vmimg_resolver_any(void)
{
	static const struct vmimg_resolver any = { open_any, judge_any };

	return &any;
}

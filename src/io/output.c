/* SPDX-License-Identifier: Apache-2.0 */
/* Files that appear by link(2) or rename(2) when they are whole. */
#include "io/output.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/file.h"
#include "io/stream.h"
#include "util/text.h"

struct output_file {
	struct vmimg_io *io;
	char *name;      /* in the folder */
	char *temporary; /* the hidden name it has now; NULL: none */
	bool published;
};

struct vmimg_output {
	struct vmimg_output_how how;
	int folder; /* descriptor; -1: not written to a folder (device, pipe) */
	char *main_name;
	struct output_file *files; /* the first is the main one */
	size_t count, cap;
};

/* Whether writing goes straight to what is at path: a device or a pipe, not a regular file. */
static bool is_in_place(const char *path, const struct vmimg_output_how *how, struct stat *st)
{
	if (stat(path, st))
		return false;
	return S_ISREG(st->st_mode) ? how->in_place : !S_ISDIR(st->st_mode);
}

/* Only where it can be given a name later, which takes /proc. */
static int open_nameless(int folder)
{
	if (access("/proc/self/fd", X_OK))
		return -1;
	return openat(folder, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
}

/* A hidden name that nobody else has; *name is to be freed. */
static int open_hidden(int folder, const char *base, char **name, struct vmimg_error *err)
{
	for (unsigned try = 0; try < 100; try++) {
		VMIMG_AUTO(free) char *path = NULL;
		int fd;

		if (asprintf(&path, ".%.200s.%d.%u.tmp", base, (int)getpid(), try) < 0)
			return vmimg_fail_nomem(err);
		fd = openat(folder, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		if (fd >= 0) {
			*name = vmimg_take(path);
			return fd;
		}
		if (errno != EEXIST)
			break;
	}
	return vmimg_fail_sys(err, errno, "creating a file beside it");
}

static int refuse_existing(struct vmimg_output *output, const char *name, struct vmimg_error *err)
{
	struct stat st;
	char shown[120];

	if (fstatat(output->folder, name, &st, AT_SYMLINK_NOFOLLOW))
		return 0;
	vmimg_escape(shown, sizeof(shown), name, strlen(name));
	if (S_ISDIR(st.st_mode))
		return vmimg_fail(err, VMIMG_EEXIST, "%s is a folder", shown);
	if (!output->how.replace)
		return vmimg_fail(err, VMIMG_EEXIST, "%s exists (--force replaces it)", shown);
	return 0;
}

/* Who could read the file that is to be replaced can read the new one, and nobody else. The owner
 * stays where that is in our power. */
static void keep_rights(const struct vmimg_output *output, const char *name, int fd)
{
	struct stat st;

	if (fstatat(output->folder, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return;
	(void)!fchown(fd, st.st_uid, st.st_gid);
	(void)!fchmod(fd, st.st_mode & 0777);
}

/* Of the parts of one output none may take another's place. */
static int refuse_twice(
	const struct vmimg_output *output, const char *name, struct vmimg_error *err)
{
	for (size_t i = 0; i < output->count; i++)
		if (output->files[i].name && !strcmp(output->files[i].name, name))
			return vmimg_fail(err, VMIMG_EINVAL,
				"%.80s is the name of another part of the output", name);
	return 0;
}

static struct output_file *add_file(
	struct vmimg_output *output, const char *name, struct vmimg_error *err)
{
	struct output_file *file;
	int fd;

	if (strchr(name, '/') || !*name) {
		vmimg_fail(err, VMIMG_EINVAL, "'%.80s' is not the name of a file", name);
		return NULL;
	}
	if (refuse_twice(output, name, err) || refuse_existing(output, name, err) ||
		vmimg_grow_array(
			&output->files, &output->cap, output->count + 1, sizeof(*file), err))
		return NULL;
	file = &output->files[output->count];
	memset(file, 0, sizeof(*file));
	fd = open_nameless(output->folder);
	if (fd < 0)
		fd = open_hidden(output->folder, name, &file->temporary, err);
	if (fd < 0)
		return NULL;
	output->count++;
	keep_rights(output, name, fd);
	file->name = vmimg_strdup(name, err);
	file->io = vmimg_file_from_fd(fd, true, name, err);
	if (file->io)
		vmimg_file_allocate(file->io);
	if (file->io && !output->how.no_sync)
		vmimg_file_pace(file->io);
	return file->name && file->io ? file : NULL;
}

static int open_in_place(struct vmimg_output *output, const char *path, const struct stat *st,
	struct vmimg_error *err)
{
	struct output_file *file;

	if (vmimg_grow_array(&output->files, &output->cap, 1, sizeof(*file), err))
		return -1;
	file = &output->files[output->count++];
	if (!path) {
		file->io = vmimg_stream_writer(STDOUT_FILENO, "standard output", err);
	} else if (S_ISBLK(st->st_mode) || S_ISREG(st->st_mode)) {
		file->io = vmimg_file_open(path, true, err);
		if (file->io)
			file->io->is_device = true;
	} else {
		int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);

		if (fd < 0)
			return vmimg_fail_sys(err, errno, "%s", path);
		file->io = vmimg_stream_writer(fd, path, err);
	}
	return file->io ? 0 : -1;
}

static int open_in_folder(struct vmimg_output *output, const char *path, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *copy = vmimg_strdup(path, err);

	if (!copy)
		return -1;
	output->folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (output->folder < 0)
		return vmimg_fail_sys(err, errno, "the folder of %.100s", path);
	return add_file(output, output->main_name, err) ? 0 : -1;
}

struct vmimg_output *vmimg_output_open(
	const char *path, const struct vmimg_output_how *how, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_output_close)
	struct vmimg_output *output = vmimg_new(struct vmimg_output, err);
	const char *slash = strrchr(path, '/');
	bool standard = !strcmp(path, "-");
	struct stat st;

	if (!output)
		return NULL;
	if (how->in_place && !standard && stat(path, &st)) {
		vmimg_fail_sys(err, errno, "%.100s, which is to be written to as it is", path);
		return NULL;
	}
	output->folder = -1;
	output->how = *how;
	output->main_name = vmimg_strdup(slash ? slash + 1 : path, err);
	if (!output->main_name)
		return NULL;
	if (standard || is_in_place(path, how, &st)
			? open_in_place(output, standard ? NULL : path, &st, err)
			: open_in_folder(output, path, err))
		return NULL;
	return vmimg_take(output);
}

struct vmimg_io *vmimg_output_io(struct vmimg_output *output)
{
	return output->files[0].io;
}

const char *vmimg_output_name(const struct vmimg_output *output)
{
	return output->main_name;
}

struct vmimg_io *vmimg_output_sibling(
	struct vmimg_output *output, const char *name, struct vmimg_error *err)
{
	struct output_file *file;

	if (output->folder < 0) {
		vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"this kind of image has several files: name an output file in a folder");
		return NULL;
	}
	file = add_file(output, name, err);
	return file ? vmimg_io_ref(file->io) : NULL;
}

/* Gives a nameless file a name that nothing has yet. Returns 0, or -1 with errno. */
static int link_nameless(
	const struct vmimg_output *output, const struct output_file *file, const char *name)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", vmimg_file_fd(file->io));
	return linkat(AT_FDCWD, path, output->folder, name, AT_SYMLINK_FOLLOW);
}

/* Makes sure that the file has some name, which rename can then turn into the right one. */
static int name_hidden(
	struct vmimg_output *output, struct output_file *file, struct vmimg_error *err)
{
	if (file->temporary)
		return 0;
	if (asprintf(&file->temporary, ".%.200s.%d.tmp", file->name, (int)getpid()) < 0) {
		file->temporary = NULL;
		return vmimg_fail_nomem(err);
	}
	if (!link_nameless(output, file, file->temporary))
		return 0;
	vmimg_fail_sys(err, errno, "naming %s", vmimg_io_name(file->io));
	free(vmimg_take(file->temporary));
	return -1;
}

static int publish_file(
	struct vmimg_output *output, struct output_file *file, struct vmimg_error *err)
{
	unsigned flags = output->how.replace ? 0 : RENAME_NOREPLACE;

	if (!file->temporary && !output->how.replace && !link_nameless(output, file, file->name)) {
		file->published = true;
		return 0;
	}
	if (!file->temporary && !output->how.replace && errno == EEXIST)
		return refuse_existing(output, file->name, err);
	if (name_hidden(output, file, err))
		return -1;
	if (renameat2(output->folder, file->temporary, output->folder, file->name, flags))
		return errno == EEXIST
			? refuse_existing(output, file->name, err)
			: vmimg_fail_sys(err, errno, "naming %s", vmimg_io_name(file->io));
	free(vmimg_take(file->temporary));
	file->published = true;
	return 0;
}

static int sync_all(struct vmimg_output *output, struct vmimg_error *err)
{
	for (size_t i = 0; i < output->count && !output->how.no_sync; i++)
		if (vmimg_io_sync(output->files[i].io, err))
			return -1;
	return 0;
}

/* Takes back the names of siblings when the main file could not get its own. */
static void unpublish(struct vmimg_output *output)
{
	for (size_t i = 0; i < output->count; i++)
		if (output->files[i].published && !output->how.replace)
			unlinkat(output->folder, output->files[i].name, 0);
}

int vmimg_output_publish(struct vmimg_output *output, struct vmimg_error *err)
{
	if (sync_all(output, err))
		return -1;
	if (output->folder < 0)
		return 0;
	for (size_t i = output->count; i-- > 0;)
		if (publish_file(output, &output->files[i], err)) {
			unpublish(output);
			return -1;
		}
	if (!output->how.no_sync && fsync(output->folder)) {
		vmimg_fail_sys(err, errno, "flushing the folder to storage");
		unpublish(output);
		return -1;
	}
	return 0;
}

void vmimg_output_close(struct vmimg_output *output)
{
	if (!output)
		return;
	for (size_t i = 0; i < output->count; i++) {
		struct output_file *file = &output->files[i];

		if (file->temporary)
			unlinkat(output->folder, file->temporary, 0);
		vmimg_io_unref(file->io);
		free(file->temporary);
		free(file->name);
	}
	if (output->folder >= 0)
		close(output->folder);
	free(output->files);
	free(output->main_name);
	free(output);
}

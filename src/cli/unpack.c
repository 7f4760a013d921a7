/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg unpack: the files of an archive into a new folder, which appears when it is whole. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/kernel.h"
#include "cli/open.h"
#include "io/file.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

struct args {
	struct cli_common common;
	bool kernel;
};

struct job {
	const char *folder;          /* that it becomes */
	char *temporary;             /* that it is meanwhile */
	int fd;                      /* of the temporary one */
	size_t made;                 /* members that were tried */
	const struct vmimg_tar *tar; /* NULL: the drives of a bundle are taken out */
	struct vmimg_bundle *bundle;
};

#define PIECE (1U << 20)

static int copy(struct vmimg_io *from, struct vmimg_io *to, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *buf = vmimg_alloc_buffer(PIECE, err);
	uint64_t size = vmimg_io_size(from), len;

	for (uint64_t at = 0; buf && at < size; at += len) {
		bool hole;

		if (vmimg_io_extent(from, at, &hole, &len, err))
			return -1;
		len = vmimg_min(len, hole ? size - at : vmimg_min(size - at, PIECE));
		if (!hole &&
			(vmimg_io_pread(from, buf, (size_t)len, at, err) ||
				vmimg_io_pwrite(to, buf, (size_t)len, at, err)))
			return -1;
	}
	return buf ? vmimg_io_resize(to, size, err) : -1;
}

/* Makes the folders on the way to name, which is known to be safe, and the file. Nothing is there
 * that was not made here, so there are no links to follow. */
static int create_file(int folder, const char *name, struct vmimg_error *err)
{
	char part[VMIMG_MAX_NAME + 1];
	int fd;

	for (const char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - name), name);
		if (mkdirat(folder, part, 0777) && errno != EEXIST)
			return vmimg_fail_sys(err, errno, "a folder of the archive");
	}
	fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	return fd < 0 ? vmimg_fail_sys(err, errno, "a file of the archive") : fd;
}

/* Through all machines. Kernels and ramdisks count here too. NULL: there is none. */
static const struct vmimg_drive *drive_at(const struct job *job, size_t i)
{
	for (size_t m = 0; m < job->bundle->machine_count; m++) {
		const struct vmimg_machine *machine = &job->bundle->machines[m];

		if (i < machine->drive_count)
			return &machine->drives[i];
		i -= machine->drive_count;
	}
	return NULL;
}

/* The name of file number i; NULL: it is none that is unpacked, or there is none. */
static const char *file_name(const struct job *job, size_t i)
{
	const struct vmimg_tar_member *member = job->tar ? vmimg_tar_member(job->tar, i) : NULL;
	const struct vmimg_drive *drive;

	if (member)
		return member->kind == VMIMG_TAR_FILE && !member->replaced ? member->name : NULL;
	drive = drive_at(job, i);
	return drive && drive->file && vmimg_tar_name_is_safe(drive->file) ? drive->file : NULL;
}

static size_t file_count(const struct job *job)
{
	size_t count = 0;

	if (job->tar)
		return vmimg_tar_count(job->tar);
	for (size_t m = 0; m < job->bundle->machine_count; m++)
		count += job->bundle->machines[m].drive_count;
	return count;
}

static struct vmimg_io *open_file(const struct job *job, size_t i, struct vmimg_error *err)
{
	if (job->tar)
		return vmimg_tar_open_member(job->tar, vmimg_tar_member(job->tar, i), err);
	return vmimg_bundle_open_drive(job->bundle, drive_at(job, i), err);
}

static int unpack_member(struct job *job, size_t i, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *from = NULL;
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *to = NULL;
	const char *name = file_name(job, i);
	int fd;

	if (!name)
		return 0;
	from = open_file(job, i, err);
	fd = from ? create_file(job->fd, name, err) : -1;
	to = fd < 0 ? NULL : vmimg_file_from_fd(fd, true, name, err);
	if (!to || copy(from, to, err))
		return vmimg_within(err, "%s", from ? vmimg_io_name(from) : "member");
	return vmimg_io_sync(to, err);
}

/* Takes away what was made: files, then folders, the innermost first. */
static void clean(struct job *job)
{
	char part[VMIMG_MAX_NAME + 1];

	for (size_t i = job->made; i-- > 0;) {
		const char *name = file_name(job, i);
		char *slash;

		if (!name)
			continue;
		snprintf(part, sizeof(part), "%s", name);
		unlinkat(job->fd, part, 0);
		while ((slash = strrchr(part, '/'))) {
			*slash = '\0';
			unlinkat(job->fd, part, AT_REMOVEDIR);
		}
	}
	rmdir(job->temporary);
}

/* The folder has its name; a name that may not last is taken back. */
static int sync_name(struct job *job, struct vmimg_error *err)
{
	if (!vmimg_file_sync_folder(job->folder, err))
		return 0;
	(void)!rename(job->folder, job->temporary);
	return -1;
}

static int unpack(struct job *job, struct vmimg_error *err)
{
	for (; job->made < file_count(job); job->made++)
		if (unpack_member(job, job->made, err)) {
			job->made++;
			return -1;
		}
	if (fsync(job->fd))
		return vmimg_fail_sys(err, errno, "flushing the folder to storage");
	if (!rename(job->temporary, job->folder))
		return sync_name(job, err);
	if (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR)
		return vmimg_fail(err, VMIMG_EEXIST, "%.100s is there, and is not an empty folder",
			job->folder);
	return vmimg_fail_sys(err, errno, "%.100s", job->folder);
}

static int make_folder(struct job *job, struct vmimg_error *err)
{
	size_t len = strlen(job->folder);

	while (len > 1 && job->folder[len - 1] == '/')
		len--;
	if (asprintf(&job->temporary, "%.*s.%d.tmp", (int)len, job->folder, (int)getpid()) < 0) {
		job->temporary = NULL;
		return vmimg_fail_nomem(err);
	}
	if (mkdir(job->temporary, 0777))
		return vmimg_fail_sys(err, errno, "%.100s", job->temporary);
	job->fd = open(job->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return job->fd < 0 ? vmimg_fail_sys(err, errno, "%.100s", job->temporary) : 0;
}

/* One that is no archive, and yet something to take apart: for EC2, the disk is inside something
 * else; an AMI is three files wherever they are. */
static bool has_files(const struct vmimg_bundle *bundle)
{
	const struct vmimg_drive *drive = vmimg_bundle_drive(bundle, 1);

	return !strcmp(bundle->format->name, "ami") ||
		(drive && drive->compression && !strcmp(bundle->format->name, "ec2"));
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_open how = { .format = args->common.format,
		.spool_for = call->words[1],
		.refs = CLI_REFS_BESIDE,
		.bundle = true };
	struct job job = { .folder = call->words[1], .fd = -1 };
	int failed;

	if (args->kernel)
		return cli_kernel_extract(
			call->words[0], call->words[1], false, &args->common, err);
	if (cli_image_open(&image, call->words[0], &args->common, &how, err))
		return -1;
	job.bundle = image.bundle;
	if (!image.bundle || (!image.bundle->tar && !has_files(image.bundle)))
		return vmimg_fail(err, VMIMG_EFORMAT, "%s is not an archive%s", call->words[0],
			image.bundle ? ": its files lie beside it" : "");
	job.tar = image.bundle->tar;
	failed = make_folder(&job, err) || unpack(&job, err);
	if (failed && job.fd >= 0)
		clean(&job);
	if (job.fd >= 0)
		close(job.fd);
	free(job.temporary);
	return failed ? -1 : CLI_OK;
}

static const struct cli_option options[] = {
	{ 0, "kernel", NULL, "of a medium or a disk: the kernel, the ramdisk and the arguments",
		cli_set_flag, offsetof(struct args, kernel) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	NULL };

const struct cli_verb cli_unpack = {
	.name = "unpack",
	.operands = "BUNDLE FOLDER",
	.summary = "Takes an archive apart, into a new folder",
	.detail =
		"FOLDER appears when it is whole. Members keep their names; links and devices are "
		"left out,\nand an archive with a name that leads out of it is refused.",
	.least = 2,
	.most = 2,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* Files by pread and pwrite. Holes by SEEK_DATA and SEEK_HOLE (Linux lseek(2)), zeroes by
 * fallocate(2), shared blocks by FICLONERANGE (ioctl_ficlonerange(2)). */
#include "io/file.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "util/num.h"
#include "util/text.h"

#define PACE (UINT64_C(8) << 20) /* bytes between two nudges */
/* Bytes of a write, below which asking for room costs more than it saves. */
#define WORTH_ALLOCATING (64U << 10)

struct file {
	struct vmimg_io io;
	int fd;
	char *path;                /* as given to open; NULL: came as a descriptor */
	bool paced;                /* write-back is begun while writing goes on */
	_Atomic uint64_t paced_to; /* up to where */
	atomic_bool allocates;     /* room for large writes is asked for ahead of them */
	atomic_bool no_clone;      /* a clone was refused once: do not ask again */
	atomic_int lost; /* errno of a write-back that failed: nothing can be synced any more */
	pthread_mutex_t lock;         /* guards what follows */
	uint64_t data_from, data_end; /* was found to be without holes; equal: nothing is known */
};

static struct file *file_of(struct vmimg_io *io)
{
	return (struct file *)io;
}

static int file_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	char *p = buf;

	while (len) {
		ssize_t n = pread(file_of(io)->fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vmimg_fail_sys(err, errno, "%s: reading %zu bytes at 0x%" PRIx64,
				vmimg_io_name(io), len, at);
		if (!n)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"%s ends at 0x%" PRIx64
				" while being read: was it cut by another program?",
				vmimg_io_name(io), at);
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* What storage has failed to take once, the kernel may have forgotten: another sync would find
 * nothing to write, and succeed. So the first failure is the file's last word. */
static void note_lost(struct file *file, int sys)
{
	int none = 0;

	atomic_compare_exchange_strong(&file->lost, &none, sys);
}

/* Storage is kept busy from early on, so that the sync at the end finds little left to do. A hint:
 * what it misses, the sync writes. */
static void pace(struct file *file, uint64_t end)
{
	uint64_t from = atomic_load_explicit(&file->paced_to, memory_order_relaxed);

	if (end < from + PACE || !atomic_compare_exchange_strong(&file->paced_to, &from, end))
		return;
	if (sync_file_range(file->fd, (off_t)from, (off_t)(end - from), SYNC_FILE_RANGE_WRITE) &&
		(errno == EIO || errno == ENOSPC || errno == EDQUOT))
		note_lost(file, errno);
}

/* A hint, like pace: where there is no room, the write will say so. ext4 finds room for a write
 * block by block, with the file locked against other writers; for a range it does so at once. */
static void allocate(struct file *file, size_t len, uint64_t at)
{
	if (len >= WORTH_ALLOCATING &&
		atomic_load_explicit(&file->allocates, memory_order_relaxed) &&
		fallocate(file->fd, FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len))
		atomic_store(&file->allocates, false);
}

static int file_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	const char *p = buf;

	allocate(file_of(io), len, at);
	while (len) {
		ssize_t n = pwrite(file_of(io)->fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vmimg_fail_sys(err, errno, "%s: writing %zu bytes at 0x%" PRIx64,
				vmimg_io_name(io), len, at);
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	if (file_of(io)->paced)
		pace(file_of(io), at);
	return 0;
}

/* The end of a stretch may take the file system a walk over all of it (tmpfs): who asks block by
 * block is answered from what was found before. Nothing but making holes makes that untrue. */
static void set_data(struct file *file, uint64_t from, uint64_t end)
{
	pthread_mutex_lock(&file->lock);
	file->data_from = from;
	file->data_end = end;
	pthread_mutex_unlock(&file->lock);
}

/* Up to where the bytes from at are known to be no hole; at: they are not. */
static uint64_t known_data(struct file *file, uint64_t at)
{
	uint64_t end;

	pthread_mutex_lock(&file->lock);
	end = at >= file->data_from && at < file->data_end ? file->data_end : at;
	pthread_mutex_unlock(&file->lock);
	return end;
}

static int file_extent(
	struct vmimg_io *io, uint64_t at, bool *hole, uint64_t *len, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io), known = known_data(file_of(io), at);
	int fd = file_of(io)->fd;
	off_t data, end;

	*hole = false;
	*len = vmimg_min(known > at ? known : size, size) - at;
	if (io->is_device || known > at)
		return 0;
	data = lseek(fd, (off_t)at, SEEK_DATA);
	if (data < 0 && errno == ENXIO) {
		*hole = true;
		return 0;
	}
	if (data < 0)
		return errno == EINVAL
			? 0 /* no holes on this file system */
			: vmimg_fail_sys(err, errno, "%s: looking for data", vmimg_io_name(io));
	if ((uint64_t)data > at) {
		*hole = true;
		*len = vmimg_min((uint64_t)data, size) - at;
		return 0;
	}
	end = lseek(fd, (off_t)at, SEEK_HOLE);
	if (end < 0)
		return vmimg_fail_sys(err, errno, "%s: looking for holes", vmimg_io_name(io));
	set_data(file_of(io), at, (uint64_t)end);
	*len = vmimg_min((uint64_t)end, size) - at;
	return 0;
}

static int file_zero(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	static const uint8_t zeroes[65536];
	int fd = file_of(io)->fd;

	set_data(file_of(io), 0, 0);
	if (!io->is_device && at + len > vmimg_io_size(io) && ftruncate(fd, (off_t)(at + len)))
		return vmimg_fail_sys(err, errno, "%s: growing to %" PRIu64 " bytes",
			vmimg_io_name(io), at + len);
	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len) ||
		!fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len))
		return 0;
	if (errno != EOPNOTSUPP && errno != ENODEV && errno != EINVAL)
		return vmimg_fail_sys(err, errno, "%s: zeroing %" PRIu64 " bytes at 0x%" PRIx64,
			vmimg_io_name(io), len, at);
	for (uint64_t step; len; at += step, len -= step) {
		step = vmimg_min(len, sizeof(zeroes));
		if (file_pwrite(io, zeroes, (size_t)step, at, err))
			return -1;
	}
	return 0;
}

static int file_reserve(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	if (io->is_device)
		return 0;
	if (!fallocate(file_of(io)->fd, 0, (off_t)at, (off_t)len) || errno == EOPNOTSUPP)
		return 0;
	return vmimg_fail_sys(
		err, errno, "%s: setting aside %" PRIu64 " bytes", vmimg_io_name(io), len);
}

static int file_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *err)
{
	if (io->is_device)
		return size <= vmimg_io_size(io)
			? 0
			: vmimg_fail(err, VMIMG_EINVAL,
				  "device %s holds %" PRIu64 " bytes, %" PRIu64 " are needed",
				  vmimg_io_name(io), vmimg_io_size(io), size);
	set_data(file_of(io), 0, 0);
	if (ftruncate(file_of(io)->fd, (off_t)size))
		return vmimg_fail_sys(
			err, errno, "%s: setting its size to %" PRIu64, vmimg_io_name(io), size);
	return 0;
}

static int file_sync(struct vmimg_io *io, struct vmimg_error *err)
{
	int lost = atomic_load(&file_of(io)->lost);

	if (!lost && fsync(file_of(io)->fd)) {
		lost = errno;
		note_lost(file_of(io), lost);
	}
	return lost ? vmimg_fail_sys(err, lost, "%s: flushing to storage", vmimg_io_name(io)) : 0;
}

/* One file system, of a kind that shares blocks. */
static bool file_can_clone(struct vmimg_io *io, struct vmimg_io *src)
{
	static const uint32_t sharing[] = { BTRFS_SUPER_MAGIC, XFS_SUPER_MAGIC,
		0xca451a4e /* bcachefs */ };
	struct statfs fs;

	if (io->is_device || vmimg_file_fd(src) < 0 || io->id[0] != src->id[0] ||
		fstatfs(file_of(io)->fd, &fs))
		return false;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(sharing); i++)
		if ((uint32_t)fs.f_type == sharing[i])
			return true;
	return false;
}

static int file_clone_from(struct vmimg_io *io, struct vmimg_io *src, uint64_t src_at, uint64_t at,
	uint64_t len, struct vmimg_error *err)
{
	struct file *to = file_of(io);
	struct file_clone_range range = { .src_fd = vmimg_file_fd(src),
		.src_offset = src_at,
		.src_length = len,
		.dest_offset = at };

	if (range.src_fd >= 0 && !atomic_load(&to->no_clone) &&
		!ioctl(to->fd, FICLONERANGE, &range)) {
		set_data(to, 0, 0);
		return 0;
	}
	atomic_store(&to->no_clone, true);
	return vmimg_fail(
		err, VMIMG_EUNSUPPORTED, "%s: blocks cannot be shared", vmimg_io_name(io));
}

static void file_close(struct vmimg_io *io)
{
	struct file *file = file_of(io);

	close(file->fd);
	pthread_mutex_destroy(&file->lock);
	free(file->path);
	free(file);
}

static const struct vmimg_io_ops read_ops = {
	.pread = file_pread,
	.extent = file_extent,
	.close = file_close,
};

static const struct vmimg_io_ops write_ops = {
	.pread = file_pread,
	.pwrite = file_pwrite,
	.extent = file_extent,
	.zero = file_zero,
	.reserve = file_reserve,
	.resize = file_resize,
	.sync = file_sync,
	.can_clone = file_can_clone,
	.clone_from = file_clone_from,
	.close = file_close,
};

/* Fills in what kind of file it is and how large. */
static int look_at(struct vmimg_io *io, int fd, struct vmimg_error *err)
{
	struct stat st;
	uint64_t size;

	if (fstat(fd, &st))
		return vmimg_fail_sys(err, errno, "%s", vmimg_io_name(io));
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, &size))
			return vmimg_fail_sys(err, errno, "%s: asking its size", vmimg_io_name(io));
		io->is_device = true;
		io->id[0] = st.st_rdev;
		io->id[1] = UINT64_MAX;
	} else if (S_ISREG(st.st_mode)) {
		size = (uint64_t)st.st_size;
		io->id[0] = st.st_dev;
		io->id[1] = st.st_ino;
	} else {
		return vmimg_fail(err, VMIMG_EFORMAT, "%s is %s, not a file or a block device",
			vmimg_io_name(io),
			S_ISDIR(st.st_mode)            ? "a folder"
				: S_ISFIFO(st.st_mode) ? "a pipe"
				: S_ISCHR(st.st_mode)  ? "a character device"
						       : "a socket");
	}
	atomic_init(&io->size, size);
	return 0;
}

static struct vmimg_io *file_make(
	int fd, bool writable, const char *name, const char *path, struct vmimg_error *err)
{
	struct file *file = vmimg_new(struct file, err);

	if (!file) {
		close(fd);
		return NULL;
	}
	file->fd = fd;
	pthread_mutex_init(&file->lock, NULL);
	if (vmimg_io_init(&file->io, writable ? &write_ops : &read_ops, name, err) ||
		look_at(&file->io, fd, err) || (path && !(file->path = vmimg_strdup(path, err)))) {
		free(file->io.name);
		file_close(&file->io);
		return NULL;
	}
	return &file->io;
}

struct vmimg_io *vmimg_file_from_fd(
	int fd, bool writable, const char *name, struct vmimg_error *err)
{
	return file_make(fd, writable, name, NULL, err);
}

struct vmimg_io *vmimg_file_from_path_fd(int fd, const char *path, struct vmimg_error *err)
{
	return file_make(fd, false, path, path, err);
}

struct vmimg_io *vmimg_file_open(const char *path, bool writable, struct vmimg_error *err)
{
	int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char shown[200];

	if (fd < 0) {
		vmimg_fail_sys(
			err, errno, "%s", vmimg_escape(shown, sizeof(shown), path, strlen(path)));
		return NULL;
	}
	return file_make(fd, writable, path, path, err);
}

struct vmimg_io *vmimg_file_reopen(struct vmimg_io *io, struct vmimg_error *err)
{
	char link[40];
	int fd = vmimg_file_fd(io);

	if (fd < 0) {
		vmimg_fail(err, VMIMG_EINVAL, "%s is no file that could be written",
			vmimg_io_name(io));
		return NULL;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	fd = open(link, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		vmimg_fail_sys(err, errno, "%s", vmimg_io_name(io));
		return NULL;
	}
	return file_make(fd, true, vmimg_io_name(io), vmimg_file_path(io), err);
}

void vmimg_file_allocate(struct vmimg_io *io)
{
	struct statfs fs;

	if (vmimg_file_fd(io) >= 0 && !fstatfs(file_of(io)->fd, &fs) &&
		(uint32_t)fs.f_type == EXT4_SUPER_MAGIC)
		atomic_store(&file_of(io)->allocates, true);
}

void vmimg_file_pace(struct vmimg_io *io)
{
	if (vmimg_file_fd(io) >= 0)
		file_of(io)->paced = true;
}

int vmimg_file_fd(const struct vmimg_io *io)
{
	const struct file *file = (const struct file *)io;

	return io->ops == &read_ops || io->ops == &write_ops ? file->fd : -1;
}

const char *vmimg_file_path(const struct vmimg_io *io)
{
	const struct file *file = (const struct file *)(io->shows ? io->shows : io);

	return file->io.ops == &read_ops || file->io.ops == &write_ops ? file->path : NULL;
}

int vmimg_file_sync_folder(const char *path, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *copy = vmimg_strdup(path, err);
	int fd, failed;

	if (!copy)
		return -1;
	fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	failed = fd < 0 || fsync(fd);
	if (failed)
		vmimg_fail_sys(err, errno, "flushing the folder of %.80s", path);
	if (fd >= 0)
		close(fd);
	return failed ? -1 : 0;
}

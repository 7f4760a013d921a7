/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Storage that fails once, and memory that runs out once, at every place in turn: a disk is written
 * in each format, opened again, described, checked and read, with the n-th call failing, for n = 0,
 * 1, 2 … until nothing fails any more. Each time there must be an error that says something, or the
 * right bytes; no hang, no descriptor left open, and (under AddressSanitizer) no memory lost.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>
#include "../unit/check.h"
#include "../unit/fake.h"
#include "disk/info.h"
#include "engine/check.h"
#include "engine/convert.h"
#include "io/faulty.h"
#include "io/file.h"

#define DISK_SIZE 300000U
#define NEVER     1000000000L

/* ---- memory that runs out: the linker sends the library's calls here (--wrap) ---- */

static atomic_long memory_left = NEVER;
static atomic_uint memory_refused;

static bool refuse_memory(void)
{
	if (atomic_fetch_sub(&memory_left, 1) != 0)
		return false;
	atomic_fetch_add(&memory_refused, 1);
	errno = ENOMEM;
	return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
char *__real_strdup(const char *text);
int __real_posix_memalign(void **out, size_t align, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *text);
int __wrap_posix_memalign(void **out, size_t align, size_t size);
int __wrap_asprintf(char **out, const char *fmt, ...) VMIMG_PRINTF(2, 3);

void *__wrap_malloc(size_t size)
{
	return refuse_memory() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return refuse_memory() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return refuse_memory() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *text)
{
	return refuse_memory() ? NULL : __real_strdup(text);
}

int __wrap_posix_memalign(void **out, size_t align, size_t size)
{
	return refuse_memory() ? ENOMEM : __real_posix_memalign(out, align, size);
}

int __wrap_asprintf(char **out, const char *fmt, ...)
{
	va_list args;
	int size;

	if (refuse_memory())
		return -1;
	va_start(args, fmt);
	size = vasprintf(out, fmt, args);
	va_end(args);
	return size;
}

/* ---- one job: write, open, describe, check, read ---- */

struct job {
	const struct vmimg_format *format;
	bool compress;
	unsigned threads;
	struct fake *fake;
	struct vmimg_faults *faults;
};

/* For the format that cannot do without: as little work as a header may ask for. */
static const struct vmimg_secret secret = { "key", 3 };
static struct vmimg_options cheap_key;

static bool has_key(const struct job *job)
{
	return !strcmp(job->format->name, "luks");
}

static int write_disk(const struct job *job, struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_create create = { .size = DISK_SIZE,
		.compress = job->compress,
		.secret = has_key(job) ? &secret : NULL,
		.options = has_key(job) ? &cheap_key : NULL };
	struct vmimg_sink *sink = vmimg_sink_create(job->format, io, &create, err);
	struct vmimg_convert convert = {
		.disk = &job->fake->disk, .sink = sink, .how = { .threads = job->threads }
	};
	struct vmimg_converted done;
	int result = sink ? vmimg_convert_run(&convert, &done, err) : -1;

	vmimg_sink_close(sink);
	return result ? -1 : vmimg_io_sync(io, err);
}

/* A finding counts as a failure: the image is sound. */
static int check_disk(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_run_how how = { .threads = 2 };
	VMIMG_AUTO(free) struct vmimg_report *report = vmimg_new(struct vmimg_report, err);

	if (!report)
		return -1;
	if (!disk->format->check)
		return 0;
	if (vmimg_check_run(disk, &how, report, err))
		return -1;
	for (int severity = VMIMG_FINDING_LEAK; severity <= VMIMG_FINDING_ERROR; severity++)
		if (report->count[severity])
			return vmimg_fail(err, VMIMG_ESYSTEM, "check: %s", report->kept[0].text);
	return 0;
}

static int read_disk(const struct job *job, struct vmimg_disk *disk, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_buffer(DISK_SIZE, err);

	if (!bytes || vmimg_disk_pread(disk, bytes, DISK_SIZE, 0, err))
		return -1;
	CHECK(!memcmp(bytes, job->fake->bytes, DISK_SIZE));
	return 0;
}

static int open_disk(const struct job *job, struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_open options = {
		.format = job->format->name, .secrets = &secret, .secret_count = has_key(job)
	};
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = vmimg_disk_open(io, &options, err);
	struct vmimg_info info;

	if (!disk || vmimg_disk_info(disk, NULL, &info, err))
		return -1;
	json_decref(info.root);
	return check_disk(disk, err) || read_disk(job, disk, err) ? -1 : 0;
}

static int do_job(const struct job *job, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *file = NULL;

	file = vmimg_file_from_fd(open("/tmp", O_TMPFILE | O_RDWR, 0600), true, "image", err);
	if (!file)
		return -1;
	io = vmimg_faulty_open(file, job->faults, err);
	return !io || write_disk(job, io, err) || open_disk(job, io, err) ? -1 : 0;
}

/* ---- the sweeps ---- */

static int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

/* Runs the job with failures set for call n; true when one was met. */
static bool try_once(struct job *job, bool of_memory, long n)
{
	struct vmimg_faults faults = { .left = of_memory ? NEVER : n };
	struct vmimg_error err = { 0 };
	int before = open_descriptors(), result;
	bool met;

	job->faults = &faults;
	atomic_store(&memory_refused, 0);
	atomic_store(&memory_left, of_memory ? n : NEVER);
	result = do_job(job, &err);
	atomic_store(&memory_left, NEVER);
	met = of_memory ? atomic_load(&memory_refused) : atomic_load(&faults.fired);
	CHECK(open_descriptors() == before);
	if (result)
		CHECK(met && err.text[0] && err.status != VMIMG_OK);
	if (result && !met)
		printf("# %s: %s\n", job->format->name, err.text);
	/* Of memory some may be done without; of storage none. */
	if (met && !result && !of_memory) {
		CHECK_NEVER("a failed call went unnoticed");
		printf("# %s: call %ld\n", job->format->name, n);
	}
	return met;
}

static void sweep(bool of_memory, unsigned threads)
{
	struct fake fake;

	fake_open(&fake, DISK_SIZE, 12);
	memset(fake.bytes + 1000, 'a', 20000); /* something that packs */
	for (size_t i = 0; vmimg_formats[i]; i++)
		for (int compress = 0; compress < 2; compress++) {
			struct job job = { vmimg_formats[i], compress, threads, &fake, NULL };
			long n = 0;

			if (!job.format->create || (compress && strcmp(job.format->name, "qcow2")))
				continue;
			while (n < 100000 && try_once(&job, of_memory, n))
				n++;
			printf("# %s%s: %ld places\n", job.format->name,
				compress ? " compressed" : "", n);
			CHECK(n > 5 && n < 100000);
		}
	fake_done(&fake);
}

static void storage_fails_one_thread(void)
{
	sweep(false, 1);
}

static void storage_fails_three_threads(void)
{
	sweep(false, 3);
}

static void memory_runs_out(void)
{
	sweep(true, 2);
}

UNIT_TESTS(
	TEST(storage_fails_one_thread), TEST(storage_fails_three_threads), TEST(memory_runs_out));

int main(void)
{
	struct vmimg_error err;
	int failed;

	if (vmimg_options_set(&cheap_key, "iter-time", "1", &err))
		return 1;
	json_set_alloc_funcs(__wrap_malloc, free);
	failed = unit_run(unit_tests, VMIMG_ARRAY_LEN(unit_tests));
	vmimg_options_done(&cheap_key);
	return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Memory, windows, pipes, cached tables, files that appear whole, and failures on purpose. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "check.h"
#include "io/copier.h"
#include "io/faulty.h"
#include "io/file.h"
#include "io/memory.h"
#include "io/output.h"
#include "io/stream.h"
#include "io/table.h"
#include "io/window.h"

static struct vmimg_error err;

static void memory_grows_and_shrinks(void)
{
	struct vmimg_io *io = vmimg_memory_new("m", &err);
	char buf[8];

	CHECK(!vmimg_io_pwrite(io, "abc", 3, 5, &err) && vmimg_io_size(io) == 8);
	CHECK(!vmimg_io_pread(io, buf, 8, 0, &err) && !memcmp(buf, "\0\0\0\0\0abc", 8));
	CHECK(!vmimg_io_resize(io, 6, &err) && !vmimg_io_resize(io, 8, &err));
	CHECK(!vmimg_io_pread(io, buf, 8, 0, &err) && !memcmp(buf, "\0\0\0\0\0a\0\0", 8));
	CHECK(!vmimg_io_zero(io, 5, 10, &err) && vmimg_io_size(io) == 15);
	vmimg_io_unref(io);
}

static void reading_past_the_end_is_corrupt(void)
{
	struct vmimg_io *io = vmimg_memory_view("abcd", 4, "m", &err);
	char buf[8];

	CHECK(vmimg_io_pread(io, buf, 5, 0, &err) == -1 && err.status == VMIMG_ECORRUPT);
	CHECK(vmimg_io_pread(io, buf, 1, 4, &err) == -1);
	CHECK(vmimg_io_pread(io, buf, 1, UINT64_MAX, &err) == -1);
	CHECK(vmimg_io_pread(io, buf, SIZE_MAX, 1, &err) == -1);
	CHECK(!vmimg_io_pread(io, buf, 0, 4, &err));
	CHECK(vmimg_io_pwrite(io, "x", 1, 0, &err) == -1);
	vmimg_io_unref(io);
}

static void windows_keep_to_their_stretch(void)
{
	struct vmimg_io *io = vmimg_memory_view("0123456789", 10, "m", &err);
	struct vmimg_io *window = vmimg_window_open(io, 3, 4, "w", &err);
	char buf[4];

	CHECK(window && vmimg_io_size(window) == 4);
	CHECK(!vmimg_io_pread(window, buf, 4, 0, &err) && !memcmp(buf, "3456", 4));
	CHECK(vmimg_io_pread(window, buf, 4, 1, &err) == -1);
	CHECK(!vmimg_window_open(io, 3, 8, "w", &err) && err.status == VMIMG_ECORRUPT);
	CHECK(!vmimg_window_open(io, UINT64_MAX, 2, "w", &err));
	vmimg_io_unref(io); /* the window holds its own share */
	CHECK(!vmimg_io_pread(window, buf, 1, 3, &err) && buf[0] == '6');
	vmimg_io_unref(window);
}

static void pipes_go_forward_only(void)
{
	struct vmimg_io *io;
	int ends[2];
	char buf[8];

	CHECK(!pipe(ends));
	io = vmimg_stream_writer(ends[1], "pipe", &err);
	CHECK(io && io->in_order);
	CHECK(!vmimg_io_pwrite(io, "ab", 2, 0, &err));
	CHECK(!vmimg_io_pwrite(io, "c", 1, 4, &err)); /* the gap becomes zeroes */
	CHECK(vmimg_io_pwrite(io, "d", 1, 3, &err) == -1 && err.status == VMIMG_EUNSUPPORTED);
	CHECK(vmimg_io_pread(io, buf, 1, 0, &err) == -1);
	CHECK(read(ends[0], buf, 8) == 5 && !memcmp(buf, "ab\0\0c", 5));
	vmimg_io_unref(io);
	close(ends[0]);
	close(ends[1]);
}

static void tables_read_across_their_pieces(void)
{
	size_t size = 1000003;
	uint8_t *bytes = calloc(1, size), buf[3000];
	struct vmimg_io *io = vmimg_memory_view(bytes, size, "m", &err);
	struct vmimg_table *table = vmimg_table_new(io, &err);

	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i * 2654435761U >> 24);
	for (size_t i = 0; i < 5000; i++) {
		size_t len = i % sizeof(buf), at = i * 7919 % (size - len);

		if (vmimg_table_read(table, buf, len, at, &err) || memcmp(buf, bytes + at, len))
			CHECK_NEVER("other bytes");
	}
	CHECK(!vmimg_table_read(table, buf, 100, size - 100, &err));
	CHECK(vmimg_table_read(table, buf, 100, size - 99, &err) == -1);
	CHECK(vmimg_table_read(table, buf, 8, UINT64_MAX - 3, &err) == -1);
	vmimg_table_bound(table, 2 * (100 + VMIMG_TABLE_COST));
	CHECK(!vmimg_table_read(table, buf, 100, 0, &err));
	CHECK(!vmimg_table_read(table, buf, 100, 0, &err));
	CHECK(vmimg_table_read(table, buf, 1, 0, &err) == -1 && err.status == VMIMG_ELIMIT);
	vmimg_table_bound(table, UINT64_MAX);
	CHECK(!vmimg_table_read(table, buf, 1, 0, &err));
	vmimg_table_free(table);
	vmimg_io_unref(io);
	free(bytes);
}

/* ---- files that appear whole ---- */

static char folder[] = "/tmp/vmimg-unit-XXXXXX";

static const char *in_folder(const char *name)
{
	static char path[200];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static int files_in_folder(void)
{
	DIR *dir = opendir(folder);
	int count = 0;

	for (struct dirent *entry; (entry = readdir(dir));)
		count += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
	closedir(dir);
	return count;
}

static bool holds(const char *name, const char *text)
{
	char buf[100] = "";
	int fd = open(in_folder(name), O_RDONLY);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);

	close(fd);
	return n == (ssize_t)strlen(text) && !strcmp(buf, text);
}

/* Writes text to name; publishes when asked. Returns what open or publish said. */
static int write_output(const char *name, const char *text, bool replace, bool publish)
{
	struct vmimg_output_how how = { .replace = replace };
	struct vmimg_output *output = vmimg_output_open(in_folder(name), &how, &err);
	int result;

	if (!output)
		return -1;
	result = vmimg_io_pwrite(vmimg_output_io(output), text, strlen(text), 0, &err);
	if (!result && publish)
		result = vmimg_output_publish(output, &err);
	vmimg_output_close(output);
	return result;
}

static void outputs_appear_when_published(void)
{
	CHECK(mkdtemp(folder));
	CHECK(!write_output("a", "one", false, false) && files_in_folder() == 0);
	CHECK(!write_output("a", "one", false, true) && files_in_folder() == 1);
	CHECK(holds("a", "one"));
}

static void outputs_replace_only_when_told(void)
{
	CHECK(write_output("a", "two", false, true) == -1 && err.status == VMIMG_EEXIST);
	CHECK(holds("a", "one"));
	CHECK(!write_output("a", "two", true, false) && holds("a", "one"));
	CHECK(!write_output("a", "two", true, true) && holds("a", "two"));
	CHECK(files_in_folder() == 1);
	CHECK(!mkdir(in_folder("d"), 0700));
	CHECK(write_output("d", "x", true, true) == -1);
	CHECK(!rmdir(in_folder("d")));
	CHECK(write_output("no/such", "x", false, true) == -1 && err.status == VMIMG_ESYSTEM);
}

static void a_name_taken_meanwhile_is_not_replaced(void)
{
	struct vmimg_output_how how = { 0 };
	struct vmimg_output *output = vmimg_output_open(in_folder("b"), &how, &err);

	CHECK(!vmimg_io_pwrite(vmimg_output_io(output), "mine", 4, 0, &err));
	CHECK(!write_output("b", "theirs", false, true));
	CHECK(vmimg_output_publish(output, &err) == -1 && err.status == VMIMG_EEXIST);
	vmimg_output_close(output);
	CHECK(holds("b", "theirs") && files_in_folder() == 2);
	CHECK(!unlink(in_folder("b")));
}

static void siblings_appear_together(void)
{
	struct vmimg_output_how how = { 0 };
	struct vmimg_output *output = vmimg_output_open(in_folder("m"), &how, &err);
	struct vmimg_io *sibling = vmimg_output_sibling(output, "m-s001", &err);

	CHECK(sibling && !vmimg_io_pwrite(sibling, "data", 4, 0, &err));
	CHECK(!vmimg_output_sibling(output, "../x", &err) && err.status == VMIMG_EINVAL);
	CHECK(!vmimg_output_sibling(output, "a", &err) && err.status == VMIMG_EEXIST);
	CHECK(files_in_folder() == 1);
	CHECK(!vmimg_output_publish(output, &err) && files_in_folder() == 3);
	vmimg_io_unref(sibling);
	vmimg_output_close(output);
	CHECK(holds("m-s001", "data"));
	CHECK(!unlink(in_folder("m")) && !unlink(in_folder("m-s001")) && !unlink(in_folder("a")));
	CHECK(!rmdir(folder));
}

static void only_files_and_devices_open(void)
{
	char fifo[] = "/tmp/vmimg-unit-fifo-XXXXXX";

	CHECK(!vmimg_file_open("/tmp", false, &err) && err.status == VMIMG_EFORMAT);
	CHECK(!vmimg_file_open("/dev/zero", false, &err) && err.status == VMIMG_EFORMAT);
	CHECK(!vmimg_file_open("/no/such/file", false, &err) && err.sys == ENOENT);
	CHECK(mkdtemp(fifo) && !rmdir(fifo) && !mkfifo(fifo, 0600));
	CHECK(!vmimg_file_open(fifo, false, &err) && err.status == VMIMG_EFORMAT);
	CHECK(!unlink(fifo));
}

static void faults_come_when_told(void)
{
	struct vmimg_faults faults = { .left = 2 };
	struct vmimg_io *memory = vmimg_memory_view("abc", 3, "m", &err);
	struct vmimg_io *io = vmimg_faulty_open(memory, &faults, &err);
	char c;

	CHECK(!vmimg_io_pread(io, &c, 1, 0, &err) && !vmimg_io_pread(io, &c, 1, 1, &err));
	CHECK(vmimg_io_pread(io, &c, 1, 2, &err) == -1 && err.sys == EIO);
	CHECK(!vmimg_io_pread(io, &c, 1, 2, &err) && c == 'c');
	CHECK(atomic_load(&faults.fired) == 1);
	vmimg_io_unref(memory);
	vmimg_io_unref(io);
}

static void fill(struct vmimg_io *io, size_t len)
{
	for (size_t i = 0; i < len; i++)
		CHECK(!vmimg_io_pwrite(io, &(uint8_t){ (uint8_t)(1 + i % 251) }, 1, i, &err));
}

static bool is_zero_in(struct vmimg_io *io, uint64_t from, uint64_t end)
{
	uint8_t byte = 0;

	for (; from < end && !byte; from++)
		CHECK(!vmimg_io_pread(io, &byte, 1, from, &err));
	return !byte;
}

static void holes_wait_until_they_are_wanted(void)
{
	struct vmimg_io *io = vmimg_memory_new("m", &err);
	struct vmimg_holes holes = { 0 };
	uint64_t len;

	fill(io, 1000);
	CHECK(!vmimg_holes_add(&holes, 600, 50, &err) && !vmimg_holes_add(&holes, 650, 50, &err));
	CHECK(holes.count == 1 && !vmimg_holes_add(&holes, 100, 100, &err));
	CHECK(!vmimg_holes_add(&holes, 900, 500, &err));
	CHECK(!vmimg_holes_punch(&holes, io, 150, 620, &err));
	CHECK(is_zero_in(io, 150, 200) && is_zero_in(io, 600, 620));
	CHECK(!is_zero_in(io, 149, 150) && !is_zero_in(io, 200, 201));
	CHECK(!is_zero_in(io, 599, 600) && !is_zero_in(io, 620, 621));
	CHECK(!vmimg_holes_find(&holes, 0, &len) && len == 100);
	CHECK(vmimg_holes_find(&holes, 120, &len) && len == 80);
	CHECK(vmimg_holes_find(&holes, 699, &len) && len == 1);
	CHECK(!vmimg_holes_find(&holes, 700, &len) && len == 200);
	CHECK(!vmimg_holes_find(&holes, 1400, &len));
	CHECK(!vmimg_holes_punch(&holes, io, 0, UINT64_MAX, &err) && vmimg_io_size(io) == 1000);
	CHECK(is_zero_in(io, 900, 1000));
	vmimg_holes_done(&holes);
	vmimg_io_unref(io);
}

static void copies_leave_holes_out(void)
{
	struct vmimg_io *io = vmimg_memory_new("m", &err);
	struct vmimg_holes holes = { 0 };
	struct vmimg_copier copier;
	uint8_t from[300], to[300];

	fill(io, 1000);
	CHECK(!vmimg_holes_add(&holes, 550, 100, &err));
	vmimg_copier_init(&copier, io);
	copier.holes = &holes;
	CHECK(!vmimg_copier_add(&copier, 500, 100, 100, &err));
	CHECK(!vmimg_copier_add(&copier, 600, 200, 200, &err) && copier.len == 300);
	CHECK(!vmimg_copier_add(&copier, 900, 0, 10, &err) && copier.len == 10);
	CHECK(!vmimg_copier_flush(&copier, &err) && !copier.len);
	vmimg_copier_done(&copier);
	CHECK(!vmimg_io_pread(io, from, 300, 500, &err) && !vmimg_io_pread(io, to, 300, 100, &err));
	CHECK(!memcmp(from, to, 50) && !memcmp(from + 150, to + 150, 150));
	CHECK(is_zero_in(io, 150, 250) && !is_zero_in(io, 550, 551));
	CHECK(!vmimg_io_pread(io, to, 10, 0, &err) && !vmimg_io_pread(io, from, 10, 900, &err));
	CHECK(!memcmp(from, to, 10));
	vmimg_holes_done(&holes);
	vmimg_io_unref(io);
}

UNIT_TESTS(TEST(memory_grows_and_shrinks), TEST(reading_past_the_end_is_corrupt),
	TEST(windows_keep_to_their_stretch), TEST(pipes_go_forward_only),
	TEST(tables_read_across_their_pieces), TEST(outputs_appear_when_published),
	TEST(outputs_replace_only_when_told), TEST(a_name_taken_meanwhile_is_not_replaced),
	TEST(siblings_appear_together), TEST(only_files_and_devices_open),
	TEST(faults_come_when_told), TEST(holes_wait_until_they_are_wanted),
	TEST(copies_leave_holes_out));
UNIT_MAIN()

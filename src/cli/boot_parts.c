/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folders are those of Debian, Fedora, Arch and Alpine. syslinux is run on a temporary copy of
 * the EFI system partition alone, which is much smaller than the disk, and by its name, without a
 * shell. Images are interpreted in a sandbox that starts no programs: a helper, forked before,
 * waits for the word.
 */
#include "cli/boot_parts.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bundle/fat.h"
#include "io/file.h"
#include "util/num.h"

extern char **environ;

/* By architecture: the stub's file name, and the name that firmware starts. */
static const struct efi {
	const char *architecture, *stub, *name;
	bool bios;
} efis[] = {
	{ "x86_64", "linuxx64.efi.stub", "BOOTX64.EFI", true },
	{ "x86", "linuxx64.efi.stub", "BOOTX64.EFI", true },
	{ "i386", "linuxia32.efi.stub", "BOOTIA32.EFI", true },
	{ "aarch64", "linuxaa64.efi.stub", "BOOTAA64.EFI", false },
	{ "riscv64", "linuxriscv64.efi.stub", "BOOTRISCV64.EFI", false },
};

static struct vmimg_io *find_file(
	const char *const *folders, const char *name, struct vmimg_error *err)
{
	for (; *folders; folders++) {
		VMIMG_AUTO(free) char *path = NULL;

		if (asprintf(&path, "%s/%s", *folders, name) < 0) {
			vmimg_fail_nomem(err);
			return NULL;
		}
		if (!access(path, R_OK))
			return vmimg_file_open(path, false, err);
	}
	vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s is not on this machine", name);
	return NULL;
}

static int find_stub(struct cli_boot_parts *parts, const struct efi *efi, struct vmimg_error *err)
{
	static const char *const folders[] = { "/usr/lib/systemd/boot/efi", "/lib/systemd/boot/efi",
		"/usr/local/lib/systemd/boot/efi", NULL };

	parts->stub = find_file(folders, efi->stub, err);
	if (parts->stub)
		return 0;
	if (err->status == VMIMG_EUNSUPPORTED)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"to start under UEFI, %s of systemd is needed: install systemd-boot-efi "
			"(Debian) or systemd-boot (Fedora), or leave it out with --firmware bios",
			efi->stub);
	return -1;
}

static bool is_on_path(const char *program)
{
	const char *path = getenv("PATH");
	VMIMG_AUTO(free) char *list = strdup(path ? path : "/usr/bin:/bin");
	char *rest, *folder;

	for (folder = list ? strtok_r(list, ":", &rest) : NULL; folder;
		folder = strtok_r(NULL, ":", &rest)) {
		VMIMG_AUTO(free) char *file = NULL;

		if (asprintf(&file, "%s/%s", folder, program) < 0)
			file = NULL;
		else if (!access(file, X_OK))
			return true;
	}
	return false;
}

static int find_boot_code(struct cli_boot_parts *parts, bool mbr, struct vmimg_error *err)
{
	static const char *const folders[] = { "/usr/lib/syslinux/mbr", "/usr/share/syslinux",
		"/usr/lib/syslinux/bios", "/usr/lib/syslinux", NULL };
	const char *name = mbr ? "mbr.bin" : "gptmbr.bin";
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = find_file(folders, name, err);

	if (!io && err->status != VMIMG_EUNSUPPORTED)
		return -1;
	if (!io || !is_on_path("syslinux") || vmimg_io_size(io) > sizeof(parts->boot_code))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"to start under a BIOS, syslinux and its %s are needed: install syslinux "
			"and syslinux-common (Debian), or leave it out with --firmware efi",
			name);
	return vmimg_io_pread(io, parts->boot_code, (size_t)vmimg_io_size(io), 0, err);
}

/* ---- syslinux ---- */

/* Returns its exit code, or that of a shell for a program that was not found or was killed. What it
 * prints belongs on standard error: standard output may be the image. */
static uint8_t run_syslinux(char *path)
{
	char name[] = "syslinux", install_option[] = "--install";
	char *argv[] = { name, install_option, path, NULL };
	posix_spawn_file_actions_t actions;
	int failed, status;
	pid_t child;

	if (posix_spawn_file_actions_init(&actions))
		return 126;
	failed = posix_spawn_file_actions_addopen(
			 &actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0) ||
		posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO) ||
		posix_spawnp(&child, name, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (failed)
		return 127;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return 126;
	return WIFEXITED(status) ? (uint8_t)WEXITSTATUS(status) : 128;
}

/* The helper: for each byte that comes, a run; at the end of it all the file loses its name. */
static void serve(int socket, char *path)
{
	uint8_t word;

	while (read(socket, &word, 1) == 1) {
		word = run_syslinux(path);
		if (write(socket, &word, 1) != 1)
			break;
	}
	unlink(path);
	_exit(0);
}

static int start_helper(struct cli_boot_parts *parts, char *path, struct vmimg_error *err)
{
	int ends[2];
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return vmimg_fail_sys(err, errno, "starting a helper");
	child = fork();
	if (!child) {
		/* the user's Ctrl-C is the parent's business: the helper sees the socket close */
		setpgid(0, 0);
		close(ends[0]);
		serve(ends[1], path);
	}
	close(ends[1]);
	if (child < 0) {
		close(ends[0]);
		return vmimg_fail_sys(err, errno, "starting a helper");
	}
	parts->helper = ends[0];
	return 0;
}

int cli_boot_parts_begin(struct cli_boot_parts *parts, bool bios, struct vmimg_error *err)
{
	const char *folder = getenv("TMPDIR");
	VMIMG_AUTO(free) char *path = NULL;
	int fd;

	parts->helper = -1;
	if (!bios)
		return 0;
	if (asprintf(&path, "%s/vmimg-esp-XXXXXX", folder && *folder ? folder : "/tmp") < 0) {
		path = NULL;
		return vmimg_fail_nomem(err);
	}
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return vmimg_fail_sys(err, errno, "creating %s", path);
	parts->esp = vmimg_file_from_fd(fd, true, "EFI system partition", err);
	if (parts->esp && !start_helper(parts, path, err))
		return 0;
	unlink(path);
	return -1;
}

static int copy(struct vmimg_io *from, struct vmimg_io *to, struct vmimg_error *err)
{
	enum { STEP = 256 << 10 };
	VMIMG_AUTO(free) uint8_t *buf = vmimg_alloc_buffer(STEP, err);
	uint64_t size = vmimg_io_size(from), len;
	bool hole;

	if (!buf || vmimg_io_resize(to, size, err))
		return -1;
	for (uint64_t at = 0; at < size; at += len) {
		if (vmimg_io_extent(from, at, &hole, &len, err))
			return -1;
		len = hole ? len : vmimg_min(len, STEP);
		if (hole)
			continue;
		if (vmimg_io_pread(from, buf, (size_t)len, at, err) ||
			vmimg_io_pwrite(to, buf, (size_t)len, at, err))
			return -1;
	}
	return 0;
}

static struct vmimg_io *install(void *ctx, struct vmimg_io *esp, struct vmimg_error *err)
{
	struct cli_boot_parts *parts = ctx;
	uint8_t word = 0;

	if (copy(esp, parts->esp, err))
		return NULL;
	if (write(parts->helper, &word, 1) != 1 || read(parts->helper, &word, 1) != 1) {
		vmimg_fail_sys(err, errno, "asking the helper that runs syslinux");
		return NULL;
	}
	if (word) {
		vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"syslinux --install failed on the EFI system partition (exit %u): "
			"--firmware efi does without",
			word);
		return NULL;
	}
	return vmimg_fat_settle(parts->esp, parts->epoch, err) ? NULL : vmimg_io_ref(parts->esp);
}

int cli_boot_parts_find(struct cli_boot_parts *parts, const char *architecture, bool bios, bool efi,
	struct vmimg_boot_disk *how, struct vmimg_error *err)
{
	const struct efi *found = NULL;

	for (size_t i = 0; architecture && i < VMIMG_ARRAY_LEN(efis); i++)
		if (!strcmp(efis[i].architecture, architecture))
			found = &efis[i];
	if (!found)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"no way is known to start a kernel for %s",
			architecture ? architecture : "an unknown architecture");
	parts->epoch = how->epoch;
	how->efi_name = found->name;
	if (bios && found->bios) {
		if (find_boot_code(parts, how->mbr, err))
			return -1;
		how->boot_code = parts->boot_code;
		how->install = install;
		how->install_ctx = parts;
	}
	if (efi && find_stub(parts, found, err))
		return -1;
	how->stub = parts->stub;
	return 0;
}

void cli_boot_parts_done(struct cli_boot_parts *parts)
{
	vmimg_io_unref(parts->stub);
	vmimg_io_unref(parts->esp);
	if (parts->helper >= 0)
		close(parts->helper);
	parts->stub = parts->esp = NULL;
	parts->helper = -1;
}

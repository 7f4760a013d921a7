/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock (landlock(7)) by its system calls, seccomp by libseccomp. */
#include "cli/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "util/num.h"

/* The interface of the kernel, stated here because older headers lack parts of it. */
#define LANDLOCK_EXECUTE     (UINT64_C(1) << 0)
#define LANDLOCK_WRITE_FILE  (UINT64_C(1) << 1)
#define LANDLOCK_READ_FILE   (UINT64_C(1) << 2)
#define LANDLOCK_READ_DIR    (UINT64_C(1) << 3)
#define LANDLOCK_REMOVE_FILE (UINT64_C(1) << 5)
#define LANDLOCK_MAKE_REG    (UINT64_C(1) << 8)
#define LANDLOCK_REFER       (UINT64_C(1) << 13)
#define LANDLOCK_TRUNCATE    (UINT64_C(1) << 14)
#define LANDLOCK_IOCTL_DEV   (UINT64_C(1) << 15)
#define LANDLOCK_OF_FILES                                                                  \
	(LANDLOCK_EXECUTE | LANDLOCK_WRITE_FILE | LANDLOCK_READ_FILE | LANDLOCK_TRUNCATE | \
		LANDLOCK_IOCTL_DEV)
#define LANDLOCK_NET       UINT64_C(3) /* bind and connect by TCP */
#define LANDLOCK_SCOPES    UINT64_C(3) /* abstract sockets and signals of others */
#define LANDLOCK_PATH_RULE 1

struct ruleset {
	uint64_t fs, net, scoped;
};
struct path_rule {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));

#define READ    (LANDLOCK_READ_FILE | LANDLOCK_READ_DIR | LANDLOCK_IOCTL_DEV)
#define SCRATCH (READ | LANDLOCK_WRITE_FILE | LANDLOCK_TRUNCATE | LANDLOCK_MAKE_REG)
#define NEW     (SCRATCH | LANDLOCK_REMOVE_FILE | LANDLOCK_REFER)

/* What the C library and libraries that are loaded on first use may look at. */
static const char *const system_paths[] = { "/usr", "/lib", "/lib64", "/etc/ld.so.cache",
	"/etc/localtime", "/etc/ssl/openssl.cnf", "/sys/devices/system/cpu", "/proc",
	"/dev/urandom" };

static void add_rule(struct cli_sandbox *sandbox, const char *path, uint64_t access)
{
	struct cli_sandbox_rule *rule = &sandbox->rules[sandbox->count];

	if (sandbox->entered || sandbox->count == VMIMG_ARRAY_LEN(sandbox->rules))
		return;
	for (size_t i = 0; i < sandbox->count; i++)
		if (sandbox->rules[i].access == access && !strcmp(sandbox->rules[i].path, path))
			return;
	rule->path = strdup(path);
	rule->access = access;
	sandbox->count += rule->path != NULL;
}

static void add_folder(struct cli_sandbox *sandbox, const char *path, uint64_t access)
{
	char *copy = strdup(path);

	if (copy)
		add_rule(sandbox, dirname(copy), access);
	free(copy);
}

void cli_sandbox_read(struct cli_sandbox *sandbox, const char *path)
{
	add_rule(sandbox, path, READ);
}

void cli_sandbox_read_beside(struct cli_sandbox *sandbox, const char *path)
{
	char *real = realpath(path, NULL); /* the name may be a link into another folder */

	add_rule(sandbox, path, READ);
	add_folder(sandbox, path, READ);
	if (real)
		add_folder(sandbox, real, READ);
	free(real);
}

void cli_sandbox_write(struct cli_sandbox *sandbox, const char *path)
{
	struct stat st;

	if (!strcmp(path, "-"))
		return;
	if (!stat(path, &st) && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		add_rule(sandbox, path, READ | LANDLOCK_WRITE_FILE);
	else
		add_folder(sandbox, path, NEW);
}

void cli_sandbox_scratch(struct cli_sandbox *sandbox, const char *folder)
{
	add_rule(sandbox, folder, SCRATCH);
}

/* ---- Landlock ---- */

static void allow(int ruleset, uint64_t handled, const char *path, uint64_t access)
{
	struct path_rule rule = { .fd = open(path, O_PATH | O_CLOEXEC) };
	struct stat st;

	if (rule.fd < 0)
		return;
	if (!fstat(rule.fd, &st) && !S_ISDIR(st.st_mode))
		access &= LANDLOCK_OF_FILES;
	rule.access = access & handled;
	syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_PATH_RULE, &rule, 0);
	close(rule.fd);
}

/* Modules lie beside the program when it runs where it was built. */
static void allow_program(int ruleset, uint64_t handled)
{
	char path[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (len <= 0)
		return;
	path[len] = '\0';
	allow(ruleset, handled, dirname(path), READ | LANDLOCK_EXECUTE);
}

/* Returns false where the kernel has no Landlock. */
static bool enter_landlock(const struct cli_sandbox *sandbox)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1);
	struct ruleset attr = { .fs = 0x1fff };
	size_t size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
	int ruleset;
	bool done;

	attr.fs |= (abi >= 2 ? LANDLOCK_REFER : 0) | (abi >= 3 ? LANDLOCK_TRUNCATE : 0) |
		(abi >= 5 ? LANDLOCK_IOCTL_DEV : 0);
	attr.net = abi >= 4 ? LANDLOCK_NET : 0;
	attr.scoped = abi >= 6 ? LANDLOCK_SCOPES : 0;
	ruleset = abi < 1 ? -1 : (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return false;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(system_paths); i++)
		allow(ruleset, attr.fs, system_paths[i], READ | LANDLOCK_EXECUTE);
	allow_program(ruleset, attr.fs);
	for (size_t i = 0; i < sandbox->count; i++)
		allow(ruleset, attr.fs, sandbox->rules[i].path, sandbox->rules[i].access);
	done = !syscall(SYS_landlock_restrict_self, ruleset, 0);
	close(ruleset);
	return done;
}

/* ---- seccomp ---- */

/* Reading and writing files, memory, threads, time. Anything else fails with EPERM. */
static const int allowed[] = { SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(pread64),
	SCMP_SYS(pwrite64), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(preadv), SCMP_SYS(pwritev),
	SCMP_SYS(lseek), SCMP_SYS(copy_file_range), SCMP_SYS(fstat), SCMP_SYS(stat),
	SCMP_SYS(lstat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(statfs), SCMP_SYS(fstatfs),
	SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(openat2), SCMP_SYS(close), SCMP_SYS(close_range),
	SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(pipe2), SCMP_SYS(fcntl),
	SCMP_SYS(ioctl), SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2),
	SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getcwd), SCMP_SYS(getdents64),
	SCMP_SYS(umask), SCMP_SYS(ftruncate), SCMP_SYS(fallocate), SCMP_SYS(fadvise64),
	SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(sync_file_range), SCMP_SYS(linkat),
	SCMP_SYS(renameat2), SCMP_SYS(renameat), SCMP_SYS(rename), SCMP_SYS(unlink),
	SCMP_SYS(unlinkat), SCMP_SYS(mkdirat), SCMP_SYS(mkdir), SCMP_SYS(mmap), SCMP_SYS(munmap),
	SCMP_SYS(mprotect), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(futex),
	SCMP_SYS(rseq), SCMP_SYS(set_robust_list), SCMP_SYS(get_robust_list), SCMP_SYS(gettid),
	SCMP_SYS(getpid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_yield), SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep), SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday),
	SCMP_SYS(nanosleep), SCMP_SYS(time), SCMP_SYS(getrandom), SCMP_SYS(sysinfo),
	SCMP_SYS(uname), SCMP_SYS(prlimit64), SCMP_SYS(getrlimit), SCMP_SYS(getrusage),
	SCMP_SYS(prctl), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6),
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack), SCMP_SYS(tgkill), SCMP_SYS(restart_syscall), SCMP_SYS(exit),
	SCMP_SYS(exit_group) };

/* What no image tool has a reason to do: the end of the process. */
static const int deadly[] = { SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(socket),
	SCMP_SYS(connect), SCMP_SYS(bpf), SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(init_module),
	SCMP_SYS(finit_module), SCMP_SYS(kexec_load), SCMP_SYS(setuid), SCMP_SYS(setgid),
	SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(chroot), SCMP_SYS(pivot_root),
	SCMP_SYS(keyctl), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd),
	SCMP_SYS(io_uring_setup) };

static bool enter_seccomp(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	bool done = filter != NULL;

	for (size_t i = 0; done && i < VMIMG_ARRAY_LEN(allowed); i++)
		done = !seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
	for (size_t i = 0; done && i < VMIMG_ARRAY_LEN(deadly); i++)
		done = !seccomp_rule_add(filter, SCMP_ACT_TRAP, deadly[i], 0);
	/* threads, not processes; of clone3 the arguments cannot be seen, and the C library falls
	 * back */
	done = done &&
		!seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD)) &&
		!seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) &&
		!seccomp_load(filter);
	seccomp_release(filter);
	return done;
}

static void die(int signal_number)
{
	static const char text[] = "vmimg: stopped: it tried what reading an image never needs\n";

	(void)signal_number;
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(70);
}

/* ---- both ---- */

static bool built_to_be_watched(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(VMIMG_COVERAGE)
	return true; /* sanitizers make system calls of their own, and counters are written at the end */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
	return true;
#else
	return false;
#endif
#else
	return false;
#endif
}

int cli_sandbox_enter(struct cli_sandbox *sandbox, bool must, struct vmimg_error *err)
{
	struct rlimit none = { 0, 0 };
	bool done;

	if (sandbox->entered || built_to_be_watched())
		return 0;
	sandbox->entered = true;
	setrlimit(RLIMIT_CORE, &none);
	signal(SIGSYS, die);
	done = !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && enter_landlock(sandbox) &&
		enter_seccomp();
	for (size_t i = 0; i < sandbox->count; i++)
		free(sandbox->rules[i].path);
	sandbox->count = 0;
	if (done || !must)
		return 0;
	return vmimg_fail(err, VMIMG_EREFUSED,
		"this kernel has no Landlock or no seccomp, and without a sandbox an untrusted "
		"image is "
		"not opened");
}

void cli_sandbox_done(struct cli_sandbox *sandbox)
{
	while (sandbox->count)
		free(sandbox->rules[--sandbox->count].path);
}

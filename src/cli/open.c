/* SPDX-License-Identifier: Apache-2.0 */
/* From a word of the command line to an opened disk. */
#include "cli/open.h"
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/bundle.h"
#include "cli/progress.h"
#include "codec/peek.h"
#include "codec/spool.h"
#include "codec/unwrap.h"
#include "disk/luks_layout.h"
#include "io/file.h"
#include "util/num.h"

void cli_image_close(struct cli_image *image)
{
	vmimg_disk_close(image->disk);
	vmimg_bundle_close(image->bundle);
	vmimg_io_unref(image->io);
	cli_files_done(&image->files);
	cli_triple_done(&image->triple);
	free(image->key);
	free(image->certificate);
	memset(image, 0, sizeof(*image));
}

/* An image that says it is two things is refused from strangers, even when -f picks one. */
static int check_untrusted(
	struct vmimg_io *io, const struct cli_common *common, struct vmimg_error *err)
{
	struct vmimg_error why;

	if (!common->untrusted || vmimg_disk_probe(io, &why) || why.status != VMIMG_EREFUSED)
		return 0;
	*err = why;
	return -1;
}

static void warn_if_not_raw(struct vmimg_io *io, const char *format)
{
	const struct vmimg_format *found;
	struct vmimg_error why;

	if (!format || strcmp(format, "raw"))
		return;
	found = vmimg_disk_probe(io, &why);
	if (found && strcmp(found->name, "raw"))
		cli_warn("warning: %s looks like %s, and is read as a raw disk (-f raw)",
			vmimg_io_name(io), found->title);
	else if (!found)
		cli_warn("warning: read as a raw disk: %s", why.text);
}

/* qemu's words: a bare id or name, or snapshot.id=ID, snapshot.name=NAME. */
static const char *snapshot_word(const char *text)
{
	static const char *const keys[] = { "snapshot.id=", "snapshot.name=" };

	for (size_t i = 0; text && i < 2; i++)
		if (!strncmp(text, keys[i], strlen(keys[i])))
			return text + strlen(keys[i]);
	return text;
}

static int check_size(
	const struct vmimg_disk *disk, const struct cli_common *common, struct vmimg_error *err)
{
	if (!common->max_virtual_size || disk->size <= common->max_virtual_size)
		return 0;
	return vmimg_fail(err, VMIMG_ELIMIT,
		"%s: a virtual size of %" PRIu64 " bytes is over the limit of %" PRIu64
		" (--max-virtual-size)",
		vmimg_io_name(disk->io), disk->size, common->max_virtual_size);
}

/* What a compressed source may unpack to: a disk as large as is agreed, and an image's tables. */
static uint64_t spool_limit(const struct cli_common *common)
{
	uint64_t size = common->max_virtual_size;

	if (size)
		return size + size / 8 + (1 << 20);
	return common->max_output;
}

static struct vmimg_io *spool(int fd, const char *name, const struct cli_common *common,
	const struct cli_open *how, struct vmimg_error *err)
{
	const char *temporary = getenv("TMPDIR");
	VMIMG_AUTO(free) char *copy = vmimg_strdup(how->spool_for ? how->spool_for : "", err);
	struct vmimg_spool spool = { .fd = fd,
		.name = name,
		.as_it_is = how->format && !strcmp(how->format, "raw"),
		.limit = spool_limit(common),
		.cancel = cli_catch_signals() };

	if (!copy)
		return NULL;
	if (*copy && strcmp(copy, "-") && !(temporary && *temporary))
		spool.folder = dirname(copy);
	return vmimg_spool(&spool, err);
}

static bool is_wrapped(struct vmimg_io *io, struct vmimg_error *err)
{
	uint8_t head[VMIMG_WRAPPING_MAGIC];
	size_t len = (size_t)vmimg_min(vmimg_io_size(io), sizeof(head));

	return !vmimg_io_pread(io, head, len, 0, err) && vmimg_wrapping_find(head, len);
}

/* A compressed archive is a bundle, of which nothing can be told but from its inside. */
static bool is_wrapped_archive(struct vmimg_io *io)
{
	uint8_t head[VMIMG_TAR_BLOCK];
	struct vmimg_error ignored;
	size_t got;

	return !vmimg_unwrap_peek(io, 0, head, sizeof(head), &got, &ignored) &&
		vmimg_tar_probe(head, got);
}

/* Standard input when it is a file, as "vmimg convert - <file" makes it, is read at any offset. */
static struct vmimg_io *open_input(
	const struct cli_common *common, const struct cli_open *how, struct vmimg_error *err)
{
	struct stat st;
	int fd;

	if (!how->spool_for) {
		vmimg_fail(err, VMIMG_EINVAL, "standard input is not taken here: name a file");
		return NULL;
	}
	if (!fstat(STDIN_FILENO, &st) && S_ISREG(st.st_mode) &&
		(fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)) >= 0)
		return vmimg_file_from_fd(fd, false, "standard input", err);
	return spool(STDIN_FILENO, "standard input", common, how, err);
}

static struct vmimg_io *open_path(const char *path, const struct cli_common *common,
	const struct cli_open *how, struct vmimg_error *err)
{
	struct vmimg_io *io = strcmp(path, "-") ? vmimg_file_open(path, false, err)
						: open_input(common, how, err);

	if (!io && (!strncmp(path, "http://", 7) || !strncmp(path, "https://", 8)))
		vmimg_within(err, "URLs are not fetched (curl URL | vmimg convert - OUT)");
	return io;
}

/* What the word names, without a wrapping where that is seen through. */
static struct vmimg_io *open_io(struct cli_files *files, const char *path,
	const struct cli_common *common, const struct cli_open *how, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *file = open_path(path, common, how, err);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;
	bool raw = how->format && !strcmp(how->format, "raw");

	if (!file || cli_files_add(files, file, err))
		return NULL;
	io = cli_files_undone(files, file, &files->undone, err);
	if (!io)
		return NULL;
	if (common->sandbox && cli_sandbox_enter(common->sandbox, common->untrusted, err))
		return NULL;
	if (raw || !is_wrapped(io, err))
		return vmimg_take(io);
	if (!how->spool_for && !(how->bundle && is_wrapped_archive(io)))
		return vmimg_take(io);
	if (io != file || lseek(vmimg_file_fd(io), 0, SEEK_SET))
		return vmimg_take(io);
	return spool(vmimg_file_fd(io), vmimg_io_name(io), common, how, err);
}

const char *cli_face_format(struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_error why;
	const struct vmimg_format *format = vmimg_disk_probe(io, &why);

	if (format || why.status == VMIMG_EFORMAT)
		return format && cli_qemu_name(format) ? format->name : "raw";
	*err = why;
	return NULL;
}

/* The three files of an AMI, and the description of them that io then is. */
static struct vmimg_io *open_triple(struct cli_image *image, const char *path,
	const struct cli_common *common, const struct cli_open *how, struct vmimg_error *err)
{
	struct cli_triple *triple = &image->triple;

	if (how->format && strcasecmp(how->format, "ami") != 0) {
		vmimg_fail(err, VMIMG_EINVAL, "-f %.40s is for one file, not for those of an AMI",
			how->format);
		return NULL;
	}
	if (how->named ? cli_triple_named(triple, how->named, common, err)
		       : cli_triple_folder(triple, path, common, err))
		return NULL;
	for (size_t i = 0; i < CLI_TRIPLE; i++)
		if (triple->parts[i].io && cli_files_add(&image->files, triple->parts[i].io, err))
			return NULL;
	image->files.policy = &triple->resolver;
	image->files.resolver.search = NULL;
	return cli_triple_describe(triple, how->named ? how->named->ami : path, err);
}

static void warn_if_cut_off(const struct cli_image *image)
{
	if (image->files.undone.note[0] && image->disk)
		vmimg_disk_warn(image->disk, "%s", image->files.undone.note);
}

static struct vmimg_open options_of(const struct cli_image *image, const struct cli_open *how)
{
	return (struct vmimg_open){ .format = how->format,
		.resolver = &image->files.resolver,
		.snapshot = snapshot_word(how->snapshot),
		.alone = how->alone,
		.bare = how->bare,
		.lenient = how->lenient,
		.secrets = how->secrets,
		.secret_count = how->secret_count,
		.max_iterations = how->max_iterations };
}

/* All else needs no second detection. */
static bool begins_as_luks(struct vmimg_io *io)
{
	char magic[sizeof(LUKS_MAGIC) - 1];
	struct vmimg_error unused;

	return vmimg_io_size(io) >= sizeof(magic) &&
		!vmimg_io_pread(io, magic, sizeof(magic), 0, &unused) &&
		!memcmp(magic, LUKS_MAGIC, sizeof(magic));
}

/* A raw disk may begin with LUKS because its guest wrote that, who then has the key. What the
 * header says is nobody else's business. */
static bool is_guests_own(struct vmimg_io *io, const struct cli_open *how)
{
	const struct vmimg_format *format;
	struct vmimg_error why;

	if (how->format || how->secret_count || how->look || how->alone || !begins_as_luks(io))
		return false;
	format = vmimg_disk_probe(io, &why);
	return format && !strcmp(format->name, "luks");
}

static int open_disk(struct cli_image *image, const struct cli_open *how, struct vmimg_error *err)
{
	struct vmimg_open options = options_of(image, how);
	bool own = is_guests_own(image->io, how);

	if (own)
		options.format = "raw";
	image->disk = vmimg_disk_open(image->io, &options, err);
	if (!image->disk)
		return -1;
	if (own)
		vmimg_disk_warn(image->disk,
			"a LUKS volume, taken for a raw disk as no secret was given "
			"(--secret-file)");
	return 0;
}

static int open_any(struct cli_image *image, const char *path, const struct cli_common *common,
	const struct cli_open *how, struct vmimg_error *err)
{
	image->io = how->named || cli_is_folder(path)
		? open_triple(image, path, common, how, err)
		: open_io(&image->files, path, common, how, err);
	if (!image->io || check_untrusted(image->io, common, err))
		return -1;
	if (cli_bundle_open(image, common, how, err))
		return -1;
	if (!image->bundle && open_disk(image, how, err))
		return -1;
	if (image->disk ? check_size(image->disk, common, err) : !image->bundle)
		return -1;
	warn_if_cut_off(image);
	if (!common->quiet && !image->bundle)
		warn_if_not_raw(image->io, how->format);
	return 0;
}

/* qemu-img sees through no wrapping and into no bundle: what it does not know is raw. */
static int open_for_face(struct cli_image *image, const char *path, const struct cli_common *common,
	const struct cli_open *how, struct vmimg_error *err)
{
	struct vmimg_open options = options_of(image, how);
	struct cli_open as_it_is = { .format = "raw" };

	image->io = open_io(&image->files, path, common, &as_it_is, err);
	if (image->io && !options.format)
		options.format = cli_face_format(image->io, err);
	if (image->io && options.format)
		image->disk = vmimg_disk_open(image->io, &options, err);
	warn_if_cut_off(image);
	return image->disk ? 0 : vmimg_within(err, "Could not open '%.100s'", path);
}

void cli_image_warn(const struct cli_image *image, const struct cli_common *common)
{
	json_t *text;
	size_t i;

	cli_bundle_warn(image->bundle, common);
	for (const struct vmimg_disk *disk = image->disk; disk && !common->quiet;
		disk = disk->parent)
		json_array_foreach(disk->warnings, i, text) cli_warn(
			"warning: %s: %s", vmimg_io_name(disk->io), json_string_value(text));
}

bool cli_is_split(const char *path, const char *format)
{
	size_t len = strlen(path);
	char second[PATH_MAX];

	if (len < 4 || len >= sizeof(second) || strcasecmp(path + len - 4, ".vhd") ||
		(format && vmimg_format_find(format) != vmimg_format_find("vhd")))
		return false;
	memcpy(second, path, len + 1);
	memcpy(second + len - 2, "01", 2);
	return !access(second, F_OK);
}

int cli_image_open(struct cli_image *image, const char *path, const struct cli_common *common,
	const struct cli_open *how, struct vmimg_error *err)
{
	struct cli_open with = *how;

	if (how->alone && !how->look && cli_is_split(path, how->format)) {
		with.alone = false; /* the others are the image as well */
		with.refs = CLI_REFS_BESIDE;
	}
	cli_files_init(&image->files, common, cli_resolver(common, with.refs),
		how->look ? VMIMG_LOCK_LOOK : VMIMG_LOCK_READ);
	if (cli_secrets_source(common->secrets, &with.secrets, &with.secret_count, err))
		return -1;
	with.max_iterations = common->max_iterations;
	with.bare |= common->bare;
	with.secret_count = how->look ? 0 : with.secret_count;
	if (common->face ? open_for_face(image, path, common, &with, err)
			 : open_any(image, path, common, &with, err))
		return -1;
	if (!how->told)
		cli_image_warn(image, common);
	return 0;
}

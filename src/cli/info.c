/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg info: everything an image says of itself. The human report is printed from the JSON. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/artifact.h"
#include "cli/bundle.h"
#include "cli/gate.h"
#include "cli/human.h"
#include "cli/face/prune.h"
#include "cli/open.h"
#include "inspect/inspect.h"
#include "io/file.h"

struct args {
	struct cli_common common;
	struct cli_named named;
	bool chain;
};

/* Bytes that the file takes on storage. */
static void set_actual_size(json_t *root, const struct vmimg_io *io)
{
	struct stat st;

	if (vmimg_file_fd(io) >= 0 && !fstat(vmimg_file_fd(io), &st))
		vmimg_json_uint(root, "actual-size", (uint64_t)st.st_blocks * 512);
}

/* Where the backing file would be looked for. */
static void set_full_backing(json_t *root, const char *filename)
{
	const char *name = json_string_value(json_object_get(root, "backing-filename"));
	const char *slash = strrchr(filename, '/');
	char *full;

	if (!name || json_object_get(root, "full-backing-filename"))
		return;
	if (!slash || name[0] == '/') {
		json_object_set_new(root, "full-backing-filename", json_string(name));
	} else if (asprintf(&full, "%.*s%s", (int)(slash - filename + 1), filename, name) >= 0) {
		vmimg_json_text(root, "full-backing-filename", full);
		free(full);
	}
}

/* What is on a disk that is as it is, in a line, and more of it when it is one file system: it
 * takes a few reads. */
static void set_content(json_t *root, struct vmimg_disk *disk)
{
	bool raw = !strcmp(disk->format->name, "raw"), iso = !strcmp(disk->format->name, "iso");
	struct vmimg_summary summary;
	struct vmimg_error ignored;

	if ((!raw && !iso) || vmimg_inspection_summary(disk->io, 0, &summary, &ignored))
		return;
	if (*summary.text)
		json_object_set_new(root, "content", json_string(summary.text));
	if (raw && summary.alone.type)
		cli_describe_ami(disk->io, &summary.alone, root);
}

/* The well-known fields first, in an order that people grep by; then all others. */
static json_t *describe(
	struct vmimg_disk *disk, const struct cli_common *common, bool top, struct vmimg_error *err)
{
	const char *path = vmimg_file_path(disk->io);
	const char *filename = path ? path : vmimg_io_name(disk->io);
	struct vmimg_info info;
	json_t *root;

	if (vmimg_disk_info(disk, cli_resolver(common, CLI_REFS_BESIDE), &info, err))
		return NULL;
	if (common->face && cli_qemu_name(disk->format))
		vmimg_json_text(info.root, "format", cli_qemu_name(disk->format));
	root = json_object();
	json_object_set(root, "virtual-size", json_object_get(info.root, "virtual-size"));
	vmimg_json_text(root, "filename", filename);
	json_object_set(root, "format", json_object_get(info.root, "format"));
	set_actual_size(root, disk->io);
	vmimg_json_bool(root, "dirty-flag", false);
	json_object_set_new(root, "schema", json_string("vmimg.info/1"));
	json_object_update(root, info.root);
	json_decref(info.root);
	set_full_backing(root, filename);
	if (common->face) {
		face_prune_info(root);
		return root;
	}
	set_content(root, disk);
	/* what lies below was opened in the format that the image above states */
	if (cli_gate_disk(root, disk, top ? common->format : NULL, err)) {
		json_decref(root);
		return NULL;
	}
	return root;
}

static void print_info(const json_t *root, const struct cli_common *common)
{
	if (common->face)
		cli_print_qemu_info(root);
	else
		cli_print_info(root);
}

static int print_one(
	struct vmimg_disk *disk, const struct cli_common *common, struct vmimg_error *err)
{
	json_t *root = describe(disk, common, true, err);

	if (!root)
		return -1;
	if (common->json)
		return cli_print_json(stdout, root, err);
	print_info(root, common);
	json_decref(root);
	return CLI_OK;
}

static int print_chain(
	struct vmimg_disk *disk, const struct cli_common *common, struct vmimg_error *err)
{
	json_t *list = json_array(), *root;
	size_t i;

	for (bool top = true; disk; disk = disk->parent, top = false) {
		root = describe(disk, common, top, err);
		if (!root) {
			json_decref(list);
			return -1;
		}
		json_array_append_new(list, root);
	}
	if (common->json)
		return cli_print_json(stdout, list, err);
	json_array_foreach(list, i, root)
	{
		if (i)
			putchar('\n');
		print_info(root, common);
	}
	json_decref(list);
	return CLI_OK;
}

/* A kernel or a ramdisk is no disk, and is told as what it is. *done: that was it. */
static int try_artifact(
	struct vmimg_io *io, const struct cli_common *common, bool *done, struct vmimg_error *err)
{
	struct vmimg_error why;
	json_t *root = cli_describe_artifact(io, &why);

	*done = root;
	if (!root && why.status == VMIMG_EFORMAT)
		return 0;
	if (!root) {
		*err = why;
		return -1;
	}
	set_actual_size(root, io);
	cli_gate_refuse(root, "not-a-disk", "it is no disk image");
	if (common->json)
		return cli_print_json(stdout, root, err);
	print_info(root, common);
	json_decref(root);
	return 0;
}

/* What passes for a raw disk, or for none, may be something else. */
static bool may_be_artifact(const struct cli_image *image, const struct cli_common *common,
	bool failed, const struct vmimg_error *err)
{
	if (common->format || common->face || !image->io)
		return false;
	return failed ? err->status == VMIMG_EFORMAT : !strcmp(image->disk->format->name, "raw");
}

static bool is_named(const struct args *args)
{
	return args->named.aki || args->named.ari || args->named.ami;
}

static int look(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_open how = { .format = args->common.format,
		.refs = CLI_REFS_BESIDE,
		.named = is_named(args) ? &args->named : NULL,
		.look = true,
		.bundle = true,
		.alone = !args->chain,
		.told = true };
	bool failed = cli_image_open(&image, call->words[0], &args->common, &how, err),
	     done = false;

	if (!failed && !image.disk)
		return cli_bundle_print(image.bundle, &args->common, err);
	if (!image.bundle && may_be_artifact(&image, &args->common, failed, err) &&
		try_artifact(image.io, &args->common, &done, err))
		return -1;
	if (done)
		return CLI_OK;
	if (failed)
		return -1;
	return args->chain ? print_chain(image.disk, &args->common, err)
			   : print_one(image.disk, &args->common, err);
}

/* A verdict is wanted on what cannot be opened too; the exit code stays that of the error. */
static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	struct vmimg_error ignored;
	json_t *root;
	int code;

	if (!is_named(args) != (call->count == 1))
		return vmimg_fail(err, VMIMG_EINVAL,
			"it takes IMAGE, or the files of an AMI (--aki, --ari, --ami)");
	code = look(call, err);
	root = code < 0 && args->common.json
		? cli_gate_failed(call->count ? call->words[0] : args->named.ami, err)
		: NULL;
	if (root)
		(void)!cli_print_json(stdout, root, &ignored);
	return code;
}

static const struct cli_option options[] = {
	{ 0, "chain", NULL, "describe the backing files too, which are opened for it", cli_set_flag,
		offsetof(struct args, chain) },
	{ 0, "aki", "FILE", "instead of IMAGE: the kernel of an AMI,", cli_set_text,
		offsetof(struct args, named.aki) },
	{ 0, "ari", "FILE", "its ramdisk", cli_set_text, offsetof(struct args, named.ari) },
	{ 0, "ami", "FILE", "and its root file system", cli_set_text,
		offsetof(struct args, named.ami) },
	{ 0, "backing-chain", NULL, NULL, cli_set_flag, offsetof(struct args, chain) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_report_options,
	cli_source_options, NULL };

const struct cli_verb cli_info = {
	.name = "info",
	.operands = "IMAGE | --aki KERNEL [--ari RAMDISK] --ami ROOT",
	.summary = "Describes an image",
	.detail = "Opens no other file than IMAGE, unless --chain is given. IMAGE may be a folder "
		  "with the\nfiles of an AMI.",
	.most = 1,
	.args_size = sizeof(struct args),
	.reach = CLI_READS,
	.options = groups,
	.run = run,
};

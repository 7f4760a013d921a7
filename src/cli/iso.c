/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg iso: images of folders, seeds for cloud-init, and the kernel out of an installation medium.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "bundle/iso.h"
#include "cli/kernel.h"
#include "cli/target.h"
#include "io/file.h"
#include "io/output.h"

struct args {
	struct cli_common common;
	const char *output, *label, *bios, *efi, *mbr;
	const char *user_data, *meta_data, *network_config;
	bool boot_info, config_drive, force;
};

/* ---- writing ----------------------------------------------------------------------------- */

/* The image is written in memory's stead to a file that appears when it is whole. */
static int write_image(struct vmimg_iso_node *root, struct vmimg_iso_how *how,
	const struct args *args, struct vmimg_error *err)
{
	struct vmimg_output_how output_how = { .replace = args->force };
	VMIMG_AUTO(vmimg_output_close)
	struct vmimg_output *output = vmimg_output_open(args->output, &output_how, err);
	uint64_t epoch;

	if (!output || cli_read_epoch(&epoch, err))
		return -1;
	how->has_epoch = epoch != 0;
	how->epoch = (int64_t)epoch;
	how->application = "VMIMG";
	if (vmimg_output_io(output)->in_order)
		return vmimg_fail(err, VMIMG_EINVAL, "an ISO cannot be written to a pipe");
	if (vmimg_iso_write(vmimg_output_io(output), root, how, err) ||
		vmimg_output_publish(output, err))
		return -1;
	return CLI_OK;
}

static int check_label(const char *label, struct vmimg_error *err)
{
	if (strlen(label) > 32)
		return vmimg_fail(
			err, VMIMG_EINVAL, "-V: a label has at most 32 characters: '%.40s'", label);
	for (const char *p = label; *p; p++)
		if (*p < ' ' || *p > '~')
			return vmimg_fail(err, VMIMG_EINVAL,
				"-V: a label is made of printable ASCII characters");
	return 0;
}

/* A boot image is a file of the tree or, when there is none of that name, one beside it that gets
 * no name in it. */
static struct vmimg_iso_node *boot_image(
	struct vmimg_iso_node *root, const char *name, struct vmimg_error *err)
{
	struct vmimg_iso_node *node = vmimg_iso_find(root, name);

	if (!node) {
		node = vmimg_iso_add_file(root, name, name, err);
		if (!node)
			return NULL;
		node->hidden = true;
	}
	if (S_ISREG(node->mode))
		return node;
	vmimg_fail(err, VMIMG_EINVAL, "%s is not a file", name);
	return NULL;
}

static int read_mbr(const char *path, uint8_t code[440], size_t *len, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_file_open(path, false, err);
	uint64_t size = io ? vmimg_io_size(io) : 0;

	if (!io)
		return -1;
	/* isohdpfx.bin and its kin are whole sectors; the code is the first 432 bytes */
	if (size < 1 || size > 512)
		return vmimg_fail(err, VMIMG_EINVAL,
			"--isohybrid: %s has %llu bytes, and boot code has at most 512", path,
			(unsigned long long)size);
	*len = size < 432 ? (size_t)size : 432;
	return vmimg_io_pread(io, code, *len, 0, err);
}

static int create(const char *folder, const struct args *args, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_iso_free) struct vmimg_iso_node *root = vmimg_iso_folder("", err);
	struct vmimg_iso_how how = { .label = args->label ? args->label : "CDROM" };
	uint64_t left_out = 0;
	uint8_t code[440];

	if (!args->output)
		return vmimg_fail(err, VMIMG_EINVAL, "-o OUTPUT is missing");
	if (!root || check_label(how.label, err) ||
		vmimg_iso_add_tree(root, folder, &left_out, err))
		return -1;
	if (args->bios && !(how.bios = boot_image(root, args->bios, err)))
		return vmimg_within(err, "--el-torito-bios");
	if (args->efi && !(how.efi = boot_image(root, args->efi, err)))
		return vmimg_within(err, "--el-torito-efi");
	if (how.bios)
		how.bios->boot_info = args->boot_info;
	if (args->mbr) {
		if (read_mbr(args->mbr, code, &how.mbr_len, err))
			return -1;
		how.mbr = code;
	}
	if (left_out)
		cli_warn("warning: left out %llu devices, pipes and sockets",
			(unsigned long long)left_out);
	return write_image(root, &how, args, err);
}

/* ---- seeds ------------------------------------------------------------------------------- */

static int add_given(struct vmimg_iso_node *folder, const char *name, const char *path,
	const char *otherwise, struct vmimg_error *err)
{
	struct vmimg_iso_node *node;

	if (!path && !otherwise)
		return 0;
	node = path ? vmimg_iso_add_file(folder, name, path, err)
		    : vmimg_iso_add_bytes(folder, name, otherwise, strlen(otherwise), err);
	if (node)
		node->mode = S_IFREG | 0644;
	return node ? 0 : -1;
}

/* NoCloud: files in the root of a volume cidata. */
static int fill_nocloud(
	struct vmimg_iso_node *root, const struct args *args, struct vmimg_error *err)
{
	return add_given(root, "user-data", args->user_data, NULL, err) ||
			add_given(root, "meta-data", args->meta_data, "instance-id: iid-local01\n",
				err) ||
			add_given(root, "network-config", args->network_config, NULL, err)
		? -1
		: 0;
}

/* A config drive: the layout of OpenStack's metadata, of the newest version, on config-2. */
static int fill_config_drive(
	struct vmimg_iso_node *root, const struct args *args, struct vmimg_error *err)
{
	struct vmimg_iso_node *folder = vmimg_iso_add(root, "openstack", S_IFDIR | 0755, err);

	folder = folder ? vmimg_iso_add(folder, "latest", S_IFDIR | 0755, err) : NULL;
	if (!folder)
		return -1;
	return add_given(folder, "user_data", args->user_data, NULL, err) ||
			add_given(folder, "meta_data.json", args->meta_data,
				"{\"uuid\": \"iid-local01\"}\n", err) ||
			add_given(folder, "network_data.json", args->network_config, NULL, err)
		? -1
		: 0;
}

static int seed(const struct args *args, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_iso_free) struct vmimg_iso_node *root = vmimg_iso_folder("", err);
	struct vmimg_iso_how how = { .label = args->config_drive ? "config-2" : "cidata" };

	if (!args->output || !args->user_data)
		return vmimg_fail(err, VMIMG_EINVAL, "%s is missing",
			args->output ? "--user-data FILE" : "-o OUTPUT");
	if (!root || (args->config_drive ? fill_config_drive : fill_nocloud)(root, args, err))
		return -1;
	return write_image(root, &how, args, err);
}

/* ---- the verb ---------------------------------------------------------------------------- */

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	const char *word = call->words[0];

	if (!strcmp(word, "create") && call->count == 2)
		return create(call->words[1], args, err);
	if (!strcmp(word, "seed") && call->count == 1)
		return seed(args, err);
	if (!strcmp(word, "kernel") && call->count == 3)
		return cli_kernel_extract(
			call->words[1], call->words[2], args->force, &args->common, err);
	return vmimg_fail(err, VMIMG_EINVAL,
		"it is 'create -o OUTPUT FOLDER', 'seed -o OUTPUT --user-data FILE' or "
		"'kernel IMAGE FOLDER'");
}

#define TEXT(letter, name, arg, help, field)                                        \
	{                                                                           \
		letter, name, arg, help, cli_set_text, offsetof(struct args, field) \
	}
#define FLAG(name, help, field)                                                 \
	{                                                                       \
		0, name, NULL, help, cli_set_flag, offsetof(struct args, field) \
	}

static const struct cli_option options[] = {
	TEXT('o', NULL, "OUTPUT", "create, seed: the image to make", output),
	TEXT('V', NULL, "LABEL", "create: the volume's label (CDROM)", label),
	TEXT(0, "el-torito-bios", "FILE", "create: the boot image for BIOS", bios),
	TEXT(0, "el-torito-efi", "FILE", "create: the boot image for EFI, a FAT file system", efi),
	FLAG("boot-info-table", "create: tell the BIOS image where it lies, as isolinux wants it",
		boot_info),
	TEXT(0, "isohybrid", "FILE", "create: boot code for a USB stick", mbr),
	TEXT(0, "user-data", "FILE", "seed: what cloud-init shall do", user_data),
	TEXT(0, "meta-data", "FILE", "seed: who the instance is", meta_data),
	TEXT(0, "network-config", "FILE", "seed: its network", network_config),
	FLAG("config-drive", "seed: as OpenStack's config drive, not as NoCloud", config_drive),
	FLAG("force", "replace existing files", force),
	{ 0 },
};

static const struct cli_option *const groups[] = { options, NULL };

const struct cli_verb cli_iso = {
	.name = "iso",
	.operands = "create FOLDER | seed | kernel IMAGE FOLDER",
	.summary = "Makes ISO images and cloud-init seeds; takes the kernel out of a medium",
	.detail = "create: Rock Ridge and Joliet names, El Torito for BIOS and EFI.\n"
		  "seed: a volume cidata (NoCloud) or config-2 (config drive).\n"
		  "kernel: the kernel and the ramdisk that an installation medium starts.",
	.least = 1,
	.most = 3,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

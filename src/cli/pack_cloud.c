/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/pack_cloud.h"
#include <string.h>
#include "bundle/cloud.h"
#include "bundle/kernel.h"
#include "bundle/ramdisk.h"
#include "cli/open.h"
#include "cli/progress.h"
#include "cli/target.h"
#include "inspect/view.h"
#include "io/file.h"
#include "io/output.h"

struct job {
	const struct cli_cloud_pack *pack;
	char *name;
	uint64_t epoch;
	struct cli_image image;
	struct vmimg_io *root, *kernel, *ramdisk;
	struct vmimg_output *output;
	struct vmimg_siblings siblings;
	char *key, *certificate, *cloud_certificate;
};

bool cli_is_cloud(const char *kind)
{
	return kind && (!strcmp(kind, "ami") || !strcmp(kind, "ec2") || !strcmp(kind, "uec"));
}

/* The output's last component without what tells the kind. */
static int set_name(struct job *job, struct vmimg_error *err)
{
	static const char *const suffixes[] = { ".manifest.xml", ".ami.json", ".json", ".tar.gz",
		".tgz" };
	const char *slash = strrchr(job->pack->output, '/');
	const char *base = slash ? slash + 1 : job->pack->output;
	size_t len = strlen(base);

	if (job->pack->name) {
		job->name = vmimg_strdup(job->pack->name, err);
		return job->name ? 0 : -1;
	}
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		size_t tail = strlen(suffixes[i]);

		if (len > tail && !strcmp(base + len - tail, suffixes[i])) {
			len -= tail;
			break;
		}
	}
	job->name = strndup(base, len);
	return job->name ? 0 : vmimg_fail_nomem(err);
}

static int open_files(struct job *job, struct vmimg_error *err)
{
	const struct cli_cloud_pack *pack = job->pack;
	struct vmimg_output_how how = { .replace = pack->force, .no_sync = pack->no_sync };
	struct cli_open open = {
		.format = pack->common->format, .spool_for = pack->output, .refs = CLI_REFS_BESIDE
	};

	if (pack->common->sandbox)
		cli_sandbox_write(pack->common->sandbox, pack->output);
	job->output = vmimg_output_open(pack->output, &how, err);
	if (!job->output)
		return -1;
	job->kernel = pack->args->aki ? vmimg_file_open(pack->args->aki, false, err) : NULL;
	if (pack->args->aki && !job->kernel)
		return vmimg_within(err, "--aki");
	job->ramdisk = pack->args->ari ? vmimg_file_open(pack->args->ari, false, err) : NULL;
	if (pack->args->ari && !job->ramdisk)
		return vmimg_within(err, "--ari");
	if (cli_image_open(&job->image, pack->source, pack->common, &open, err) ||
		(job->kernel && cli_files_add(&job->image.files, job->kernel, err)) ||
		(job->ramdisk && cli_files_add(&job->image.files, job->ramdisk, err)) ||
		cli_files_spare(&job->image.files, pack->output, err))
		return -1;
	job->root = vmimg_view_open(job->image.disk, err);
	return job->root ? 0 : -1;
}

static struct vmimg_io *new_sibling(
	struct vmimg_siblings *siblings, const char *name, struct vmimg_error *err)
{
	struct job *job = (struct job *)(void *)((char *)siblings - offsetof(struct job, siblings));
	VMIMG_AUTO(free) char *path = cli_path_beside(job->pack->output, name, err);

	return !path || cli_files_spare(&job->image.files, path, err)
		? NULL
		: vmimg_output_sibling(job->output, name, err);
}

/* ---- the triple: a UEC tarball, or files ---- */

static int pack_triple(struct job *job, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_ramdisk *ramdisk = vmimg_new(struct vmimg_ramdisk, err);
	struct vmimg_kernel kernel;
	struct vmimg_uec_plan plan = {
		.name = job->name, .epoch = job->epoch, .cancel = cli_catch_signals()
	};

	if (!ramdisk || open_files(job, err) || vmimg_kernel_read(job->kernel, &kernel, err))
		return -1;
	if (job->ramdisk && vmimg_ramdisk_read(job->ramdisk, ramdisk, err))
		return vmimg_within(err, "--ari");
	plan.root = job->root;
	plan.kernel = job->kernel;
	plan.ramdisk = job->ramdisk;
	if (!strcmp(job->pack->kind, "uec"))
		return vmimg_uec_write(&plan, vmimg_output_io(job->output), err);
	job->siblings.create = new_sibling;
	job->siblings.main_name = vmimg_output_name(job->output);
	return vmimg_ami_write(&plan, &job->siblings, vmimg_output_io(job->output), err);
}

/* ---- EC2 ---- */

/* "ami=sda1" */
static int split_mapping(char *text, struct vmimg_ec2_mapping *mapping, struct vmimg_error *err)
{
	char *equals = strchr(text, '=');

	if (!equals || equals == text || !equals[1])
		return vmimg_fail(err, VMIMG_EINVAL,
			"--mapping is VIRTUAL=DEVICE, as in ami=sda1, not '%.60s'", text);
	*equals = '\0';
	*mapping = (struct vmimg_ec2_mapping){ text, equals + 1 };
	return 0;
}

static int read_keys(struct job *job, struct vmimg_error *err)
{
	const struct cli_common *common = job->pack->common;
	const char *cloud = job->pack->args->cloud_certificate;

	if (!common->key || !common->certificate || !job->pack->args->user)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a bundle for EC2 takes the user's key, certificate and account (--key, "
			"--cert, --user)");
	job->key = cli_read_text(common->key, err);
	job->certificate = job->key ? cli_read_text(common->certificate, err) : NULL;
	job->cloud_certificate = job->certificate && cloud ? cli_read_text(cloud, err) : NULL;
	return job->certificate && (!cloud || job->cloud_certificate) ? 0 : -1;
}

static int write_ec2(struct job *job, const struct vmimg_ec2_mapping *mappings, size_t count,
	struct vmimg_error *err)
{
	const struct cli_cloud_args *args = job->pack->args;
	struct vmimg_ec2_plan plan = { .name = job->name,
		.user = args->user,
		.type = args->type ? args->type : "machine",
		.architecture = args->architecture ? args->architecture : "x86_64",
		.kernel_id = args->kernel_id,
		.ramdisk_id = args->ramdisk_id,
		.mappings = mappings,
		.mapping_count = count,
		.product_codes = args->product_codes.items,
		.product_code_count = args->product_codes.count,
		.key = job->key,
		.certificate = job->certificate,
		.cloud_certificate = job->cloud_certificate,
		.epoch = job->epoch,
		.siblings = &job->siblings,
		.cancel = cli_catch_signals() };

	if (strcmp(plan.type, "machine") && strcmp(plan.type, "kernel") &&
		strcmp(plan.type, "ramdisk"))
		return vmimg_fail(err, VMIMG_EINVAL,
			"--type is machine, kernel or ramdisk, not '%.40s'", plan.type);
	job->siblings.create = new_sibling;
	if (open_files(job, err))
		return -1;
	job->siblings.main_name = vmimg_output_name(job->output);
	plan.image = job->root;
	return vmimg_ec2_write(&plan, vmimg_output_io(job->output), err);
}

static int pack_ec2(struct job *job, struct vmimg_error *err)
{
	const struct cli_repeats *given = &job->pack->args->mappings;
	struct vmimg_ec2_mapping mappings[CLI_MAX_REPEATS];
	char *texts[CLI_MAX_REPEATS] = { 0 };
	int failed = read_keys(job, err);

	for (size_t i = 0; !failed && i < given->count; i++) {
		texts[i] = vmimg_strdup(given->items[i], err);
		failed = !texts[i] || split_mapping(texts[i], &mappings[i], err);
	}
	if (!failed)
		failed = write_ec2(job, mappings, given->count, err);
	for (size_t i = 0; i < given->count; i++)
		free(texts[i]);
	return failed;
}

/* ---- both ---- */

static void job_done(struct job *job)
{
	vmimg_output_close(job->output);
	vmimg_io_unref(job->root);
	vmimg_io_unref(job->kernel);
	vmimg_io_unref(job->ramdisk);
	cli_image_close(&job->image);
	free(job->name);
	free(job->key);
	free(job->certificate);
	free(job->cloud_certificate);
}

int cli_pack_cloud(const struct cli_cloud_pack *pack, struct vmimg_error *err)
{
	struct job job = { .pack = pack };
	bool ec2 = !strcmp(pack->kind, "ec2");
	int failed;

	if (!ec2 && !pack->args->aki)
		return vmimg_fail(err, VMIMG_EINVAL, "such a bundle takes a kernel (--aki FILE)");
	failed = set_name(&job, err) || cli_read_epoch(&job.epoch, err) ||
		(ec2 ? pack_ec2(&job, err) : pack_triple(&job, err)) ||
		vmimg_output_publish(job.output, err);
	job_done(&job);
	return failed ? -1 : 0;
}

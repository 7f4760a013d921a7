/* SPDX-License-Identifier: Apache-2.0 */
/* Changes to a description, then the whole written anew: never in place. */
#include "cli/ovf_edit.h"
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "bundle/ovf_edit.h"
#include "cli/target.h"
#include "io/file.h"

struct job {
	struct cli_image *image;
	const struct cli_ovf_edit *edit;
	const struct cli_common *common;
	struct vmimg_output *output;
	struct vmimg_siblings siblings;
	struct vmimg_machine machine;
	struct vmimg_pool pool;
	json_t *changes;
	char *key, *certificate, *name;
};

static struct vmimg_io *new_sibling(
	struct vmimg_siblings *siblings, const char *name, struct vmimg_error *err)
{
	struct job *job = (struct job *)(void *)((char *)siblings - offsetof(struct job, siblings));

	return vmimg_output_sibling(job->output, name, err);
}

static int change(struct job *job, struct vmimg_error *err)
{
	struct vmimg_bundle *bundle = job->image->bundle;

	if (cli_machine_apply(&job->edit->machine, &job->machine, &job->pool, err) ||
		vmimg_ovf_set(bundle, &job->machine, job->changes, err))
		return -1;
	return job->edit->target ? vmimg_ovf_adapt(bundle, job->edit->target, job->changes, err)
				 : 0;
}

/* Whether the new descriptor lies in the folder of the old one, where the files are already. */
static bool is_same_folder(const struct job *job)
{
	const char *from = vmimg_file_path(job->image->io);
	char *old = from ? strdup(from) : NULL, *new = strdup(job->edit->output);
	char left[PATH_MAX], right[PATH_MAX];
	bool same = old && new &&realpath(dirname(old), left) && realpath(dirname(new), right) &&
		!strcmp(left, right);

	free(old);
	free(new);
	return same && !job->image->bundle->tar;
}

static int set_name(struct job *job, struct vmimg_error *err)
{
	const char *slash = strrchr(job->edit->output, '/');
	const char *base = slash ? slash + 1 : job->edit->output, *dot = strrchr(base, '.');

	job->name = strndup(base, dot && dot > base ? (size_t)(dot - base) : strlen(base));
	return job->name ? 0 : vmimg_fail_nomem(err);
}

static int choose_kind(const struct job *job, bool *archive, struct vmimg_error *err)
{
	const struct vmimg_bundle_format *format = job->edit->kind
		? vmimg_bundle_format_find(job->edit->kind)
		: vmimg_bundle_format_for_name(job->edit->output);

	if (!format || (strcmp(format->name, "ova") && strcmp(format->name, "ovf")))
		return vmimg_fail(err, VMIMG_EINVAL,
			"the output is an .ova or an .ovf: name it so, or state it with -O");
	*archive = !strcmp(format->name, "ova");
	return 0;
}

static int write_new(struct job *job, struct vmimg_error *err)
{
	const struct cli_ovf_edit *edit = job->edit;
	struct vmimg_output_how how = { .replace = edit->force, .no_sync = edit->no_sync };
	struct vmimg_bundle_create create = { .siblings = &job->siblings,
		.hash = edit->hash,
		.key = job->key,
		.certificate = job->certificate };
	bool archive = false;

	if (choose_kind(job, &archive, err) || set_name(job, err) ||
		cli_read_epoch(&create.epoch, err))
		return -1;
	job->output = vmimg_output_open(edit->output, &how, err);
	if (!job->output)
		return -1;
	job->siblings.create = new_sibling;
	job->siblings.main_name = vmimg_output_name(job->output);
	create.io = vmimg_output_io(job->output);
	create.name = job->name;
	if (vmimg_ovf_rewrite(job->image->bundle, &create, archive, !is_same_folder(job), err))
		return -1;
	return vmimg_output_publish(job->output, err);
}

static int print_changes(struct job *job, struct vmimg_error *err)
{
	json_t *root, *text;
	size_t i;

	if (job->common->json) {
		root = json_object();
		json_object_set_new(root, "schema", json_string("vmimg.ovf-edit/1"));
		json_object_set(root, "changes", job->changes);
		return cli_print_json(stdout, root, err);
	}
	json_array_foreach(job->changes, i, text) if (!job->common->quiet)
		printf("%s\n", json_string_value(text));
	return CLI_OK;
}

static int read_key(struct job *job, struct vmimg_error *err)
{
	const struct cli_ovf_edit *edit = job->edit;

	if (!edit->output)
		return vmimg_fail(err, VMIMG_EINVAL, "it takes an output (-o FILE)");
	if (!edit->key != !edit->certificate)
		return vmimg_fail(err, VMIMG_EINVAL, "--key and --cert go together");
	if (edit->key &&
		(!(job->key = cli_read_text(edit->key, err)) ||
			!(job->certificate = cli_read_text(edit->certificate, err))))
		return -1;
	return 0;
}

int cli_ovf_rewrite(struct cli_image *image, const struct cli_ovf_edit *edit,
	const struct cli_common *common, struct vmimg_error *err)
{
	struct job job = {
		.image = image, .edit = edit, .common = common, .changes = json_array()
	};
	int result = read_key(&job, err) || change(&job, err) || write_new(&job, err)
		? -1
		: print_changes(&job, err);

	vmimg_output_close(job.output);
	vmimg_machine_done(&job.machine);
	vmimg_pool_done(&job.pool);
	json_decref(job.changes);
	free(job.key);
	free(job.certificate);
	free(job.name);
	return result;
}

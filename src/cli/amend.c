/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg amend: how an image is kept, changed in place; not what it holds. The options encrypt.* are
 * about passphrases, which are objects (--object) and named by their ids. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/change.h"
#include "cli/face/option_help.h"
#include "cli/target.h"

#define ITER_TIME 2000 /* milliseconds, as for new images */

struct args {
	struct cli_common common;
	struct cli_create_options options;
};

static const struct vmimg_option_spec key_specs[] = {
	{ "encrypt.state", VMIMG_OPTION_CHOICE, "active|inactive",
		"of a key slot: add a passphrase, or take some away" },
	{ "encrypt.new-secret", VMIMG_OPTION_TEXT, NULL, "active: id of the new passphrase" },
	{ "encrypt.old-secret", VMIMG_OPTION_TEXT, NULL,
		"inactive: id of the passphrase that shall not open it any more" },
	{ "encrypt.keyslot", VMIMG_OPTION_SIZE, NULL, "0 to 7 (a free one)" },
	{ "encrypt.iter-time", VMIMG_OPTION_SIZE, NULL,
		"milliseconds that trying the passphrase takes (2000)" },
	{ 0 },
};

static int find_secret(struct cli_secrets *secrets, const char *id,
	const struct vmimg_secret **found, struct vmimg_error *err)
{
	*found = id ? cli_secrets_find(secrets, id, err) : NULL;
	return id && !*found ? -1 : 0;
}

static int check_keys(const struct vmimg_options *list, bool active, struct vmimg_error *err)
{
	const char *problem = NULL, *new = vmimg_options_text(list, "encrypt.new-secret", NULL);
	const char *old = vmimg_options_text(list, "encrypt.old-secret", NULL);
	uint64_t slot = vmimg_options_size(list, "encrypt.keyslot", 0);

	if (!vmimg_options_text(list, "encrypt.state", NULL))
		problem = "encrypt.state is missing: active or inactive";
	else if (active && (!new || old))
		problem = "state active takes encrypt.new-secret, and no encrypt.old-secret";
	else if (!active && new)
		problem = "state inactive takes no encrypt.new-secret";
	else if (!active && !old && !vmimg_options_text(list, "encrypt.keyslot", NULL))
		problem = "state inactive takes encrypt.old-secret or encrypt.keyslot";
	else if (slot > 7)
		problem = "encrypt.keyslot is 0 to 7";
	else if (!vmimg_options_size(list, "encrypt.iter-time", 1) ||
		vmimg_options_size(list, "encrypt.iter-time", 1) > 3600000)
		problem = "encrypt.iter-time is 1 to 3600000 milliseconds";
	return problem ? vmimg_fail(err, VMIMG_EINVAL, "%s", problem) : 0;
}

static int rekey(const struct args *args, struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_options *list = &args->options.list;
	struct cli_secrets *secrets = args->common.secrets;
	const char *new = vmimg_options_text(list, "encrypt.new-secret", NULL);
	bool active = !strcmp(vmimg_options_text(list, "encrypt.state", ""), "active");
	struct vmimg_rekey wanted = { .slot = -1,
		.iter_time = (unsigned)vmimg_options_size(list, "encrypt.iter-time", ITER_TIME) };

	if (check_keys(list, active, err) || find_secret(secrets, new, &wanted.new_secret, err) ||
		find_secret(secrets, vmimg_options_text(list, "encrypt.old-secret", NULL),
			&wanted.old_secret, err) ||
		cli_secrets_set_target(secrets, new, err) ||
		cli_secrets_source(secrets, &wanted.secrets, &wanted.secret_count, err))
		return -1;
	if (vmimg_options_text(list, "encrypt.keyslot", NULL))
		wanted.slot = (int)vmimg_options_size(list, "encrypt.keyslot", 0);
	if (wanted.new_secret && !wanted.new_secret->len)
		return vmimg_fail(err, VMIMG_EINVAL, "the new secret is empty");
	if (active && !wanted.secret_count)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"a secret that opens the image is needed (--secret-file)");
	return disk->format->edit->rekey(disk, &wanted, err);
}

/* Of a LUKS volume the same keys are known without "encrypt.". */
static int name_keys(struct vmimg_options *list, struct vmimg_error *err)
{
	for (size_t i = 0; i < list->count; i++) {
		struct vmimg_option *item = &list->items[i];
		char *whole;

		if (asprintf(&whole, "encrypt.%s", item->key) < 0)
			return vmimg_fail_nomem(err);
		if (vmimg_options_find(key_specs, whole)) {
			free(item->key);
			item->key = vmimg_take(whole);
		}
		free(whole);
	}
	return 0;
}

/* Whether the options are about key slots; all of them or none. */
static bool about_keys(const struct vmimg_options *list)
{
	return list->count && !strncmp(list->items[0].key, "encrypt.", 8);
}

static int change(const struct args *args, const char *path, struct vmimg_error *err)
{
	const struct vmimg_options *list = &args->options.list;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	bool sized = vmimg_options_text(list, "size", NULL); /* then the parent matters */
	const struct vmimg_edit_ops *edit;

	if (args->common.face &&
		(vmimg_options_text(list, "backing_file", NULL) ||
			vmimg_options_text(list, "backing_fmt", NULL)))
		return vmimg_fail(err, VMIMG_EINVAL,
			"Cannot amend the backing file: 'qemu-img rebase' changes it");
	if (sized ? cli_change_open(&image, path, &args->common, err)
		  : cli_change_open_alone(&image, path, &args->common, err))
		return -1;
	edit = image.disk->format->edit;
	if (!edit || !edit->amend)
		return cli_change_unsupported(&image, "options that can be amended", err);
	if (vmimg_options_verify(list, edit->amendable, image.disk->format->name, err) ||
		edit->amend(image.disk, list, err))
		return args->common.face ? -1 : vmimg_within(err, "%s", vmimg_io_name(image.io));
	return 0;
}

static int rekey_image(struct args *args, const char *path, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_common keyless = args->common;

	keyless.secrets = NULL; /* no data is read */
	if (vmimg_options_verify(&args->options.list, key_specs, "qcow2", err) ||
		cli_change_open_alone(&image, path, &keyless, err))
		return -1;
	if (!image.disk->format->edit || !image.disk->format->edit->rekey)
		return cli_change_unsupported(&image, "key slots", err);
	return rekey(args, image.disk, err) ? vmimg_within(err, "%s", vmimg_io_name(image.io)) : 0;
}

/* Of one format, in the words that callers of qemu-img look for. */
static int print_face_help(const char *name, struct vmimg_error *err)
{
	const struct vmimg_format *format = vmimg_format_find(name ? name : "raw");
	const struct vmimg_edit_ops *edit = format ? format->edit : NULL;

	if (!format)
		return vmimg_fail(err, VMIMG_EINVAL, "Invalid format name: '%.40s'", name);
	if (!edit || (!edit->amend && !edit->rekey))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"Format driver '%.40s' does not support option amendment", format->name);
	face_print_amend_options(format->name);
	return CLI_OK;
}

static void print_help(void)
{
	printf("Options of images that have key slots:\n");
	cli_print_specs(key_specs);
	for (size_t i = 0; vmimg_formats[i]; i++) {
		const struct vmimg_edit_ops *edit = vmimg_formats[i]->edit;

		if (!edit || !edit->amend)
			continue;
		printf("Options of %s images:\n", vmimg_formats[i]->name);
		cli_print_specs(edit->amendable);
	}
}

static int fail_words(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	const char *text = call->count ? "Must specify options (-o)" : "Expecting one image file name";

	return vmimg_fail(
		err, VMIMG_EINVAL, "%s", args->common.face ? text : "it takes -o and IMAGE");
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	struct args *args = call->args;
	int failed;

	if (args->options.help) {
		vmimg_options_done(&args->options.list);
		if (!args->common.face) {
			print_help();
			return CLI_OK;
		}
		if (call->count || args->common.format)
			return print_face_help(args->common.format, err);
	}
	if (!call->count || !args->options.list.count)
		return fail_words(call, err);
	failed = name_keys(&args->options.list, err);
	if (!failed)
		failed = about_keys(&args->options.list) ? rekey_image(args, call->words[0], err)
							 : change(args, call->words[0], err);
	vmimg_options_done(&args->options.list);
	if (failed)
		return -1;
	if (!args->common.quiet && !args->common.face)
		printf("Image changed.\n");
	return CLI_OK;
}

static const struct cli_option options[] = {
	{ 'o', NULL, "KEY=VALUE,...", "what is to be changed; -o help lists it", cli_set_create,
		offsetof(struct args, options) },
	{ 'q', "quiet", NULL, "print nothing but errors", cli_set_flag,
		offsetof(struct args, common.quiet) },
	{ 0 },
};
static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	NULL };

const struct cli_verb cli_amend = {
	.name = "amend",
	.operands = "IMAGE",
	.summary = "Changes how an image is kept, in place: its passphrases",
	.most = 1,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};

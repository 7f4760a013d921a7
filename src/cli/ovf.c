/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg ovf: what is special to OVF: show, verify, sign and edit. */
#include <stdio.h>
#include <string.h>
#include "cli/bundle.h"
#include "cli/ovf_edit.h"
#include "bundle/ovf_targets.h"

struct args {
	struct cli_common common;
	const char *roots;
	struct cli_ovf_edit edit;
};

static int open_bundle(struct cli_image *image, const char *path, const struct cli_common *common,
	struct vmimg_error *err)
{
	struct cli_open how = {
		.format = common->format, .spool_for = "", .refs = CLI_REFS_BESIDE, .bundle = true
	};

	if (cli_image_open(image, path, common, &how, err))
		return -1;
	if (image->bundle && image->bundle->format->verify)
		return 0;
	return vmimg_fail(err, VMIMG_EFORMAT, "%.200s is neither OVF nor OVA", path);
}

static int show(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_common common = args->common;

	common.json = true;
	if (open_bundle(&image, call->words[1], &common, err))
		return -1;
	return cli_bundle_print(image.bundle, &common, err);
}

/* ---- verify ------------------------------------------------------------------------------ */

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static void print_finding(const json_t *finding)
{
	const char *text = text_of(finding, "text"), *subject = text_of(finding, "subject");

	printf("%s: %s%s%s", text_of(finding, "file"), text_of(finding, "status"), text ? ": " : "",
		text ? text : "");
	if (subject)
		printf(", signed by %s%s%s", subject,
			json_is_true(json_object_get(finding, "expired")) ? ", expired" : "",
			json_is_true(json_object_get(finding, "trusted")) ? ", trusted"
									  : ", not trusted");
	printf("\n");
}

static int print_findings(
	json_t *findings, const struct cli_common *common, bool good, struct vmimg_error *err)
{
	const json_t *finding;
	json_t *root;
	size_t i;

	if (common->json) {
		root = json_object();
		json_object_set_new(root, "schema", json_string("vmimg.ovf-verify/1"));
		json_object_set_new(root, "verified", json_boolean(good));
		json_object_set(root, "findings", findings);
		return cli_print_json(stdout, root, err);
	}
	json_array_foreach(findings, i, finding) if (!common->quiet) print_finding(finding);
	return CLI_OK;
}

/* With trusted certificates given, a signature by one of them is wanted. */
static bool is_good(const json_t *findings, bool wants_trust, const char **worst)
{
	bool good = true, trusted = false;
	const json_t *finding;
	size_t i;

	json_array_foreach(findings, i, finding)
	{
		trusted |= json_is_true(json_object_get(finding, "trusted"));
		if (!good || !strcmp(text_of(finding, "status"), "ok"))
			continue;
		*worst = text_of(finding, "file");
		good = false;
	}
	if (good && wants_trust && !trusted) {
		*worst = "no signature by a trusted certificate";
		return false;
	}
	return good;
}

static int judge(
	struct cli_image *image, json_t *findings, const struct args *args, struct vmimg_error *err)
{
	const char *worst = "";
	bool good;

	if (image->bundle->format->verify(image->bundle, findings, err))
		return -1;
	good = is_good(findings, args->roots, &worst);
	if (print_findings(findings, &args->common, good, err))
		return -1;
	if (good)
		return CLI_OK;
	return vmimg_fail(
		err, VMIMG_ECORRUPT, "%s does not verify: %s", vmimg_io_name(image->io), worst);
}

static int verify(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(free) char *roots = args->roots ? cli_read_text(args->roots, err) : NULL;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	json_t *findings;
	int result;

	if ((args->roots && !roots) || open_bundle(&image, call->words[1], &args->common, err))
		return -1;
	image.bundle->roots = roots;
	findings = json_array();
	result = judge(&image, findings, args, err);
	json_decref(findings);
	return result;
}

/* ---- edit, sign -------------------------------------------------------------------------- */

/* What is read and written beside the bundle. */
static void reach(struct cli_sandbox *sandbox, const struct cli_ovf_edit *edit)
{
	const char *const read[] = { edit->key, edit->certificate, edit->machine.eula };

	for (size_t i = 0; sandbox && i < sizeof(read) / sizeof(read[0]); i++)
		if (read[i])
			cli_sandbox_read(sandbox, read[i]);
	if (sandbox && edit->output)
		cli_sandbox_write(sandbox, edit->output);
}

static int edit(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	const char *name;

	reach(args->common.sandbox, &args->edit);
	if (open_bundle(&image, call->words[1], &args->common, err))
		return -1;
	name = image.bundle->format->name;
	if (strcmp(name, "ova") && strcmp(name, "ovf"))
		return vmimg_fail(
			err, VMIMG_EFORMAT, "%.200s is neither OVF nor OVA", call->words[1]);
	return cli_ovf_rewrite(&image, &args->edit, &args->common, err);
}

static int sign(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;

	if (!args->edit.key)
		return vmimg_fail(err, VMIMG_EINVAL, "it takes --key FILE and --cert FILE");
	return edit(call, err);
}

/* ---- the verb ---------------------------------------------------------------------------- */

static const struct {
	const char *name;
	int (*run)(const struct cli_call *, struct vmimg_error *);
} actions[] = { { "show", show }, { "verify", verify }, { "sign", sign }, { "edit", edit } };

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if (!strcmp(actions[i].name, call->words[0]))
			return actions[i].run(call, err);
	return vmimg_fail(
		err, VMIMG_EINVAL, "it is show, verify, sign or edit, not '%.40s'", call->words[0]);
}

static const struct cli_option options[] = {
	{ 0, "trusted", "FILE", "verify: certificates (PEM), one of which must have signed",
		cli_set_text, offsetof(struct args, roots) },
	{ 'q', "quiet", NULL, "print nothing but errors", cli_set_flag,
		offsetof(struct args, common.quiet) },
	{ 'o', NULL, "FILE", "sign, edit: the new bundle, .ova or .ovf", cli_set_text,
		offsetof(struct args, edit.output) },
	{ 'O', NULL, "KIND", "its kind, ova or ovf", cli_set_text,
		offsetof(struct args, edit.kind) },
	{ 0, "target", "TARGET", "edit: change what it refuses: " VMIMG_OVF_TARGETS, cli_set_text,
		offsetof(struct args, edit.target) },
	CLI_MACHINE_OPTIONS(struct args, edit.machine),
	{ 0, "hash", "NAME", "of the manifest: sha1, sha256 or sha512 (sha256)", cli_set_hash,
		offsetof(struct args, edit.hash) },
	{ 0, "key", "FILE", "sign with this RSA key (PEM)", cli_set_text,
		offsetof(struct args, edit.key) },
	{ 0, "cert", "FILE", "and put this certificate beside it (PEM)", cli_set_text,
		offsetof(struct args, edit.certificate) },
	{ 0, "force", NULL, "replace an existing file", cli_set_flag,
		offsetof(struct args, edit.force) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_report_options,
	cli_source_options, NULL };

const struct cli_verb cli_ovf = {
	.name = "ovf",
	.operands = "show|verify|sign|edit BUNDLE",
	.summary = "Shows, verifies, signs or changes an OVF or OVA",
	.detail = "show prints all of the description as JSON. verify compares every file with the "
		  "manifest,\nand the manifest with its signature; what fails is named, and the "
		  "exit code is 4.\n"
		  "sign and edit write a new bundle with the files as they are, and list what they "
		  "changed.",
	.least = 2,
	.most = 2,
	.args_size = sizeof(struct args),
	.reach = CLI_READS,
	.options = groups,
	.run = run,
};

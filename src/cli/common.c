/* SPDX-License-Identifier: Apache-2.0 */
/* The options that many verbs share, and what they mean. */
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "util/num.h"

#define IN(field) offsetof(struct cli_common, field)

static int set_word(const char *value, const char *const *names, size_t count, const char *kinds,
	struct vmimg_error *err)
{
	for (size_t i = 0; i < count; i++)
		if (!strcmp(value, names[i]))
			return (int)i;
	return vmimg_fail(err, VMIMG_EINVAL, "it is %s, not '%.40s'", kinds, value);
}

static int set_refs(void *to, const char *value, struct vmimg_error *err)
{
	static const char *const names[] = { "none", "beside", "any" };
	int i = set_word(value, names, VMIMG_ARRAY_LEN(names), "none, beside or any", err);

	if (i < 0)
		return -1;
	*(enum cli_refs *)to = CLI_REFS_NONE + (enum cli_refs)i;
	return 0;
}

static int set_progress(void *to, const char *value, struct vmimg_error *err)
{
	static const char *const names[] = { "none", "bar", "json" };
	int i = set_word(value, names, VMIMG_ARRAY_LEN(names), "none, bar or json", err);

	if (i < 0)
		return -1;
	*(enum cli_progress_kind *)to = CLI_PROGRESS_NONE + (enum cli_progress_kind)i;
	return 0;
}

static int set_disk(void *to, const char *value, struct vmimg_error *err)
{
	char *end;
	unsigned long number = strtoul(value, &end, 10);

	if (*value < '1' || *value > '9' || *end || number > 1000000)
		return vmimg_fail(err, VMIMG_EINVAL, "it is the number of a disk, from 1 on");
	*(unsigned *)to = (unsigned)number;
	return 0;
}

const struct cli_option cli_report_options[] = {
	{ 0, "json", NULL, "print one JSON document", cli_set_flag, IN(json) },
	{ 0, "output", "FORMAT", "json or human (human)", cli_set_output, IN(json) },
	{ 0 },
};

const struct cli_option cli_format_options[] = {
	{ 'f', NULL, "FMT", "the image's format (detected)", cli_set_text, IN(format) },
	{ 0 },
};

const struct cli_option cli_source_options[] = {
	{ 'U', "force-share", NULL, "take no locks, look at no locks", cli_set_flag, IN(share) },
	{ 'T', NULL, "CACHE", "cache mode of the source: accepted, and without effect",
		cli_set_cache, IN(ignored) },
	{ 0, "refs", "POLICY", "which files named by the image are opened: none, beside or any",
		set_refs, IN(refs) },
	{ 0, "untrusted", NULL, "the image is from a stranger: no references, no double formats",
		cli_set_flag, IN(untrusted) },
	{ 0, "no-sandbox", NULL, "keep all rights while the image is interpreted", cli_set_flag,
		IN(free) },
	{ 0, "max-virtual-size", "SIZE", "refuse a disk that is larger", cli_set_size,
		IN(max_virtual_size) },
	{ 0, "max-iterations", "N",
		"spend no more digests on trying passphrases on one image (32M)", cli_set_size,
		IN(max_iterations) },
	{ 0, "key", "FILE", "the private key (PEM) that decrypts a bundle, or signs one",
		cli_set_text, IN(key) },
	{ 0, "cert", "FILE", "the certificate (PEM) that verifies a bundle, or belongs to --key",
		cli_set_text, IN(certificate) },
	{ 0, "disk", "N", "of a bundle: its Nth disk (the only one)", set_disk, IN(disk) },
	{ 0, "image-opts", NULL, NULL, cli_refuse, 0 },
	{ 0, "secret-file", "FILE", "the passphrase of an encrypted image: all bytes of FILE",
		cli_set_secret_file, IN(secrets) },
	{ 0, "object", "OBJECT", "the same as QEMU has it: secret,id=ID,file=FILE (or data=TEXT)",
		cli_set_object, IN(secrets) },
	{ 0, "key-secret", "ID", NULL, cli_set_key_secret, IN(secrets) },
	{ 0, "bare", NULL, NULL, cli_set_flag, IN(bare) },
	{ 0 },
};

const struct cli_option cli_work_options[] = {
	{ 'm', "threads", "N", "work on N chunks at once (one for each processor)", cli_set_count,
		IN(threads) },
	{ 'p', NULL, NULL, "print the progress in percent on standard output", cli_set_flag,
		IN(percent) },
	{ 'q', "quiet", NULL, "print nothing but errors", cli_set_flag, IN(quiet) },
	{ 0, "progress", "KIND", "on standard error: none, bar or json (bar on a terminal)",
		set_progress, IN(progress) },
	{ 0 },
};

int cli_exit_code(enum vmimg_status status)
{
	switch (status) {
	case VMIMG_OK:
		return CLI_OK;
	case VMIMG_EINVAL:
		return CLI_USAGE;
	case VMIMG_EFORMAT:
	case VMIMG_ECORRUPT:
	case VMIMG_EUNSUPPORTED:
		return CLI_MALFORMED;
	case VMIMG_EREFUSED:
	case VMIMG_EEXIST:
		return CLI_REFUSED;
	case VMIMG_ELIMIT:
		return CLI_LIMIT;
	case VMIMG_ELOCKED:
		return CLI_LOCKED;
	case VMIMG_ESYSTEM:
	case VMIMG_ENOMEM:
	case VMIMG_ECANCELLED:
		break;
	}
	return CLI_SYSTEM;
}

const char *cli_qemu_name(const struct vmimg_format *format)
{
	static const char *const same[] = { "qcow", "qcow2", "vhdx", "vdi", "vmdk", "raw", "luks" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(same); i++)
		if (!strcmp(format->name, same[i]))
			return same[i];
	return !strcmp(format->name, "vhd") ? "vpc" : NULL;
}

const struct vmimg_resolver *cli_resolver(const struct cli_common *common, enum cli_refs otherwise)
{
	enum cli_refs refs = common->refs ? common->refs : otherwise;

	if (common->untrusted || refs == CLI_REFS_NONE)
		return vmimg_resolver_none();
	return refs == CLI_REFS_ANY ? vmimg_resolver_any() : vmimg_resolver_beside();
}

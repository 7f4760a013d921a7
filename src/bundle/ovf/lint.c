/* SPDX-License-Identifier: Apache-2.0 */
/* What a target would refuse: what adapting would change, and what no change of the descriptor
 * helps. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "bundle/ovf/edit.h"
#include "bundle/ovf_edit.h"

struct linting {
	struct vmimg_bundle *bundle;
	const struct vmimg_ovf *ovf;
	const struct vmimg_ovf_dialect *dialect;
	json_t *findings;
};

static void add(struct linting *l, const char *code, const char *text)
{
	json_t *finding = json_object();

	json_object_set_new(finding, "code", json_string(code));
	json_object_set_new(finding, "text", json_string(text));
	json_array_append_new(l->findings, finding);
}

static void lint_archive(struct linting *l)
{
	const struct vmimg_tar_member *first = vmimg_tar_member(l->bundle->tar, 0);

	if (strcmp(first->name, l->ovf->name))
		add(l, "descriptor-first", "the descriptor is not the first member of the archive");
	if (vmimg_tar_is_odd(l->bundle->tar))
		add(l, "tar-flavour", "the archive has pax headers or sparse members");
}

static void lint_files(struct linting *l)
{
	for (size_t i = 0; i < l->ovf->file_count; i++) {
		const struct vmimg_ovf_file *file = &l->ovf->files[i];

		if (file->chunk_size)
			add(l, "chunks",
				"a file is cut into chunks, which hardly any importer reads");
		if (file->compression && l->dialect->family_virtualbox)
			add(l, "compression", "VirtualBox does not read compressed files");
		if (file->compression && strcmp(file->compression, "gzip"))
			add(l, "compression", "a file is compressed with something else than gzip");
	}
}

static void lint_disks(struct linting *l)
{
	for (size_t i = 0; i < l->ovf->disk_count; i++) {
		const struct vmimg_ovf_disk *disk = &l->ovf->disks[i];

		if (!disk->file_ref && !l->dialect->family_vmx)
			add(l, "empty-disk", "a disk has no file, which virt-v2v refuses");
		if (!disk->capacity)
			add(l, "capacity", "a disk has no capacity");
		if (!disk->format)
			add(l, "format", "a disk has no format");
		else if (!strcasestr(disk->format, "streamOptimized") && l->dialect->family_vmx)
			add(l, "format", "a disk is not a stream-optimised VMDK");
	}
}

static bool is_known_family(const char *family)
{
	const char *digits = strncmp(family, "vmx-", 4) ? NULL : family + 4;

	return digits && strspn(digits, "0123456789") == strlen(digits) && strlen(digits) == 2 &&
		strcmp(digits, "03") > 0 && strcmp(digits, "22") <= 0;
}

static void lint_machines(struct linting *l)
{
	for (size_t i = 0; i < l->bundle->machine_count; i++) {
		const struct vmimg_machine *m = &l->bundle->machines[i];

		if (l->dialect->family_vmx && m->hardware && !strncmp(m->hardware, "vmx-", 4) &&
			!is_known_family(m->hardware))
			add(l, "hardware", "the hardware family is none that VMware has");
		if (l->dialect->family_virtualbox && m->firmware == VMIMG_FIRMWARE_EFI)
			add(l, "firmware",
				"VirtualBox takes EFI from its own section only: it is to be set "
				"after the import");
		if (!m->cpus || !m->memory)
			add(l, "machine", "the number of processors or the memory is not said");
	}
	if (l->bundle->machine_count > 1)
		add(l, "collection", "it describes several machines");
}

int vmimg_ovf_lint(
	struct vmimg_bundle *bundle, const char *target, json_t *findings, struct vmimg_error *err)
{
	struct linting l = { .bundle = bundle,
		.ovf = bundle->state,
		.dialect = vmimg_ovf_dialect(target),
		.findings = findings };
	json_t *changes = json_array(), *change;
	size_t i;
	int failed;

	if (!l.dialect) {
		json_decref(changes);
		return vmimg_fail(err, VMIMG_EINVAL, "%.40s is no target of OVF", target);
	}
	failed = vmimg_ovf_adapt(bundle, target, changes, err);
	if (!failed) {
		json_array_foreach(changes, i, change)
			add(&l, "dialect", json_string_value(change));
		if (bundle->tar)
			lint_archive(&l);
		lint_files(&l);
		lint_disks(&l);
		lint_machines(&l);
	}
	json_decref(changes);
	return failed;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One input over memory, as a stranger's image would be met: opened, described, walked, checked and
 * read; taken as a bundle or as a disk to look inside; repaired. Built as a libFuzzer target by
 * tools/fuzz.sh, and into a plain program (replay.c) that every test run feeds with the vectors.
 */
#include "target.h"
#include <string.h>
#include "bundle/bundle.h"
#include "bundle/kernel.h"
#include "bundle/ramdisk.h"
#include "disk/info.h"
#include "engine/check.h"
#include "engine/repair.h"
#include "inspect/hive.h"
#include "inspect/inspect.h"
#include "inspect/unused.h"
#include "io/stage.h"
#include "packed.h"
#include "util/num.h"

#define WALK       3000       /* runs looked at: tables may promise more than anybody can visit */
#define READ       (1U << 20) /* guest bytes read at each end */
#define FILES      300        /* files of a file system looked at */
#define ITERATIONS 8000       /* of PBKDF2 on one input: a slot of the seeds, and one that fails */

static const struct vmimg_run_how how = { .threads = 1 };

/* ---- disks ---- */

static void walk(struct vmimg_disk *disk)
{
	struct vmimg_error err;
	struct vmimg_run run;
	uint64_t at = 0;

	for (unsigned i = 0; i < WALK && at < disk->size; i++, at += run.len)
		if (vmimg_disk_map(disk, at, &run, &err))
			break;
	/* And a few places further on. */
	for (uint64_t part = 1; part < 8 && disk->size; part++)
		(void)!vmimg_disk_map(disk, disk->size / 8 * part, &run, &err);
}

static void read_ends(struct vmimg_disk *disk)
{
	uint64_t len = vmimg_min(disk->size, READ);
	struct vmimg_error err;
	uint8_t *bytes = vmimg_alloc_buffer(READ, &err);

	if (bytes && len) {
		(void)!vmimg_disk_pread(disk, bytes, len, 0, &err);
		(void)!vmimg_disk_pread(disk, bytes, len, disk->size - len, &err);
	}
	free(bytes);
}

static void read_bitmaps(struct vmimg_disk *disk)
{
	struct vmimg_error err;
	uint8_t bits[512];

	for (size_t i = 0; i < disk->bitmap_count && disk->format->bitmap_read; i++)
		(void)!disk->format->bitmap_read(
			disk, i, 0, vmimg_min(disk->bitmaps[i].bits, 8 * sizeof(bits)), bits, &err);
}

static void check(struct vmimg_disk *disk)
{
	struct vmimg_error err;
	struct vmimg_report *report = vmimg_new(struct vmimg_report, &err);

	if (report && disk->format->check)
		(void)!vmimg_check_run(disk, &how, report, &err);
	free(report);
}

static void describe(struct vmimg_disk *disk)
{
	struct vmimg_error err;
	struct vmimg_info info;

	if (!vmimg_disk_info(disk, vmimg_resolver_none(), &info, &err))
		json_decref(info.root);
}

static void try_as(struct vmimg_io *io, const struct vmimg_open *options)
{
	struct vmimg_error err;
	struct vmimg_disk *disk = vmimg_disk_open(io, options, &err);

	if (!disk)
		return;
	describe(disk);
	walk(disk);
	if (options->alone) {
		check(disk);
	} else {
		read_ends(disk);
		read_bitmaps(disk);
	}
	vmimg_disk_close(disk);
}

/* format NULL: as detection says. Lenient is how check and repair open it. The key is that of the
 * seeds which are encrypted. */
static void try_disk(struct vmimg_io *io, const char *format)
{
	static const struct vmimg_secret key = { "key", 3 };
	const struct vmimg_open ways[] = { { .format = format },
		{ .format = format, .alone = true },
		{ .format = format, .alone = true, .lenient = true },
		{ .format = format,
			.secrets = &key,
			.secret_count = 1,
			.max_iterations = ITERATIONS } };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(ways); i++)
		try_as(io, &ways[i]);
}

static void try_probe(struct vmimg_io *io)
{
	try_disk(io, NULL);
}

/* All that repair does, up to writing it. */
static void try_repair(struct vmimg_io *io)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *stage = NULL;
	struct vmimg_error err;
	struct vmimg_repair *repair = vmimg_new(struct vmimg_repair, &err);

	stage = vmimg_stage_open(io, &err);
	if (stage && repair)
		(void)!vmimg_repair_run(stage, NULL, &how, repair, &err);
	if (repair)
		vmimg_repair_done(repair);
	free(repair);
}

/* ---- bundles ---- */

/* Archives, descriptors and manifests, and the first bytes of their first disk. */
static void try_archive(struct vmimg_io *io)
{
	struct vmimg_bundle_open options = { .spool_limit = READ };
	VMIMG_AUTO(vmimg_bundle_close) struct vmimg_bundle *bundle = NULL;
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *drive = NULL;
	struct vmimg_error err;
	json_t *findings;
	uint8_t head[512];

	if (vmimg_bundle_open(io, &options, &bundle, &err) || !bundle)
		return;
	json_decref(vmimg_bundle_json(bundle, &err));
	findings = json_array();
	if (bundle->format->verify)
		(void)!bundle->format->verify(bundle, findings, &err);
	json_decref(findings);
	if (!vmimg_bundle_drive(bundle, 1))
		return;
	drive = vmimg_bundle_open_drive(bundle, vmimg_bundle_drive(bundle, 1), &err);
	if (drive && vmimg_io_size(drive) >= sizeof(head))
		(void)!vmimg_io_pread(drive, head, sizeof(head), 0, &err);
}

/* The three of a machine image as well. */
static void try_bundle(struct vmimg_io *io)
{
	struct vmimg_error err;
	struct vmimg_kernel *kernel = vmimg_new(struct vmimg_kernel, &err);
	struct vmimg_ramdisk *ramdisk = vmimg_new(struct vmimg_ramdisk, &err);

	try_archive(io);
	if (kernel)
		(void)!vmimg_kernel_read(io, kernel, &err);
	if (ramdisk)
		(void)!vmimg_ramdisk_read(io, ramdisk, &err);
	free(kernel);
	free(ramdisk);
}

/* ---- partition tables and file systems ---- */

struct visit {
	struct vmimg_node list[FILES]; /* what waits to be looked at; links among them */
	unsigned count;
};

static bool collect(void *ctx, const char *name, size_t len, const struct vmimg_node *node)
{
	struct visit *visit = ctx;

	(void)name, (void)len;
	visit->list[visit->count++] = *node;
	return visit->count < FILES;
}

static void look_at(struct vmimg_fs *fs, const struct vmimg_node *node)
{
	char bytes[4096];
	struct vmimg_error err;
	size_t got;

	if (node->kind == VMIMG_NODE_LINK)
		(void)!vmimg_fs_readlink(fs, node, bytes, sizeof(bytes), &err);
	if (node->kind != VMIMG_NODE_FILE || !node->size)
		return;
	(void)!vmimg_fs_read(fs, node, bytes, sizeof(bytes), 0, &got, &err);
	(void)!vmimg_fs_read(fs, node, bytes, sizeof(bytes), node->size / 2, &got, &err);
	(void)!vmimg_fs_read(fs, node, bytes, 1, node->size - 1, &got, &err);
}

static void visit_tree(struct vmimg_fs *fs)
{
	struct vmimg_error err;
	struct visit *visit = vmimg_new(struct visit, &err);
	struct vmimg_node node;

	if (visit)
		visit->list[visit->count++] = fs->root;
	for (unsigned i = 0; visit && i < visit->count; i++) {
		look_at(fs, &visit->list[i]);
		if (visit->list[i].kind == VMIMG_NODE_DIR && visit->count < FILES)
			(void)!vmimg_fs_list(fs, &visit->list[i], collect, visit, &err);
	}
	free(visit);
	(void)!vmimg_fs_resolve(fs, "/etc/os-release", true, &node, &err);
	(void)!vmimg_fs_resolve(fs, "/folder/another", true, &node, &err);
}

static int ignore(void *ctx, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	(void)ctx, (void)at, (void)len, (void)err;
	return 0;
}

static void try_inspect(struct vmimg_io *io)
{
	VMIMG_AUTO(vmimg_inspection_done) struct vmimg_inspection inspection = { 0 };
	const struct vmimg_unused unused = { .gaps = true, .each = ignore };
	struct vmimg_summary summary;
	struct vmimg_error err;

	(void)!vmimg_inspection_summary(io, 0, &summary, &err);
	if (vmimg_inspection_open(&inspection, io, 0, &err))
		return;
	json_decref(vmimg_inspection_report(&inspection, true, &err));
	for (size_t i = 0; i < inspection.count; i++)
		if (inspection.volumes[i].fs)
			visit_tree(inspection.volumes[i].fs);
	(void)!vmimg_unused_walk(io, &unused, &err);
}

/* ---- the registry ---- */

/* What is asked of hives, for which Windows has no file but this one. */
static void try_hive(struct vmimg_io *io)
{
	static const char *const keys[] = { "", "Microsoft\\Windows NT\\CurrentVersion", "Select",
		"ControlSet002\\Services\\viostor", "ControlSet002\\Services\\Tcpip\\Parameters" };
	static const char *const values[] = { "ProductName", "UBR", "Current", "Start",
		"Hostname" };
	VMIMG_AUTO(vmimg_hive_close) struct vmimg_hive *hive = NULL;
	struct vmimg_error err;
	uint32_t key, number;
	char text[100];
	bool found;

	hive = vmimg_hive_open(io, &err);
	for (size_t i = 0; hive && i < VMIMG_ARRAY_LEN(keys); i++) {
		if (vmimg_hive_find(hive, keys[i], &key, &found, &err) || !found)
			continue;
		for (size_t k = 0; k < VMIMG_ARRAY_LEN(values); k++) {
			(void)!vmimg_hive_text(
				hive, key, values[k], text, sizeof(text), &found, &err);
			(void)!vmimg_hive_number(hive, key, values[k], &number, &found, &err);
		}
	}
}

/* ---- by name ---- */

static const struct {
	const char *name;
	void (*attempt)(struct vmimg_io *);
} targets[] = {
	{ "probe", try_probe },
	{ "repair", try_repair },
	{ "bundle", try_bundle },
	{ "inspect", try_inspect },
	{ "hive", try_hive },
};

static bool attempt(const char *target, struct vmimg_io *io)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(targets); i++)
		if (!strcmp(targets[i].name, target)) {
			targets[i].attempt(io);
			return true;
		}
	if (!vmimg_format_find(target))
		return false;
	try_disk(io, target);
	return true;
}

bool fuzz_one(const char *target, const uint8_t *input, size_t len)
{
	struct vmimg_error err;
	struct vmimg_io *io;
	bool known;

	if (!strcmp(target, "texts")) {
		fuzz_texts(input, len);
		return true;
	}
	io = packed_open(input, len, &err);
	known = !io || attempt(target, io);
	vmimg_io_unref(io);
	return known;
}

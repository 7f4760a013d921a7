/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One input of any format, over memory: opened, described, walked, checked and read, as a
 * stranger's image would be; and without a format, also taken as a bundle and as a disk to look
 * inside. Built as a libFuzzer target by tools/fuzz.sh, and into a plain program
 * (replay.c) that every test run feeds with the vectors.
 */
#include "target.h"
#include <string.h>
#include "bundle/bundle.h"
#include "disk/info.h"
#include "engine/check.h"
#include "inspect/inspect.h"
#include "inspect/unused.h"
#include "io/memory.h"

#define WALK 3000       /* runs looked at: tables may promise more than anybody can visit */
#define READ (1U << 20) /* guest bytes read at each end */

static void walk(struct vmimg_disk *disk)
{
	struct vmimg_error err;
	struct vmimg_run run;
	uint64_t at = 0;

	for (unsigned i = 0; i < WALK && at < disk->size; i++, at += run.len)
		if (vmimg_disk_map(disk, at, &run, &err))
			return;
	/* And a few places further on. */
	for (uint64_t part = 1; part < 8 && disk->size; part++)
		(void)!vmimg_disk_map(disk, disk->size / 8 * part, &run, &err);
}

static void read_ends(struct vmimg_disk *disk)
{
	uint64_t len = disk->size < READ ? disk->size : READ;
	struct vmimg_error err;
	uint8_t *bytes = vmimg_alloc_buffer(READ, &err);

	if (bytes && len) {
		(void)!vmimg_disk_pread(disk, bytes, len, 0, &err);
		(void)!vmimg_disk_pread(disk, bytes, len, disk->size - len, &err);
	}
	free(bytes);
}

static void check(struct vmimg_disk *disk)
{
	struct vmimg_run_how how = { .threads = 1 };
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

/* format NULL: as detection says. lenient: as check and repair open it. */
static void try_as(struct vmimg_io *io, const char *format, bool alone, bool lenient)
{
	struct vmimg_open options = { .format = format, .alone = alone, .lenient = lenient };
	struct vmimg_error err;
	struct vmimg_disk *disk = vmimg_disk_open(io, &options, &err);

	if (!disk)
		return;
	describe(disk);
	walk(disk);
	if (alone)
		check(disk);
	else
		read_ends(disk);
	vmimg_disk_close(disk);
}

/* Archives, descriptors and manifests, and the first bytes of their first disk. */
static void try_bundle(struct vmimg_io *io)
{
	struct vmimg_bundle_open options = { .spool_limit = READ };
	VMIMG_AUTO(vmimg_bundle_close) struct vmimg_bundle *bundle = NULL;
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *drive = NULL;
	struct vmimg_error err;
	uint8_t head[512];

	if (vmimg_bundle_open(io, &options, &bundle, &err) || !bundle)
		return;
	json_decref(vmimg_bundle_json(bundle, &err));
	if (!vmimg_bundle_drive(bundle, 1))
		return;
	drive = vmimg_bundle_open_drive(bundle, vmimg_bundle_drive(bundle, 1), &err);
	if (drive && vmimg_io_size(drive) >= sizeof(head))
		(void)!vmimg_io_pread(drive, head, sizeof(head), 0, &err);
}

static int ignore(void *ctx, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	(void)ctx;
	(void)at;
	(void)len;
	(void)err;
	return 0;
}

struct walk {
	struct vmimg_fs *fs;
	unsigned depth, left;
};

/* A little of each file, and what is in folders. */
static bool visit(void *ctx, const char *name, size_t len, const struct vmimg_node *node)
{
	struct walk *walk = ctx;
	struct vmimg_error err;
	char buf[4096];
	size_t got;

	(void)name;
	(void)len;
	if (node->kind == VMIMG_NODE_LINK)
		(void)!vmimg_fs_readlink(walk->fs, node, buf, sizeof(buf), &err);
	if (node->kind == VMIMG_NODE_FILE)
		for (uint64_t at = 0; at < node->size; at = at ? node->size : node->size - 1)
			(void)!vmimg_fs_read(walk->fs, node, buf, sizeof(buf), at, &got, &err);
	if (node->kind == VMIMG_NODE_DIR && walk->depth < 3) {
		walk->depth++;
		(void)!vmimg_fs_list(walk->fs, node, visit, walk, &err);
		walk->depth--;
	}
	return walk->left && walk->left--;
}

/* Partition tables and file systems, as of a raw disk. */
static void try_inspection(struct vmimg_io *io)
{
	VMIMG_AUTO(vmimg_inspection_done) struct vmimg_inspection inspection = { 0 };
	const struct vmimg_unused unused = { .gaps = true, .each = ignore };
	struct vmimg_error err;

	if (vmimg_inspection_open(&inspection, io, 0, &err))
		return;
	json_decref(vmimg_inspection_report(&inspection, false, &err));
	for (size_t i = 0; i < inspection.count; i++) {
		struct walk walk = { inspection.volumes[i].fs, 0, 200 };
		struct vmimg_node node;
		bool found;

		if (!walk.fs)
			continue;
		visit(&walk, "", 0, &walk.fs->root);
		(void)!vmimg_fs_find(walk.fs, "/folder/another", &node, &found, &err);
	}
	(void)!vmimg_unused_walk(io, &unused, &err);
}

void fuzz_one(const uint8_t *bytes, size_t len, const char *format)
{
	struct vmimg_error err;
	struct vmimg_io *io = vmimg_memory_view(bytes, len, "fuzz", &err);

	if (!io)
		return;
	try_as(io, format, false, false);
	try_as(io, format, true, false);
	try_as(io, format, true, true);
	if (!format) {
		try_bundle(io);
		try_inspection(io);
	}
	vmimg_io_unref(io);
}

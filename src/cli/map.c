/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg map: which stretches of the disk lie where. Printed while it is walked, as an image may
 * have any number of them. */
#include <inttypes.h>
#include <string.h>
#include "cli/open.h"
#include "inspect/allocation.h"
#include "util/num.h"
#include "util/text.h"

struct args {
	struct cli_common common;
	bool chain, bar;
	struct cli_size start, length;
};

/* Neighbouring runs that are printed as one. */
struct entry {
	uint64_t start, len;
	unsigned depth;
	bool present, zero, data, compressed, has_offset;
	uint64_t at;
	const char *file;
};

struct printer {
	bool json, face;
	bool any;
	struct entry held; /* len 0: none */
};

static void print_json(struct printer *p, const struct entry *e)
{
#define WORD(flag) ((flag) ? "true" : "false")
	printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
	       ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
		p->any ? ",\n" : "[", e->start, e->len, e->depth, WORD(e->present), WORD(e->zero),
		WORD(e->data));
	if (!p->face) /* of QEMU 8.2, which is later than the face */
		printf(", \"compressed\": %s", WORD(e->compressed));
	if (e->has_offset)
		printf(", \"offset\": %" PRIu64, e->at);
	printf("}");
#undef WORD
}

/* Columns as qemu-img has them, which prints data only. */
static void print_human(const struct entry *e)
{
	char at[24] = "compressed";

	if (!e->data || e->zero)
		return;
	if (e->has_offset)
		snprintf(at, sizeof(at), "%#-" PRIx64, e->at);
	printf("%#-16" PRIx64 "%#-16" PRIx64 "%-16s%s\n", e->start, e->len, at, e->file);
}

static void flush_entry(struct printer *p)
{
	if (!p->held.len)
		return;
	if (p->json)
		print_json(p, &p->held);
	else
		print_human(&p->held);
	p->any = true;
	p->held.len = 0;
}

static bool continues(const struct entry *a, const struct entry *b, bool face)
{
	return a->len && a->depth == b->depth && a->present == b->present && a->zero == b->zero &&
		a->data == b->data && (face || a->compressed == b->compressed) &&
		a->has_offset == b->has_offset && a->file == b->file &&
		(!a->has_offset || a->at + a->len == b->at);
}

/* Zeroes have a place in the file when they hold space there, or when the file is the disk. */
static bool has_place(const struct vmimg_disk *layer, const struct vmimg_run *run)
{
	return run->kind == VMIMG_RUN_DATA ||
		(run->kind == VMIMG_RUN_ZERO && (run->allocated || (run->io && !layer->block)));
}

static const struct vmimg_disk *layer_of(const struct vmimg_disk *disk, unsigned depth)
{
	for (unsigned i = 0; i < depth && disk->parent; i++)
		disk = disk->parent;
	return disk;
}

/* To qemu-img nothing is absent where its driver knows no backing files. */
static bool never_absent(const struct vmimg_disk *disk)
{
	return !strcmp(disk->format->name, "vdi") || !strcmp(disk->format->name, "vhd");
}

static struct entry entry_of(const struct vmimg_disk *disk, const struct vmimg_run *run,
	uint64_t at, unsigned depth, bool face)
{
	struct entry e = { .start = at,
		.len = run->len,
		.depth = depth,
		.present = run->kind != VMIMG_RUN_ABSENT,
		.zero = run->kind == VMIMG_RUN_ABSENT || run->kind == VMIMG_RUN_ZERO,
		.compressed = run->kind == VMIMG_RUN_PACKED };

	disk = layer_of(disk, depth);
	e.data = !e.zero;
	e.present |= face && never_absent(disk);
	e.has_offset = has_place(disk, run);
	e.at = e.has_offset ? run->at : 0;
	e.file = run->io ? vmimg_io_name(run->io)
		: e.data ? "(another file)"
			 : vmimg_io_name(disk->io);
	return e;
}

static int walk(struct vmimg_disk *disk, uint64_t at, uint64_t end, struct printer *p,
	struct vmimg_error *err)
{
	while (at < end) {
		struct vmimg_run run;
		struct entry e;
		unsigned depth;

		if (vmimg_disk_resolve(disk, at, &run, &depth, err))
			return vmimg_within(err, "guest offset 0x%" PRIx64, at);
		run.len = vmimg_min(run.len, end - at);
		e = entry_of(disk, &run, at, depth, p->face);
		if (p->face && !p->json && e.data && !e.zero && !e.has_offset) {
			flush_entry(p);
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"File contains external, encrypted or compressed clusters.");
		}
		if (!continues(&p->held, &e, p->face)) {
			flush_entry(p);
			p->held = e;
		} else {
			p->held.len += e.len;
		}
		at += run.len;
	}
	flush_entry(p);
	return 0;
}

static int print_map(struct vmimg_disk *disk, const struct args *args, struct vmimg_error *err)
{
	struct printer p = { .json = args->common.json, .face = args->common.face };
	uint64_t start = args->start.bytes, end = disk->size;

	if (start > disk->size)
		return vmimg_fail(err, VMIMG_EINVAL,
			"--start-offset lies past the disk's end, %" PRIu64, disk->size);
	if (args->length.given)
		end = start + vmimg_min(args->length.bytes, end - start);
	if (!p.json)
		printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	if (walk(disk, start, end, &p, err))
		return -1;
	if (p.json)
		printf("%s]\n", p.any ? "" : "[");
	return CLI_OK;
}

#define BAR 72 /* cells */

/* One character a cell: how much of it is data, or what it is instead. */
static int print_bar(struct vmimg_disk *disk, struct vmimg_error *err)
{
	static const char *const levels[] = { "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	VMIMG_AUTO(vmimg_allocation_done) struct vmimg_allocation a = { 0 };
	char data[16], packed[16], zero[16], hole[16];

	if (vmimg_allocation_read(disk, BAR, &a, err))
		return -1;
	putchar('|');
	for (size_t i = 0; i < a.count; i++) {
		unsigned level = (unsigned)(a.cells[i].share * 7.999);

		fputs(a.cells[i].fill >= VMIMG_FILL_PACKED           ? levels[level]
				: a.cells[i].fill == VMIMG_FILL_ZERO ? "0"
								     : " ",
			stdout);
	}
	printf("|\ndata %s, compressed %s, zeroes %s, not allocated %s\n",
		vmimg_format_size(data, a.bytes[VMIMG_FILL_DATA]),
		vmimg_format_size(packed, a.bytes[VMIMG_FILL_PACKED]),
		vmimg_format_size(zero, a.bytes[VMIMG_FILL_ZERO]),
		vmimg_format_size(hole, a.bytes[VMIMG_FILL_HOLE]));
	return CLI_OK;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_open how = { .format = args->common.format,
		.refs = args->chain ? CLI_REFS_BESIDE : CLI_REFS_NONE,
		.alone = !args->chain && !args->common.refs };

	if (args->bar && args->common.json)
		return vmimg_fail(err, VMIMG_EINVAL, "--bar is for people: it goes without --json");
	if (cli_image_open(&image, call->words[0], &args->common, &how, err))
		return -1;
	return args->bar ? print_bar(image.disk, err) : print_map(image.disk, args, err);
}

static const struct cli_option options[] = {
	{ 's', "start-offset", "OFFSET", "begin there", cli_set_length,
		offsetof(struct args, start) },
	{ 'l', "max-length", "SIZE", "no further than that", cli_set_length,
		offsetof(struct args, length) },
	{ 0, "bar", NULL, "draw one line of it: 0 is zeroes, a blank is not allocated",
		cli_set_flag, offsetof(struct args, bar) },
	{ 0, "chain", NULL, "look through the backing files, which are opened for it", cli_set_flag,
		offsetof(struct args, chain) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_report_options,
	cli_source_options, NULL };

const struct cli_verb cli_map = {
	.name = "map",
	.operands = "IMAGE",
	.summary = "Lists what lies where",
	.detail = "Opens no other file than IMAGE, unless --chain or --refs is given: what IMAGE "
		  "lacks is\n"
		  "then of depth 0 and not present.",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.reach = CLI_READS,
	.options = groups,
	.run = run,
};

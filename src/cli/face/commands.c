/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands and their options: which native word each becomes. */
#include "cli/face/face.h"
#include <stdint.h>

#define OBJECT                                           \
	{                                                \
		0, "object", true, FACE_PASS, "--object" \
	}
#define SOURCE                                                        \
	OBJECT, { 0, "image-opts", false, FACE_DESCRIBED, NULL },     \
		{ 'f', "format", true, FACE_PASS, "-f" },             \
	{                                                             \
		'U', "force-share", false, FACE_PASS, "--force-share" \
	}
#define CACHE                                    \
	{                                        \
		'T', NULL, true, FACE_PASS, "-T" \
	}
#define QUIET                                     \
	{                                         \
		'q', NULL, false, FACE_PASS, "-q" \
	}
#define OUTPUT                                           \
	{                                                \
		0, "output", true, FACE_PASS, "--output" \
	}
#define WORK                                      \
	QUIET,                                    \
	{                                         \
		'p', NULL, false, FACE_PASS, "-p" \
	}
#define END       \
	{         \
		0 \
	}

/* Callers count on whole chains being followed. */
#define FOLLOW "--refs", "any"

static const char *const plain[] = { FOLLOW, NULL };
static const char *const silent[] = { FOLLOW, "--progress", "none", NULL };

/* ---- reports ------------------------------------------------------------------------------- */

static const struct face_option info[] = { SOURCE, OUTPUT,
	{ 0, "backing-chain", false, FACE_PASS, "--chain" }, CACHE, END };

static const struct face_option map[] = { SOURCE, OUTPUT,
	{ 's', "start-offset", true, FACE_PASS, "--start-offset" },
	{ 'l', "max-length", true, FACE_PASS, "--max-length" }, END };
static const char *const map_always[] = { FOLLOW, "--chain", NULL };

static const struct face_option check[] = { SOURCE, OUTPUT, QUIET, CACHE,
	{ 'r', "repair", true, FACE_PASS, "-r" }, END };

static const struct face_option compare[] = { SOURCE, WORK, CACHE,
	{ 'F', NULL, true, FACE_PASS, "-F" }, { 's', NULL, false, FACE_PASS, "-s" }, END };

static const struct face_option measure[] = { SOURCE, OUTPUT, { 'O', NULL, true, FACE_PASS, "-O" },
	{ 'o', NULL, true, FACE_PASS, "-o" }, { 'l', NULL, true, FACE_PASS, "-l" },
	{ 0, "size", true, FACE_PASS, "--size" }, END };

/* ---- new images ---------------------------------------------------------------------------- */

static const struct face_option create[] = { OBJECT, QUIET, { 'f', NULL, true, FACE_PASS, "-f" },
	{ 'b', NULL, true, FACE_PASS, "-b" }, { 'F', NULL, true, FACE_PASS, "-F" },
	{ 'o', NULL, true, FACE_PASS, "-o" }, { 'u', NULL, false, FACE_PASS, "-u" }, END };
static const char *const create_always[] = { FOLLOW, "--force", "-f", "raw", NULL };

static const struct face_option convert[] = { SOURCE, WORK, CACHE,
	{ 0, "target-image-opts", false, FACE_DESCRIBED_TO, NULL },
	{ 0, "target-is-zero", false, FACE_DROP, NULL },
	{ 0, "bitmaps", false, FACE_PASS, "--bitmaps" },
	{ 0, "skip-broken-bitmaps", false, FACE_PASS, "--skip-broken-bitmaps" },
	{ 0, "salvage", false, FACE_PASS, "--salvage" },
	{ 'C', NULL, false, FACE_DROP, NULL }, { 'W', NULL, false, FACE_DROP, NULL },
	{ 'c', NULL, false, FACE_PASS, "-c" }, { 'n', NULL, false, FACE_PASS, "-n" },
	{ 't', NULL, true, FACE_PASS, "-t" }, { 'O', NULL, true, FACE_PASS, "-O" },
	{ 'B', NULL, true, FACE_PASS, "-B" }, { 'F', NULL, true, FACE_PASS, "-F" },
	{ 'o', NULL, true, FACE_PASS, "-o" }, { 'l', NULL, true, FACE_PASS, "-l" },
	{ 'S', NULL, true, FACE_PASS, "-S" }, { 'r', NULL, true, FACE_PASS, "--rate" },
	{ 'm', NULL, true, FACE_PASS, "-m" }, END };
static const char *const convert_always[] = { FOLLOW, "--progress", "none", "--force", "-O", "raw",
	"-t", "unsafe", NULL };

static const struct face_option dd[] = { SOURCE, { 'O', NULL, true, FACE_PASS, "-O" }, END };

/* ---- changes in place ---------------------------------------------------------------------- */

static const struct face_option snapshot[] = { SOURCE, QUIET, { 'l', NULL, false, FACE_PASS, "-l" },
	{ 'c', NULL, true, FACE_PASS, "-c" }, { 'a', NULL, true, FACE_PASS, "-a" },
	{ 'd', NULL, true, FACE_PASS, "-d" }, END };

static const struct face_option resize[] = { SOURCE, QUIET,
	{ 0, "shrink", false, FACE_PASS, "--shrink" },
	{ 0, "preallocation", true, FACE_PASS, "--preallocation" }, END };

static const struct face_option amend[] = { SOURCE, QUIET, { 'p', NULL, false, FACE_DROP, NULL },
	{ 't', NULL, true, FACE_DROP, NULL }, { 'o', NULL, true, FACE_PASS, "-o" },
	{ 0, "force", false, FACE_REFUSE, "--force: what would lose the data is not done" }, END };

static const struct face_option commit[] = { SOURCE, WORK, { 't', NULL, true, FACE_PASS, "-t" },
	{ 'b', NULL, true, FACE_PASS, "-b" }, { 'r', NULL, true, FACE_PASS, "--rate" },
	{ 'd', NULL, false, FACE_PASS, "-d" }, END };

static const struct face_option rebase[] = { SOURCE, WORK, CACHE,
	{ 't', NULL, true, FACE_PASS, "-t" }, { 'b', NULL, true, FACE_PASS, "-b" },
	{ 'F', NULL, true, FACE_PASS, "-F" }, { 'u', NULL, false, FACE_PASS, "-u" }, END };

static const struct face_option bitmap[] = { SOURCE, { 0, "add", false, FACE_PASS, "--add" },
	{ 0, "remove", false, FACE_PASS, "--remove" }, { 0, "clear", false, FACE_PASS, "--clear" },
	{ 0, "enable", false, FACE_PASS, "--enable" },
	{ 0, "disable", false, FACE_PASS, "--disable" }, { 0, "merge", true, FACE_PASS, "--merge" },
	{ 'b', "source-file", true, FACE_PASS, "-b" },
	{ 'F', "source-format", true, FACE_PASS, "-F" },
	{ 'g', "granularity", true, FACE_PASS, "-g" }, END };

static const struct face_option none[] = { END };
static const char *const no_bench[] = { "bench is not done here: tests/bench measures vmimg",
	NULL };

const struct face_command face_commands[] = {
	{ "amend", "-o options filename", &cli_amend, amend, plain, 1, .most = 1,
		.changes = true, .failure = 1 },
	{ "bench", "", NULL, none, no_bench },
	{ "bitmap", "filename bitmap", &cli_bitmap, bitmap, plain, 1, .least = 2, .most = 2,
		.wrong_count = "Expecting filename and bitmap name", .changes = true, .failure = 1 },
	{ "check", "filename", &cli_check, check, silent, 1, .least = 1, .most = 1, .failure = 1 },
	{ "commit", "filename", &cli_commit, commit, silent, 1, .least = 1, .most = 1,
		.changes = true, .failure = 1 },
	{ "compare", "filename1 filename2", &cli_compare, compare, silent, 2, .least = 2, .most = 2,
		.wrong_count = "Expecting two image file names", .failure = 2 },
	{ "convert", "filename [filename2 [...]] output_filename", &cli_convert, convert,
		convert_always, SIZE_MAX, .target = true, .most = SIZE_MAX, .failure = 1 },
	{ "create", "filename [size]", &cli_create, create, create_always, 0, .target = true,
		.most = 2, .wrong_count = "Expecting image file name", .failure = 1 },
	{ "dd", "[bs=block_size] [count=blocks] [skip=blocks] if=input of=output", &cli_convert, dd,
		convert_always, .dd = true, .most = SIZE_MAX, .failure = 1 },
	{ "info", "filename", &cli_info, info, plain, 1, .least = 1, .most = 1, .failure = 1 },
	{ "map", "filename", &cli_map, map, map_always, 1, .least = 1, .most = 1, .failure = 1 },
	{ "measure", "[filename]", &cli_measure, measure, plain, 1, .most = 1,
		.wrong_count = "At most one filename argument is allowed.", .failure = 1 },
	{ "rebase", "filename", &cli_rebase, rebase, silent, 1, .least = 1, .most = 1,
		.changes = true, .failure = 1 },
	{ "resize", "filename [+ | -]size", &cli_resize, resize, plain, 1, .size = true, .least = 2,
		.most = 2, .changes = true, .failure = 1 },
	{ "snapshot", "filename", &cli_snapshot, snapshot, plain, 1, .least = 1, .most = 1,
		.changes = true, .failure = 1 },
	{ NULL },
};

#define EXCLUSIVE "--image-opts and --format are mutually exclusive"

const struct face_rule face_rules[] = {
	{ NULL, "image-opts", true, "f", EXCLUSIVE },
	{ "convert", "target-image-opts", false, "n",
		"--target-image-opts requires use of -n flag" },
	{ "convert", "target-image-opts", true, "O", EXCLUSIVE },
	{ "convert", "target-is-zero", false, "n", "--target-is-zero requires use of -n flag" },
	{ "convert", "C", true, "S", "Cannot enable copy offloading when -S is used" },
	{ "convert", "C", true, "c", "Cannot enable copy offloading when -c is used" },
	{ "convert", "skip-broken-bitmaps", false, "bitmaps",
		"Use of --skip-broken-bitmaps requires --bitmaps" },
	{ NULL },
};

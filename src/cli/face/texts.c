/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What qemu-img calls the same mistake. Its callers compare texts, some of them whole lines; what
 * is not listed here is said as the native verbs say it. An error whose context matters, as the
 * name of the new image in front, keeps it.
 */
#include "cli/face/texts.h"
#include <stdio.h>
#include <string.h>
#include "util/num.h"
#include "util/text.h"

struct reworded {
	const char *from;  /* where our text begins */
	const char *later; /* what follows somewhere behind it; NULL: anything */
	bool whole;        /* what stands in front goes as well */
	const char *to;    /* $: what the last quotes hold, @: our second word, #: a number */
};

#define SUFFIXES                                                              \
	" specified. You may use k, M, G, T, P or E suffixes for\nqemu-img: " \
	"kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes."
#define NO_NUMBER                                                                      \
	" expects a non-negative number below 2^64\nOptional suffix k, M, G, T, P or " \
	"E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively."

static const struct reworded reworded[] = {
	/* sizes */
	{ "Invalid image size specified. You", NULL, true, "Invalid image size" SUFFIXES },
	{ "option --size: ", "is not a size", true, "Invalid image size" SUFFIXES },
	{ "option -S: ", "is not a size", true, "Invalid buffer size for sparse output" SUFFIXES },
	{ "option --rate: ", "is not a size", true, "Invalid rate limit" SUFFIXES },
	{ "option --start-offset: ", "is not a size", true, "Invalid start offset" SUFFIXES },
	{ "option --max-length: ", "is not a size", true, "Invalid max length" SUFFIXES },
	{ "invalid number: ", "is not a size", true, "Invalid @" SUFFIXES },
	{ "option refcount_bits: ", "is not a size", false,
		"Refcount width must be a power of two and may not exceed 64 bits" },
	{ "option ", "is not a size", false, "Parameter '@'" NO_NUMBER },
	{ "'", "' is not a size", false, "Parameter 'size'" NO_NUMBER },
	/* create */
	{ "cluster_size must be a power", NULL, false,
		"Cluster size must be a power of two between 512 and 2048k" },
	{ "refcount_bits must be a power", NULL, false,
		"Refcount width must be a power of two and may not exceed 64 bits" },
	{ "refcount_bits other than 16", NULL, false,
		"Different refcount widths than 16 bits require compatibility level 1.1 or above "
		"(use version=v3 or greater)" },
	{ "lazy_refcounts needs compat=1.1", NULL, false,
		"Lazy refcounts only supported with compatibility level 1.1 and above (use "
		"version=v3 or greater)" },
	{ "compression_type=zstd needs", NULL, false,
		"Non-zlib compression type is only supported with compatibility level 1.1 and "
		"above (use version=v3 or greater)" },
	{ "extended_l2 needs clusters", NULL, false,
		"Extended L2 entries are only supported with cluster sizes of at least 16384 "
		"bytes" },
	{ "a raw data file cannot stand over", NULL, false,
		"Backing file and data-file-raw cannot be used at the same time" },
	{ "preallocation hides the backing file", NULL, false,
		"Backing file and preallocation can only be used at the same time if extended_l2 "
		"is on" },
	{ "data_file_raw needs data_file", NULL, false, "data-file-raw requires data-file" },
	{ "encryption needs a secret", NULL, false,
		"Parameter 'encrypt.key-secret' is required for cipher" },
	{ "a LUKS volume needs a secret", NULL, false,
		"Parameter 'key-secret' is required for cipher" },
	{ "a disk of ", "too large for clusters", false,
		"The image size is too large for file format 'qcow2' (try using a larger cluster "
		"size)" },
	{ "a VHD holds at most", NULL, false, "The image size is too large for file format 'vpc'" },
	{ "block_size=", "is not a power of two", false, "Block size must be a power of two" },
	{ "option preallocation is one of off|metadata", NULL, false,
		"Parameter 'preallocation' does not accept value '$'" },
	{ "option compat is one of 0.10", NULL, false,
		"Parameter 'version' does not accept value '$'" },
	{ "option compat is one of 1.1", NULL, false, "Unknown compatibility level $" },
	{ "option compression_type is one of", NULL, false,
		"Parameter 'compression-type' does not accept value '$'" },
	{ "option encrypt.format is one of", NULL, false,
		"Parameter 'format' does not accept value '$'" },
	{ "option encrypt.state is one of", NULL, false,
		"Parameter 'state' does not accept value '$'" },
	{ "option subformat is one of dynamic", NULL, false,
		"Parameter 'subformat' does not accept value '$'" },
	{ "option ", " is one of ", false, "invalid parameter value: $" },
	{ "option ", " is on or off, not ", false, "Parameter '@' expects 'on' or 'off'" },
	{ "options compat6 and hwversion", NULL, false,
		"compat6 cannot be enabled with hwversion set" },
	{ "the parent of a VMDK is", NULL, false, "backing_file must be a vmdk image" },
	{ "the parent of a VDI is", NULL, false,
		"Backing file not supported for file format 'vdi'" },
	{ "the parent of a VHDX is", NULL, false,
		"Backing file not supported for file format 'vhdx'" },
	{ "the parent of a VHD is", NULL, false,
		"Backing file not supported for file format 'vpc'" },
	{ "-F without a backing file", NULL, false,
		"Backing format cannot be used without backing file" },
	{ "the size is given twice", NULL, false, "The image size must be specified only once" },
	/* convert */
	{ "a raw image cannot have a backing file", NULL, false,
		"Backing file not supported for file format 'raw'" },
	{ "a raw image cannot be compressed", NULL, true,
		"Compression not supported for this file format" },
	{ "a VDI cannot be compressed", NULL, true,
		"Compression not supported for this file format" },
	{ "preallocation and compression do not", NULL, true,
		"Compression and preallocation not supported at the same time" },
	{ "format ", " does not take bitmaps", true, "Format driver '@' does not support bitmaps" },
	{ "bytes from byte ", "end past the disk", true, "output file is smaller than input file" },
	{ "option -S: it is a multiple", NULL, true,
		"Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 "
		"up to 16777216. Select 0 to disable sparse detection (fully allocates output)." },
	{ "option -t: it is ", NULL, true, "Invalid cache option: $" },
	{ "option -T: it is ", NULL, true, "Invalid source cache option: $" },
	/* snapshots */
	{ "Could not open ", ": there is no snapshot ", true,
		"Failed to load snapshot: Can't find snapshot" },
	{ "Could not apply snapshot ", ": there is no snapshot ", true,
		"Could not apply snapshot '$': Failed to load snapshot: No such file or "
		"directory" },
	{ "Could not delete snapshot ", ": there is no snapshot ", true,
		"Could not delete snapshot '$': snapshot not found" },
	/* resize */
	{ "the disk has ", " it cannot lose ", true, "New image size must be positive" },
	{ "--preallocation is off, metadata", NULL, false, "Invalid preallocation mode '$'" },
	{ "--preallocation is off, falloc", "'metadata'", false,
		"Unsupported preallocation mode: metadata" },
	{ "--preallocation is off, falloc", NULL, false, "Invalid preallocation mode '$'" },
	/* others */
	{ "data_file can only be set for", NULL, false,
		"data-file can only be set for images that use an external data file" },
	/* images that are not what they are said to be */
	{ "it does not begin with QFI", "no QCOW2", false, "Image is not in qcow2 format" },
	{ "it does not begin with QFI", NULL, false, "Image not in qcow format" },
	{ "neither a VMDK extent nor a descriptor", NULL, false, "invalid VMDK image descriptor" },
	{ "it has no VHD footer", NULL, false, "invalid VPC image" },
	{ "no LUKS volume: ", NULL, false, "Volume is not in LUKS format" },
	{ "QCOW version ", " is not known", false, "Unsupported qcow2 version #" },
	{ "an L1 table of ", " entries at ", false, "Active L1 table too large" },
	{ "the L1 table has ", NULL, false, "L1 table is too small" },
	{ "a virtual size of ", "more than any ", false, "Image is too big" },
	{ "refcount table offset ", NULL, false, "Reference count table offset invalid" },
	{ "option --output: it is json", NULL, true,
		"--output must be used with human or json as argument." },
	{ "option -r: it is leaks or all", NULL, true,
		"Unknown option value for -r (expecting 'leaks' or 'all'): $" },
	{ "unknown format '", "(vmimg formats lists them)", false, "Unknown driver '$'" },
	{ "format ", " has no option '", true, "Invalid parameter '$'" },
};

/* What stands in the last pair of quotes. */
static void last_quoted(const char *text, char *out, size_t cap)
{
	const char *end = strrchr(text, '\''), *start = end;

	while (start && start > text && start[-1] != '\'')
		start--;
	snprintf(out, cap, "%.*s", start ? (int)(end - start) : 0, start ? start : "");
}

static void fill(const char *to, const char *ours, char *out, size_t cap)
{
	char value[120], word[60] = "", number[20] = "";
	size_t used = 0;

	last_quoted(ours, value, sizeof(value));
	/* "option KEY:" and "invalid number: KEY:" */
	(void)sscanf(ours, strncmp(ours, "invalid", 7) ? "%*s %59[^: ]" : "%*s %*s %59[^: ]", word);
	(void)sscanf(ours, "%*[^0-9]%19[0-9]", number);
	out[0] = '\0';
	for (; *to && used + 1 < cap; used = strlen(out), to++)
		snprintf(out + used, cap - used, "%s",
			*to == '$'           ? value
				: *to == '@' ? word
				: *to == '#' ? number
					     : (char[]){ *to, '\0' });
}

/* "Could not open 'x': x: why" names the file once, or as the file below the image. */
static void reword_open(struct vmimg_error *err)
{
	char name[120], rest[sizeof(err->text)];
	const char *start = strstr(err->text, "Could not open "), *end, *why;
	bool below;

	start = start ? strchr(start, '\'') : NULL;
	end = start ? strstr(start, "': ") : NULL;
	if (!end)
		return;
	snprintf(name, sizeof(name), "%.*s: ", (int)(end - start - 1), start + 1);
	end += 3;
	if (strncmp(end, name, strlen(name)) != 0)
		return;
	why = end + strlen(name);
	below = !strcmp(why, "No such file or directory") || !strcmp(why, "Permission denied");
	name[strlen(name) - 2] = '\0';
	snprintf(rest, sizeof(rest), "%.*s%s%s%s%s", (int)(end - err->text), err->text,
		below ? "Could not open '" : "", below ? name : "", below ? "': " : "", why);
	memcpy(err->text, rest, sizeof(rest));
}

void face_reword(struct vmimg_error *err, char out[FACE_TEXT])
{
	char filled[sizeof(err->text)];

	vmimg_mask(err->text); /* only what is listed here has more than one line */
	reword_open(err);
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(reworded); i++) {
		const struct reworded *r = &reworded[i];
		const char *at = strstr(err->text, r->from);

		if (!at || (r->later && !strstr(at, r->later)))
			continue;
		fill(r->to, at, filled, sizeof(filled));
		snprintf(out, FACE_TEXT, "%.*s%s", r->whole ? 0 : (int)(at - err->text), err->text,
			filled);
		return;
	}
	snprintf(out, FACE_TEXT, "%s", err->text);
}

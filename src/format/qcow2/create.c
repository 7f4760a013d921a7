/* SPDX-License-Identifier: Apache-2.0 */
/* From options to a sink that is ready to be filled; and the size of what it will make. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/crypt.h"
#include "util/num.h"

#define CHUNK        (256U << 10)
#define MAX_NEW_BITS 21 /* QEMU opens no larger clusters */
#define MAX_L1_BYTES (UINT64_C(32) << 20)

const struct vmimg_option_spec vmimg_qcow2_options[] = {
	{ "compat", VMIMG_OPTION_CHOICE, "0.10|1.1|v2|v3", "version of the format (1.1)" },
	{ "cluster_size", VMIMG_OPTION_SIZE, NULL, "512 to 2M, a power of 2 (64K)" },
	{ "compression_type", VMIMG_OPTION_CHOICE, "zlib|zstd", "of compressed clusters (zlib)" },
	{ "preallocation", VMIMG_OPTION_CHOICE, "off|metadata|falloc|full",
		"set clusters aside (off)" },
	{ "lazy_refcounts", VMIMG_OPTION_BOOL, NULL, "let writers put refcounts off (off)" },
	{ "refcount_bits", VMIMG_OPTION_SIZE, NULL, "1 to 64, a power of 2 (16)" },
	{ "extended_l2", VMIMG_OPTION_BOOL, NULL, "32 subclusters in each cluster (off)" },
	{ "data_file", VMIMG_OPTION_TEXT, NULL, "name of a file beside the image for the data" },
	{ "data_file_raw", VMIMG_OPTION_BOOL, NULL, "the data file is a raw disk by itself (off)" },
	{ "encrypt.format", VMIMG_OPTION_CHOICE, "luks|aes",
		"encrypt the data; aes is old and weak" },
	{ "encrypt.key-secret", VMIMG_OPTION_TEXT, NULL, "id of the --object with the passphrase" },
	{ "encrypt.cipher-alg", VMIMG_OPTION_TEXT, NULL, "aes-128, aes-192 or aes-256 (aes-256)" },
	{ "encrypt.cipher-mode", VMIMG_OPTION_TEXT, NULL, "xts or cbc (xts)" },
	{ "encrypt.ivgen-alg", VMIMG_OPTION_TEXT, NULL, "plain, plain64 or essiv (plain64)" },
	{ "encrypt.ivgen-hash-alg", VMIMG_OPTION_TEXT, NULL, "of essiv: sha256 (sha256)" },
	{ "encrypt.hash-alg", VMIMG_OPTION_TEXT, NULL,
		"sha1, sha224, sha256, sha384 or sha512 (sha256)" },
	{ "encrypt.iter-time", VMIMG_OPTION_SIZE, NULL,
		"milliseconds that trying a passphrase takes (2000)" },
	{ "encryption", VMIMG_OPTION_BOOL, NULL, "the same as encrypt.format=aes (off)" },
	{ 0 },
};

/* What was asked for, checked against itself. */
struct wish {
	uint32_t cluster;
	unsigned refcount_order;
	uint32_t version;
	bool extended, lazy, zstd, data_raw;
	const char *data_file;
	enum vmimg_qcow2_prealloc prealloc;
	struct vmimg_qcow2_crypt_wish crypt;
};

static enum vmimg_qcow2_prealloc prealloc_of(const char *name)
{
	static const char *const names[] = { "off", "metadata", "falloc", "full" };
	unsigned i = 0;

	while (strcmp(names[i], name))
		i++;
	return (enum vmimg_qcow2_prealloc)i;
}

static int check_numbers(uint64_t cluster, uint64_t bits, bool extended, struct vmimg_error *err)
{
	if (!vmimg_is_pow2(cluster) || cluster < 512 || cluster > UINT64_C(1) << MAX_NEW_BITS)
		return vmimg_fail(err, VMIMG_EINVAL,
			"cluster_size must be a power of 2 from 512 to 2M, not %" PRIu64, cluster);
	if (!vmimg_is_pow2(bits) || bits > 64)
		return vmimg_fail(err, VMIMG_EINVAL,
			"refcount_bits must be a power of 2 up to 64, not %" PRIu64, bits);
	if (extended && cluster < 16384)
		return vmimg_fail(err, VMIMG_EINVAL,
			"extended_l2 needs clusters of at least 16K, not %" PRIu64, cluster);
	return 0;
}

static int check_version(const struct wish *wish, struct vmimg_error *err)
{
	const char *what = wish->extended   ? "extended_l2"
		: wish->lazy                ? "lazy_refcounts"
		: wish->zstd                ? "compression_type=zstd"
		: wish->data_file           ? "data_file"
		: wish->refcount_order != 4 ? "refcount_bits other than 16"
					    : NULL;

	if (wish->version == 2 && what)
		return vmimg_fail(err, VMIMG_EINVAL, "%s needs compat=1.1", what);
	return 0;
}

static int check_combination(
	const struct vmimg_create *create, const struct wish *wish, struct vmimg_error *err)
{
	const char *problem = NULL;

	if (create->parent_name && wish->data_raw)
		problem = "a raw data file cannot stand over a backing file";
	else if (create->parent_name && wish->prealloc != PREALLOC_OFF && !wish->extended)
		problem = "preallocation hides the backing file: they go together with extended_l2 alone";
	else if (create->compress && wish->data_file)
		problem = "an external data file cannot hold compressed clusters";
	else if (create->compress && wish->prealloc != PREALLOC_OFF)
		problem = "preallocation and compression do not go together";
	else if (create->adopt &&
		(create->parent_name || create->compress || wish->data_file ||
			wish->prealloc != PREALLOC_OFF))
		problem = "data that stays where it is takes no backing file, no data file, no "
			  "preallocation and no compression";
	else if (wish->data_raw && !wish->data_file)
		problem = "data_file_raw needs data_file";
	else if (create->parent_name && strlen(create->parent_name) > QCOW2_MAX_BACKING)
		problem = "the backing file's name is longer than 1023 bytes";
	return problem ? vmimg_fail(err, VMIMG_EINVAL, "%s", problem) : 0;
}

static int read_wish(const struct vmimg_create *create, struct wish *wish, struct vmimg_error *err)
{
	const struct vmimg_options *o = create->options;
	const char *compat = vmimg_options_text(o, "compat", "1.1");
	uint64_t cluster = vmimg_options_size(o, "cluster_size", 65536);
	uint64_t bits = vmimg_options_size(o, "refcount_bits", 16);

	*wish = (struct wish){ .extended = vmimg_options_bool(o, "extended_l2", false),
		.lazy = vmimg_options_bool(o, "lazy_refcounts", false),
		.zstd = !strcmp(vmimg_options_text(o, "compression_type", "zlib"), "zstd"),
		.data_raw = vmimg_options_bool(o, "data_file_raw", false),
		.data_file = vmimg_options_text(o, "data_file", NULL),
		.prealloc = prealloc_of(vmimg_options_text(o, "preallocation", "off")),
		.version = !strcmp(compat, "0.10") || !strcmp(compat, "v2") ? 2 : 3 };
	if (check_numbers(cluster, bits, wish->extended, err))
		return -1;
	wish->cluster = (uint32_t)cluster;
	wish->refcount_order = vmimg_log2(bits);
	if (wish->data_raw && wish->prealloc == PREALLOC_OFF)
		wish->prealloc = PREALLOC_METADATA; /* every cluster is where a raw reader looks */
	return check_version(wish, err) || check_combination(create, wish, err) ||
			vmimg_qcow2_read_crypt_wish(create, &wish->crypt, err)
		? -1
		: 0;
}

static void fill_header(
	struct vmimg_qcow2_sink *s, const struct vmimg_create *create, const struct wish *wish)
{
	struct vmimg_qcow2_header *h = &s->header;

	h->magic = QCOW2_MAGIC;
	h->version = wish->version;
	h->cluster_bits = vmimg_log2(wish->cluster);
	h->size = create->size;
	h->refcount_order = wish->refcount_order;
	h->compression_type = wish->zstd ? QCOW2_COMPRESSION_ZSTD : QCOW2_COMPRESSION_ZLIB;
	h->incompatible = (wish->zstd ? QCOW2_INCOMPATIBLE_COMPRESSION : 0) |
		(wish->extended ? QCOW2_INCOMPATIBLE_EXTENDED_L2 : 0) |
		(wish->data_file ? QCOW2_INCOMPATIBLE_DATA_FILE : 0);
	h->compatible = wish->lazy ? QCOW2_COMPATIBLE_LAZY : 0;
	h->autoclear = wish->data_raw ? QCOW2_AUTOCLEAR_RAW_DATA : 0;
	s->cluster = wish->cluster;
	s->extended = wish->extended;
	s->external = wish->data_file;
	s->prealloc = wish->prealloc;
	s->l2_bits = h->cluster_bits - (wish->extended ? 4 : 3);
}

static void fill_sink(
	struct vmimg_qcow2_sink *s, const struct vmimg_create *create, const struct wish *wish)
{
	bool whole = create->compress || !wish->extended;
	uint32_t granule = whole ? wish->cluster : wish->cluster / QCOW2_SUBCLUSTERS;
	uint32_t chunk = create->compress && granule >= 65536 ? granule : CHUNK;

	s->sink = (struct vmimg_sink){ .ops = &vmimg_qcow2_sink_ops,
		.size = create->size,
		.granule = granule,
		.unit = wish->cluster,
		.chunk = chunk > granule ? chunk : granule,
		.keeps_absent = create->parent_name,
		.splits_zeroes = wish->prealloc != PREALLOC_FULL,
		.level = create->level,
		.moved = create->adopt ? wish->cluster : 0,
		.overlaid = create->adopt ? wish->cluster : 0 };
	if (create->compress) {
		s->sink.codec = wish->zstd ? &vmimg_codec_zstd : &vmimg_codec_deflate;
		s->sink.pack_room = s->sink.chunk;
	} else if (granule >= 4096 && wish->crypt.method == QCOW2_CRYPT_NONE) {
		s->sink.clone_io = s->io;
	}
}

static int take_names(struct vmimg_qcow2_sink *s, const struct vmimg_create *create,
	const struct wish *wish, struct vmimg_error *err)
{
	if (create->parent_name && !(s->backing_name = vmimg_strdup(create->parent_name, err)))
		return -1;
	if (create->parent_name && create->parent_format &&
		!(s->backing_format = vmimg_strdup(vmimg_qcow2_format_name(create->parent_format), err)))
		return -1;
	if (!wish->data_file) {
		s->data = vmimg_io_ref(s->io);
		return 0;
	}
	if (!create->siblings)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"an external data file needs an output in a folder");
	s->data_name = vmimg_strdup(wish->data_file, err);
	if (!s->data_name)
		return -1;
	s->data = create->siblings->create(create->siblings, wish->data_file, err);
	return s->data ? 0 : -1;
}

int vmimg_qcow2_take_l1(struct vmimg_qcow2_sink *s, struct vmimg_error *err)
{
	return vmimg_qcow2_tail_clusters(&s->tail,
		vmimg_div_up(s->header.l1_size * UINT64_C(8), s->cluster), &s->header.l1_offset,
		err);
}

/* Behind an adopted disk the L1 table comes last: nothing is written before the first chunk. */
static int make_tables(
	struct vmimg_qcow2_sink *s, const struct vmimg_create *create, struct vmimg_error *err)
{
	uint64_t entries = vmimg_div_up(s->sink.size, (uint64_t)s->cluster << s->l2_bits);
	uint64_t base = vmimg_div_up(create->adopt, s->cluster);
	unsigned order = s->header.refcount_order;

	if (entries * 8 > MAX_L1_BYTES)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a disk of %" PRIu64 " bytes is too large for clusters of %" PRIu32
			": give a larger cluster_size",
			s->sink.size, s->cluster);
	entries = entries ? entries : 1;
	s->header.l1_size = (uint32_t)entries;
	s->l1 = vmimg_alloc_array(entries, 8, err);
	s->l2 = vmimg_alloc_array(s->cluster, 1, err);
	if (!s->l1 || !s->l2)
		return -1;
	if (create->adopt)
		return vmimg_qcow2_tail_adopt(&s->tail, s->io, s->cluster, order, base, err);
	return vmimg_qcow2_tail_init(&s->tail, s->io, s->cluster, order, err) ||
			vmimg_qcow2_take_l1(s, err)
		? -1
		: 0;
}

struct vmimg_sink *vmimg_qcow2_create(
	struct vmimg_io *io, const struct vmimg_create *create, struct vmimg_error *err)
{
	struct vmimg_qcow2_sink *s;
	struct wish wish;

	if (io->in_order) {
		vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"qcow2 cannot be written to a pipe: name an output file");
		return NULL;
	}
	if (read_wish(create, &wish, err))
		return NULL;
	s = vmimg_new(struct vmimg_qcow2_sink, err);
	if (!s)
		return NULL;
	s->io = vmimg_io_ref(io);
	fill_header(s, create, &wish);
	fill_sink(s, create, &wish);
	if (take_names(s, create, &wish, err) || make_tables(s, create, err) ||
		vmimg_qcow2_sink_crypt(s, create, &wish.crypt, err)) {
		vmimg_sink_close(&s->sink);
		return NULL;
	}
	return &s->sink;
}

/* Clusters of refcount blocks and table that count used clusters, and themselves. */
static uint64_t refcount_clusters(uint64_t used, uint32_t cluster, unsigned order)
{
	uint64_t per_block = ((uint64_t)cluster * 8) >> order, blocks = 0, table = 0, before;

	do {
		before = blocks + table;
		blocks = vmimg_div_up(used + before, per_block);
		table = vmimg_div_up(blocks, cluster / 8);
	} while (blocks + table != before);
	return blocks + table;
}

int vmimg_qcow2_measure(
	const struct vmimg_create *create, uint64_t data, uint64_t *bytes, struct vmimg_error *err)
{
	uint64_t whole, entries, tables, clusters;
	struct wish wish;

	if (read_wish(create, &wish, err))
		return -1;
	if (wish.prealloc >= PREALLOC_FALLOC)
		data = create->size;
	whole = vmimg_div_up(create->size, wish.cluster);
	entries = vmimg_align_up(whole, wish.cluster / (wish.extended ? 16 : 8));
	tables = entries / (wish.cluster / (wish.extended ? 16 : 8));
	clusters = 1 + tables +
		vmimg_div_up(vmimg_align_up(tables, wish.cluster / 8) * 8, wish.cluster);
	clusters += vmimg_div_up(vmimg_qcow2_crypt_size(&wish.crypt), wish.cluster);
	clusters += refcount_clusters(clusters + whole, wish.cluster, wish.refcount_order);
	*bytes = (clusters + vmimg_min(vmimg_div_up(data, wish.cluster), whole)) * wish.cluster;
	return 0;
}

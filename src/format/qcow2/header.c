/* SPDX-License-Identifier: Apache-2.0 */
/* The header and the header extensions: decoded, held against the specification, kept. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/qcow2.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

/* A string of len bytes at `at`, into fresh memory with a NUL. */
static char *read_string(struct vmimg_disk *disk, uint64_t at, size_t len, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *text = vmimg_alloc_array(len + 1, 1, err);

	if (!text || vmimg_io_pread(disk->io, text, len, at, err))
		return NULL;
	return vmimg_take(text);
}

/* ---- extensions ---- */

static int keep_string(
	struct vmimg_disk *disk, uint64_t at, uint32_t len, char **to, struct vmimg_error *err)
{
	if (len > VMIMG_MAX_NAME)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"header extension at 0x%" PRIx64 " has a name of %" PRIu32 " bytes", at - 8,
			len);
	free(*to);
	*to = read_string(disk, at, len, err);
	return *to ? 0 : -1;
}

static int keep_features(
	struct vmimg_disk *disk, uint64_t at, uint32_t len, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint8_t raw[48];

	free(q->features);
	q->feature_count = vmimg_min(len / sizeof(raw), QCOW2_MAX_FEATURES);
	q->features = vmimg_alloc_array(q->feature_count, sizeof(*q->features), err);
	if (!q->features)
		return -1;
	for (size_t i = 0; i < q->feature_count; i++) {
		if (vmimg_io_pread(disk->io, raw, sizeof(raw), at + i * sizeof(raw), err))
			return -1;
		vmimg_qcow2_feature_decode(&q->features[i], raw);
	}
	return 0;
}

static int keep_extension(struct vmimg_disk *disk, const struct vmimg_qcow2_extension *ext,
	uint64_t at, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint8_t raw[24];
	uint32_t fixed = ext->type == QCOW2_EXT_BITMAPS ? 24
		: ext->type == QCOW2_EXT_CRYPTO         ? 16
							: 0;

	if (ext->length < fixed)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"header extension 0x%08" PRIx32 " at 0x%" PRIx64 " has %" PRIu32
			" bytes instead of %" PRIu32,
			ext->type, at - 8, ext->length, fixed);
	if (vmimg_io_pread(disk->io, raw, fixed, at, err))
		return -1;
	switch (ext->type) {
	case QCOW2_EXT_BACKING_FORMAT:
		return keep_string(disk, at, ext->length, &q->backing_format, err);
	case QCOW2_EXT_DATA_FILE:
		return keep_string(disk, at, ext->length, &q->data_name, err);
	case QCOW2_EXT_FEATURES:
		return keep_features(disk, at, ext->length, err);
	case QCOW2_EXT_BITMAPS:
		q->has_bitmaps = true;
		vmimg_qcow2_bitmaps_decode(&q->bitmaps, raw);
		return 0;
	case QCOW2_EXT_CRYPTO:
		q->has_crypto = true;
		vmimg_qcow2_crypto_decode(&q->crypto, raw);
		return 0;
	default:
		return 0; /* unknown ones are to be ignored */
	}
}

static int read_extensions(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t at = q->header.header_length, end = q->cluster;
	struct vmimg_qcow2_extension ext;
	uint8_t raw[8];

	if (q->header.backing_offset)
		end = q->header.backing_offset;
	for (unsigned count = 0; at + sizeof(raw) <= end; count++) {
		if (count == QCOW2_MAX_EXTENSIONS)
			return vmimg_fail(err, VMIMG_ECORRUPT, "more than %u header extensions",
				QCOW2_MAX_EXTENSIONS);
		if (at + sizeof(raw) > vmimg_io_size(disk->io))
			return 0; /* old writers end the file here */
		if (vmimg_io_pread(disk->io, raw, sizeof(raw), at, err))
			return -1;
		vmimg_qcow2_extension_decode(&ext, raw);
		if (ext.type == QCOW2_EXT_END)
			return 0;
		at += sizeof(raw);
		if (ext.length > end - at)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"header extension 0x%08" PRIx32 " at 0x%" PRIx64 " has %" PRIu32
				" bytes and reaches past 0x%" PRIx64,
				ext.type, at - 8, ext.length, end);
		if (keep_extension(disk, &ext, at, err))
			return -1;
		at += vmimg_align_up(ext.length, 8);
	}
	return 0;
}

/* ---- validation ---- */

const char *vmimg_qcow2_feature_name(
	const struct vmimg_qcow2 *q, unsigned type, unsigned bit, char shown[100])
{
	for (size_t i = 0; i < q->feature_count; i++) {
		const struct vmimg_qcow2_feature *feature = &q->features[i];

		if (feature->type == type && feature->bit == bit)
			return vmimg_escape(shown, 100, (const char *)feature->name,
				strnlen((const char *)feature->name, sizeof(feature->name)));
	}
	return NULL;
}

static int check_geometry(const struct vmimg_qcow2_header *h, struct vmimg_error *err)
{
	if (h->version != 2 && h->version != 3)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"QCOW version %" PRIu32 " at 4 is not known (2 and 3 are)", h->version);
	if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"clusters of 2^%" PRIu32 " bytes at 20: they have 2^9 to 2^30",
			h->cluster_bits);
	if (h->refcount_order > 6)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"refcounts of 2^%" PRIu32 " bits at 96: they have at most 64",
			h->refcount_order);
	if (h->version == 3 &&
		(h->header_length < QCOW2_V3_LENGTH || h->header_length % 8 ||
			h->header_length > UINT64_C(1) << h->cluster_bits))
		return vmimg_fail(err, VMIMG_ECORRUPT, "a header of %" PRIu32 " bytes at 100",
			h->header_length);
	if (h->size > VMIMG_MAX_DISK)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a virtual size of %" PRIu64 " bytes at 24 is more than any disk has",
			h->size);
	if (h->crypt_method > QCOW2_CRYPT_LUKS)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"encryption method %" PRIu32 " at 32 is not known", h->crypt_method);
	return 0;
}

static int check_aligned(
	const char *what, uint64_t value, unsigned at, uint32_t cluster, struct vmimg_error *err)
{
	if (!(value % cluster))
		return 0;
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"%s 0x%" PRIx64 " at %u is not a multiple of the cluster size (0x%" PRIx32 ")",
		what, value, at, cluster);
}

static int check_tables(const struct vmimg_qcow2 *q, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *h = &q->header;
	uint64_t needed = vmimg_div_up(h->size, (uint64_t)q->cluster << q->l2_bits);

	if (needed > INT32_MAX)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a virtual size of %" PRIu64 " bytes at 24 is more than any L1 table maps",
			h->size);
	if (h->l1_size < needed)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the L1 table has %" PRIu32 " entries at 36, a disk of %" PRIu64
			" bytes needs %" PRIu64,
			h->l1_size, h->size, needed);
	if (h->l1_size > vmimg_max(needed, QCOW2_MAX_L1_ENTRIES))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"an L1 table of %" PRIu32 " entries at 36 for a disk that needs %" PRIu64,
			h->l1_size, needed);
	if (h->snapshot_count > QCOW2_MAX_SNAPSHOTS)
		return vmimg_fail(err, VMIMG_ECORRUPT, "%" PRIu32 " snapshots at 60: at most %u",
			h->snapshot_count, QCOW2_MAX_SNAPSHOTS);
	return check_aligned("L1 table offset", h->l1_offset, 40, q->cluster, err) ||
			check_aligned(
				"refcount table offset", h->refcount_table, 48, q->cluster, err) ||
			check_aligned(
				"snapshot table offset", h->snapshots_offset, 64, q->cluster, err)
		? -1
		: 0;
}

static int check_features(const struct vmimg_qcow2 *q, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *h = &q->header;
	uint64_t unknown = h->incompatible & ~QCOW2_INCOMPATIBLE_KNOWN;
	bool other = h->compression_type != QCOW2_COMPRESSION_ZLIB;

	if (unknown) {
		unsigned bit = (unsigned)__builtin_ctzll(unknown);
		char shown[100];
		const char *name = vmimg_qcow2_feature_name(q, 0, bit, shown);

		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"incompatible feature bit %u at 72%s%s%s", bit,
			name ? " (\"" : " is not known", name ? name : "",
			name ? "\") is not known" : "");
	}
	if (other != !!(h->incompatible & QCOW2_INCOMPATIBLE_COMPRESSION))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"compression type %u at 104 "
			"and its feature bit 3 at 72 contradict each other",
			h->compression_type);
	if (h->compression_type > QCOW2_COMPRESSION_ZSTD)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"compression type %u at 104 is not known", h->compression_type);
	if (h->incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2 && h->cluster_bits < 14)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"extended L2 entries need clusters of 16 KiB at least, not 2^%" PRIu32,
			h->cluster_bits);
	return 0;
}

static int check_names(const struct vmimg_qcow2 *q, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *h = &q->header;

	if (h->crypt_method == QCOW2_CRYPT_LUKS && !q->has_crypto)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"LUKS encryption at 32, but no header extension that says where its header "
			"is");
	if (q->external && h->incompatible && !q->data_name)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the data is in another file, which the image does not name");
	return 0;
}

static int read_backing_name(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	const struct vmimg_qcow2_header *h = &q->header;

	if (!h->backing_offset || !h->backing_size) {
		if (h->backing_offset)
			vmimg_disk_warn(disk, "a place for the name of a backing file, and no name");
		return 0;
	}
	if (h->backing_size > QCOW2_MAX_BACKING ||
		!vmimg_range_inside(h->backing_offset, h->backing_size, q->cluster))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a backing file name of %" PRIu32 " bytes at 0x%" PRIx64
			": at most %u, in the first cluster",
			h->backing_size, h->backing_offset, QCOW2_MAX_BACKING);
	q->backing_name = read_string(disk, h->backing_offset, h->backing_size, err);
	return q->backing_name ? 0 : -1;
}

/* ---- reading ---- */

static int decode_header(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint8_t raw[112] = { 0 };
	uint64_t size = vmimg_io_size(disk->io);

	if (vmimg_io_pread(disk->io, raw, size < 8 ? 8 : QCOW2_V2_LENGTH, 0, err))
		return vmimg_within(err, "QCOW2 header");
	vmimg_qcow2_header_decode(&q->header, raw);
	if (q->header.magic != QCOW2_MAGIC)
		return vmimg_fail(err, VMIMG_EFORMAT, "it does not begin with QFI\\xfb: no QCOW2");
	if (q->header.version == 3) {
		size_t len = (size_t)vmimg_min(vmimg_max(size, QCOW2_V3_LENGTH), sizeof(raw));

		if (vmimg_io_pread(disk->io, raw, len, 0, err))
			return vmimg_within(err, "QCOW2 header");
		vmimg_qcow2_header_decode(&q->header, raw);
		if (q->header.header_length <= 104)
			q->header.compression_type = QCOW2_COMPRESSION_ZLIB;
		return 0;
	}
	q->header.header_length = QCOW2_V2_LENGTH;
	q->header.refcount_order = 4;
	return 0;
}

int vmimg_qcow2_read_header(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);

	if (decode_header(disk, err) || check_geometry(&q->header, err))
		return -1;
	q->cluster = UINT32_C(1) << q->header.cluster_bits;
	q->extended = q->header.incompatible & QCOW2_INCOMPATIBLE_EXTENDED_L2;
	q->external = q->header.incompatible & QCOW2_INCOMPATIBLE_DATA_FILE;
	q->l2_bits = q->header.cluster_bits - (q->extended ? 4 : 3);
	q->codec = q->header.compression_type == QCOW2_COMPRESSION_ZSTD ? &vmimg_codec_zstd
									: &vmimg_codec_deflate;
	return read_backing_name(disk, err) || read_extensions(disk, err) ||
			check_features(q, err) || check_names(q, err) || check_tables(q, err)
		? -1
		: 0;
}

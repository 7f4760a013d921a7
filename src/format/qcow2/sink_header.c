/* SPDX-License-Identifier: Apache-2.0 */
/* The header cluster: header, extensions, backing file name. It is written last of all. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/sink.h"
#include "util/num.h"

#define HEADER_LENGTH 112
#define SECTOR        512

/* A cluster being filled from the front. */
struct page {
	uint8_t *bytes;
	size_t len, cap;
};

static uint8_t *take(struct page *page, size_t len, struct vmimg_error *err)
{
	uint8_t *p = page->bytes + page->len;

	if (len > page->cap - page->len) {
		vmimg_fail(err, VMIMG_EINVAL,
			"the names of other files do not fit into the first cluster (%zu bytes)",
			page->cap);
		return NULL;
	}
	page->len += len;
	return p;
}

static int add_extension(
	struct page *page, uint32_t type, const void *bytes, size_t len, struct vmimg_error *err)
{
	struct vmimg_qcow2_extension ext = { type, (uint32_t)len };
	uint8_t *p = take(page, 8 + vmimg_align_up(len, 8), err);

	if (!p)
		return -1;
	vmimg_qcow2_extension_encode(&ext, p);
	if (len)
		memcpy(p + 8, bytes, len);
	return 0;
}

static int add_features(struct page *page, struct vmimg_error *err)
{
	static const struct {
		uint8_t type, bit;
		const char *name;
	} known[] = {
		{ 0, 0, "dirty bit" },
		{ 0, 1, "corrupt bit" },
		{ 0, 2, "external data file" },
		{ 0, 3, "compression type" },
		{ 0, 4, "extended L2 entries" },
		{ 1, 0, "lazy refcounts" },
		{ 2, 0, "bitmaps" },
		{ 2, 1, "raw external data" },
	};
	uint8_t raw[VMIMG_ARRAY_LEN(known) * 48] = { 0 };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(known); i++) {
		raw[i * 48] = known[i].type;
		raw[i * 48 + 1] = known[i].bit;
		memcpy(raw + i * 48 + 2, known[i].name, strlen(known[i].name));
	}
	return add_extension(page, QCOW2_EXT_FEATURES, raw, sizeof(raw), err);
}

static int add_bitmaps(
	struct page *page, const struct vmimg_qcow2_bitmaps *bitmaps, struct vmimg_error *err)
{
	uint8_t raw[24] = { 0 };

	vmimg_qcow2_bitmaps_encode(bitmaps, raw);
	return add_extension(page, QCOW2_EXT_BITMAPS, raw, sizeof(raw), err);
}

static int add_crypto(
	struct page *page, const struct vmimg_qcow2_crypto *crypto, struct vmimg_error *err)
{
	uint8_t raw[16] = { 0 };

	vmimg_qcow2_crypto_encode(crypto, raw);
	return add_extension(page, QCOW2_EXT_CRYPTO, raw, sizeof(raw), err);
}

static int add_extensions(struct vmimg_qcow2_sink *s, struct page *page, struct vmimg_error *err)
{
	bool room = s->cluster >= 1024; /* the names of features are optional, and take 400 bytes */

	if (s->backing_format &&
		add_extension(page, QCOW2_EXT_BACKING_FORMAT, s->backing_format,
			strlen(s->backing_format), err))
		return -1;
	if (s->data_name &&
		add_extension(page, QCOW2_EXT_DATA_FILE, s->data_name, strlen(s->data_name), err))
		return -1;
	if (s->crypto.length && add_crypto(page, &s->crypto, err))
		return -1;
	if (s->bitmaps.count && add_bitmaps(page, &s->bitmaps, err))
		return -1;
	if (s->header.version == 3 && room && add_features(page, err))
		return -1;
	return add_extension(page, QCOW2_EXT_END, NULL, 0, err);
}

static int add_backing(struct vmimg_qcow2_sink *s, struct page *page, struct vmimg_error *err)
{
	size_t len = s->backing_name ? strlen(s->backing_name) : 0;
	uint8_t *p;

	if (!len)
		return 0;
	p = take(page, len, err);
	if (!p)
		return -1;
	memcpy(p, s->backing_name, len);
	s->header.backing_offset = (uint64_t)(p - page->bytes);
	s->header.backing_size = (uint32_t)len;
	return 0;
}

/* The first sector is written whole or not at all, so it comes when all else is there. */
static int write_page(struct vmimg_qcow2_sink *s, const uint8_t *bytes, struct vmimg_error *err)
{
	if (!s->io->is_device)
		return vmimg_io_pwrite(s->io, bytes, s->cluster, 0, err);
	if (s->cluster > SECTOR &&
		vmimg_io_pwrite(s->io, bytes + SECTOR, s->cluster - SECTOR, SECTOR, err))
		return -1;
	return vmimg_sink_barrier(s->io, err) ? -1 : vmimg_io_pwrite(s->io, bytes, SECTOR, 0, err);
}

int vmimg_qcow2_write_header(struct vmimg_qcow2_sink *s, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_array(s->cluster, 1, err);
	struct page page = { bytes, s->header.version == 3 ? HEADER_LENGTH : QCOW2_V2_LENGTH,
		s->cluster };
	uint8_t raw[HEADER_LENGTH] = { 0 };

	if (!bytes)
		return -1;
	s->header.header_length = HEADER_LENGTH;
	if (s->bitmaps.count)
		s->header.autoclear |= QCOW2_AUTOCLEAR_BITMAPS;
	if (add_extensions(s, &page, err) || add_backing(s, &page, err))
		return -1;
	vmimg_qcow2_header_encode(&s->header, raw);
	memcpy(bytes, raw, s->header.version == 3 ? HEADER_LENGTH : QCOW2_V2_LENGTH);
	return write_page(s, bytes, err);
}

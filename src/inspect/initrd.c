/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which drivers an initial ramdisk holds: it is unpacked as a stream and its cpio headers are read
 * on the way, in bounded memory. Archives may follow one another, plain ones before a packed one.
 */
#include <stdio.h>
#include <string.h>
#include "codec/unwrap.h"
#include "disk/info.h"
#include "inspect/sections.h"
#include "util/num.h"

#define HEADER    110U
#define MAX_NAME  4096U
#define PIECE     65536U
#define MAX_BYTES (UINT64_C(1) << 30) /* as it is and unpacked: none is larger; bounds the time */

/* A parser that is fed bytes as they come. */
struct cpio {
	uint8_t head[HEADER + MAX_NAME];
	size_t have, want; /* of head */
	uint64_t skip;     /* bytes of content and padding to go */
	uint64_t at;       /* in the archive, for alignment */
	bool wrong;        /* no archive, or the end of it */
	bool ended;        /* a trailer was seen */
	json_t *drivers;
};

static uint64_t hex(const uint8_t *text)
{
	char word[9];

	memcpy(word, text, 8);
	word[8] = '\0';
	return strtoull(word, NULL, 16);
}

static uint64_t pad4(uint64_t at)
{
	return (4 - at % 4) % 4;
}

static void take_entry(struct cpio *cpio, size_t name_len)
{
	const char *name = (const char *)cpio->head + HEADER;
	size_t len = strnlen(name, name_len);
	const char *slash = memrchr(name, '/', len);
	const char *file = slash ? slash + 1 : name;
	const struct vmimg_driver *d = vmimg_driver_of(file, len - (size_t)(file - name));
	uint64_t size = hex(cpio->head + 54);

	if (d && !json_object_get(cpio->drivers, d->name))
		json_object_set_new(cpio->drivers, d->name, json_string("initrd"));
	cpio->ended = len == 10 && !memcmp(name, "TRAILER!!!", 10);
	cpio->skip = pad4(cpio->at);
	cpio->skip += size + pad4(cpio->at + cpio->skip + size);
	cpio->have = 0;
	cpio->want = HEADER;
}

/* A whole header is there: how long is the name? */
static void take_header(struct cpio *cpio)
{
	uint64_t name = hex(cpio->head + 94);

	if ((memcmp(cpio->head, "070701", 6) && memcmp(cpio->head, "070702", 6)) || !name ||
		name > MAX_NAME) {
		cpio->wrong = true;
		return;
	}
	cpio->want = HEADER + (size_t)name;
}

/* Returns how many bytes it took: all, unless the archive is over. */
static size_t feed(struct cpio *cpio, const uint8_t *bytes, size_t len)
{
	size_t at = 0;

	while (at < len && !cpio->wrong) {
		size_t step = (size_t)vmimg_min(cpio->skip, len - at);

		if (!step && cpio->ended) {
			if (bytes[at])
				return at;
			step = 1; /* zeroes fill up to the next archive */
			cpio->skip = 1;
		}
		if (step) {
			cpio->skip -= step;
			cpio->at += step;
			at += step;
			continue;
		}
		step = vmimg_min(cpio->want - cpio->have, len - at);
		memcpy(cpio->head + cpio->have, bytes + at, step);
		cpio->have += step;
		cpio->at += step;
		at += step;
		if (cpio->have < cpio->want)
			break;
		if (cpio->want == HEADER)
			take_header(cpio);
		else
			take_entry(cpio, cpio->want - HEADER);
	}
	return at;
}

static void cpio_begin(struct cpio *cpio)
{
	cpio->have = 0;
	cpio->want = HEADER;
	cpio->skip = cpio->at = 0;
	cpio->ended = cpio->wrong = false;
}

/* A file, read a piece at a time. */
struct input {
	struct vmimg_fs *fs;
	const struct vmimg_node *node;
	uint64_t at;
	uint8_t bytes[PIECE];
	const uint8_t *next;
	size_t left;
};

static int refill(struct input *in, struct vmimg_error *err)
{
	size_t got;

	if (in->left)
		return 0;
	if (vmimg_fs_read(in->fs, in->node, in->bytes, PIECE, in->at, &got, err))
		return -1;
	in->next = in->bytes;
	in->left = got;
	in->at += got;
	return 0;
}

static int read_plain(struct input *in, struct cpio *cpio, struct vmimg_error *err)
{
	cpio_begin(cpio);
	for (;;) {
		size_t took;

		if (refill(in, err))
			return -1;
		if (!in->left)
			return 0;
		took = feed(cpio, in->next, in->left);
		in->next += took;
		in->left -= took;
		if (cpio->wrong)
			return vmimg_fail(err, VMIMG_ECORRUPT, "the archive is damaged");
		if (in->left)
			return 0;
	}
}

static int read_packed(struct input *in, struct cpio *cpio, const struct vmimg_wrapping *wrapping,
	struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_unwrapper_free)
	struct vmimg_unwrapper *unwrapper = wrapping->unwrapper_new(err);
	VMIMG_AUTO(free) uint8_t *out = vmimg_alloc_buffer(PIECE, err);
	uint64_t total = 0;
	bool ended = false;

	if (!unwrapper || !out)
		return -1;
	cpio_begin(cpio);
	while (!ended) {
		size_t got, before;

		if (refill(in, err))
			return -1;
		before = in->left;
		if (unwrapper->step(unwrapper, &in->next, &in->left, out, PIECE, &got, &ended, err))
			return -1;
		if (!before && !got && !ended)
			return vmimg_fail(err, VMIMG_ECORRUPT, "the packed archive ends early");
		total += got;
		if (total > MAX_BYTES)
			return vmimg_fail(err, VMIMG_ELIMIT, "it unpacks to more than 1 GiB");
		for (size_t at = 0; at < got && !cpio->wrong;) {
			at += feed(cpio, out + at, got - at);
			if (at < got && !cpio->wrong)
				cpio_begin(cpio);
		}
		if (cpio->wrong)
			return vmimg_fail(err, VMIMG_ECORRUPT, "what is packed is no cpio archive");
	}
	return 0;
}

static int read_all(struct input *in, struct cpio *cpio, struct vmimg_error *err)
{
	for (;;) {
		const struct vmimg_wrapping *wrapping;

		while (!refill(in, err) && in->left && !*in->next) {
			in->next++;
			in->left--;
		}
		if (!in->left)
			return in->at < in->node->size ? -1 : 0;
		if (in->left < VMIMG_WRAPPING_MAGIC) {
			/* a magic number cut by the end of the piece: read on from there */
			in->at -= in->left;
			in->left = 0;
			if (refill(in, err))
				return -1;
		}
		if (in->left >= 6 && !memcmp(in->next, "07070", 5)) {
			if (read_plain(in, cpio, err))
				return -1;
			continue;
		}
		wrapping = vmimg_wrapping_find(in->next, in->left);
		if (!wrapping)
			return vmimg_fail(
				err, VMIMG_EUNSUPPORTED, "packed in a way not known here");
		return read_packed(in, cpio, wrapping, err);
	}
}

void vmimg_inspect_initrd(struct vmimg_fs *fs, const char *path, json_t *object)
{
	struct vmimg_error err = { 0 };
	VMIMG_AUTO(free) struct input *in = vmimg_new(struct input, &err);
	VMIMG_AUTO(free) struct cpio *cpio = vmimg_new(struct cpio, &err);
	struct vmimg_node node;
	json_t *drivers = json_object();

	if (in && cpio && !vmimg_fs_resolve(fs, path, true, &node, &err)) {
		in->fs = fs;
		in->node = &node;
		cpio->drivers = drivers;
		vmimg_fs_bound(fs, 2 * MAX_BYTES);
		if (node.size > MAX_BYTES
				? vmimg_fail(&err, VMIMG_ELIMIT, "it is larger than 1 GiB")
				: read_all(in, cpio, &err))
			vmimg_json_text(object, "initrd-error", err.text);
		vmimg_fs_bound(fs, VMIMG_FS_PATIENCE / 16); /* there are so many kernels at most */
	}
	json_object_set_new(object, "initrd-drivers", drivers);
}

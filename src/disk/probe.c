/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Detection: every format looks at the head and the tail of the file, and so do the signatures of
 * things that are no disk images. Two strong claims are refused: a file that is two things at once
 * is how an image gets past one program's check and means something else to the next.
 */
#include <inttypes.h>
#include <string.h>
#include "disk/disk.h"
#include "util/num.h"

#define STRONG 50

struct signature {
	const char *what;
	uint32_t at;
	uint32_t len;
	const char *bytes;
};

/* Disks in formats that are not read here. As a raw disk, such a file would have the wrong content
 * and nobody would be told. */
static const struct signature foreign[] = {
	{ "a QED image", 0, 4, "QED" },
	{ "a Parallels image", 0, 16, "WithoutFreeSpace" },
	{ "a Parallels image", 0, 16, "WithouFreSpacExt" },
	{ "a Bochs image", 0, 22, "Bochs Virtual HD Image" },
	{ "an Expert Witness image", 0, 8, "EVF\x09\x0d\x0a\xff" },
	{ "an Expert Witness image", 0, 8, "EVF2\x0d\x0a\x81" },
	{ "an AFF image", 0, 7, "AFF10\r\n" },
	{ "an Android sparse image", 0, 6, "\x3a\xff\x26\xed\x01" },
	{ "a WIM archive", 0, 8, "MSWIM\0\0" },
	{ "a CHD image", 0, 8, "MComprHD" },
	{ "a Partclone image", 0, 15, "partclone-image" },
	{ "an ntfsclone image", 0, 16, "\0ntfsclone-image" },
	{ "a CD with raw sectors of 2352 bytes", 0, 12,
		"\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff" },
	{ "a compressed CD image (CISO)", 0, 4, "CISO" },
	{ "an Apple sparse image", 0, 4, "sprs" },
	{ "an Apple sparse image (ASIF)", 0, 4, "shdw" },
	{ "a cloop image", 0, 22, "#!/bin/sh\n#V2.0 Format" },
};
static const char apple_trailer[] = "koly\0\0\0\4"; /* 512 bytes before the end */

/* Packed or bundled things and kernels, which would otherwise pass for raw disks. */
static const struct signature containers[] = {
	{ "gzip-compressed data", 0, 3, "\x1f\x8b\x08" },
	{ "xz-compressed data", 0, 6,
		"\xfd"
		"7zXZ\0" },
	{ "zstd-compressed data", 0, 4, "\x28\xb5\x2f\xfd" },
	{ "bzip2-compressed data", 0, 3, "BZh" },
	{ "lz4-compressed data", 0, 4, "\x04\x22\x4d\x18" },
	{ "lzip-compressed data", 0, 5, "LZIP\1" },
	{ "lzop-compressed data", 0, 9, "\x89LZO\0\r\n\x1a\n" },
	{ "a tar archive", 257, 5, "ustar" },
	{ "a zip archive", 0, 4, "PK\x03\x04" },
	{ "a 7-Zip archive", 0, 6, "7z\xbc\xaf\x27\x1c" },
	{ "a RAR archive", 0, 6, "Rar!\x1a\x07" },
	{ "a cabinet", 0, 8, "MSCF\0\0\0" },
	{ "a Debian package", 0, 21, "!<arch>\ndebian-binary" },
	{ "an RPM package", 0, 4, "\xed\xab\xee\xdb" },
	{ "a cpio archive", 0, 6, "070701" },
	{ "a cpio archive", 0, 6, "070702" },
	{ "a Linux kernel", 0x202, 4, "HdrS" },
	{ "a Linux kernel", 0x38, 4, "ARM\x64" },
	{ "a Linux kernel", 0x38, 4, "RSC\x05" },
	{ "a Linux kernel", 0x24, 4, "\x18\x28\x6f\x01" },
	{ "a packed EFI kernel", 4, 4, "zimg" },
	{ "an XML document", 0, 5, "<?xml" },
	{ "an XML document", 0, 8, "\xff\xfe<\0?\0x" },
	{ "an XML document", 0, 8, "\xfe\xff\0<\0?\0" },
	{ "a VMware configuration", 0, 9, ".encoding" },
	{ "a VMDK descriptor in UTF-16, which is to be UTF-8", 0, 10, "\xff\xfe#\0 \0D\0i" },
	{ "a VMDK descriptor in UTF-16, which is to be UTF-8", 0, 10, "\xfe\xff\0#\0 \0D\0" },
	{ "an ELF program", 0, 4,
		"\x7f"
		"ELF" },
};

static bool has_bytes(const struct vmimg_probe *probe, uint64_t at, const void *bytes, size_t len)
{
	return vmimg_range_inside(at, len, probe->head_len) &&
		!memcmp(probe->head + at, bytes, len);
}

/* A boot sector with a partition table that makes sense, not just the two bytes at its end. */
static bool is_mbr(const struct vmimg_probe *probe)
{
	bool used = false;

	if (!has_bytes(probe, 510, "\x55\xaa", 2))
		return false;
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *entry = probe->head + 446 + 16 * i;

		if (entry[0] & 0x7f)
			return false;
		used |= entry[4] != 0;
	}
	return used;
}

/* What a raw disk would begin with; a format with a header of its own cannot also be one. */
static const char *raw_content(const struct vmimg_probe *probe)
{
	if (has_bytes(probe, 0x8001, "CD001", 5))
		return "an ISO 9660 file system";
	if (has_bytes(probe, 512, "EFI PART", 8))
		return "a GPT partition table";
	return is_mbr(probe) ? "an MBR partition table" : NULL;
}

static const char *find_signature(
	const struct vmimg_probe *probe, const struct signature *of, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (has_bytes(probe, of[i].at, of[i].bytes, of[i].len))
			return of[i].what;
	return NULL;
}

static const char *container_name(const struct vmimg_probe *probe)
{
	return find_signature(probe, containers, VMIMG_ARRAY_LEN(containers));
}

static const char *foreign_name(const struct vmimg_probe *probe)
{
	if (probe->tail_len >= 512 &&
		!memcmp(probe->tail + probe->tail_len - 512, apple_trailer,
			sizeof(apple_trailer) - 1))
		return "an Apple disk image (UDIF)";
	return find_signature(probe, foreign, VMIMG_ARRAY_LEN(foreign));
}

static int read_probe(struct vmimg_io *io, uint8_t *head, uint8_t *tail, struct vmimg_probe *probe,
	struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);

	*probe = (struct vmimg_probe){ .head = head,
		.tail = tail,
		.size = size,
		.head_len = (size_t)vmimg_min(size, VMIMG_PROBE_HEAD),
		.tail_len = (size_t)vmimg_min(size, VMIMG_PROBE_TAIL) };
	if (vmimg_io_pread(io, head, probe->head_len, 0, err))
		return -1;
	return vmimg_io_pread(io, tail, probe->tail_len, size - probe->tail_len, err);
}

/* The best claim; *rival is another strong one, if there is any. */
static const struct vmimg_format *best_claim(
	const struct vmimg_probe *probe, const struct vmimg_format **rival)
{
	const struct vmimg_format *best = NULL;
	int best_score = 0;

	*rival = NULL;
	for (size_t i = 0; vmimg_formats[i]; i++) {
		int score = vmimg_formats[i]->probe(probe);

		if (score >= STRONG && best_score >= STRONG)
			*rival = score > best_score ? best : vmimg_formats[i];
		if (score > best_score) {
			best = vmimg_formats[i];
			best_score = score;
		}
	}
	if (best_score < STRONG)
		*rival = NULL;
	return best;
}

/* A footer at the end of the file with no header at the head (a fixed VHD) wraps a raw disk, which
 * may begin with anything that raw disks begin with. */
static bool wraps_raw(const struct vmimg_format *format, const struct vmimg_probe *probe)
{
	struct vmimg_probe head_only = *probe;

	head_only.tail_len = 0;
	return format->probe(&head_only) < STRONG;
}

static const struct vmimg_format *judge(
	const struct vmimg_probe *probe, const char *name, struct vmimg_error *err)
{
	const struct vmimg_format *rival, *best = best_claim(probe, &rival);
	/* what is claimed weakly, raw and ISO, is a disk as it is, unless it is a container */
	bool plain = best && best->probe(probe) < STRONG;
	const char *content;

	if (rival) {
		vmimg_fail(err, VMIMG_EREFUSED, "%s is both %s and %s: state which with -f", name,
			best->title, rival->title);
		return NULL;
	}
	content = plain ? foreign_name(probe) : NULL;
	if (content) {
		vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"%s is %s, a format that is not read here (-f raw takes it as it is)", name,
			content);
		return NULL;
	}
	content = plain ? container_name(probe) : NULL;
	if (content) {
		vmimg_fail(err, VMIMG_EFORMAT, "%s is %s, not a disk image (-f raw insists)", name,
			content);
		return NULL;
	}
	content = plain || !best || wraps_raw(best, probe) ? NULL : raw_content(probe);
	if (content) {
		vmimg_fail(err, VMIMG_EREFUSED, "%s is %s and has %s as well: state which with -f",
			name, best->title, content);
		return NULL;
	}
	if (!best) /* a second line of defence: raw claims whatever there is */
		vmimg_fail(err, VMIMG_EFORMAT, "%s is of no known format", name);
	return best;
}

const struct vmimg_format *vmimg_disk_probe(struct vmimg_io *io, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *head = vmimg_alloc_buffer(VMIMG_PROBE_HEAD, err);
	uint8_t tail[VMIMG_PROBE_TAIL];
	struct vmimg_probe probe;

	if (!head || read_probe(io, head, tail, &probe, err))
		return NULL;
	return judge(&probe, vmimg_io_name(io), err);
}

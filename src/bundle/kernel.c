/* SPDX-License-Identifier: Apache-2.0 */
/* One function a kind; the first that knows the file has the word. */
#include "bundle/kernel.h"
#include <ctype.h>
#include <string.h>
#include "bundle/magic.h"
#include "disk/info.h"
#include "util/layout.h"
#include "util/num.h"
#include "util/text.h"

#define HEAD 1024
/* How far into a file a name for its version is looked for. */
#define SEARCH (UINT64_C(48) << 20)
#define TEXT   160 /* bytes of a version that are looked at */

/* boot.rst, "The Real-Mode Kernel Header" */
#define SETUP(F, B)                    \
	F(u8, setup_sects, 0x1f1)      \
	F(le32, syssize, 0x1f4)        \
	F(le16, boot_flag, 0x1fe)      \
	B(4, header, 0x202)            \
	F(le16, version, 0x206)        \
	F(le16, kernel_version, 0x20e) \
	F(u8, loadflags, 0x211)        \
	F(le16, xloadflags, 0x236)     \
	F(le32, payload_offset, 0x248) \
	F(le32, payload_length, 0x24c)
VMIMG_LAYOUT(setup, 0x250, SETUP);

/* drivers/firmware/efi/libstub/zboot-header.S */
#define ZBOOT(F, B)                \
	B(2, mz, 0)                \
	B(4, zimg, 4)              \
	F(le32, payload_offset, 8) \
	F(le32, payload_size, 12)  \
	B(8, compression, 24)      \
	F(le32, pe, 0x3c)
VMIMG_LAYOUT(zboot, 64, ZBOOT);

/* booting.rst of arm64; that of RISC-V has the same shape */
#define FLAT_IMAGE(F, B)          \
	F(le64, image_size, 0x10) \
	B(4, magic, 0x38)
VMIMG_LAYOUT(flat_image, 64, FLAT_IMAGE);

struct file {
	struct vmimg_io *io;
	uint64_t size;
	uint8_t head[HEAD]; /* zeroes behind a short file's end */
};

static void set_version(struct vmimg_kernel *kernel, const char *text, size_t len)
{
	vmimg_escape(kernel->version, sizeof(kernel->version), text, strnlen(text, len));
}

static void set_compression(const struct file *file, struct vmimg_kernel *kernel)
{
	uint8_t head[VMIMG_PACKED_MAGIC];
	struct vmimg_error ignored;

	if (!vmimg_range_inside(kernel->payload_at, kernel->payload_len, file->size)) {
		kernel->cut_short = true;
		return;
	}
	if (kernel->payload_len >= sizeof(head) &&
		!vmimg_io_pread(file->io, head, sizeof(head), kernel->payload_at, &ignored))
		kernel->compression = vmimg_packed_name(head, sizeof(head));
}

/* ---- what follows knows one kind each: true when it is that ---- */

static int read_bzimage_version(const struct file *file, const struct setup *setup,
	uint64_t sectors, struct vmimg_kernel *kernel, struct vmimg_error *err)
{
	uint64_t at = UINT64_C(0x200) + setup->kernel_version;
	char text[TEXT];
	size_t len;

	if (!setup->kernel_version || setup->kernel_version >= sectors * 512 || at >= file->size)
		return 0;
	len = (size_t)vmimg_min(sizeof(text), file->size - at);
	if (vmimg_io_pread(file->io, text, len, at, err))
		return -1;
	set_version(kernel, text, len);
	return 0;
}

static int read_bzimage(
	const struct file *file, struct vmimg_kernel *kernel, struct vmimg_error *err)
{
	struct setup setup;
	uint64_t sectors;

	setup_decode(&setup, file->head);
	sectors = setup.setup_sects ? setup.setup_sects : 4;
	kernel->kind = setup.loadflags & 1 ? "bzImage" : "zImage";
	kernel->loaded_high = setup.loadflags & 1;
	kernel->protocol = setup.version;
	kernel->efi_stub = file->head[0] == 'M' && file->head[1] == 'Z';
	kernel->architecture = "x86";
	if (setup.version >= 0x20c)
		kernel->architecture = setup.xloadflags & 1 ? "x86_64" : "i386";
	if (setup.version >= 0x208 && setup.payload_length) {
		kernel->payload_at = (sectors + 1) * 512 + setup.payload_offset;
		kernel->payload_len = setup.payload_length;
		set_compression(file, kernel);
	}
	/* before 2.04 only the low 16 bits of syssize count */
	if (setup.version >= 0x204 &&
		(sectors + 1) * 512 + UINT64_C(16) * setup.syssize > file->size + 15)
		kernel->cut_short = true;
	return setup.version >= 0x200 ? read_bzimage_version(file, &setup, sectors, kernel, err)
				      : 0;
}

/* The machine that a PE header at that place is for. */
static const char *pe_architecture(const struct file *file, uint64_t at)
{
	uint8_t pe[6];
	struct vmimg_error ignored;

	if (!vmimg_range_inside(at, sizeof(pe), file->size) ||
		vmimg_io_pread(file->io, pe, sizeof(pe), at, &ignored) || memcmp(pe, "PE\0\0", 4))
		return NULL;
	switch (vmimg_get_le16(pe + 4)) {
	case 0x8664:
		return "x86_64";
	case 0x14c:
		return "i386";
	case 0xaa64:
		return "aarch64";
	case 0x5064:
		return "riscv64";
	case 0x6264:
		return "loongarch64";
	default:
		return NULL;
	}
}

static int read_zboot(const struct file *file, struct vmimg_kernel *kernel, struct vmimg_error *err)
{
	static const char *const names[] = { "gzip", "zstd", "xzkern", "lzma", "lz4", "lzo" };
	struct zboot zboot;

	(void)err;
	zboot_decode(&zboot, file->head);
	kernel->kind = "EFI zboot image";
	kernel->efi_stub = true;
	kernel->architecture = pe_architecture(file, zboot.pe);
	kernel->payload_at = zboot.payload_offset;
	kernel->payload_len = zboot.payload_size;
	kernel->cut_short =
		!vmimg_range_inside(zboot.payload_offset, zboot.payload_size, file->size);
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(names); i++)
		if (!strncmp((const char *)zboot.compression, names[i], sizeof(zboot.compression)))
			kernel->compression = names[i];
	return 0;
}

struct marker {
	const char *bytes;
	size_t len;
};

/* A marker that says something: a program that looks for it holds it too, with nothing behind. */
static const uint8_t *find_marker(const uint8_t *buf, size_t len, const struct marker *marker)
{
	const uint8_t *end = buf + len, *hit;

	while ((hit = memmem(buf, (size_t)(end - buf), marker->bytes, marker->len))) {
		buf = hit + marker->len;
		if (buf < end && isalnum(*buf))
			return buf;
	}
	return NULL;
}

/* The bytes after marker in the first SEARCH bytes, ended by NUL. *found: it is there. */
static int find_text(const struct file *file, const struct marker *marker, char text[TEXT],
	bool *found, struct vmimg_error *err)
{
	enum { STEP = 256 << 10, OVERLAP = 512 };
	VMIMG_AUTO(free) uint8_t *buf = vmimg_alloc_buffer(STEP, err);
	uint64_t end = vmimg_min(file->size, SEARCH);

	*found = false;
	if (!buf)
		return -1;
	for (uint64_t at = 0; at < end; at += STEP - OVERLAP) {
		size_t got = (size_t)vmimg_min(STEP, end - at);
		const uint8_t *hit;

		if (vmimg_io_pread(file->io, buf, got, at, err))
			return -1;
		hit = find_marker(buf, got, marker);
		if (!hit)
			continue;
		memset(text, 0, TEXT);
		memcpy(text, hit, vmimg_min(TEXT - 1, got - (size_t)(hit - buf)));
		*found = true;
		return 0;
	}
	return 0;
}

static int find_version(
	const struct file *file, struct vmimg_kernel *kernel, bool *found, struct vmimg_error *err)
{
	static const struct marker banner = { "Linux version ", 14 };
	char text[TEXT];

	if (find_text(file, &banner, text, found, err))
		return -1;
	if (*found)
		set_version(kernel, text, strcspn(text, "\n"));
	return 0;
}

static int read_flat(const struct file *file, struct vmimg_kernel *kernel, const char *kind,
	const char *architecture, struct vmimg_error *err)
{
	struct flat_image image;
	bool found;

	flat_image_decode(&image, file->head);
	kernel->kind = kind;
	kernel->architecture = architecture;
	kernel->efi_stub = file->head[0] == 'M' && file->head[1] == 'Z';
	return find_version(file, kernel, &found, err);
}

static int read_arm64(const struct file *file, struct vmimg_kernel *kernel, struct vmimg_error *err)
{
	return read_flat(file, kernel, "arm64 Image", "aarch64", err);
}

static int read_riscv(const struct file *file, struct vmimg_kernel *kernel, struct vmimg_error *err)
{
	return read_flat(file, kernel, "RISC-V Image", "riscv64", err);
}

static int read_arm(const struct file *file, struct vmimg_kernel *kernel, struct vmimg_error *err)
{
	uint32_t start = vmimg_get_le32(file->head + 0x28), end = vmimg_get_le32(file->head + 0x2c);

	(void)err;
	kernel->kind = "ARM zImage";
	kernel->architecture = "arm";
	kernel->cut_short = end > start && end - start > file->size;
	return 0;
}

static const char *elf_architecture(unsigned machine)
{
	switch (machine) {
	case 3:
		return "i386";
	case 21:
		return "ppc64";
	case 22:
		return "s390x";
	case 40:
		return "arm";
	case 62:
		return "x86_64";
	case 183:
		return "aarch64";
	case 243:
		return "riscv64";
	default:
		return NULL;
	}
}

/* An ELF file may be any program: a kernel says who it is, to Xen or to people. */
static int read_elf(const struct file *file, struct vmimg_kernel *kernel, struct vmimg_error *err)
{
	/* the old way (__xen_guest), and the note XEN_ELFNOTE_GUEST_OS: type 6 of "Xen" */
	static const struct marker section = { "GUEST_OS=", 9 };
	static const struct marker note = { "\6\0\0\0Xen\0", 8 };
	bool big = file->head[5] == 2, old_guest, guest, version;
	char text[TEXT];

	kernel->kind = "ELF";
	kernel->architecture = elf_architecture(
		big ? vmimg_get_be16(file->head + 18) : vmimg_get_le16(file->head + 18));
	if (find_text(file, &section, text, &old_guest, err) ||
		find_text(file, &note, text, &guest, err) ||
		find_version(file, kernel, &version, err))
		return -1;
	kernel->xen = old_guest || guest;
	if (!kernel->xen && !version)
		return vmimg_fail(err, VMIMG_EFORMAT, "%s is an ELF program, but no kernel",
			vmimg_io_name(file->io));
	return 0;
}

static const struct {
	uint32_t at;
	uint32_t len;
	const char *magic;
	int (*read)(const struct file *, struct vmimg_kernel *, struct vmimg_error *);
} kinds[] = {
	{ 4, 4, "zimg", read_zboot },
	{ 0x202, 4, "HdrS", read_bzimage },
	{ 0x38, 4, "ARM\x64", read_arm64 },
	{ 0x38, 4, "RSC\x05", read_riscv },
	{ 0x24, 4, "\x18\x28\x6f\x01", read_arm },
	{ 0, 4,
		"\x7f"
		"ELF",
		read_elf },
};

/* Each needs more than its magic: what stands around it must fit. */
static bool fits(const struct file *file, size_t kind)
{
	if (file->size < 64 ||
		memcmp(file->head + kinds[kind].at, kinds[kind].magic, kinds[kind].len))
		return false;
	if (kinds[kind].read == read_bzimage)
		return file->head[0x1fe] == 0x55 && file->head[0x1ff] == 0xaa;
	if (kinds[kind].read == read_zboot)
		return file->head[0] == 'M' && file->head[1] == 'Z';
	return true;
}

int vmimg_kernel_read(struct vmimg_io *io, struct vmimg_kernel *kernel, struct vmimg_error *err)
{
	struct file file = { .io = io, .size = vmimg_io_size(io) };

	if (vmimg_io_pread(io, file.head, (size_t)vmimg_min(HEAD, file.size), 0, err))
		return -1;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(kinds); i++) {
		if (!fits(&file, i))
			continue;
		memset(kernel, 0, sizeof(*kernel));
		return kinds[i].read(&file, kernel, err);
	}
	return vmimg_fail(err, VMIMG_EFORMAT, "%s is not a kernel", vmimg_io_name(io));
}

void vmimg_kernel_describe(const struct vmimg_kernel *kernel, json_t *object)
{
	char protocol[16];

	vmimg_json_text(object, "type", kernel->kind);
	if (kernel->architecture)
		vmimg_json_text(object, "architecture", kernel->architecture);
	if (*kernel->version)
		json_object_set_new(object, "version", json_string(kernel->version));
	if (kernel->protocol) {
		snprintf(protocol, sizeof(protocol), "%u.%02u", kernel->protocol >> 8 & 0xff,
			kernel->protocol & 0xff);
		vmimg_json_text(object, "boot-protocol", protocol);
	}
	if (kernel->compression)
		vmimg_json_text(object, "compression", kernel->compression);
	if (kernel->payload_len) {
		vmimg_json_uint(object, "payload-offset", kernel->payload_at);
		vmimg_json_uint(object, "payload-length", kernel->payload_len);
	}
	vmimg_json_bool(object, "efi-stub", kernel->efi_stub);
	vmimg_json_bool(object, "xen-guest", kernel->xen);
	vmimg_json_bool(object, "cut-short", kernel->cut_short);
}

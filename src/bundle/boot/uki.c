/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stub's own sections stay where they are; ours follow, in the file and in memory. Symbols that
 * a linker left behind the sections are dropped.
 */
#include "bundle/uki.h"
#include <string.h>
#include "bundle/pieces.h"
#include "io/memory.h"
#include "io/window.h"
#include "util/layout.h"
#include "util/num.h"

#define HEADERS_MAX  (64U << 10) /* bytes in front of the first section */
#define MAX_SECTIONS 96U         /* what Windows' loader takes */
#define SECTION_SIZE 40U
#define PAGE         4096U
#define MAX_IMAGE    (UINT64_C(1) << 31)
/* initialised data that can be read */
#define SECTION_FLAGS 0x40000040U

#define COFF(F, B)              \
	B(4, signature, 0)      \
	F(le16, machine, 4)     \
	F(le16, sections, 6)    \
	F(le32, symbols_at, 12) \
	F(le32, symbols, 16)    \
	F(le16, optional_size, 20)
#define COFF_SIZE 24
VMIMG_LAYOUT(coff, COFF_SIZE, COFF);

/* the same in PE32 and PE32+ */
#define OPTIONAL(F, B)             \
	F(le16, magic, 0)          \
	F(le32, section_align, 32) \
	F(le32, file_align, 36)    \
	F(le32, image_size, 56)    \
	F(le32, headers_size, 60)  \
	F(le32, checksum, 64)
#define OPTIONAL_SIZE 68
VMIMG_LAYOUT(optional, OPTIONAL_SIZE, OPTIONAL);

#define SECTION(F, B)            \
	B(8, name, 0)            \
	F(le32, virtual_size, 8) \
	F(le32, address, 12)     \
	F(le32, raw_size, 16)    \
	F(le32, raw_at, 20)      \
	F(le32, flags, 36)
VMIMG_LAYOUT(section, SECTION_SIZE, SECTION);

struct program {
	struct vmimg_io *io;
	uint8_t *bytes; /* the headers, and as much behind them as belongs to HEADERS_MAX */
	size_t len;
	size_t coff_at, optional_at, sections_at;
	struct coff coff;
	struct optional optional;
};

static void program_done(struct program *program)
{
	free(program->bytes);
}

static void program_done_auto(struct program *program)
{
	program_done(program);
}

static int fail_format(const struct program *program, const char *why, struct vmimg_error *err)
{
	return vmimg_fail(
		err, VMIMG_EFORMAT, "%s is not a PE program: %s", vmimg_io_name(program->io), why);
}

static int read_headers(struct program *program, struct vmimg_error *err)
{
	program->len = (size_t)vmimg_min(vmimg_io_size(program->io), HEADERS_MAX);
	program->bytes = vmimg_alloc_buffer(HEADERS_MAX, err);
	if (!program->bytes || vmimg_io_pread(program->io, program->bytes, program->len, 0, err))
		return -1;
	if (program->len < 64 || memcmp(program->bytes, "MZ", 2))
		return fail_format(program, "it does not begin with MZ", err);
	program->coff_at = vmimg_get_le32(program->bytes + 0x3c);
	program->optional_at = program->coff_at + COFF_SIZE;
	if (!vmimg_range_inside(program->coff_at, COFF_SIZE + OPTIONAL_SIZE, program->len))
		return fail_format(program, "no header where it points to", err);
	coff_decode(&program->coff, program->bytes + program->coff_at);
	optional_decode(&program->optional, program->bytes + program->optional_at);
	program->sections_at = program->optional_at + program->coff.optional_size;
	if (memcmp(program->coff.signature, "PE\0\0", 4))
		return fail_format(program, "no signature in its header", err);
	if (program->coff.sections > MAX_SECTIONS || program->coff.optional_size < OPTIONAL_SIZE ||
		!vmimg_range_inside(program->sections_at,
			SECTION_SIZE * (size_t)program->coff.sections, program->len))
		return fail_format(program, "its table of sections is not sound", err);
	return 0;
}

static void get_section(const struct program *program, unsigned i, struct section *section)
{
	section_decode(section, program->bytes + program->sections_at + SECTION_SIZE * (size_t)i);
}

/* ---- taking apart ---- */

int vmimg_uki_section(
	struct vmimg_io *io, const char *name, struct vmimg_io **out, struct vmimg_error *err)
{
	__attribute__((cleanup(program_done_auto))) struct program program = { .io = io };
	struct section section;
	uint64_t len;

	if (read_headers(&program, err))
		return -1;
	*out = NULL;
	for (unsigned i = 0; i < program.coff.sections; i++) {
		get_section(&program, i, &section);
		if (strncmp((const char *)section.name, name, sizeof(section.name)))
			continue;
		/* what lies in the file may be padded; the size in memory is the true one */
		len = vmimg_min(section.virtual_size ? section.virtual_size : section.raw_size,
			section.raw_size);
		*out = vmimg_window_open(io, section.raw_at, len, name, err);
		return *out ? 0 : -1;
	}
	return 0;
}

/* ---- putting together ---- */

struct builder {
	struct program program;
	struct vmimg_pieces pieces; /* of what follows the stub */
	uint64_t file_end, address; /* where the next section goes */
	unsigned room;              /* entries that fit into the headers */
};

/* Where the stub's own sections end, and that there is nothing odd about them. */
static int survey(struct builder *b, struct vmimg_error *err)
{
	struct program *program = &b->program;
	uint32_t align = program->optional.file_align;
	uint64_t headers_end = program->optional.headers_size;
	struct section section;

	if (!vmimg_is_pow2(align) || align > 65536 ||
		!vmimg_is_pow2(program->optional.section_align))
		return fail_format(program, "its alignments are not sound", err);
	for (unsigned i = 0; i < program->coff.sections; i++) {
		get_section(program, i, &section);
		b->address = vmimg_max(b->address,
			(uint64_t)section.address +
				vmimg_max(section.virtual_size, section.raw_size));
		b->file_end = vmimg_max(b->file_end, section.raw_at + (uint64_t)section.raw_size);
		if (section.raw_size)
			headers_end = vmimg_min(headers_end, section.raw_at);
	}
	if (headers_end > program->len || headers_end < program->sections_at ||
		b->file_end > vmimg_io_size(program->io) || b->file_end < headers_end)
		return fail_format(program, "its sections do not lie inside it", err);
	b->room = (unsigned)((headers_end - program->sections_at) / SECTION_SIZE);
	return 0;
}

static int add_section(
	struct builder *b, const char *name, struct vmimg_io *io, struct vmimg_error *err)
{
	struct program *program = &b->program;
	uint64_t align = program->optional.file_align, len = vmimg_io_size(io);
	struct section section = { .flags = SECTION_FLAGS };

	if (program->coff.sections >= b->room || program->coff.sections >= MAX_SECTIONS)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"%s has no room for more sections in its header",
			vmimg_io_name(program->io));
	b->address = vmimg_align_up(b->address, vmimg_max(program->optional.section_align, PAGE));
	if (!len || len > MAX_IMAGE - b->address)
		return vmimg_fail(err, VMIMG_EINVAL,
			"%s cannot be a section of a program: it is %s", vmimg_io_name(io),
			len ? "too large" : "empty");
	memcpy(section.name, name, strnlen(name, sizeof(section.name)));
	section.virtual_size = (uint32_t)len;
	section.address = (uint32_t)b->address;
	section.raw_size = (uint32_t)vmimg_align_up(len, align);
	section.raw_at = (uint32_t)(b->file_end + b->pieces.size);
	section_encode(&section,
		program->bytes + program->sections_at +
			SECTION_SIZE * (size_t)program->coff.sections++);
	b->address += len;
	if (vmimg_pieces_io(&b->pieces, io, err))
		return -1;
	return vmimg_pieces_fill(&b->pieces, vmimg_align_up(b->pieces.size, align), err);
}

static int add_text(struct builder *b, const char *name, const char *text, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_memory_new(name, err);

	if (!io || vmimg_io_pwrite(io, text, strlen(text), 0, err))
		return -1;
	return add_section(b, name, io, err);
}

/* Headers that tell of all sections; no symbols, no checksum (which only drivers need). */
static void seal(struct builder *b)
{
	struct program *program = &b->program;

	program->coff.symbols_at = program->coff.symbols = 0;
	program->optional.checksum = 0;
	program->optional.image_size = (uint32_t)vmimg_align_up(
		b->address, vmimg_max(program->optional.section_align, PAGE));
	coff_encode(&program->coff, program->bytes + program->coff_at);
	optional_encode(&program->optional, program->bytes + program->optional_at);
}

static struct vmimg_io *join(struct builder *b, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_pieces_done) struct vmimg_pieces whole = { 0 };
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *rest = NULL, *ours = NULL;
	size_t head = (size_t)vmimg_min(b->program.len, b->file_end);

	if (vmimg_pieces_bytes(&whole, b->program.bytes, head, err))
		return NULL;
	rest = vmimg_window_open(b->program.io, head, b->file_end - head, NULL, err);
	ours = rest ? vmimg_pieces_join(&b->pieces, NULL, err) : NULL;
	if (!ours || vmimg_pieces_io(&whole, rest, err) || vmimg_pieces_io(&whole, ours, err))
		return NULL;
	return vmimg_pieces_join(&whole, "unified kernel image", err);
}

struct vmimg_io *vmimg_uki_write(const struct vmimg_uki *uki, struct vmimg_error *err)
{
	struct builder b = { .program = { .io = uki->stub } };
	struct vmimg_io *io = NULL;
	uint64_t aligned;

	if (read_headers(&b.program, err) || survey(&b, err))
		goto out;
	/* the stub may end without the padding of its last section */
	aligned = vmimg_align_up(b.file_end, b.program.optional.file_align);
	if (vmimg_pieces_zeroes(&b.pieces, aligned - b.file_end, err) ||
		add_text(&b, ".osrel", uki->os_release, err) ||
		add_text(&b, ".cmdline", uki->cmdline, err) ||
		add_section(&b, ".linux", uki->kernel, err) ||
		(uki->ramdisk && add_section(&b, ".initrd", uki->ramdisk, err)))
		goto out;
	seal(&b);
	io = join(&b, err);
out:
	vmimg_pieces_done(&b.pieces);
	program_done(&b.program);
	return io;
}

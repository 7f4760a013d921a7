/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The identities of disk and partitions are derived from what goes into it, before the kernel's
 * arguments are, which may name one of them.
 */
#include "bundle/boot_disk.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "bundle/pieces.h"
#include "bundle/boot/table.h"
#include "bundle/fat.h"
#include "bundle/uki.h"
#include "io/memory.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/sum.h"

#define MIB           (UINT64_C(1) << 20)
#define ESP_FIRST     2048U /* sectors */
#define MAX_ARGUMENTS 2000  /* what syslinux and old kernels take in one line */

#define TYPE_ESP       "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
#define TYPE_BIOS_BOOT "21686148-6449-6e6f-744e-656564454649"
#define TYPE_ROOT_X64  "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
#define TYPE_ROOT_ARM  "b921b045-1df0-41c3-af44-4c6f280d3fae"
#define TYPE_ROOT_X86  "44479540-f297-41b2-9af7-d131d5f0458a"

struct builder {
	const struct vmimg_boot_disk *how;
	struct vmimg_guid disk, esp, bios, root;
	uint32_t mbr_id;
	char *cmdline;
	uint64_t esp_size, root_at, root_size, size; /* bytes */
};

/* ---- who it is ---- */

static int sum_head(struct vmimg_io *io, uint32_t *sum, struct vmimg_error *err)
{
	enum { LEN = 128 << 10 };
	VMIMG_AUTO(free) uint8_t *buf = vmimg_alloc_buffer(LEN, err);
	size_t len = (size_t)vmimg_min(LEN, io ? vmimg_io_size(io) : 0);
	uint64_t size = io ? vmimg_io_size(io) : 0;

	if (!buf || (io && vmimg_io_pread(io, buf, len, 0, err)))
		return -1;
	*sum = vmimg_crc32c(*sum, &size, sizeof(size));
	*sum = vmimg_crc32c(*sum, buf, len);
	return 0;
}

static int make_identities(struct builder *b, struct vmimg_error *err)
{
	const struct vmimg_boot_disk *how = b->how;
	uint32_t parts = 0, root = 0;
	uint64_t content;

	if (sum_head(how->kernel, &parts, err) || sum_head(how->ramdisk, &parts, err) ||
		sum_head(how->root, &root, err))
		return -1;
	content = (uint64_t)parts << 32 | root;
	if (vmimg_guid_make(&b->disk, how->unique, content, "boot disk", err) ||
		vmimg_guid_make(&b->esp, how->unique, content, "boot disk esp", err) ||
		vmimg_guid_make(&b->bios, how->unique, content, "boot disk bios", err) ||
		vmimg_guid_make(&b->root, how->unique, content, "boot disk root", err))
		return -1;
	b->mbr_id = vmimg_get_le32(b->disk.bytes);
	b->mbr_id += !b->mbr_id;
	return 0;
}

/* ---- what the kernel is told ---- */

/* Whether it is one of the arguments; one that ends in "=" with any value. */
static bool has_argument(const char *arguments, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = arguments; p && *p; p = strchr(p, ' ')) {
		p += strspn(p, " ");
		if (!strncmp(p, name, len) && (name[len - 1] == '=' || !p[len] || p[len] == ' '))
			return true;
	}
	return false;
}

static int check_arguments(const char *text, struct vmimg_error *err)
{
	for (const char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return vmimg_fail(err, VMIMG_EINVAL,
				"the kernel's arguments have a control character at byte %td",
				p - text);
	if (strlen(text) > MAX_ARGUMENTS)
		return vmimg_fail(err, VMIMG_EINVAL,
			"the kernel's arguments take %zu bytes: the most is %d", strlen(text),
			MAX_ARGUMENTS);
	return 0;
}

static void print_root(const struct builder *b, FILE *to)
{
	char guid[VMIMG_GUID_TEXT];

	if (b->how->root_name)
		fprintf(to, "root=%s ", b->how->root_name);
	else if (b->how->mbr)
		fprintf(to, "root=PARTUUID=%08" PRIx32 "-02 ", b->mbr_id);
	else
		fprintf(to, "root=PARTUUID=%s ", vmimg_guid_format(guid, &b->root));
}

/* Ours come first, and only where the user's say nothing. */
static int make_cmdline(struct builder *b, struct vmimg_error *err)
{
	const char *append = b->how->append ? b->how->append : "";
	size_t len;
	FILE *to = open_memstream(&b->cmdline, &len);

	if (!to)
		return vmimg_fail_nomem(err);
	if (!has_argument(append, "root="))
		print_root(b, to);
	if (!has_argument(append, "ro") && !has_argument(append, "rw"))
		fputs("ro ", to);
	/* without a ramdisk nobody but the kernel waits for the disk to appear */
	if (!b->how->ramdisk && !has_argument(append, "rootwait"))
		fputs("rootwait ", to);
	if (!has_argument(append, "console="))
		fputs("console=tty0 console=ttyS0,115200n8 ", to);
	fputs(append, to);
	if (fclose(to))
		return vmimg_fail_nomem(err);
	while (len && b->cmdline[len - 1] == ' ')
		b->cmdline[--len] = '\0';
	return check_arguments(b->cmdline, err);
}

/* ---- the EFI system partition ---- */

static struct vmimg_io *new_config(const struct builder *b, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_memory_new("syslinux.cfg", err);
	VMIMG_AUTO(free) char *text = NULL;
	int len = asprintf(&text,
		"SERIAL 0 115200\n"
		"DEFAULT ami\n"
		"LABEL ami\n"
		"  LINUX /vmlinuz\n"
		"%s"
		"  APPEND %s\n",
		b->how->ramdisk ? "  INITRD /initrd.img\n" : "", b->cmdline);

	if (len < 0) {
		text = NULL;
		vmimg_fail_nomem(err);
		return NULL;
	}
	if (!io || vmimg_io_pwrite(io, text, (size_t)len, 0, err))
		return NULL;
	return vmimg_take(io);
}

static struct vmimg_io *new_uki(const struct builder *b, struct vmimg_error *err)
{
	struct vmimg_uki uki = { .stub = b->how->stub,
		.kernel = b->how->kernel,
		.ramdisk = b->how->ramdisk,
		.cmdline = b->cmdline,
		.os_release = b->how->os_release ? b->how->os_release
						 : "ID=linux\nPRETTY_NAME=\"Linux\"\n" };

	return vmimg_uki_write(&uki, err);
}

static struct vmimg_io *new_esp(struct builder *b, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *uki = NULL, *config = NULL, *esp = NULL;
	struct vmimg_fat_file files[6] = { 0 };
	struct vmimg_fat_plan plan = { .hidden = ESP_FIRST,
		.volume_id = b->mbr_id,
		.label = "ESP",
		.epoch = b->how->epoch,
		.files = files };
	uint64_t bytes = 0;

	if (b->how->stub) {
		uki = new_uki(b, err);
		if (!uki)
			return NULL;
		files[plan.count++] = (struct vmimg_fat_file){ "EFI", NULL, 0 };
		files[plan.count++] = (struct vmimg_fat_file){ "BOOT", NULL, 1 };
		files[plan.count++] = (struct vmimg_fat_file){ b->how->efi_name, uki, 2 };
		bytes += vmimg_io_size(uki);
	}
	if (b->how->boot_code) {
		config = new_config(b, err);
		if (!config)
			return NULL;
		files[plan.count++] = (struct vmimg_fat_file){ "vmlinuz", b->how->kernel, 0 };
		files[plan.count++] = (struct vmimg_fat_file){ "syslinux.cfg", config, 0 };
		bytes += vmimg_io_size(b->how->kernel);
	}
	if (b->how->boot_code && b->how->ramdisk) {
		files[plan.count++] = (struct vmimg_fat_file){ "initrd.img", b->how->ramdisk, 0 };
		bytes += vmimg_io_size(b->how->ramdisk);
	}
	plan.size = b->esp_size = vmimg_fat_size(bytes);
	esp = vmimg_fat_write(&plan, err);
	if (!esp || !b->how->boot_code)
		return vmimg_take(esp);
	return b->how->install(b->how->install_ctx, esp, err);
}

/* ---- the disk ---- */

static const char *root_type(const struct builder *b)
{
	const char *name = b->how->efi_name;

	if (!strcmp(name, "BOOTAA64.EFI"))
		return TYPE_ROOT_ARM;
	return strcmp(name, "BOOTIA32.EFI") ? TYPE_ROOT_X64 : TYPE_ROOT_X86;
}

static void lay_out(struct builder *b)
{
	b->root_at = ESP_FIRST * VMIMG_SECTOR + b->esp_size;
	b->root_size = vmimg_align_up(vmimg_io_size(b->how->root), VMIMG_SECTOR);
	b->size = vmimg_align_up(b->root_at + b->root_size + VMIMG_GPT_TAIL, MIB);
}

static unsigned plan_gpt(const struct builder *b, struct vmimg_slot slots[3])
{
	slots[0] = (struct vmimg_slot){ .number = 1,
		.first = b->root_at / VMIMG_SECTOR,
		.count = b->root_size / VMIMG_SECTOR,
		.type = root_type(b),
		.guid = b->root,
		.name = "root" };
	slots[1] = (struct vmimg_slot){ .number = 15,
		.first = ESP_FIRST,
		.count = b->esp_size / VMIMG_SECTOR,
		.type = TYPE_ESP,
		.guid = b->esp,
		.name = "esp",
		.attributes = b->how->boot_code ? VMIMG_GPT_LEGACY_BOOT : 0 };
	slots[2] = (struct vmimg_slot){ .number = 14,
		.first = VMIMG_GPT_HEAD / VMIMG_SECTOR,
		.count = ESP_FIRST - VMIMG_GPT_HEAD / VMIMG_SECTOR,
		.type = TYPE_BIOS_BOOT,
		.guid = b->bios,
		.name = "bios" };
	return b->how->boot_code ? 3 : 2;
}

static void plan_mbr(const struct builder *b, struct vmimg_slot slots[3])
{
	slots[0] = (struct vmimg_slot){ .number = 1,
		.first = ESP_FIRST,
		.count = b->esp_size / VMIMG_SECTOR,
		.mbr_type = 0xef,
		.active = true };
	slots[1] = (struct vmimg_slot){ .number = 2,
		.first = b->root_at / VMIMG_SECTOR,
		.count = b->root_size / VMIMG_SECTOR,
		.mbr_type = 0x83 };
}

static struct vmimg_io *assemble(
	const struct builder *b, struct vmimg_io *esp, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_pieces_done) struct vmimg_pieces pieces = { 0 };
	uint8_t head[VMIMG_GPT_HEAD], tail[VMIMG_GPT_TAIL];
	struct vmimg_slot slots[3] = { 0 };
	struct vmimg_table_plan plan = { .sectors = b->size / VMIMG_SECTOR,
		.guid = b->disk,
		.mbr_id = b->mbr_id,
		.boot_code = b->how->boot_code,
		.slots = slots };

	if (b->how->mbr) {
		plan_mbr(b, slots);
		plan.count = 2;
		vmimg_mbr_write(&plan, head);
	} else {
		plan.count = plan_gpt(b, slots);
		vmimg_gpt_write(&plan, head, tail);
	}
	if (vmimg_pieces_bytes(&pieces, head, b->how->mbr ? VMIMG_SECTOR : sizeof(head), err) ||
		vmimg_pieces_fill(&pieces, ESP_FIRST * VMIMG_SECTOR, err) ||
		vmimg_pieces_io(&pieces, esp, err) || vmimg_pieces_io(&pieces, b->how->root, err) ||
		vmimg_pieces_fill(&pieces, b->size - (b->how->mbr ? 0 : sizeof(tail)), err) ||
		(!b->how->mbr && vmimg_pieces_bytes(&pieces, tail, sizeof(tail), err)))
		return NULL;
	return vmimg_pieces_join(&pieces, "boot disk", err);
}

static int check_size(const struct builder *b, struct vmimg_error *err)
{
	if (!vmimg_io_size(b->how->root))
		return vmimg_fail(err, VMIMG_EINVAL, "the root file system is empty");
	if (b->how->mbr && b->size / VMIMG_SECTOR > UINT32_MAX)
		return vmimg_fail(err, VMIMG_EINVAL,
			"an MBR reaches to 2 TiB, and this disk takes %" PRIu64
			" bytes: leave --mbr out",
			b->size);
	return 0;
}

struct vmimg_io *vmimg_boot_disk_open(const struct vmimg_boot_disk *how, struct vmimg_error *err)
{
	struct builder b = { .how = how };
	struct vmimg_io *esp = NULL, *disk = NULL;

	if (!make_identities(&b, err) && !make_cmdline(&b, err) && (esp = new_esp(&b, err))) {
		lay_out(&b);
		disk = check_size(&b, err) ? NULL : assemble(&b, esp, err);
	}
	vmimg_io_unref(esp);
	free(b.cmdline);
	return disk;
}

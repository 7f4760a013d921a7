/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Partition tables: MBR with logical partitions, GPT (both copies, checked), hybrid and protective
 * MBRs, and the Apple partition map, as one plain list. Sectors of 512 and of 4096 bytes.
 */
#pragma once
#include "io/io.h"
#include "util/guid.h"

enum vmimg_scheme { VMIMG_SCHEME_NONE, VMIMG_SCHEME_MBR, VMIMG_SCHEME_GPT, VMIMG_SCHEME_APM };

#define VMIMG_PART_NAME 109 /* 36 units of UTF-16 as UTF-8, with the NUL */
#define VMIMG_MAX_PARTS 1024

struct vmimg_part {
	unsigned index; /* as Linux counts: from 1; logical ones from 5 */
	enum vmimg_scheme scheme;
	uint64_t start, len;        /* bytes; the end may lie past that of the disk */
	uint8_t mbr_type;           /* MBR */
	struct vmimg_guid type;     /* GPT */
	struct vmimg_guid guid;     /* GPT: of this partition; nil elsewhere */
	const char *type_name;      /* constant; NULL: not a type that is known here */
	char name[VMIMG_PART_NAME]; /* GPT, APM: as found, not fit to show */
	char apm_type[33];          /* APM: as found */
	uint64_t attributes;        /* GPT: its attribute bits; APM: status */
	bool bootable;              /* MBR: active; GPT: attribute bit 2 */
	bool extended;              /* MBR: a container of logical ones, not a place for data */
	bool logical;
};

struct vmimg_parts {
	enum vmimg_scheme scheme; /* of the list */
	uint32_t sector_size;
	struct vmimg_guid guid; /* GPT: of the disk */
	uint32_t mbr_id;        /* the disk signature in sector 0; 0: none */
	bool boot_code;         /* sector 0 has a boot signature and code before its table */
	bool protective;        /* GPT: an MBR with the one entry that guards it */
	bool hybrid;            /* GPT: an MBR that names partitions as well */
	bool also_apm;          /* MBR or GPT: an Apple map is there too */
	struct vmimg_part *list;
	size_t count, cap;
	char warnings[8][160]; /* what is odd in the tables, fit to show */
	size_t warning_count;
};

/*
 * No table at all is no error: scheme NONE and an empty list. sector_size is the disk's, 512 also
 * when it is not known, as of a raw one: GPT is then looked for at both sizes, and an MBR has that
 * with which it leads to something. The caller ends with vmimg_parts_done(), also after a failure.
 */
int vmimg_parts_read(struct vmimg_io *io, uint32_t sector_size, struct vmimg_parts *parts,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_parts_done(struct vmimg_parts *parts);
static inline void vmimg_parts_done_auto(struct vmimg_parts *parts)
{
	vmimg_parts_done(parts);
}
/* By index; NULL: there is none. */
const struct vmimg_part *vmimg_parts_find(const struct vmimg_parts *parts, unsigned index);
/* The bytes of a partition, cut at the disk's end; the caller unrefs it. */
struct vmimg_io *vmimg_part_open(
	struct vmimg_io *io, const struct vmimg_part *part, struct vmimg_error *err) VMIMG_CHECKED;
const char *vmimg_scheme_name(enum vmimg_scheme scheme);

/* GPT types that decide how a machine starts. */
bool vmimg_part_is_esp(const struct vmimg_part *part); /* also MBR type 0xef */
bool vmimg_part_is_bios_boot(const struct vmimg_part *part);
bool vmimg_part_is_xbootldr(const struct vmimg_part *part);

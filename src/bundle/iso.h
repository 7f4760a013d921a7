/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making ISO 9660 images: a tree of files with Rock Ridge and Joliet names, El Torito boot images
 * for BIOS and EFI, and a partition table for starting from a USB stick. The same tree and options
 * give the same bytes: times come from the files, owners are root.
 */
#pragma once
#include "io/io.h"

/* A file, folder or link that goes into an image. */
struct vmimg_iso_node {
	char *name;    /* owned */
	uint32_t mode; /* as in stat(2), with the type */
	int64_t mtime;
	struct vmimg_iso_node **list; /* a folder's, owned */
	size_t count, cap;
	struct vmimg_iso_node *parent;
	char *path;     /* a file's source; owned; NULL: bytes */
	uint8_t *bytes; /* owned */
	char *target;   /* a link's; owned */
	uint64_t size;  /* of a file */
	bool hidden;    /* a boot image that has no name in the tree */
	bool boot_info; /* the loader wants to be told where it lies */
	/* filled while writing */
	char iso_name[40];              /* with version */
	uint32_t at;                    /* sector of the content */
	uint32_t dir_at[2], dir_len[2]; /* a folder's records: plain and Joliet */
	uint32_t dir_sectors[2];        /* with what continues them */
	uint32_t number[2];             /* in the path table */
};

struct vmimg_iso_node *vmimg_iso_folder(const char *name, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_iso_free(struct vmimg_iso_node *root);
VMIMG_AUTO_DEFINE(vmimg_iso_free, struct vmimg_iso_node *)
/* Makes a node in a folder. The folder owns it. */
struct vmimg_iso_node *vmimg_iso_add(struct vmimg_iso_node *folder, const char *name, uint32_t mode,
	struct vmimg_error *err) VMIMG_CHECKED;
/* A file whose content is that of path, now of that size. */
struct vmimg_iso_node *vmimg_iso_add_file(struct vmimg_iso_node *folder, const char *name,
	const char *path, struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_iso_node *vmimg_iso_add_bytes(struct vmimg_iso_node *folder, const char *name,
	const void *bytes, size_t len, struct vmimg_error *err) VMIMG_CHECKED;
/* All of a folder on disk. *left_out counts devices, pipes and sockets. */
int vmimg_iso_add_tree(struct vmimg_iso_node *folder, const char *path, uint64_t *left_out,
	struct vmimg_error *err) VMIMG_CHECKED;
/* By its path in the tree; NULL: not there. */
struct vmimg_iso_node *vmimg_iso_find(struct vmimg_iso_node *root, const char *path);

struct vmimg_iso_how {
	const char *label;                 /* volume identifier, at most 32 characters */
	const char *application;           /* may be NULL */
	struct vmimg_iso_node *bios, *efi; /* boot images, in the tree; NULL: none */
	const uint8_t *mbr;                /* boot code, at most 432 bytes; NULL: none */
	size_t mbr_len;
	bool has_epoch; /* no time is later than epoch */
	int64_t epoch;
};

int vmimg_iso_write(struct vmimg_io *io, struct vmimg_iso_node *root,
	const struct vmimg_iso_how *how, struct vmimg_error *err) VMIMG_CHECKED;

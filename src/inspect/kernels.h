/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which kernel a disk starts, by what its boot loader is told: Boot Loader Specification entries,
 * unified kernel images, grub.cfg, syslinux' configuration, links in the root folder, or else the
 * newest one in /boot. Sources: the Boot Loader Specification of the UAPI group, the manuals of
 * GRUB and syslinux.
 */
#pragma once
#include "inspect/trees.h"

#define VMIMG_BOOT_PATH    512
#define VMIMG_BOOT_INITRDS 8

struct vmimg_boot_choice {
	const struct vmimg_tree *tree; /* where kernel and ramdisks are */
	const char *source;            /* what has told it; a constant */
	bool unified;                  /* kernel is a unified image, with the ramdisk in it */
	char kernel[VMIMG_BOOT_PATH];  /* paths in the tree, as found */
	char initrds[VMIMG_BOOT_INITRDS][VMIMG_BOOT_PATH];
	unsigned initrd_count;
	char options[2048]; /* the kernel's arguments, as found */
};

/* A kernel or ramdisk. VMIMG_ELIMIT: one that no boot loader takes, which a stranger has made up.
 */
int vmimg_boot_file(struct vmimg_fs *fs, const char *path, struct vmimg_node *node,
	struct vmimg_error *err) VMIMG_CHECKED;

/* VMIMG_EFORMAT: there is none. */
int vmimg_boot_choose(const struct vmimg_trees *trees, struct vmimg_boot_choice *choice,
	struct vmimg_error *err) VMIMG_CHECKED;

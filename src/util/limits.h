/* SPDX-License-Identifier: Apache-2.0 */
/* What vmimg agrees to handle, and why. Larger is VMIMG_ELIMIT (or malformed where a format says
 * so), decided before anything is allocated. */
#pragma once

/* The largest virtual disk: off_t is signed, and sums of two sizes stay below 2^64. */
#define VMIMG_MAX_DISK (UINT64_C(1) << 62)
/* A chain longer than this is a mistake or an attack; each layer costs a file descriptor. */
#define VMIMG_MAX_DEPTH 256
/* Files of a folder that may be looked into for a parent that is known by its identity alone. */
#define VMIMG_MAX_CANDIDATES 1000
/* The longest name of another file that an image may carry (QEMU: 1023; VHDX and VMDK: less). */
#define VMIMG_MAX_NAME 4096
/* The largest compressed block of any format, unpacked (qcow2 clusters of 2 MiB; VMDK grains of up
 * to 2 MiB are read): what one worker may have to hold. */
#define VMIMG_MAX_PACKED_BLOCK (UINT32_C(2) << 20)
/* Workers of one operation. */
#define VMIMG_MAX_THREADS 256
/* Findings that check keeps with their text; the rest are counted. */
#define VMIMG_MAX_FINDINGS 100
/* Of a tar archive: members; stretches of its sparse files (16 bytes of memory each); bytes of one
 * extended header; extended headers before one member. */
#define VMIMG_MAX_TAR_MEMBERS  65536
#define VMIMG_MAX_TAR_RUNS     1048576
#define VMIMG_MAX_TAR_TEXT     (4 << 20)
#define VMIMG_MAX_TAR_EXTENDED 64
/* Of an XML description: bytes (a document of nothing but tiny elements takes some thirty times as
 * much memory), and elements inside one another. */
#define VMIMG_MAX_XML       (4 << 20)
#define VMIMG_MAX_XML_DEPTH 64
/* Of one kind of thing in an OVF description: files, disks, machines, items of hardware. */
#define VMIMG_MAX_OVF_ITEMS 10000
/* Changes to one image in place that are held in memory until they are journalled: the tables of a
 * disk of some 500 TiB. */
#define VMIMG_MAX_STAGE (128 << 20)

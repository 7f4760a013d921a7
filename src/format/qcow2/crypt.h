/* SPDX-License-Identifier: Apache-2.0 */
/* What encrypted images need, opened and new. crypt.c, sink_crypt.c */
#pragma once
#include "format/qcow2/sink.h"

struct vmimg_info;

/* Reads the header of LUKS; with secrets, q->cipher is made as well. */
int vmimg_qcow2_open_crypt(struct vmimg_disk *disk, const struct vmimg_open *options,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_qcow2_close_crypt(struct vmimg_qcow2 *q);
/* Says of a run at that guest offset how it is encrypted, if it is. */
void vmimg_qcow2_seal_run(const struct vmimg_qcow2 *q, uint64_t guest, struct vmimg_run *run);
void vmimg_qcow2_describe_crypt(const struct vmimg_qcow2 *q, struct vmimg_info *info);
struct vmimg_luks_area vmimg_qcow2_luks_area(const struct vmimg_disk *disk);

/* disk/edit.h */
int vmimg_qcow2_rekey(struct vmimg_disk *disk, const struct vmimg_rekey *wanted,
	struct vmimg_error *err) VMIMG_CHECKED;

/* ---- new images ---- */

/* From options, checked; method QCOW2_CRYPT_NONE: not to be encrypted. */
struct vmimg_qcow2_crypt_wish {
	uint32_t method;
	struct vmimg_luks_new luks;
};
int vmimg_qcow2_read_crypt_wish(const struct vmimg_create *create,
	struct vmimg_qcow2_crypt_wish *wish, struct vmimg_error *err) VMIMG_CHECKED;
/* Bytes of the header of LUKS; 0: there is none. */
uint64_t vmimg_qcow2_crypt_size(const struct vmimg_qcow2_crypt_wish *wish);
/* Makes keys and takes space for the header; nothing is written yet. */
int vmimg_qcow2_sink_crypt(struct vmimg_qcow2_sink *s, const struct vmimg_create *create,
	const struct vmimg_qcow2_crypt_wish *wish, struct vmimg_error *err) VMIMG_CHECKED;
/* sink->ops->start: writes that header. */
int vmimg_qcow2_sink_crypt_start(struct vmimg_sink *sink, struct vmimg_error *err) VMIMG_CHECKED;
/* len bytes of the disk at guest, to be written at that place of the data file. */
struct vmimg_store vmimg_qcow2_sealed_store(const struct vmimg_qcow2_sink *s, uint64_t at,
	uint64_t guest, const uint8_t *bytes, size_t len);
void vmimg_qcow2_sink_crypt_done(struct vmimg_qcow2_sink *s);

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passphrases of the command line: files (--secret-file), and objects in QEMU's spelling (--object
 * secret,id=…,file=…), which other options pick by their ids. Their memory is cleared at the end.
 */
#pragma once
#include <stddef.h>
#include "util/error.h"

struct cli_secrets;

/* Setters of options; to is a struct cli_secrets *, made when the first one comes. Files are read
 * at once, before any image is. */
int cli_set_object(void *to, const char *value, struct vmimg_error *err);
int cli_set_secret_file(void *to, const char *value, struct vmimg_error *err);
int cli_set_target_secret_file(void *to, const char *value, struct vmimg_error *err);
/* An object's id: it, not all there are, is tried on sources. May come before the object. */
int cli_set_key_secret(void *to, const char *value, struct vmimg_error *err);

/* Says which object is the target's, so that it is not tried on sources. NULL: none. */
int cli_secrets_set_target(
	struct cli_secrets *secrets, const char *id, struct vmimg_error *err) VMIMG_CHECKED;
/* NULL: none. Both are owned by secrets, which may be NULL. */
const struct vmimg_secret *cli_secrets_target(struct cli_secrets *secrets);
int cli_secrets_source(struct cli_secrets *secrets, const struct vmimg_secret **list, size_t *count,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The object of that id. */
const struct vmimg_secret *cli_secrets_find(
	struct cli_secrets *secrets, const char *id, struct vmimg_error *err) VMIMG_CHECKED;
void cli_secrets_free(struct cli_secrets *secrets);

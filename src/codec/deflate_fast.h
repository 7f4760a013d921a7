/* SPDX-License-Identifier: Apache-2.0 */
/* Deflate at the fast level. */
#pragma once
#include "codec/codec.h"

/* A packer of deflate data (RFC 1951), in zlib's wrapper (RFC 1950) when asked to. Owned by the
 * caller; for one thread at a time. NULL, and VMIMG_ENOMEM in err, when there is no memory. */
struct vmimg_packer *vmimg_deflate_fast_packer_new(bool zlib, struct vmimg_error *err);

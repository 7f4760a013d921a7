/* SPDX-License-Identifier: Apache-2.0 */
/* What is common to all codecs: letting go of their state. */
#include "codec/codec.h"

void vmimg_packer_free(struct vmimg_packer *packer)
{
	if (packer)
		packer->free(packer);
}

void vmimg_unpacker_free(struct vmimg_unpacker *unpacker)
{
	if (unpacker)
		unpacker->free(unpacker);
}

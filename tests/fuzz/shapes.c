/* SPDX-License-Identifier: Apache-2.0 */
/* From the tables by which the formats themselves are read. */
#include "shapes.h"
#include <string.h>
#include "format/qcow2/layout.h"
#include "format/vdi/layout.h"
#include "format/vhd/layout.h"
#include "format/vhdx/layout.h"
#include "format/vmdk/layout.h"
#include "util/num.h"

#define BIG_u8   false
#define BIG_le16 false
#define BIG_le32 false
#define BIG_le64 false
#define BIG_be16 true
#define BIG_be32 true
#define BIG_be64 true

#define NUMBER(kind, name, at) { at, sizeof(VMIMG_TYPE_##kind), BIG_##kind },
#define BYTES(len, name, at)   { at, len, false },

#define FIELDS(name, TABLE) static const struct shape_field name[] = { TABLE(NUMBER, BYTES) }
FIELDS(qcow2, QCOW2_HEADER);
FIELDS(qcow2_extension, QCOW2_EXTENSION);
FIELDS(vdi, VMIMG_VDI_HEADER1);
FIELDS(vhd_footer, VMIMG_VHD_FOOTER);
FIELDS(vhd_header, VMIMG_VHD_HEADER);
FIELDS(vhd_locator, VMIMG_VHD_LOCATOR);
FIELDS(vhd_batmap, VMIMG_VHD_BATMAP);
FIELDS(vhdx_header, VHDX_HEADER);
FIELDS(vhdx_regions, VHDX_REGIONS_HEAD);
FIELDS(vhdx_region, VHDX_REGION);
FIELDS(vhdx_log, VHDX_LOG_ENTRY);
FIELDS(vhdx_log_desc, VHDX_LOG_DESC);
FIELDS(vhdx_metadata, VHDX_METADATA_HEAD);
FIELDS(vhdx_item, VHDX_METADATA_ENTRY);
FIELDS(vhdx_locator, VHDX_LOCATOR_HEAD);
FIELDS(vhdx_pair, VHDX_LOCATOR_ENTRY);
FIELDS(vmdk, VMDK_HEADER);
FIELDS(vmdk_cowd, VMDK_COWD);
FIELDS(vmdk_se, VMDK_SE_HEADER);

#define ALL(fields)        fields, VMIMG_ARRAY_LEN(fields)
#define WORD(word)         word, sizeof(word) - 1, 0
#define WITH(at, size, of) at, size, ALL(of)
static const struct shape shapes[] = {
	{ WORD("QFI\xfb"), ALL(qcow2), WITH(112, 8, qcow2_extension) },
	{ "\x7f\x10\xda\xbe", 4, 64, ALL(vdi), 0, 0, NULL, 0 },
	{ WORD("conectix"), ALL(vhd_footer), 0, 0, NULL, 0 },
	{ WORD("cxsparse"), ALL(vhd_header), WITH(576, 24, vhd_locator) },
	{ WORD("tdbatmap"), ALL(vhd_batmap), 0, 0, NULL, 0 },
	{ WORD("head"), ALL(vhdx_header), 0, 0, NULL, 0 },
	{ WORD("regi"), ALL(vhdx_regions), WITH(16, 32, vhdx_region) },
	{ WORD("loge"), ALL(vhdx_log), WITH(64, 32, vhdx_log_desc) },
	{ WORD("metadata"), ALL(vhdx_metadata), WITH(32, 32, vhdx_item) },
	{ WORD("\xb7\xef\x4a\xb0\x9e\xd1\x81\x4a"), ALL(vhdx_locator), WITH(20, 12, vhdx_pair) },
	{ WORD("KDMV"), ALL(vmdk), 0, 0, NULL, 0 },
	{ WORD("COWD"), ALL(vmdk_cowd), 0, 0, NULL, 0 },
	{ WORD("\xbe\xba\xfe\xca\0\0\0\0"), ALL(vmdk_se), 0, 0, NULL, 0 },
};

const struct shape *shape_find(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(shapes); i++)
		if (len >= shapes[i].magic_len &&
			!memcmp(bytes, shapes[i].magic, shapes[i].magic_len))
			return &shapes[i];
	return NULL;
}

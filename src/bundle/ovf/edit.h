/* SPDX-License-Identifier: Apache-2.0 */
/* Private: what setting and adapting share. */
#pragma once
#include "bundle/ovf/dialect.h"
#include "bundle/ovf/ovf.h"

#define VMIMG_OVF_SPACE  "http://schemas.dmtf.org/ovf/envelope/1"
#define VMIMG_OVF_SPACE2 "http://schemas.dmtf.org/ovf/envelope/2"
#define VMIMG_RASD_SPACE \
	"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
#define VMIMG_VMW_SPACE "http://www.vmware.com/schema/ovf"

struct vmimg_ovf_edit {
	struct vmimg_bundle *bundle;
	struct vmimg_xml *xml;
	xmlNode *root;
	xmlNode *system, *hardware; /* the machine, and its section */
	json_t *changes;
};

int vmimg_ovf_edit_begin(struct vmimg_ovf_edit *edit, struct vmimg_bundle *bundle, json_t *changes,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_ovf_changed(struct vmimg_ovf_edit *edit, const char *fmt, ...) VMIMG_PRINTF(2, 3);
/* The text of a child; NULL: none, or no memory. */
const char *vmimg_ovf_get(struct vmimg_ovf_edit *edit, const xmlNode *node, const char *name);
/* The number in ResourceType; 0: none. */
unsigned vmimg_ovf_type(const xmlNode *item);
/* Items in turn, of one resource type (0: any); NULL: no more. */
xmlNode *vmimg_ovf_item(struct vmimg_ovf_edit *edit, const xmlNode *after, unsigned type);
/* Sets the text of a child in rasd, adding it where the alphabet wants it. */
int vmimg_ovf_put(struct vmimg_ovf_edit *edit, xmlNode *item, const char *name, const char *text,
	struct vmimg_error *err) VMIMG_CHECKED;
/* A new Item after the last one, with an InstanceID of its own. */
xmlNode *vmimg_ovf_new_item(
	struct vmimg_ovf_edit *edit, unsigned type, struct vmimg_error *err) VMIMG_CHECKED;

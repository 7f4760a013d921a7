/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XML from strangers, by libxml2, which is loaded when the first document is met. What makes XML
 * dangerous is off: no document type (so no entities), no network, no other file; size and depth
 * are bounded. Elements and attributes are found by their local names.
 */
#pragma once
#include <libxml/tree.h>
#include <stdbool.h>
#include "util/auto.h"
#include "util/pool.h"

struct vmimg_xml;

/* The name of the root element in the first bytes of a file, without its prefix, or, when there is
 * a document type, "!DOCTYPE"; false: that is no XML. */
bool vmimg_xml_root_name(const uint8_t *head, size_t len, char *name, size_t cap);

/* VMIMG_EREFUSED: it has a document type. VMIMG_ELIMIT: it is too large or too deep.
 * VMIMG_ECORRUPT: it is not well-formed. */
struct vmimg_xml *vmimg_xml_parse(
	const char *bytes, size_t len, const char *name, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_xml_free(struct vmimg_xml *xml);
VMIMG_AUTO_DEFINE(vmimg_xml_free, struct vmimg_xml *)
xmlNode *vmimg_xml_root(const struct vmimg_xml *xml);

bool vmimg_xml_is(const xmlNode *node, const char *name);
/* The first child element of that name (NULL: of any), and the next one after node. NULL: none. */
xmlNode *vmimg_xml_child(const xmlNode *parent, const char *name);
xmlNode *vmimg_xml_next(const xmlNode *node, const char *name);
/* Borrowed from the document; NULL: it is not there. */
const char *vmimg_xml_attr(const xmlNode *node, const char *name);
/* The text inside node, blanks around it taken away, in pool. Never NULL unless memory is short. */
const char *vmimg_xml_text(
	const xmlNode *node, struct vmimg_pool *pool, struct vmimg_error *err) VMIMG_CHECKED;
/* The same of the child of that name; *text = NULL when there is none. */
int vmimg_xml_child_text(const xmlNode *parent, const char *name, struct vmimg_pool *pool,
	const char **text, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- changing ---------------------------------------------------------------------------- */

int vmimg_xml_set_text(struct vmimg_xml *xml, xmlNode *node, const char *text,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Changes the attribute of that local name, or adds it in the name space href (NULL: in none). */
int vmimg_xml_set_attr(struct vmimg_xml *xml, xmlNode *node, const char *href, const char *name,
	const char *value, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_xml_drop_attr(struct vmimg_xml *xml, xmlNode *node, const char *name);
/* A new element in the name space href (which is declared at the root under prefix when it is not
 * yet), put before another child, or at the end when before is NULL. */
xmlNode *vmimg_xml_add(struct vmimg_xml *xml, xmlNode *parent, xmlNode *before, const char *href,
	const char *prefix, const char *name, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_xml_remove(struct vmimg_xml *xml, xmlNode *node);
void vmimg_xml_rename(struct vmimg_xml *xml, xmlNode *node, const char *name);
/* Moves node into another name space, declared as for add. */
int vmimg_xml_set_space(struct vmimg_xml *xml, xmlNode *node, const char *href, const char *prefix,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Gives the name space that is declared at the root as `from` the URI `to`. */
int vmimg_xml_move_space(struct vmimg_xml *xml, const char *from, const char *to,
	struct vmimg_error *err) VMIMG_CHECKED;
/* UTF-8, indented; to be freed with free(). */
char *vmimg_xml_write(struct vmimg_xml *xml, size_t *len, struct vmimg_error *err) VMIMG_CHECKED;

/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of libxml2 that are used, found with dlsym. Their types come from its own headers;
 * of its structures only the node and its attributes are looked into, which have kept their shape
 * through all versions of 2.x. */
#pragma once
#include <libxml/parser.h>
#include <libxml/tree.h>

#define VMIMG_LIBXML(F)         \
	F(xmlInitParser)        \
	F(xmlReadMemory)        \
	F(xmlFreeDoc)           \
	F(xmlDocGetRootElement) \
	F(xmlGetLastError)      \
	F(xmlResetLastError)    \
	F(xmlGetIntSubset)      \
	F(xmlNewDocNode)        \
	F(xmlNewDocText)        \
	F(xmlAddChild)          \
	F(xmlAddPrevSibling)    \
	F(xmlUnlinkNode)        \
	F(xmlFreeNode)          \
	F(xmlFreeNodeList)      \
	F(xmlNodeSetName)       \
	F(xmlSetNsProp)         \
	F(xmlRemoveProp)        \
	F(xmlSearchNsByHref)    \
	F(xmlNewNs)             \
	F(xmlStrdup)            \
	F(xmlSetNs)             \
	F(xmlDocDumpFormatMemoryEnc)

#define VMIMG_LIBXML_MEMBER_(name) __typeof__(name) *name;
struct vmimg_libxml {
	VMIMG_LIBXML(VMIMG_LIBXML_MEMBER_)
	void (*release)(void *); /* memory that libxml2 gives away */
};

/* Loaded on first use, from any thread; NULL: it is not to be had. */
const struct vmimg_libxml *vmimg_libxml_get(void);

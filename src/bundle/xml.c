/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A document type can stand before the root element only, so that stretch is read here, by hand,
 * before libxml2 sees the document: without a document type there are no entities but the five of
 * XML itself. That the parser found none is asked once more afterwards.
 */
#include "bundle/xml.h"
#include <libxml/xmlerror.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "bundle/libxml.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"
#include "util/utf16.h"

struct vmimg_xml {
	const struct vmimg_libxml *lib;
	xmlDoc *doc;
};

/* ---- before the root --------------------------------------------------------------------- */

struct scan {
	const char *p, *end;
};

static bool begins(const struct scan *scan, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(scan->end - scan->p) >= len && !memcmp(scan->p, word, len);
}

static bool skip_past(struct scan *scan, const char *word)
{
	const char *found = memmem(scan->p, (size_t)(scan->end - scan->p), word, strlen(word));

	if (found)
		scan->p = found + strlen(word);
	return found != NULL;
}

/* Moves to the "<" of the root element, or of a document type. */
static bool find_root(struct scan *scan)
{
	if (begins(scan, "\xef\xbb\xbf"))
		scan->p += 3;
	for (;;) {
		while (scan->p < scan->end && strchr(" \t\r\n", *scan->p) && *scan->p)
			scan->p++;
		if (!begins(scan, "<"))
			return false;
		if (begins(scan, "<?")) {
			if (!skip_past(scan, "?>"))
				return false;
		} else if (begins(scan, "<!--")) {
			if (!skip_past(scan, "-->"))
				return false;
		} else {
			return true;
		}
	}
}

bool vmimg_xml_root_name(const uint8_t *head, size_t len, char *name, size_t cap)
{
	struct scan scan = { (const char *)head, (const char *)head + len };
	const char *start;
	size_t used;

	if (!find_root(&scan))
		return false;
	start = ++scan.p;
	while (scan.p < scan.end && !strchr(" \t\r\n/>[", *scan.p)) {
		if (*scan.p++ == ':')
			start = scan.p;
	}
	used = (size_t)(scan.p - start);
	if (!used || used >= cap || memchr(start, 0, used))
		return false;
	snprintf(name, cap, "%.*s", (int)used, start);
	return true;
}

/* ---- encodings --------------------------------------------------------------------------- */

/* Encodings in which "<!DOCTYPE" has the same bytes as in ASCII. */
static bool is_plain_encoding(const char *name, size_t len)
{
	static const char *const known[] = { "UTF-8", "UTF8", "US-ASCII", "ASCII", "ISO-8859-",
		"ISO_8859-", "windows-125", "latin1" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(known); i++) {
		size_t word = strlen(known[i]);
		bool family = known[i][word - 1] == '-' || known[i][word - 1] == '5';

		if (len >= word && !strncasecmp(name, known[i], word) && (family || len == word))
			return true;
	}
	return false;
}

/* What the XML declaration says. *utf8: it is to be read as UTF-8 all the same: text that was
 * written as UTF-16 and then converted often says that it still is. */
static int check_encoding(const char *bytes, size_t len, bool *utf8, struct vmimg_error *err)
{
	struct scan scan = { bytes, bytes + len };
	const char *start, *stop, *quote;
	size_t name;

	if (begins(&scan, "\xef\xbb\xbf"))
		scan.p += 3;
	if (!begins(&scan, "<?xml"))
		return 0;
	start = scan.p;
	(void)skip_past(&scan, "?>"); /* it is there: the root was found after it */
	stop = scan.p;
	start = memmem(start, (size_t)(stop - start), "encoding", 8);
	if (!start)
		return 0;
	start += 8;
	start += strspn(start, " \t\r\n=");
	quote = *start == '"' || *start == '\''
		? memchr(start + 1, *start, (size_t)(stop - start - 1))
		: NULL;
	name = quote ? (size_t)(quote - start - 1) : 0;
	*utf8 = name >= 6 && !strncasecmp(start + 1, "utf-16", 6);
	if (*utf8 || is_plain_encoding(start + 1, name))
		return 0;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"its encoding is not UTF-8, UTF-16, ISO 8859 or windows-125x");
}

/* ---- parsing ----------------------------------------------------------------------------- */

static int fail_parse(const struct vmimg_libxml *lib, struct vmimg_error *err)
{
	const xmlError *error = lib->xmlGetLastError();
	char text[120] = "it is not well-formed";

	if (error && error->message)
		vmimg_escape(text, sizeof(text), error->message, strcspn(error->message, "\n"));
	return vmimg_fail(err, VMIMG_ECORRUPT, "line %d: %s", error ? error->line : 0, text);
}

/* Not recursive: the depth is what is in question. */
static int check_depth(xmlNode *root, struct vmimg_error *err)
{
	unsigned depth = 1;

	for (xmlNode *node = root; node;) {
		if (node->children && node->type == XML_ELEMENT_NODE) {
			node = node->children;
			if (++depth > VMIMG_MAX_XML_DEPTH + 1)
				return vmimg_fail(err, VMIMG_ECORRUPT,
					"elements are nested more than %d deep",
					VMIMG_MAX_XML_DEPTH);
			continue;
		}
		while (node != root && !node->next) {
			node = node->parent;
			depth--;
		}
		node = node == root ? NULL : node->next;
	}
	return 0;
}

static int parse(
	struct vmimg_xml *xml, const char *bytes, size_t len, bool utf8, struct vmimg_error *err)
{
	const struct vmimg_libxml *lib = xml->lib;
	struct scan scan = { bytes, bytes + len };

	if (!find_root(&scan))
		return vmimg_fail(err, VMIMG_ECORRUPT, "it is not XML: no element begins");
	if (begins(&scan, "<!"))
		return vmimg_fail(err, VMIMG_EREFUSED,
			"it has a document type (DOCTYPE), which may name other files: it is not "
			"read");
	if (!utf8 && check_encoding(bytes, len, &utf8, err))
		return -1;
	lib->xmlResetLastError();
	xml->doc = lib->xmlReadMemory(bytes, (int)len, NULL, utf8 ? "UTF-8" : NULL,
		XML_PARSE_NONET | XML_PARSE_NOBLANKS | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
	if (!xml->doc || !vmimg_xml_root(xml))
		return fail_parse(lib, err);
	/* a second line of defence: what comes before the root was looked at above */
	if (lib->xmlGetIntSubset(xml->doc))
		return vmimg_fail(err, VMIMG_EREFUSED, "it has a document type (DOCTYPE)");
	return check_depth(vmimg_xml_root(xml), err);
}

/* UTF-16, as its byte order mark or its first "<" tells, becomes UTF-8. */
static int parse_any(struct vmimg_xml *xml, const char *bytes, size_t len, struct vmimg_error *err)
{
	bool marked = len >= 2 && (!memcmp(bytes, "\xfe\xff", 2) || !memcmp(bytes, "\xff\xfe", 2));
	bool big = len >= 2 && (!memcmp(bytes, "\xfe\xff", 2) || !memcmp(bytes, "\0<", 2));
	bool little = len >= 2 && (!memcmp(bytes, "\xff\xfe", 2) || !memcmp(bytes, "<\0", 2));
	size_t from = marked ? 2 : 0;
	VMIMG_AUTO(free) char *text = NULL;

	/* a second line of defence: those who call read no more */
	if (len > VMIMG_MAX_XML)
		return vmimg_fail(err, VMIMG_ELIMIT, "it is larger than %d bytes", VMIMG_MAX_XML);
	if (!big && !little)
		return parse(xml, bytes, len, false, err);
	text = vmimg_utf16_decode((const uint8_t *)bytes + from, len - from, big, err);
	return text ? parse(xml, text, strlen(text), true, err) : -1;
}

struct vmimg_xml *vmimg_xml_parse(
	const char *bytes, size_t len, const char *name, struct vmimg_error *err)
{
	const struct vmimg_libxml *lib = vmimg_libxml_get();
	VMIMG_AUTO(vmimg_xml_free) struct vmimg_xml *xml = NULL;
	char shown[100];

	if (!lib) {
		vmimg_fail(
			err, VMIMG_EUNSUPPORTED, "XML needs libxml2, which cannot be loaded here");
		return NULL;
	}
	xml = vmimg_new(struct vmimg_xml, err);
	if (!xml)
		return NULL;
	xml->lib = lib;
	if (parse_any(xml, bytes, len, err)) {
		vmimg_within(err, "%s", vmimg_escape(shown, sizeof(shown), name, strlen(name)));
		return NULL;
	}
	return vmimg_take(xml);
}

void vmimg_xml_free(struct vmimg_xml *xml)
{
	if (!xml)
		return;
	if (xml->doc)
		xml->lib->xmlFreeDoc(xml->doc);
	free(xml);
}

/* ---- looking ----------------------------------------------------------------------------- */

xmlNode *vmimg_xml_root(const struct vmimg_xml *xml)
{
	return xml->lib->xmlDocGetRootElement(xml->doc);
}

bool vmimg_xml_is(const xmlNode *node, const char *name)
{
	return node->type == XML_ELEMENT_NODE && (!name || !strcmp((const char *)node->name, name));
}

static xmlNode *first_of(xmlNode *node, const char *name)
{
	while (node && !vmimg_xml_is(node, name))
		node = node->next;
	return node;
}

xmlNode *vmimg_xml_child(const xmlNode *parent, const char *name)
{
	return parent ? first_of(parent->children, name) : NULL;
}

xmlNode *vmimg_xml_next(const xmlNode *node, const char *name)
{
	return first_of(node->next, name);
}

static xmlAttr *find_attr(const xmlNode *node, const char *name)
{
	xmlAttr *attr = node->properties;

	while (attr && strcmp((const char *)attr->name, name))
		attr = attr->next;
	return attr;
}

const char *vmimg_xml_attr(const xmlNode *node, const char *name)
{
	const xmlAttr *attr = find_attr(node, name);

	if (!attr)
		return NULL;
	return attr->children && attr->children->content ? (const char *)attr->children->content
							 : "";
}

const char *vmimg_xml_text(const xmlNode *node, struct vmimg_pool *pool, struct vmimg_error *err)
{
	static const char blanks[] = " \t\r\n";
	size_t len = 0;
	char *text, *p;

	for (const xmlNode *part = node->children; part; part = part->next)
		if ((part->type == XML_TEXT_NODE || part->type == XML_CDATA_SECTION_NODE) &&
			part->content)
			len += strlen((const char *)part->content);
	text = p = vmimg_pool_alloc(pool, len + 1, err);
	if (!text)
		return NULL;
	for (const xmlNode *part = node->children; part; part = part->next)
		if ((part->type == XML_TEXT_NODE || part->type == XML_CDATA_SECTION_NODE) &&
			part->content)
			p = stpcpy(p, (const char *)part->content);
	while (p > text && strchr(blanks, p[-1]))
		*--p = '\0';
	return text + strspn(text, blanks);
}

int vmimg_xml_child_text(const xmlNode *parent, const char *name, struct vmimg_pool *pool,
	const char **text, struct vmimg_error *err)
{
	const xmlNode *child = vmimg_xml_child(parent, name);
	const char *found = child ? vmimg_xml_text(child, pool, err) : NULL;

	if (child && !found)
		return -1;
	*text = found;
	return 0;
}

/* ---- changing ---------------------------------------------------------------------------- */

static const xmlChar *X(const char *text)
{
	return (const xmlChar *)text;
}

int vmimg_xml_set_text(
	struct vmimg_xml *xml, xmlNode *node, const char *text, struct vmimg_error *err)
{
	xmlNode *content = xml->lib->xmlNewDocText(xml->doc, X(text));

	if (!content)
		return vmimg_fail_nomem(err);
	if (node->children)
		xml->lib->xmlFreeNodeList(node->children);
	node->children = node->last = NULL;
	return xml->lib->xmlAddChild(node, content) ? 0 : vmimg_fail_nomem(err);
}

/* The name space of that URI as seen from node, declared at the root when there is none. */
static xmlNs *space_of(struct vmimg_xml *xml, xmlNode *node, const char *href, const char *prefix)
{
	xmlNs *ns = xml->lib->xmlSearchNsByHref(xml->doc, node, X(href));

	return ns ? ns : xml->lib->xmlNewNs(vmimg_xml_root(xml), X(href), X(prefix));
}

/* The same for attributes, which need one with a prefix. */
static xmlNs *attr_space_of(struct vmimg_xml *xml, xmlNode *node, const char *href)
{
	unsigned declared = 0;
	char prefix[16];

	for (const xmlNode *n = node; n && n->type == XML_ELEMENT_NODE; n = n->parent)
		for (xmlNs *ns = n->nsDef; ns; ns = ns->next, declared++)
			if (ns->prefix && !strcmp((const char *)ns->href, href))
				return ns;
	snprintf(prefix, sizeof(prefix), "ns%u", declared);
	return xml->lib->xmlNewNs(vmimg_xml_root(xml), X(href), X(prefix));
}

int vmimg_xml_set_attr(struct vmimg_xml *xml, xmlNode *node, const char *href, const char *name,
	const char *value, struct vmimg_error *err)
{
	const xmlAttr *old = find_attr(node, name);
	xmlNs *ns = old ? old->ns : href ? attr_space_of(xml, node, href) : NULL;

	if ((href && !ns && !old) || !xml->lib->xmlSetNsProp(node, ns, X(name), X(value)))
		return vmimg_fail_nomem(err);
	return 0;
}

void vmimg_xml_drop_attr(struct vmimg_xml *xml, xmlNode *node, const char *name)
{
	xmlAttr *attr = find_attr(node, name);

	if (attr)
		xml->lib->xmlRemoveProp(attr);
}

xmlNode *vmimg_xml_add(struct vmimg_xml *xml, xmlNode *parent, xmlNode *before, const char *href,
	const char *prefix, const char *name, struct vmimg_error *err)
{
	xmlNs *ns = space_of(xml, parent, href, prefix);
	xmlNode *node = ns ? xml->lib->xmlNewDocNode(xml->doc, ns, X(name), NULL) : NULL;
	xmlNode *put = !node ? NULL
		: before     ? xml->lib->xmlAddPrevSibling(before, node)
			     : xml->lib->xmlAddChild(parent, node);

	if (!put)
		vmimg_fail_nomem(err);
	return put;
}

void vmimg_xml_remove(struct vmimg_xml *xml, xmlNode *node)
{
	xml->lib->xmlUnlinkNode(node);
	xml->lib->xmlFreeNode(node);
}

void vmimg_xml_rename(struct vmimg_xml *xml, xmlNode *node, const char *name)
{
	xml->lib->xmlNodeSetName(node, X(name));
}

int vmimg_xml_set_space(struct vmimg_xml *xml, xmlNode *node, const char *href, const char *prefix,
	struct vmimg_error *err)
{
	xmlNs *ns = space_of(xml, node, href, prefix);

	if (!ns)
		return vmimg_fail_nomem(err);
	xml->lib->xmlSetNs(node, ns);
	return 0;
}

int vmimg_xml_move_space(
	struct vmimg_xml *xml, const char *from, const char *to, struct vmimg_error *err)
{
	for (xmlNs *ns = vmimg_xml_root(xml)->nsDef; ns; ns = ns->next) {
		xmlChar *copy;

		if (strcmp((const char *)ns->href, from))
			continue;
		copy = xml->lib->xmlStrdup(X(to));
		if (!copy)
			return vmimg_fail_nomem(err);
		xml->lib->release((void *)(uintptr_t)ns->href);
		ns->href = copy;
	}
	return 0;
}

char *vmimg_xml_write(struct vmimg_xml *xml, size_t *len, struct vmimg_error *err)
{
	xmlChar *made = NULL;
	char *copy;
	int size = 0;

	xml->lib->xmlDocDumpFormatMemoryEnc(xml->doc, &made, &size, "UTF-8", 1);
	copy = made && size > 0 ? vmimg_alloc_array(1, (size_t)size + 1, err) : NULL;
	if (!made)
		vmimg_fail_nomem(err);
	if (copy) {
		memcpy(copy, made, (size_t)size);
		*len = (size_t)size;
	}
	if (made)
		xml->lib->release(made);
	return copy;
}

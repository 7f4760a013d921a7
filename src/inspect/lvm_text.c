/* SPDX-License-Identifier: Apache-2.0 */
/* A parser that goes over the text once. Every node takes two bytes of it or more, so that memory
 * is bounded by its length. */
#include "inspect/lvm_text.h"
#include <string.h>

#define MAX_DEPTH 16U
#define BLOCK     256U /* nodes that are asked for together */

struct block {
	struct block *next;
	struct vmimg_lvm_node nodes[BLOCK];
};

struct vmimg_lvm_text {
	struct vmimg_lvm_node root;
	struct block *blocks;
	size_t used; /* of the first block */
};

struct parser {
	struct vmimg_lvm_text *text;
	char *begin, *at, *end;
	struct vmimg_error *err;
};

static int odd(struct parser *p)
{
	return vmimg_fail(p->err, VMIMG_ECORRUPT, "the metadata of LVM makes no sense at byte %zu",
		(size_t)(p->at - p->begin));
}

static struct vmimg_lvm_node *new_node(struct parser *p)
{
	struct vmimg_lvm_text *text = p->text;

	if (!text->blocks || text->used == BLOCK) {
		struct block *block = vmimg_new(struct block, p->err);

		if (!block)
			return NULL;
		block->next = text->blocks;
		text->blocks = block;
		text->used = 0;
	}
	return &text->blocks->nodes[text->used++];
}

static void skip(struct parser *p)
{
	for (;;) {
		while (p->at < p->end && (*p->at <= ' ' || *p->at == ','))
			p->at++;
		if (p->at == p->end || *p->at != '#')
			return;
		while (p->at < p->end && *p->at != '\n')
			p->at++;
	}
}

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		(c && strchr("_-+./@:", c));
}

/* A text in quotes, in which a backslash takes the next one as it is. */
static int quoted(struct parser *p, struct vmimg_lvm_node *node)
{
	char *to = ++p->at;

	node->text = to;
	while (p->at < p->end && *p->at != '"') {
		if (*p->at == '\\' && p->at + 1 < p->end)
			p->at++;
		*to++ = *p->at++;
	}
	if (p->at == p->end)
		return odd(p);
	*to = '\0';
	p->at++;
	return 0;
}

static int number(struct parser *p, struct vmimg_lvm_node *node)
{
	const char *from = p->at;

	for (; p->at < p->end && *p->at >= '0' && *p->at <= '9'; p->at++)
		if (__builtin_mul_overflow(node->number, 10, &node->number) ||
			__builtin_add_overflow(
				node->number, (uint64_t)(*p->at - '0'), &node->number))
			return odd(p);
	while (p->at < p->end && is_word(*p->at)) /* what has a point or a sign is not used */
		p->at++;
	return p->at > from ? 0 : odd(p);
}

static int scalar(struct parser *p, struct vmimg_lvm_node *node)
{
	return p->at < p->end && *p->at == '"' ? quoted(p, node) : number(p, node);
}

static int list(struct parser *p, struct vmimg_lvm_node *node)
{
	struct vmimg_lvm_node **link = &node->first;

	p->at++;
	for (skip(p); p->at < p->end && *p->at != ']'; skip(p)) {
		struct vmimg_lvm_node *item = new_node(p);

		if (!item)
			return -1;
		item->key = "";
		if (scalar(p, item))
			return -1;
		*link = item;
		link = &item->next;
	}
	return p->at++ < p->end ? 0 : odd(p);
}

static int section(struct parser *p, struct vmimg_lvm_node *node, unsigned depth);

static int entry(struct parser *p, struct vmimg_lvm_node *node, unsigned depth)
{
	char *end;

	node->key = p->at;
	while (p->at < p->end && is_word(*p->at))
		p->at++;
	end = p->at;
	if (end == node->key)
		return odd(p);
	skip(p);
	if (p->at < p->end && *p->at == '{') {
		*end = '\0';
		p->at++;
		return section(p, node, depth + 1);
	}
	if (p->at == p->end || *p->at != '=')
		return odd(p);
	*end = '\0';
	p->at++;
	skip(p);
	return p->at < p->end && *p->at == '[' ? list(p, node) : scalar(p, node);
}

/* Up to the closing brace, or the end of the text when it is the outermost one. */
static int section(struct parser *p, struct vmimg_lvm_node *node, unsigned depth)
{
	struct vmimg_lvm_node **link = &node->first;

	if (depth > MAX_DEPTH)
		return odd(p);
	for (skip(p); p->at < p->end && *p->at != '}'; skip(p)) {
		struct vmimg_lvm_node *item = new_node(p);

		if (!item || entry(p, item, depth))
			return -1;
		*link = item;
		link = &item->next;
	}
	if ((p->at == p->end) != !depth)
		return odd(p);
	p->at += depth != 0;
	return 0;
}

struct vmimg_lvm_text *vmimg_lvm_parse(char *bytes, size_t len, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_lvm_text_free)
	struct vmimg_lvm_text *text = vmimg_new(struct vmimg_lvm_text, err);
	struct parser p = { text, bytes, bytes, bytes + strnlen(bytes, len), err };

	if (!text || section(&p, &text->root, 0))
		return NULL;
	return vmimg_take(text);
}

void vmimg_lvm_text_free(struct vmimg_lvm_text *text)
{
	while (text && text->blocks) {
		struct block *next = text->blocks->next;

		free(text->blocks);
		text->blocks = next;
	}
	free(text);
}

const struct vmimg_lvm_node *vmimg_lvm_root(const struct vmimg_lvm_text *text)
{
	return &text->root;
}

const struct vmimg_lvm_node *vmimg_lvm_find(const struct vmimg_lvm_node *node, const char *key)
{
	for (node = node ? node->first : NULL; node; node = node->next)
		if (!strcmp(node->key, key))
			return node;
	return NULL;
}

const char *vmimg_lvm_string(const struct vmimg_lvm_node *node, const char *key)
{
	const struct vmimg_lvm_node *found = vmimg_lvm_find(node, key);

	return found ? found->text : NULL;
}

uint64_t vmimg_lvm_number(const struct vmimg_lvm_node *node, const char *key)
{
	const struct vmimg_lvm_node *found = vmimg_lvm_find(node, key);

	return found ? found->number : 0;
}

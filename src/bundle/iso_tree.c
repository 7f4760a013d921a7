/* SPDX-License-Identifier: Apache-2.0 */
/* The tree that goes into an image, and the plain names of its nodes. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bundle/iso_layout.h"
#include "util/num.h"

#define MAX_DEPTH 200
#define PLAIN     30 /* characters of a plain name, without its version */

void vmimg_iso_free(struct vmimg_iso_node *node)
{
	if (!node)
		return;
	for (size_t i = 0; i < node->count; i++)
		vmimg_iso_free(node->list[i]);
	free(node->list);
	free(node->name);
	free(node->path);
	free(node->bytes);
	free(node->target);
	free(node);
}

struct vmimg_iso_node *vmimg_iso_folder(const char *name, struct vmimg_error *err)
{
	struct vmimg_iso_node *node = vmimg_new(struct vmimg_iso_node, err);

	if (!node)
		return NULL;
	node->mode = S_IFDIR | 0755;
	node->parent = node;
	node->name = vmimg_strdup(name, err);
	if (!node->name) {
		vmimg_iso_free(node);
		return NULL;
	}
	return node;
}

struct vmimg_iso_node *vmimg_iso_add(
	struct vmimg_iso_node *folder, const char *name, uint32_t mode, struct vmimg_error *err)
{
	struct vmimg_iso_node *node;

	if (vmimg_grow_array(
		    &folder->list, &folder->cap, folder->count + 1, sizeof(*folder->list), err))
		return NULL;
	node = vmimg_iso_folder(name, err);
	if (!node)
		return NULL;
	node->mode = mode;
	node->parent = folder;
	folder->list[folder->count++] = node;
	return node;
}

struct vmimg_iso_node *vmimg_iso_add_file(
	struct vmimg_iso_node *folder, const char *name, const char *path, struct vmimg_error *err)
{
	struct vmimg_iso_node *node;
	struct stat st;

	if (stat(path, &st)) {
		vmimg_fail_sys(err, errno, "%s", path);
		return NULL;
	}
	if (!S_ISREG(st.st_mode)) {
		vmimg_fail(err, VMIMG_EINVAL, "%s is not a regular file", path);
		return NULL;
	}
	node = vmimg_iso_add(folder, name, S_IFREG | (st.st_mode & 0777), err);
	if (!node)
		return NULL;
	node->mtime = st.st_mtime;
	node->size = (uint64_t)st.st_size;
	node->path = vmimg_strdup(path, err);
	return node->path ? node : NULL;
}

struct vmimg_iso_node *vmimg_iso_add_bytes(struct vmimg_iso_node *folder, const char *name,
	const void *bytes, size_t len, struct vmimg_error *err)
{
	struct vmimg_iso_node *node = vmimg_iso_add(folder, name, S_IFREG | 0644, err);

	if (!node || !(node->bytes = vmimg_alloc_array(len + 1, 1, err)))
		return NULL;
	memcpy(node->bytes, bytes, len);
	node->size = len;
	return node;
}

/* ---- from a folder on disk --------------------------------------------------------------- */

static int add_link(struct vmimg_iso_node *node, const char *path, struct vmimg_error *err)
{
	char target[1024];
	ssize_t len = readlink(path, target, sizeof(target));

	if (len < 0)
		return vmimg_fail_sys(err, errno, "%s", path);
	if ((size_t)len >= sizeof(target))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"%s: a link to a path of more than %zu bytes", path, sizeof(target) - 1);
	node->target = strndup(target, (size_t)len);
	return node->target ? 0 : vmimg_fail_nomem(err);
}

static int add_tree(struct vmimg_iso_node *folder, const char *path, unsigned depth,
	uint64_t *left_out, struct vmimg_error *err);

static int add_entry(struct vmimg_iso_node *folder, const char *path, const char *name,
	unsigned depth, uint64_t *left_out, struct vmimg_error *err)
{
	struct vmimg_iso_node *node;
	struct stat st;

	if (lstat(path, &st))
		return vmimg_fail_sys(err, errno, "%s", path);
	if (S_ISREG(st.st_mode))
		return vmimg_iso_add_file(folder, name, path, err) ? 0 : -1;
	if (!S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode)) {
		++*left_out;
		return 0;
	}
	node = vmimg_iso_add(folder, name, st.st_mode, err);
	if (!node)
		return -1;
	node->mtime = st.st_mtime;
	return S_ISLNK(st.st_mode) ? add_link(node, path, err)
				   : add_tree(node, path, depth + 1, left_out, err);
}

static int add_tree(struct vmimg_iso_node *folder, const char *path, unsigned depth,
	uint64_t *left_out, struct vmimg_error *err)
{
	DIR *dir = depth < MAX_DEPTH ? opendir(path) : NULL;
	struct dirent *entry;
	int failed = 0;

	if (!dir)
		return depth < MAX_DEPTH
			? vmimg_fail_sys(err, errno, "%s", path)
			: vmimg_fail(err, VMIMG_ELIMIT, "more than %d folders deep", MAX_DEPTH);
	while (!failed && (entry = readdir(dir))) {
		char *below;

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (asprintf(&below, "%s/%s", path, entry->d_name) < 0) {
			failed = vmimg_fail_nomem(err);
			break;
		}
		failed = add_entry(folder, below, entry->d_name, depth, left_out, err);
		free(below);
	}
	closedir(dir);
	return failed;
}

int vmimg_iso_add_tree(struct vmimg_iso_node *folder, const char *path, uint64_t *left_out,
	struct vmimg_error *err)
{
	struct stat st;

	if (stat(path, &st))
		return vmimg_fail_sys(err, errno, "%s", path);
	folder->mtime = st.st_mtime;
	return add_tree(folder, path, 0, left_out, err);
}

struct vmimg_iso_node *vmimg_iso_find(struct vmimg_iso_node *root, const char *path)
{
	struct vmimg_iso_node *node = root;

	for (path += strspn(path, "/"); node && *path; path += strspn(path, "/")) {
		size_t len = strcspn(path, "/"), i = 0;

		while (i < node->count &&
			(strncmp(node->list[i]->name, path, len) || node->list[i]->name[len]))
			i++;
		node = i < node->count ? node->list[i] : NULL;
		path += len;
	}
	return node;
}

/* ---- plain names ------------------------------------------------------------------------- */

static char plain_char(char c)
{
	if (c >= 'a' && c <= 'z')
		return (char)(c - 'a' + 'A');
	return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
}

/* Letters, digits and underscores, and for files one dot: "my.tar.gz" is MY_TAR.GZ. number makes
 * it another one; 0: as it comes. */
static void set_plain(struct vmimg_iso_node *node, unsigned number)
{
	bool folder = S_ISDIR(node->mode);
	const char *last = folder ? NULL : strrchr(node->name, '.');
	const char *dot = last && last != node->name ? last : NULL;
	size_t base = dot ? (size_t)(dot - node->name) : strlen(node->name), used = 0;
	size_t suffix = dot ? strnlen(dot + 1, 8) : 0, most = PLAIN - suffix - 1;
	char tail[12] = "";
	size_t tail_len;

	if (number)
		snprintf(tail, sizeof(tail), "_%X", number);
	tail_len = strlen(tail);
	for (size_t i = 0; i < base && used < most - tail_len; i++)
		node->iso_name[used++] = plain_char(node->name[i]);
	memcpy(node->iso_name + used, tail, tail_len);
	used += tail_len;
	if (!folder) {
		node->iso_name[used++] = '.';
		for (size_t i = 0; i < suffix; i++)
			node->iso_name[used++] = plain_char(dot[1 + i]);
		node->iso_name[used++] = ';';
		node->iso_name[used++] = '1';
	}
	node->iso_name[used] = '\0';
}

static int by_plain(const void *a, const void *b)
{
	const struct vmimg_iso_node *x = *(struct vmimg_iso_node *const *)a;
	const struct vmimg_iso_node *y = *(struct vmimg_iso_node *const *)b;

	return strcmp(x->iso_name, y->iso_name);
}

static int by_name(const void *a, const void *b)
{
	const struct vmimg_iso_node *x = *(struct vmimg_iso_node *const *)a;
	const struct vmimg_iso_node *y = *(struct vmimg_iso_node *const *)b;

	return strcmp(x->name, y->name);
}

/* Numbers are given in the order of the real names, so that they do not depend on the disk's. */
static int name_folder(struct vmimg_iso_node *folder, struct vmimg_error *err)
{
	unsigned number = 0;
	bool again = true;

	if (!folder->count)
		return 0;
	qsort(folder->list, folder->count, sizeof(*folder->list), by_name);
	for (size_t i = 0; i < folder->count; i++)
		set_plain(folder->list[i], 0);
	while (again) {
		again = false;
		qsort(folder->list, folder->count, sizeof(*folder->list), by_plain);
		for (size_t i = 1; i < folder->count; i++)
			if (!strcmp(folder->list[i - 1]->iso_name, folder->list[i]->iso_name)) {
				if (++number > 0xfffff)
					return vmimg_fail(err, VMIMG_ELIMIT,
						"too many alike names in one folder");
				set_plain(folder->list[i], number);
				again = true;
			}
	}
	return 0;
}

int vmimg_iso_name_all(struct vmimg_iso_node *root, struct vmimg_error *err)
{
	if (name_folder(root, err))
		return -1;
	for (size_t i = 0; i < root->count; i++)
		if (S_ISDIR(root->list[i]->mode) && vmimg_iso_name_all(root->list[i], err))
			return -1;
	return 0;
}

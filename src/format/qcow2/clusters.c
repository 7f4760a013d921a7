/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of pages. */
#include "format/qcow2/clusters.h"
#include <inttypes.h>
#include "util/num.h"

#define PAGE 4096U
#define MAX_PAGES                                                                      \
	(UINT64_C(1) << 28) /* a directory of 2 GiB of address space, mostly untouched \
			     */

int vmimg_qcow2_clusters_init(
	struct vmimg_qcow2_clusters *c, uint64_t count, struct vmimg_error *err)
{
	c->count = count;
	c->page_count = vmimg_div_up(count, PAGE);
	if (c->page_count > MAX_PAGES)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"a file of %" PRIu64 " clusters is more than can be checked", count);
	c->pages = vmimg_alloc_array((size_t)c->page_count, sizeof(*c->pages), err);
	return c->pages ? 0 : -1;
}

void vmimg_qcow2_clusters_done(struct vmimg_qcow2_clusters *c)
{
	for (uint64_t i = 0; c->pages && i < c->page_count; i++)
		free(c->pages[i]);
	free(c->pages);
}

struct vmimg_qcow2_cluster *vmimg_qcow2_clusters_at(
	struct vmimg_qcow2_clusters *c, uint64_t index, struct vmimg_error *err)
{
	struct vmimg_qcow2_cluster **page = &c->pages[index / PAGE];

	if (!*page)
		*page = vmimg_alloc_array(PAGE, sizeof(**page), err);
	return *page ? *page + index % PAGE : NULL;
}

bool vmimg_qcow2_clusters_next(
	const struct vmimg_qcow2_clusters *c, uint64_t *index, struct vmimg_qcow2_cluster **cluster)
{
	while (*index < c->count) {
		if (c->pages[*index / PAGE]) {
			*cluster = c->pages[*index / PAGE] + *index % PAGE;
			return true;
		}
		*index = (*index / PAGE + 1) * PAGE;
	}
	return false;
}

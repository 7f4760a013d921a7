/* SPDX-License-Identifier: Apache-2.0 */
/* What QCOW2's check knows of clusters, against plain arrays. */
#include "check.h"
#include "format/qcow2/clusters.h"
#include "util/num.h"

#define COUNT 40000U

static struct vmimg_error err;
static uint64_t counted[COUNT], stated[COUNT];
static uint32_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * 1103515245 + 12345;
	return (uint32_t)((uint64_t)random_state * limit >> 32);
}

/* Refcount blocks of 512 bytes or 4 KiB, of which most are empty. */
static void state_some(struct vmimg_qcow2_clusters *c, uint32_t cluster, unsigned order)
{
	uint64_t each = ((uint64_t)cluster * 8) >> order;
	uint8_t block[8192];

	for (uint64_t first = 0; first < COUNT; first += each) {
		memset(block, 0, cluster);
		for (uint32_t i = 0; random_below(3) == 0 && i < 20; i++) {
			uint64_t at = random_below((uint32_t)each);
			uint64_t refs = 1 + random_below(order ? 3 : 1);

			vmimg_qcow2_set_refcount(block, at, order, refs);
			if (first + at < COUNT)
				stated[first + at] = refs;
		}
		CHECK(!vmimg_qcow2_clusters_state(c, first, block, cluster, &err));
	}
}

static void refer_some(struct vmimg_qcow2_clusters *c)
{
	for (int i = 0; i < 200; i++) {
		uint64_t first = random_below(COUNT), end = first + 1;
		uint32_t refs = 1 + random_below(3);

		if (i % 10 == 0)
			end = vmimg_min(COUNT, first + 1 + random_below(5000));
		CHECK(!vmimg_qcow2_clusters_refer(c, first, end, refs, &err));
		for (uint64_t k = first; k < end; k++)
			counted[k] += refs;
		CHECK(vmimg_qcow2_clusters_counted(c, first) == counted[first]);
	}
}

static void agree(struct vmimg_qcow2_clusters *c)
{
	struct vmimg_qcow2_refs refs;
	uint64_t next = 0;

	for (uint64_t i = 0; vmimg_qcow2_clusters_walk(c, &i, UINT64_MAX, &refs); i++) {
		for (; next < i; next++)
			CHECK(!counted[next] && !stated[next]);
		CHECK(refs.counted == counted[i] && refs.stated == stated[i]);
		next = i + 1;
	}
	for (; next < COUNT; next++)
		CHECK(!counted[next] && !stated[next]);
	for (int i = 0; i < 5000; i++) {
		uint64_t at = random_below(COUNT);

		CHECK(vmimg_qcow2_clusters_counted(c, at) == counted[at]);
		CHECK(vmimg_qcow2_clusters_stated(c, at) == stated[at]);
	}
}

static void clusters_are_what_was_noted(void)
{
	static const uint32_t sizes[] = { 512, 4096, 8192 };
	static const unsigned orders[] = { 0, 1, 4, 6 };

	for (size_t k = 0; k < VMIMG_ARRAY_LEN(sizes) * VMIMG_ARRAY_LEN(orders); k++) {
		struct vmimg_qcow2_clusters c = { 0 };
		struct vmimg_qcow2 q = { .cluster = sizes[k / VMIMG_ARRAY_LEN(orders)] };

		q.header.refcount_order = orders[k % VMIMG_ARRAY_LEN(orders)];
		memset(counted, 0, sizeof(counted));
		memset(stated, 0, sizeof(stated));
		CHECK(!vmimg_qcow2_clusters_init(&c, &q, COUNT, &err));
		state_some(&c, q.cluster, q.header.refcount_order);
		for (int rounds = 0; rounds < 3;
			rounds++) { /* ranges come after others were sorted */
			refer_some(&c);
			CHECK(!vmimg_qcow2_clusters_sort(&c, &err));
			agree(&c);
		}
		vmimg_qcow2_clusters_done(&c);
	}
}

static void scattered_clusters_cost_little(void)
{
	struct vmimg_qcow2_clusters c = { 0 };
	struct vmimg_qcow2 q = { .cluster = 512 };
	struct vmimg_qcow2_cluster *cluster;
	uint64_t seen = 0;

	CHECK(!vmimg_qcow2_clusters_init(&c, &q, UINT64_C(1) << 50, &err));
	for (uint64_t i = 0; i < 100000; i++) {
		cluster = vmimg_qcow2_clusters_at(&c, (i * 7919 % 100000) << 33, &err);
		CHECK(cluster && !cluster->l2_refs);
		cluster->l2_refs = 1;
	}
	CHECK(c.group_count == 100000 && !vmimg_qcow2_clusters_sort(&c, &err));
	for (uint64_t i = 0; vmimg_qcow2_clusters_next(&c, &i, &cluster); i++)
		if (cluster->l2_refs)
			CHECK(i == seen++ << 33);
	CHECK(seen == 100000);
	vmimg_qcow2_clusters_done(&c);
}

UNIT_TESTS(TEST(clusters_are_what_was_noted), TEST(scattered_clusters_cost_little));
UNIT_MAIN()

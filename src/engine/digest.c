/* SPDX-License-Identifier: Apache-2.0 */
/* Reading runs ahead on all threads; a plain digest is fed in order, tree leaves are hashed at
 * once. */
#include "engine/digest.h"
#include <string.h>
#include "util/bytes.h"
#include "util/num.h"
#include "util/zero.h"

#define CHUNK  (256U << 10)
#define LEAF   65536U
#define LEAVES (CHUNK / LEAF)

struct job {
	struct vmimg_disk *disk;
	struct vmimg_hash *hash; /* of the whole, or of the tree's root; used in turn only */
	bool tree;
	const struct vmimg_run_how *how;
};

struct worker {
	struct vmimg_reader *reader;
	struct vmimg_hash *leaf_hash;
	uint8_t *data;
	uint8_t leaf[LEAVES][VMIMG_HASH_MAX];
	bool used[LEAVES];
};

static void worker_free(void *arg)
{
	struct worker *w = arg;

	if (!w)
		return;
	vmimg_reader_free(w->reader);
	vmimg_hash_free(w->leaf_hash);
	free(w->data);
	free(w);
}

static void *worker_new(void *arg, struct vmimg_error *err)
{
	struct worker *w = vmimg_new(struct worker, err);

	(void)arg;
	if (!w)
		return NULL;
	w->reader = vmimg_reader_new(err);
	w->data = vmimg_alloc_buffer(CHUNK, err);
	w->leaf_hash = vmimg_hash_new("sha256", err);
	if (!w->reader || !w->data || !w->leaf_hash) {
		worker_free(w);
		return NULL;
	}
	return w;
}

static int work(void *arg, void *worker, const struct vmimg_deal *deal, struct vmimg_error *err)
{
	struct job *job = arg;
	struct worker *w = worker;

	if (deal->kind != VMIMG_PIECE_DATA)
		return 0;
	if (vmimg_reader_pread(w->reader, job->disk, w->data, (size_t)deal->len, deal->guest, err))
		return -1;
	for (size_t i = 0, at = 0; job->tree && at < deal->len; i++, at += LEAF) {
		size_t len = (size_t)vmimg_min(LEAF, deal->len - at);

		w->used[i] = !vmimg_is_zero(w->data + at, len);
		if (!w->used[i])
			continue;
		vmimg_hash_update(w->leaf_hash, w->data + at, len);
		vmimg_hash_final(w->leaf_hash, w->leaf[i]);
	}
	return 0;
}

static void feed_leaves(struct job *job, struct worker *w, const struct vmimg_deal *deal)
{
	uint8_t offset[8];

	for (size_t i = 0, at = 0; at < deal->len; i++, at += LEAF) {
		if (!w->used[i])
			continue;
		vmimg_put_le64(offset, deal->guest + at);
		vmimg_hash_update(job->hash, offset, sizeof(offset));
		vmimg_hash_update(job->hash, w->leaf[i], 32);
	}
}

static int feed_zeroes(struct job *job, uint64_t len, struct vmimg_error *err)
{
	static const uint8_t zeroes[65536];

	while (len) {
		size_t step = (size_t)vmimg_min(len, sizeof(zeroes));

		if (job->how->cancel && atomic_load(job->how->cancel))
			return vmimg_fail(err, VMIMG_ECANCELLED, "interrupted");
		vmimg_hash_update(job->hash, zeroes, step);
		len -= step;
	}
	return 0;
}

static int turn(
	void *arg, void *worker, const struct vmimg_deal *deal, bool *stop, struct vmimg_error *err)
{
	struct job *job = arg;
	struct worker *w = worker;

	(void)stop;
	if (deal->kind != VMIMG_PIECE_DATA)
		return job->tree ? 0 : feed_zeroes(job, deal->len, err);
	if (job->tree)
		feed_leaves(job, w, deal);
	else
		vmimg_hash_update(job->hash, w->data, (size_t)deal->len);
	return 0;
}

static const struct vmimg_flow_ops digest_ops = {
	.worker_new = worker_new,
	.worker_free = worker_free,
	.work = work,
	.turn = turn,
};

static void start_tree(struct job *job)
{
	static const char label[] = "vmimg-tree-1";
	uint8_t size[8];

	vmimg_put_le64(size, job->disk->size);
	vmimg_hash_update(job->hash, label, sizeof(label));
	vmimg_hash_update(job->hash, size, sizeof(size));
}

int vmimg_digest_run(struct vmimg_disk *disk, const char *algorithm,
	const struct vmimg_run_how *how, char hex[2 * VMIMG_HASH_MAX + 1], struct vmimg_error *err)
{
	bool tree = !strcmp(algorithm, "tree");
	VMIMG_AUTO(vmimg_hash_free)
	struct vmimg_hash *hash = vmimg_hash_new(tree ? "sha256" : algorithm, err);
	struct job job = { .disk = disk, .hash = hash, .tree = tree, .how = how };
	struct vmimg_source source;
	uint8_t out[VMIMG_HASH_MAX];
	int failed;

	if (!hash)
		return -1;
	if (tree)
		start_tree(&job);
	vmimg_source_init(&source, disk, LEAF, CHUNK);
	failed = vmimg_flow_run(&source, &digest_ops, &job, how, err);
	vmimg_source_done(&source);
	if (failed)
		return -1;
	vmimg_hex(hex, out, vmimg_hash_final(hash, out));
	return 0;
}

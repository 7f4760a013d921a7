/* SPDX-License-Identifier: Apache-2.0 */
/* NTFS, read only. The log is not replayed. Streams beside the unnamed one are not looked at. */
#include "inspect/ntfs.h"
#include <inttypes.h>
#include <string.h>
#include "util/bytes.h"
#include "util/num.h"

#define ROOT_RECORD 5U
#define IS_FOLDER   2U /* flag of a record */
#define READ_ONLY   1U /* attributes of a file */
#define ENCRYPTED   0x4000U
#define SURROGATE   0x20000000U          /* of a reparse tag: it stands for something elsewhere */
#define TAG_CLOUD   0x9000001aU          /* of a folder it changes nothing */
#define EPOCH       INT64_C(11644473600) /* seconds from 1601 to 1970 */

static struct vmimg_ntfs *ntfs_of(struct vmimg_fs *fs)
{
	return (struct vmimg_ntfs *)fs;
}

/* ---- nodes ------------------------------------------------------------------------------- */

/* What one record says of itself; size and tag may stand in another. */
struct facts {
	bool folder, has_size, has_list;
	uint32_t attributes, tag;
	uint64_t size;
	int64_t mtime;
};

static int gather(
	struct vmimg_ntfs *ntfs, const uint8_t *raw, struct facts *facts, struct vmimg_error *err)
{
	struct vmimg_ntfs_attribute a;
	size_t at = 0;
	int more;

	facts->folder = vmimg_get_le16(raw + 22) & IS_FOLDER;
	while ((more = vmimg_ntfs_next(raw, ntfs->record_size, &at, &a, err)) > 0) {
		if (a.type == VMIMG_NTFS_STANDARD && a.value && a.value_len >= 36) {
			facts->mtime = (int64_t)(vmimg_get_le64(a.value + 8) / 10000000) - EPOCH;
			facts->attributes = vmimg_get_le32(a.value + 32);
		} else if (vmimg_ntfs_is(&a, VMIMG_NTFS_DATA, "")) {
			facts->has_size = true;
			facts->size = a.value ? a.value_len : vmimg_get_le64(a.raw + 48);
		} else if (a.type == VMIMG_NTFS_REPARSE && a.value && a.value_len >= 8) {
			facts->tag = vmimg_get_le32(a.value);
		}
		facts->has_list |= a.type == VMIMG_NTFS_LIST;
	}
	return more;
}

/* The same of a record that is continued elsewhere. */
static int gather_listed(
	struct vmimg_ntfs *ntfs, uint64_t number, struct facts *facts, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_ntfs_done) struct vmimg_ntfs_stream data = { 0 };
	VMIMG_AUTO(vmimg_ntfs_done) struct vmimg_ntfs_stream reparse = { 0 };
	bool found;
	uint8_t tag[4];

	if (!facts->folder) {
		if (vmimg_ntfs_open_stream(ntfs, number, VMIMG_NTFS_DATA, "", &data, &found, err))
			return -1;
		facts->size = data.size;
	}
	if (facts->tag)
		return 0;
	if (vmimg_ntfs_open_stream(ntfs, number, VMIMG_NTFS_REPARSE, "", &reparse, &found, err))
		return -1;
	if (found && reparse.size >= sizeof(tag)) {
		if (vmimg_ntfs_read(ntfs, &reparse, tag, sizeof(tag), 0, err))
			return -1;
		facts->tag = vmimg_get_le32(tag);
	}
	return 0;
}

static enum vmimg_node_kind kind_of(const struct facts *facts)
{
	if (facts->tag == VMIMG_TAG_SYMLINK || facts->tag == VMIMG_TAG_JUNCTION ||
		facts->tag == VMIMG_TAG_LX_LINK)
		return VMIMG_NODE_LINK;
	if (facts->tag & SURROGATE)
		return VMIMG_NODE_OTHER;
	return facts->folder ? VMIMG_NODE_DIR : VMIMG_NODE_FILE;
}

int vmimg_ntfs_node(struct vmimg_ntfs *ntfs, uint64_t reference, struct vmimg_node *node,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *raw = vmimg_alloc_buffer(ntfs->record_size, err);
	uint64_t number = reference & VMIMG_NTFS_NUMBER;
	static const uint32_t types[] = { 0100644, 040755, 0120777, 0100000 };
	struct facts facts = { 0 };

	if (!raw || vmimg_ntfs_record(ntfs, number, raw, err))
		return -1;
	if (reference >> 48 && vmimg_get_le16(raw + 16) != reference >> 48)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"an entry of a folder names a file that was in MFT record %" PRIu64
			" earlier",
			number);
	if (gather(ntfs, raw, &facts, err) ||
		(facts.has_list && gather_listed(ntfs, number, &facts, err)))
		return -1;
	memset(node, 0, sizeof(*node));
	node->kind = kind_of(&facts);
	node->mode = types[node->kind];
	if (node->kind == VMIMG_NODE_FILE && facts.attributes & READ_ONLY)
		node->mode &= ~0222U;
	node->size = node->kind == VMIMG_NODE_FILE ? facts.size : 0;
	node->mtime = facts.mtime;
	node->id = number;
	node->more[0] = facts.tag;
	return 0;
}

/* ---- content ----------------------------------------------------------------------------- */

/* The stream of the file that was read last is kept: a file is read in many pieces. */
static int open_file(struct vmimg_ntfs *ntfs, uint64_t number, struct vmimg_error *err)
{
	bool found;

	if (number && ntfs->file.number == number)
		return 0;
	vmimg_ntfs_done(&ntfs->file);
	ntfs->left = VMIMG_NTFS_LISTED;
	if (!vmimg_ntfs_open_stream(ntfs, number, VMIMG_NTFS_DATA, "", &ntfs->file, &found, err)) {
		if (found)
			return 0;
		vmimg_fail(err, VMIMG_ECORRUPT, "MFT record %" PRIu64 " has no data", number);
	}
	vmimg_ntfs_done(&ntfs->file);
	return -1;
}

static int ntfs_read(struct vmimg_fs *fs, const struct vmimg_node *node, void *buf, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	struct vmimg_ntfs *ntfs = ntfs_of(fs);

	if (node->more[0] && node->more[0] != TAG_CLOUD)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the file's content is kept in a way of its own (reparse tag 0x%08x), "
			"which is not read here",
			(unsigned)node->more[0]);
	if (open_file(ntfs, node->id, err))
		return -1;
	if (ntfs->file.flags & ENCRYPTED)
		return vmimg_fail(
			err, VMIMG_EUNSUPPORTED, "the file is encrypted (EFS) and not read here");
	return vmimg_ntfs_read(ntfs, &ntfs->file, buf, len, at, err);
}

/* ---- opening ----------------------------------------------------------------------------- */

static int read_boot(struct vmimg_ntfs *ntfs, uint64_t *mft, struct vmimg_error *err)
{
	uint8_t s[512];
	uint32_t sector;

	if (vmimg_io_pread(ntfs->io, s, sizeof(s), 0, err))
		return -1;
	sector = vmimg_get_le16(s + 11);
	ntfs->cluster = vmimg_ntfs_size(s[13], sector);
	ntfs->record_size = vmimg_ntfs_size(s[64], ntfs->cluster);
	*mft = vmimg_get_le64(s + 48);
	if (!ntfs->cluster || !vmimg_is_pow2(ntfs->cluster) || ntfs->cluster < sector ||
		ntfs->record_size < 512 || ntfs->record_size > 65536 ||
		!vmimg_is_pow2(ntfs->record_size))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the boot sector has clusters of %u bytes and MFT records of %u",
			ntfs->cluster, ntfs->record_size);
	ntfs->clusters = vmimg_get_le64(s + 40) / (ntfs->cluster / sector);
	if (ntfs->clusters > VMIMG_UNKNOWN / 4 / ntfs->cluster || *mft >= ntfs->clusters)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the MFT lies at cluster %" PRIu64 " of %" PRIu64, *mft, ntfs->clusters);
	return 0;
}

static int load(struct vmimg_ntfs *ntfs, struct vmimg_error *err)
{
	uint64_t mft;

	if (read_boot(ntfs, &mft, err) || vmimg_ntfs_open_mft(ntfs, mft, err) ||
		vmimg_ntfs_node(ntfs, ROOT_RECORD, &ntfs->fs.root, err))
		return -1;
	return ntfs->fs.root.kind == VMIMG_NODE_DIR
		? 0
		: vmimg_fail(err, VMIMG_ECORRUPT, "the root of NTFS is no folder");
}

static void ntfs_close(struct vmimg_fs *fs)
{
	struct vmimg_ntfs *ntfs = ntfs_of(fs);

	vmimg_ntfs_done(&ntfs->mft);
	vmimg_ntfs_done(&ntfs->file);
	free(ntfs->upper);
	vmimg_table_free(ntfs->table);
	vmimg_io_unref(ntfs->io);
	free(ntfs);
}

static const struct vmimg_fs_ops ntfs_ops = {
	.list = vmimg_ntfs_list,
	.lookup = vmimg_ntfs_lookup,
	.read = ntfs_read,
	.readlink = vmimg_ntfs_readlink,
	.close = ntfs_close,
};

struct vmimg_fs *vmimg_ntfs_open(struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_ntfs *ntfs = vmimg_new(struct vmimg_ntfs, err);

	if (!ntfs)
		return NULL;
	ntfs->fs.ops = &ntfs_ops;
	ntfs->fs.folds = true;
	ntfs->left = VMIMG_NTFS_LISTED;
	ntfs->io = vmimg_io_ref(io);
	ntfs->table = ntfs->fs.reads = vmimg_table_new(io, err);
	if (!ntfs->table || load(ntfs, err)) {
		ntfs_close(&ntfs->fs);
		return NULL;
	}
	return &ntfs->fs;
}

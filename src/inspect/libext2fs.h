/* SPDX-License-Identifier: Apache-2.0 */
/* The functions of libext2fs that are used, found with dlsym. Their types come from its own
 * headers. */
#pragma once
#include <ext2fs/ext2_fs.h>
#include <ext2fs/ext2fs.h>

#define VMIMG_LIBEXT2FS(F)             \
	F(ext2fs_open2)                \
	F(ext2fs_free)                 \
	F(ext2fs_read_inode_full)      \
	F(ext2fs_dir_iterate2)         \
	F(ext2fs_file_open2)           \
	F(ext2fs_file_llseek)          \
	F(ext2fs_file_read)            \
	F(ext2fs_file_close)           \
	F(initialize_ext2_error_table) \
	F(error_message)

#define VMIMG_LIBEXT2FS_MEMBER_(name) __typeof__(name) *name;
struct vmimg_libext2fs {
	VMIMG_LIBEXT2FS(VMIMG_LIBEXT2FS_MEMBER_)
};

/* Loaded on first use, from any thread; NULL: it is not to be had. */
const struct vmimg_libext2fs *vmimg_libext2fs_get(void);

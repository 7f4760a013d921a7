/* SPDX-License-Identifier: Apache-2.0 */
/* The io functions of the public interface: files by path, and what a caller brings. */
#include "io/file.h"
#include "io/io.h"
#include "io/journal.h"

struct user {
	struct vmimg_io io;
	struct vmimg_user_io brought;
};

static int user_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	const struct vmimg_user_io *brought = &((struct user *)io)->brought;

	return brought->pread(brought->ctx, buf, len, at, err);
}

static void user_close(struct vmimg_io *io)
{
	const struct vmimg_user_io *brought = &((struct user *)io)->brought;

	if (brought->close)
		brought->close(brought->ctx);
	free(io);
}

static const struct vmimg_io_ops user_ops = {
	.pread = user_pread,
	.close = user_close,
};

struct vmimg_io *vmimg_io_open_user(const struct vmimg_user_io *brought, struct vmimg_error *err)
{
	struct user *user = vmimg_new(struct user, err);

	if (!user || vmimg_io_init(&user->io, &user_ops, NULL, err)) {
		free(user);
		return NULL;
	}
	user->brought = *brought;
	atomic_init(&user->io.size, brought->size);
	return &user->io;
}

struct vmimg_io *vmimg_io_open_file(const char *path, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *file = vmimg_file_open(path, false, err);
	bool cut_off;

	return file ? vmimg_journal_view(file, &cut_off, err) : NULL;
}

void vmimg_io_close(struct vmimg_io *io)
{
	vmimg_io_unref(io);
}

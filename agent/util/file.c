/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/util/account.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"

int file_open_directory(const char *path, unsigned int mode, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return -errno;
	fd = TEMP_FAILURE_RETRY(open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
	if (fd < 0)
		return errno == ELOOP ? -ENOTDIR : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	/* To root, that of the agent's user is one that can be taken over. */
	if ((st.st_uid != geteuid() && (geteuid() != 0 || !account_is_trusted(st.st_uid))) ||
		(st.st_mode & (S_IWGRP | S_IWOTH)))
		return -EPERM;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int write_all(int fd, const char *text, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, text, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) /* taking nothing, without a reason, would go on for ever */
			return n < 0 ? -errno : -EIO;
		text += n;
		size -= (size_t)n;
	}
	return 0;
}

int file_replace(int directory, const char *name, const char *text, size_t size)
{
	_cleanup_close_ int fd = -1;
	char beside[256];
	int r;

	r = snprintf(beside, sizeof(beside), ".%s.new", name);
	if (r < 0 || (size_t)r >= sizeof(beside))
		return -ENAMETOOLONG;
	/* What is there was left by an agent that was killed here. */
	if (unlinkat(directory, beside, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = TEMP_FAILURE_RETRY(openat(
		directory, beside, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640));
	if (fd < 0)
		return -errno;
	r = write_all(fd, text, size);
	if (r == 0 && renameat(directory, beside, directory, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(directory, beside, 0);
	return r;
}

/* Makes room for more behind `size`, of at most `max` bytes in all. */
static int make_room(char **text, size_t size, size_t max, size_t *room)
{
	size_t more = size < max / 2 ? 2 * size : max;
	char *grown;

	if (size < *room)
		return 0;
	grown = realloc(*text, more);
	if (!grown)
		return -ENOMEM;
	*text = grown;
	*room = more;
	return 0;
}

int file_read_at(int directory, const char *path, size_t max, char **ret, size_t *ret_size)
{
	_cleanup_close_ int fd = TEMP_FAILURE_RETRY(
		openat(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
	_cleanup_free_ char *text = NULL;
	size_t size = 0, room;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uintmax_t)st.st_size > max)
		return -E2BIG;
	/* Files of /proc do not tell their size, and others may grow while we read. */
	room = max < 4096 ? max + 1 : 4096;
	if ((size_t)st.st_size >= room)
		room = (size_t)st.st_size + 1;
	text = malloc(room);
	if (!text)
		return -ENOMEM;
	for (;;) {
		ssize_t n;

		if (make_room(&text, size, max + 1, &room) < 0)
			return -ENOMEM;
		n = read(fd, text + size, room - size);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		size += (size_t)n;
		if (size > max)
			return -E2BIG;
	}
	/* Nobody shortens what is replaced as a whole; files of /proc say 0. */
	if (size < (size_t)st.st_size)
		return -EAGAIN;
	text[size] = '\0';
	*ret = TAKE_PTR(text);
	*ret_size = size;
	return 0;
}

int file_read(const char *path, size_t max, char **ret, size_t *ret_size)
{
	return file_read_at(AT_FDCWD, path, max, ret, ret_size);
}

int file_next_entry(DIR *dir, const struct dirent **ret)
{
	const struct dirent *entry;

	errno = 0;
	entry = readdir(dir);
	if (!entry)
		return -errno;
	*ret = entry;
	return 1;
}

/* SPDX-License-Identifier: MIT */
#pragma once
/* Files that others read while we write, and files that others wrote. 0 or -errno. */

#include <dirent.h>
#include <stddef.h>

/*
 * Opens a directory of our own, made with `mode` (octal) if need be. -ENOTDIR: something else is there,
 * a symbolic link included; -EPERM: it belongs to somebody else or others may write to it. Root takes that
 * of the agent's user for its own.
 */
int file_open_directory(const char *path, unsigned int mode, int *ret_fd);

/* Replaces `name` in `directory` in one step: readers see the old text or the new one. Mode 0640. */
int file_replace(int directory, const char *name, const char *text, size_t size);

/*
 * Reads a regular file of at most `max` bytes; NUL-terminated, the caller's. -E2BIG: it is larger; -EAGAIN: it ended before
 * its end.
 */
int file_read(const char *path, size_t max, char **ret, size_t *ret_size);
int file_read_at(int directory, const char *path, size_t max, char **ret, size_t *ret_size);

/* The next entry, owned by `dir`: 1; 0: there are no more; or -errno. What could not be read is not absent. */
int file_next_entry(DIR *dir, const struct dirent **ret);

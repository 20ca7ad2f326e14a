/* SPDX-License-Identifier: MIT */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/kern/pins.h"
#include "agent/util/account.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"
#include "schema/maps.h"

static const char *const prefixes[] = {
	[PIN_LINK] = "link_",
	[PIN_PROGRAM] = "prog_",
	[PIN_JUMPS] = "jumps_",
};

void pin_path(enum pin_kind kind, uint32_t number, char ret[static PIN_PATH_MAX])
{
	(void)snprintf(ret, PIN_PATH_MAX, "%s/%s%" PRIu32, MAPS_PIN_ROOT, prefixes[kind], number);
}

int pin_parse(const char *name, enum pin_kind *ret_kind, uint32_t *ret_number)
{
	for (size_t i = 0; i < ELEMENTS_OF(prefixes); i++) {
		size_t n = strlen(prefixes[i]);
		unsigned long value;
		char *end;

		if (strncmp(name, prefixes[i], n) != 0 || name[n] < '1' || name[n] > '9')
			continue;
		errno = 0;
		value = strtoul(name + n, &end, 10);
		if (errno != 0 || value > INT32_MAX || (*end != '\0' && strcmp(end, "_new") != 0))
			continue;
		*ret_kind = (enum pin_kind)i;
		*ret_number = (uint32_t)value;
		return 0;
	}
	return -ENOENT;
}

/* The kernel names what a descriptor is: kernel/bpf/syscall.c, anon_inode_getfd(). */
static int check_object(int fd, enum pin_object object)
{
	static const char *const names[] = {
		[PIN_OBJECT_MAP] = "anon_inode:bpf-map",
		[PIN_OBJECT_PROGRAM] = "anon_inode:bpf-prog",
		[PIN_OBJECT_LINK] = "anon_inode:bpf-link",
	};
	char path[64], name[64];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, name, sizeof(name) - 1);
	if (n < 0)
		return -errno;
	name[n] = '\0';
	return strcmp(name, names[object]) == 0 ? 0 : -EMEDIUMTYPE;
}

int pin_open(const char *path, enum pin_object object, bool read_only, int *ret_fd)
{
	LIBBPF_OPTS(bpf_obj_get_opts, options, .file_flags = read_only ? BPF_F_RDONLY : 0);
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode)) /* bpf(2) would follow a symbolic link */
		return -EMEDIUMTYPE;
	fd = bpf_obj_get_opts(path, &options);
	if (fd < 0)
		return -errno;
	r = check_object(fd, object);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int pin_problem(struct pin_problem *ret, const char *path, const char *format, ...)
{
	va_list ap;

	(void)snprintf(ret->path, sizeof(ret->path), "%s", path);
	va_start(ap, format);
	(void)vsnprintf(ret->reason, sizeof(ret->reason), format, ap);
	va_end(ap);
	return -EUCLEAN;
}

static int check_owner(const char *path, const struct stat *st, struct pin_problem *ret)
{
	if (!account_is_trusted(st->st_uid))
		return pin_problem(ret, path,
			"it belongs to user %u, who is neither root nor " ACCOUNT_NAME,
			(unsigned int)st->st_uid);
	return 0;
}

int pin_check_directory(const char *path, struct pin_problem *ret)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode))
		return pin_problem(ret, path, "it is no directory");
	if (st.st_mode & S_IWOTH)
		return pin_problem(ret, path, "anybody may write to it");
	return check_owner(path, &st, ret);
}

int pin_check(const char *path, enum pin_object object, struct pin_problem *ret)
{
	static const char *const names[] = {
		[PIN_OBJECT_MAP] = "a BPF map",
		[PIN_OBJECT_PROGRAM] = "a BPF program",
		[PIN_OBJECT_LINK] = "a BPF link",
	};
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	r = check_owner(path, &st, ret);
	if (r == 0)
		r = pin_open(path, object, true, &fd);
	/* A program or link cannot be opened for reading only; a map is the only one that can. */
	if (r == -EINVAL || r == -EACCES)
		r = pin_open(path, object, false, &fd);
	return r == -EMEDIUMTYPE ? pin_problem(ret, path, "it is not %s", names[object]) : r;
}

int pins_check(struct pin_problem *ret)
{
	static const enum pin_object objects[] = {
		[PIN_LINK] = PIN_OBJECT_LINK,
		[PIN_PROGRAM] = PIN_OBJECT_PROGRAM,
		[PIN_JUMPS] = PIN_OBJECT_MAP,
	};
	_cleanup_(closedirp) DIR *dir = NULL;
	const struct dirent *entry;
	int r;

	r = pin_check_directory(MAPS_PIN_ROOT, ret);
	if (r < 0)
		return r;
	dir = opendir(MAPS_PIN_ROOT);
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((r = file_next_entry(dir, &entry)) > 0) {
		char path[PIN_PATH_MAX + NAME_MAX];
		enum pin_kind kind;
		uint32_t number;

		if (pin_parse(entry->d_name, &kind, &number) < 0)
			continue;
		(void)snprintf(path, sizeof(path), "%s/%s", MAPS_PIN_ROOT, entry->d_name);
		r = pin_check(path, objects[kind], ret);
		if (r < 0)
			break;
	}
	return r;
}

int pin_share(const char *path)
{
	return chmod(path, PIN_MODE) < 0 ? -errno : 0;
}

int pin_object(int fd, const char *path)
{
	return bpf_obj_pin(fd, path) < 0 ? -errno : pin_share(path);
}

int pin_make_directory(const char *path)
{
	if (mkdir(path, PIN_DIRECTORY_MODE) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

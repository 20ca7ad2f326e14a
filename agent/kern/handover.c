/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/kern/handover.h"
#include "agent/kern/map_dirs.h"
#include "agent/kern/pins.h"
#include "agent/util/account.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"
#include "schema/maps.h"

#define BPFFS "/sys/fs/bpf"

struct heir {
	uid_t uid;
	gid_t gid;
};

static int set_mode(int fd, mode_t mode)
{
	char path[64];

	/* fchmod() refuses what was opened with O_PATH, and bpffs lets nobody open a pin. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return chmod(path, mode) < 0 ? -errno : 0;
}

/* What is right already is left alone, so that an agent with few rights can do without changing it. */
static int give(int fd, const struct heir *heir, mode_t mode)
{
	gid_t gid = heir->gid;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!account_is_trusted(st.st_uid))
		return 0;
	if (S_ISREG(st.st_mode) && st.st_nlink != 1)
		return 0;
	if (gid == HANDOVER_GROUP_NONE)
		gid = st.st_gid;
	else if (S_ISDIR(st.st_mode) && heir->uid == 0)
		mode |= S_ISGID;
	if ((st.st_uid != heir->uid || st.st_gid != gid) &&
		fchownat(fd, "", heir->uid, gid, AT_EMPTY_PATH) < 0)
		return -errno;
	return (st.st_mode & 07777) != mode ? set_mode(fd, mode) : 0;
}

static int open_at(int directory, const char *name, mode_t type, int *ret_fd)
{
	_cleanup_close_ int fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if ((st.st_mode & S_IFMT) != type)
		return -EMEDIUMTYPE;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int give_at(
	int directory, const char *name, mode_t type, const struct heir *heir, mode_t mode)
{
	_cleanup_close_ int fd = -1;
	int r = open_at(directory, name, type, &fd);

	if (r == 0)
		r = give(fd, heir, mode);
	return r == -ENOENT || r == -EMEDIUMTYPE ? 0 : r;
}

static bool is_run_file(const char *name)
{
	static const char *const names[] = { "held.json", "lock", "modes.json", "offloads.json",
		"placement.json", "status.json" };

	for (size_t i = 0; i < ELEMENTS_OF(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static bool is_any(const char *name)
{
	(void)name;
	return true;
}

static bool is_pin(const char *name)
{
	enum pin_kind kind;
	uint32_t number;

	return pin_parse(name, &kind, &number) == 0;
}

/* The regular files of a directory whose names are ours. */
static int give_files(
	int directory, bool (*is_ours)(const char *name), const struct heir *heir, mode_t mode)
{
	_cleanup_(closedirp) DIR *dir = NULL;
	const struct dirent *entry;
	int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		(void)close(fd);
		return r;
	}
	while ((r = file_next_entry(dir, &entry)) > 0) {
		if (is_ours(entry->d_name))
			r = give_at(directory, entry->d_name, S_IFREG, heir, mode);
		if (r < 0)
			break;
	}
	return r;
}

/* The directory last: until then it is closed to whom it did not belong. */
static int give_maps(int root, const char *name, const struct heir *heir)
{
	_cleanup_close_ int fd = -1;
	int r;

	r = open_at(root, name, S_IFDIR, &fd);
	if (r == 0)
		r = give_files(fd, is_any, heir, PIN_MODE);
	if (r == 0)
		r = give(fd, heir, PIN_DIRECTORY_MODE);
	return r == -ENOENT || r == -EMEDIUMTYPE ? 0 : r;
}

static int give_all_maps(int root, const struct heir *heir)
{
	_cleanup_(closedirp) DIR *dir = opendir(MAPS_PIN_ROOT);
	const struct dirent *entry;
	int r;

	if (!dir)
		return -errno;
	while ((r = file_next_entry(dir, &entry)) > 0) {
		if (map_dir_parse(entry->d_name))
			r = give_maps(root, entry->d_name, heir);
		if (r < 0)
			break;
	}
	return r;
}

int handover_pins(uid_t uid, gid_t gid)
{
	const struct heir heir = { uid, gid };
	_cleanup_close_ int root = -1;
	int r;

	r = open_at(AT_FDCWD, MAPS_PIN_ROOT, S_IFDIR, &root);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = give_all_maps(root, &heir);
	if (r == 0)
		r = give_files(root, is_pin, &heir, PIN_MODE);
	return r == 0 ? give(root, &heir, PIN_DIRECTORY_MODE) : r;
}

int handover_run_directory(int directory, uid_t uid, gid_t gid)
{
	const struct heir heir = { uid, gid };
	struct stat st;
	int r;

	if (fstat(directory, &st) < 0)
		return -errno;
	r = give_files(directory, is_run_file, &heir, 0640);
	/* What the group may open, it may lock. */
	if (r == 0)
		r = give_at(directory, "agent.lock", S_IFREG, &heir, 0600);
	/* Who else may enter is the service manager's to say, or the operator's. */
	return r == 0 ? give(directory, &heir, st.st_mode & 0777) : r;
}

int handover_open_bpffs(uid_t uid, gid_t gid)
{
	const struct heir heir = { uid, gid };
	_cleanup_close_ int fd = -1;
	struct stat st;
	int r;

	if (stat(BPFFS, &st) < 0)
		return -errno;
	if (!(st.st_mode & S_IXOTH) && chmod(BPFFS, (st.st_mode & 07777) | S_IXOTH) < 0)
		return -errno;
	r = pin_make_directory(MAPS_PIN_ROOT);
	if (r == 0)
		r = open_at(AT_FDCWD, MAPS_PIN_ROOT, S_IFDIR, &fd);
	return r == 0 ? give(fd, &heir, PIN_DIRECTORY_MODE) : r;
}

/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "agent/core/proc_text.h"
#include "agent/kern/netns.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

#define LINKS_MAX 8 /* symbolic links in a row; more have no use */

#define REASON_NOWHERE "it leads nowhere"
#define REASON_UNKNOWN "it cannot be opened just now; what was known of it holds"

/* What a look into one directory takes along. */
struct finder {
	struct rtnl *rtnl;
	const struct procs *procs;
	const char *directory;
	int fd; /* of the directory */
	const struct netns_id *own;
	struct sightings *sightings;
};

int netns_identify(int fd, struct netns_id *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret = (struct netns_id){ .dev = st.st_dev, .ino = st.st_ino };
	return 0;
}

/* The kernel answers EPERM for an owner that is neither ours nor below it: kernel/user_namespace.c, ns_get_owner(). */
int netns_owner_of(int fd, enum netns_owner *ret)
{
	_cleanup_close_ int owner = ioctl(fd, NS_GET_USERNS);
	struct stat own, st;
	bool same;

	if (owner < 0 && errno != EPERM)
		return -errno;
	if (owner >= 0 && (stat("/proc/self/ns/user", &own) < 0 || fstat(owner, &st) < 0))
		return -errno;
	same = owner >= 0 && st.st_dev == own.st_dev && st.st_ino == own.st_ino;
	*ret = same ? OWNER_HOST : OWNER_OTHER;
	return 0;
}

int netns_own(struct rtnl *rtnl, struct netns_id *ret_id, int32_t *ret_nsid)
{
	_cleanup_close_ int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct netns_id id;
	int r;

	if (fd < 0)
		return -errno;
	r = netns_identify(fd, &id);
	if (r == 0)
		r = rtnl_ask_nsid(rtnl, fd, ret_nsid);
	if (r == 0)
		*ret_id = id;
	return r;
}

/* Notes the file as none; it is reported, and nothing is lost by it. */
static int skip(struct finder *finder, const char *path, const char *reason)
{
	return sightings_skip(finder->sightings, path, reason, false);
}

static int add(struct finder *finder, const char *path, struct sighting *sighting)
{
	_cleanup_free_ char *copy = strdup(path);
	struct sighting *slot = copy ? sightings_append(finder->sightings) : NULL;

	if (!slot)
		return -ENOMEM;
	*slot = *sighting;
	slot->kind = SIGHTING_FILE;
	slot->path = TAKE_PTR(copy);
	/* Docker's keys are nobody's names: random, new with each start, and "default" for the host's. */
	if (strcmp(finder->directory, NETNS_DIR_DOCKER) != 0)
		slot->name = strrchr(slot->path, '/') + 1;
	sighting->label = NULL; /* taken over */
	return 0;
}

/* Not known is not gone: it may be what it was before. */
static int add_unknown(struct finder *finder, const char *path, struct sighting *sighting)
{
	int r;

	finder->sightings->is_incomplete = true;
	sighting->nsid = NSID_NONE;
	r = add(finder, path, sighting);
	return r < 0 ? r : skip(finder, path, REASON_UNKNOWN);
}

/* Whom the links at `path` lead to in the end. 0 or -errno; -EINVAL: not to a process. */
static int follow_links(const char *path, uint32_t *ret_pid)
{
	char place[PATH_MAX], text[PATH_MAX];

	if (strlen(path) >= sizeof(place))
		return -ENAMETOOLONG;
	(void)strcpy(place, path);
	for (int i = 0; i < LINKS_MAX; i++) {
		ssize_t n = readlink(place, text, sizeof(text) - 1);
		char *end = strrchr(place, '/');

		if (n < 0)
			return -errno;
		text[n] = '\0';
		if (proc_parse_link(text, ret_pid) == 0)
			return 0;
		if (text[0] == '/')
			end = place;
		else
			end++;
		if ((size_t)(end - place) + (size_t)n >= sizeof(place))
			return -ENAMETOOLONG;
		(void)strcpy(end, text);
	}
	return -ELOOP;
}

/*
 * A link to a process that we have no rights over cannot be opened (EACCES: ptrace(2), access mode
 * checking), but its text can be read, and the kernel asked about the process.
 */
static int find_by_link(struct finder *finder, const char *path)
{
	struct sighting sighting = { .nsid = NSID_NONE };
	uint32_t pid;
	int r;

	r = follow_links(path, &pid);
	if (r == 0)
		r = procs_look(finder->procs, finder->rtnl, pid, &sighting);
	if (r == -ESRCH || r == -ENOENT)
		return skip(finder, path, REASON_NOWHERE);
	if (r == -ENOMEM)
		return r;
	r = r < 0 ? add_unknown(finder, path, &sighting) : add(finder, path, &sighting);
	free(sighting.label);
	return r;
}

static int find_by_fd(struct finder *finder, const char *path, int fd)
{
	struct sighting sighting = { .nsid = NSID_NONE, .owner_is_certain = true };
	int type = ioctl(fd, NS_GET_NSTYPE);

	if (type < 0)
		return add_unknown(finder, path, &sighting);
	if (type != CLONE_NEWNET)
		return skip(finder, path, "a namespace, but of another kind");
	if (netns_identify(fd, &sighting.id) < 0)
		return add_unknown(finder, path, &sighting);
	if (netns_id_equal(&sighting.id, finder->own)) {
		sighting.nsid = NSID_OWN;
		return add(finder, path, &sighting);
	}
	if (netns_owner_of(fd, &sighting.owner) < 0 ||
		rtnl_get_nsid(finder->rtnl, fd, &sighting.nsid) < 0)
		return add_unknown(finder, path, &sighting);
	return add(finder, path, &sighting);
}

/* `error`: why it cannot be opened. */
static int find_by_error(struct finder *finder, const char *path, int error)
{
	struct sighting sighting = { .nsid = NSID_NONE };
	uint32_t pid;

	switch (error) {
	case -ENOENT:
	case -ENOTDIR:
		return skip(finder, path, REASON_NOWHERE);
	case -ELOOP:
		return skip(finder, path, "a loop of symbolic links");
	case -EACCES:
		return find_by_link(finder, path);
	case -EPERM:
		/* hidepid=1 of proc(5) hides as for good as hidepid=2 does, which says that nothing is there. */
		if (follow_links(path, &pid) == 0)
			return skip(finder, path, "it leads to a process that /proc hides");
		return add_unknown(finder, path, &sighting);
	default:
		return add_unknown(finder, path, &sighting);
	}
}

/* 1, 0 or -errno. */
static int is_nsfs(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) < 0 ? -errno : fs.f_type == NSFS_MAGIC;
}

/* What is not a namespace; `look` is O_PATH. */
static int find_other(struct finder *finder, const char *path, int look)
{
	struct stat st;
	uint32_t pid;

	/* Linux 5.10 gives the directory of a link that it refuses to follow. */
	if (follow_links(path, &pid) == 0)
		return find_by_link(finder, path);
	if (fstat(look, &st) == 0 && !S_ISREG(st.st_mode))
		return skip(finder, path, "no namespace, not even a file");
	/* ip-netns(8) makes a file of mode 000 first and mounts the namespace over it. */
	return sightings_skip(finder->sightings, path,
		"a plain file, no namespace (being made, or a stale mount point?)", true);
}

/* O_PATH first: opening a device may do something, and a FIFO would wait for its other end. */
static int find_one(struct finder *finder, const char *name)
{
	_cleanup_close_ int look = -1, fd = -1;
	char path[PATH_MAX];
	int r;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", finder->directory, name) >= sizeof(path))
		return 0; /* no name is so long */
	look = openat(finder->fd, name, O_PATH | O_CLOEXEC);
	if (look < 0)
		return find_by_error(finder, path, -errno);
	r = is_nsfs(look);
	if (r < 0)
		return find_by_error(finder, path, r);
	if (r == 0)
		return find_other(finder, path, look);
	fd = openat(finder->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return find_by_error(finder, path, -errno);
	r = is_nsfs(fd);
	if (r < 0)
		return find_by_error(finder, path, r);
	if (r == 0) /* unmounted since */
		return sightings_skip(
			finder->sightings, path, "its namespace was just unmounted", true);
	return find_by_fd(finder, path, fd);
}

static int find_all(struct finder *finder, DIR *dir)
{
	struct dirent *entry;
	int r = 0;

	while (r == 0) {
		errno = 0;
		entry = readdir(dir);
		if (!entry)
			return -errno;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (finder->sightings->n >= NETNS_MAX)
			finder->sightings->n_more++;
		else
			r = find_one(finder, entry->d_name);
	}
	return r;
}

int netns_find(struct rtnl *rtnl, const struct procs *procs, const char *directory,
	const struct netns_id *own, struct sightings *ret)
{
	_cleanup_(sightings_done) struct sightings sightings = { 0 };
	_cleanup_(closedirp) DIR *dir = opendir(directory);
	struct finder finder = { rtnl, procs, directory, -1, own, &sightings };
	int r;

	if (!dir && errno != ENOENT && errno != ENOTDIR)
		return -errno;
	if (dir) {
		finder.fd = dirfd(dir);
		r = find_all(&finder, dir);
		if (r < 0)
			return r;
	}
	*ret = sightings;
	sightings = (struct sightings){ 0 };
	return 0;
}

int netns_open_link_bell(void)
{
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

/* Watching again what is watched changes nothing; a directory that is not there is not watched. */
void netns_watch_links(int fd)
{
	const uint32_t mask = IN_CREATE | IN_DELETE | IN_MOVED_TO | IN_MOVED_FROM | IN_ONLYDIR;

	(void)inotify_add_watch(fd, NETNS_DIR, mask);
	(void)inotify_add_watch(fd, NETNS_DIR_DOCKER, mask);
}

void netns_read_link_bell(int fd)
{
	char buffer[4096];

	while (read(fd, buffer, sizeof(buffer)) > 0)
		;
}

int netns_open_mount_bell(void)
{
	int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

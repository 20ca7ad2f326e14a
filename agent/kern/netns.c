/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "agent/kern/netns.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

void netns_found_list_done(struct netns_found_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->list[i].name);
	free(list->list);
	*list = (struct netns_found_list){ 0 };
}

/*
 * Opens what `name` points at, symbolic links followed, and makes sure that it is a network namespace.
 * O_NONBLOCK: never wait for the other end of a FIFO. Returns the fd, or -1 with a reason.
 */
static int open_netns(int directory, const char *name, const char **ret_skipped)
{
	_cleanup_close_ int fd = -1;
	struct statfs fs;
	struct stat st;

	/* Look before opening: opening a device may do something. */
	if (fstatat(directory, name, &st, 0) < 0) {
		*ret_skipped = errno == ELOOP ? "a loop of symbolic links" : "it leads nowhere";
		return -1;
	}
	if (!S_ISREG(st.st_mode)) {
		*ret_skipped = "no namespace, not even a file";
		return -1;
	}
	fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		/* ip-netns(8) makes a file of mode 000 first and mounts the namespace over it. */
		*ret_skipped = "it cannot be opened (a namespace being made?)";
		return -1;
	}
	if (fstatfs(fd, &fs) < 0 || fs.f_type != NSFS_MAGIC) {
		*ret_skipped = "a plain file, no namespace (being made, or a stale mount point?)";
		return -1;
	}
	if (ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET) {
		*ret_skipped = "a namespace, but of another kind";
		return -1;
	}
	return TAKE_FD(fd);
}

static int found_append(struct netns_found_list *list, const char *name, struct netns_found **ret)
{
	struct netns_found *found = ARRAY_APPEND(list->list, list->n);

	if (!found)
		return -ENOMEM;
	if (name) {
		found->name = strdup(name);
		if (!found->name)
			return -ENOMEM;
	}
	list->n++;
	*ret = found;
	return 0;
}

static int identify(int fd, struct netns_id *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret = (struct netns_id){ .dev = st.st_dev, .ino = st.st_ino };
	return 0;
}

static int find_own(struct netns_found_list *list)
{
	_cleanup_close_ int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	struct netns_found *found;
	int r;

	if (fd < 0)
		return -errno;
	r = found_append(list, NULL, &found);
	if (r < 0)
		return r;
	found->nsid = NSID_OWN;
	return identify(fd, &found->id);
}

static int find_one(
	struct rtnl *rtnl, int directory, const char *name, struct netns_found_list *list)
{
	_cleanup_close_ int fd = -1;
	struct netns_found *found;
	int r;

	r = found_append(list, name, &found);
	if (r < 0)
		return r;
	fd = open_netns(directory, name, &found->skipped);
	if (fd < 0)
		return 0;
	r = identify(fd, &found->id);
	if (r < 0)
		return r;
	if (netns_id_equal(&found->id, &list->list[0].id)) {
		found->nsid = NSID_OWN;
		return 0;
	}
	found->error = rtnl_get_nsid(rtnl, fd, &found->nsid);
	return 0;
}

static int compare_found(const void *pa, const void *pb)
{
	const struct netns_found *a = pa, *b = pb;

	return strcmp(a->name, b->name);
}

int netns_find(struct rtnl *rtnl, const char *directory, struct netns_found_list *ret)
{
	_cleanup_(netns_found_list_done) struct netns_found_list list = { 0 };
	_cleanup_(closedirp) DIR *dir = NULL;
	struct dirent *entry;
	int r;

	r = find_own(&list);
	if (r < 0)
		return r;
	dir = opendir(directory);
	if (!dir && errno != ENOENT)
		return -errno;
	while (dir) {
		errno = 0;
		entry = readdir(dir);
		if (!entry && errno != 0)
			return -errno;
		if (!entry)
			break;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		r = find_one(rtnl, dirfd(dir), entry->d_name, &list);
		if (r < 0)
			return r;
	}
	if (list.n > 2)
		qsort(list.list + 1, list.n - 1, sizeof(*list.list), compare_found);
	*ret = list;
	list = (struct netns_found_list){ 0 };
	return 0;
}

int netns_open_mount_bell(void)
{
	int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Namespace files: where they are, which one is behind each. A thin door: nothing is kept open, so no
 * namespace is held alive.
 */

#include "agent/core/roster.h"
#include "agent/kern/procs.h"
#include "agent/kern/rtnl.h"

#define NETNS_DIR "/run/netns"               /* ip-netns(8), CNI, containerd */
#define NETNS_DIR_DOCKER "/run/docker/netns" /* what its files are called says nothing */

/* The agent's own namespace, and the number that somebody gave it in itself: NSID_NONE if nobody did. */
int netns_own(struct rtnl *rtnl, struct netns_id *ret_id, int32_t *ret_nsid);

/*
 * What the files in `directory` lead to; one that does not exist is an empty one. A file that cannot be
 * opened just now is a sighting without nsid. 0 or -errno, when the directory could not be read.
 */
int netns_find(struct rtnl *rtnl, const struct procs *procs, const char *directory,
	const struct netns_id *own, struct sightings *ret);

/* The user namespace behind an open namespace: NS_GET_USERNS of ioctl_ns(2). 0, or -errno when that is not known. */
int netns_owner_of(int fd, enum netns_owner *ret);

/* Inode of an open namespace. 0 or -errno. */
int netns_identify(int fd, struct netns_id *ret);

/*
 * An fd that reports EPOLLIN whenever an entry of these directories appears or goes: the bell for
 * symbolic links. For bind mounts it rings too early. To be watched anew when a directory may have come.
 */
int netns_open_link_bell(void);
void netns_watch_links(int fd);
/* Takes out what it reported. */
void netns_read_link_bell(int fd);

/*
 * An fd that reports EPOLLPRI whenever a mount appears or goes in the agent's mount namespace: the bell
 * for namespace files, which are bind mounts. inotify on the directory rings before the mount exists.
 */
int netns_open_mount_bell(void);

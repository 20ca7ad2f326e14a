/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Namespace files: where they are, which one is behind each. A thin door: nothing is kept open, so no
 * namespace is held alive.
 */

#include "agent/core/snapshot.h"
#include "agent/kern/rtnl.h"

#define NETNS_DIR "/run/netns" /* ip-netns(8), CNI, containerd */

/* One file: a namespace with its identity and nsid, or none, and why not. */
struct netns_found {
	char *name; /* file name in the directory; NULL: the agent's own namespace */
	struct netns_id id;
	int32_t nsid;
	const char
		*skipped; /* NULL, or the reason why the file is no namespace; a string literal */
	int error;        /* 0, or the -errno with which the namespace could not be asked */
};

struct netns_found_list {
	struct netns_found *list; /* the own namespace first, then by name */
	size_t n;
};

/*
 * Lists the agent's own namespace and those below `directory`; one that does not exist is an empty one.
 * 0 or -errno, when the list as a whole could not be read.
 */
int netns_find(struct rtnl *rtnl, const char *directory, struct netns_found_list *ret);
void netns_found_list_done(struct netns_found_list *list);

/*
 * An fd that reports EPOLLPRI whenever a mount appears or goes in the agent's mount namespace: the bell
 * for namespace files, which are bind mounts. inotify on the directory rings before the mount exists.
 */
int netns_open_mount_bell(void);

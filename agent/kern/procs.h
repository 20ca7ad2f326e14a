/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Namespaces that are known by the processes in them. A thin door to /proc that takes no right over any
 * process: /proc/PID/ns/net may only be opened by who may ptrace(2) the process, but /proc/PID/net,
 * uid_map, cgroup and comm are for all to read, and the kernel gives the nsid of a pid to anybody.
 *
 * Nothing is kept open that holds a process or a namespace.
 */

#include "agent/core/roster.h"
#include "agent/kern/rtnl.h"

/* What is to be known before looking at others. */
struct procs {
	int fd;        /* of /proc */
	uint64_t own;  /* the agent's namespace, see procs_key() */
	char *uid_map; /* of the agent's user namespace */
};

#define PROCS_NONE ((struct procs){ .fd = -1 })

int procs_open(struct procs *ret);
void procs_done(struct procs *procs);

/*
 * Looks at one process: fills in nsid (NSID_OWN for the agent's namespace), owner, label, and the inode
 * if it may be seen. 0; -ESRCH: it has ended, or left its namespace meanwhile; -EACCES, -EPERM: it is
 * hidden from us (hidepid= of proc(5)); other -errno.
 */
int procs_look(
	const struct procs *procs, struct rtnl *rtnl, uint32_t pid, struct sighting *sighting);

/*
 * The same for a process whose directory in /proc is already open: `directory` makes sure that `pid` is
 * still its number after the kernel was asked, not that of a successor.
 */
int procs_look_at(const struct procs *procs, struct rtnl *rtnl, int directory, uint32_t pid,
	struct sighting *sighting);

/* By what label a namespace is known already, by its nsid; NULL: by none. */
typedef const char *procs_label_fn(int32_t nsid, void *userdata);

/*
 * All namespaces of all processes but the agent's own: one sighting each, with the lowest pid, and the label of that
 * process, or the one that `known` gives where another process there has it. Threads are not looked at, only whole
 * processes. At most `max` with a process in another user namespace, and as many of the rest. 0 or -errno.
 */
int procs_find(const struct procs *procs, struct rtnl *rtnl, size_t max, procs_label_fn *known,
	void *userdata, struct sightings *ret);

/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One rtnetlink request socket in the agent's own namespace, through which every other namespace is
 * read by its nsid: no socket, thread or setns() for any of them. A thin door: plain structs out, no
 * decisions.
 *
 * All functions return 0 or -errno. -EAGAIN: the kernel's tables changed under the dump, read again.
 */

#include <stddef.h>
#include <stdint.h>

#include "agent/core/snapshot.h"

struct rtnl;

int rtnl_open(struct rtnl **ret);
void rtnl_close(struct rtnl *rtnl);

/*
 * The nsid by which the agent's namespace knows the one behind `netns_fd`; one is assigned where there
 * is none (RTM_NEWNSID, needs CAP_NET_ADMIN). The number does not keep the namespace alive.
 */
int rtnl_get_nsid(struct rtnl *rtnl, int netns_fd, int32_t *ret_nsid);

/* Reads ipip devices and IPv4 addresses of one namespace; the view is sorted and the caller's. */
int rtnl_read_netns(struct rtnl *rtnl, int32_t nsid, struct netns_view *ret);

/* Name and kind of an interface of the agent's own namespace. */
struct host_interface {
	uint32_t ifindex;
	char name[IFNAMSIZ];
	uint16_t arphrd; /* ARPHRD_*, net/if_arp.h: whether its packets have an Ethernet header */
	bool up;
};

/* -ENODEV: there is none of that name. */
int rtnl_get_interface(struct rtnl *rtnl, const char *name, struct host_interface *ret);

/*
 * The interfaces of all IPv4 default routes of the main table, best metric first, each once. None is
 * not an error. The caller frees *ret.
 */
int rtnl_default_interfaces(struct rtnl *rtnl, struct host_interface **ret, size_t *ret_n);

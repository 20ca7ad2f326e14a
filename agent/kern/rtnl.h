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

#include "agent/core/next_hop.h"
#include "agent/core/route.h"
#include "agent/core/snapshot.h"

struct rtnl;

int rtnl_open(struct rtnl **ret);
void rtnl_close(struct rtnl *rtnl);

/*
 * The nsid by which the agent's namespace knows the one behind `netns_fd`; one is assigned where there
 * is none (RTM_NEWNSID, needs CAP_NET_ADMIN). The number does not keep the namespace alive.
 */
int rtnl_get_nsid(struct rtnl *rtnl, int netns_fd, int32_t *ret_nsid);

/*
 * The same for the namespace that a process is in; it takes no right over the process. -ESRCH: there is
 * no such process any more. Whose number `pid` is meanwhile is for the caller to make sure of.
 */
int rtnl_get_nsid_of_process(struct rtnl *rtnl, uint32_t pid, int32_t *ret_nsid);

/* The nsid, NSID_NONE where there is none: assigns nothing. */
int rtnl_ask_nsid(struct rtnl *rtnl, int netns_fd, int32_t *ret_nsid);

/* 0: a namespace has this nsid. -ENOENT: none has. */
int rtnl_check_nsid(struct rtnl *rtnl, int32_t nsid);

/*
 * All nsids of the agent's namespace, sorted; the caller's. While namespaces go, a long list may miss
 * one that stays: the kernel skips by position between its parts. rtnl_check_nsid() tells.
 */
int rtnl_list_nsids(struct rtnl *rtnl, int32_t **ret, size_t *ret_n);

/*
 * Reads ipip devices and IPv4 addresses of one namespace; the view is sorted and the caller's. Of more
 * than NETNS_LINKS_MAX or NETNS_ADDRESSES_MAX only so many are read, and the view says so: the kernel goes
 * through all that it listed before for each part of a dump, so that a million would take it minutes.
 */
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

/* The same by index. */
int rtnl_get_interface_by_index(struct rtnl *rtnl, uint32_t ifindex, struct host_interface *ret);

/* An IPv4 neighbour entry. -ENOENT: there is none. */
int rtnl_get_neighbour(
	struct rtnl *rtnl, uint32_t ifindex, struct ip4 address, struct neighbour *ret);

/*
 * Has the kernel do for the neighbour what it does when it has a packet for it: ask for it where there
 * is no entry, check it where it is stale. Needs CAP_NET_ADMIN.
 */
int rtnl_use_neighbour(struct rtnl *rtnl, uint32_t ifindex, struct ip4 address);

/* IPv4 routes of all tables and rules of the agent's own namespace; the caller's. */
int rtnl_read_routes(struct rtnl *rtnl, struct routes *ret);

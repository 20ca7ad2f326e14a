/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * rtnetlink messages to plain structs. libnl 3.7 parses an ipip device's IFLA_INFO_DATA but ignores
 * ENCAP_*, COLLECT_METADATA and PROTO, by which a FOU or external tunnel differs from a plain one; so
 * the attributes are read here. Each takes any message and checks its lengths.
 *
 * 0; -ENOENT: not what was asked for; -EBADMSG: malformed.
 */

#include <linux/netlink.h>

#include "agent/core/snapshot.h"
#include "agent/kern/rtnl.h"

/* RTM_NEWLINK of kind "ipip". */
int nl_decode_ipip(struct nlmsghdr *message, struct ipip_link *ret);
/* RTM_NEWLINK of any kind. */
int nl_decode_interface(struct nlmsghdr *message, struct host_interface *ret);
/* RTM_NEWADDR, IPv4. */
int nl_decode_address(struct nlmsghdr *message, struct netns_address *ret);
/* RTM_NEWNSID. NETNSA_NSID_NOT_ASSIGNED (-1) is a valid answer. */
int nl_decode_nsid(struct nlmsghdr *message, int32_t *ret_nsid);

/* RTM_NEWROUTE: one unicast IPv4 default route of the main table. */
struct default_route {
	uint32_t metric;
	uint32_t ifindexes[8]; /* of its next hops; more are ignored */
	size_t n_ifindexes;
};
int nl_decode_default_route(struct nlmsghdr *message, struct default_route *ret);

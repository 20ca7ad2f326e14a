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
#include <stdbool.h>

#include "agent/core/route.h"
#include "agent/core/snapshot.h"
#include "agent/kern/rtnl.h"

/* RTM_NEWLINK of kind "ipip". */
int nl_decode_ipip(struct nlmsghdr *message, struct ipip_link *ret);
/* RTM_NEWLINK of any kind. */
int nl_decode_interface(struct nlmsghdr *message, struct host_interface *ret);
/* RTM_NEWADDR, IPv4. */
int nl_decode_address(struct nlmsghdr *message, struct netns_address *ret);
/* RTM_NEWLINK or RTM_DELLINK: whether the link is a veth. */
bool nl_is_veth(struct nlmsghdr *message);
/* RTM_NEWNSID or RTM_DELNSID. NETNSA_NSID_NOT_ASSIGNED (-1) is a valid answer. */
int nl_decode_nsid(struct nlmsghdr *message, int32_t *ret_nsid);

/* RTM_NEWNEIGH, IPv4. */
int nl_decode_neighbour(struct nlmsghdr *message, struct neighbour *ret);
/* NLMSG_DONE: what the dump came to, 0 or -errno. A kernel that says nothing says 0. */
int nl_decode_done(struct nlmsghdr *message, int *ret_error);

/* RTM_NEWROUTE, IPv4. */
int nl_decode_route(struct nlmsghdr *message, struct route *ret);
/* RTM_NEWRULE, IPv4: whether it is one of the three that every host has, or like them. */
int nl_decode_rule(struct nlmsghdr *message, bool *ret_plain);

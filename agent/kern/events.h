/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Three netlink sockets. One hears links, IPv4 addresses and nsids of every namespace that has an nsid.
 * Another hears what matters in the agent's own only (routes, nexthops, rules, neighbours, qdiscs and filters),
 * for of these hundreds of namespaces would send far more than is wanted, and a socket cannot ask
 * for some groups of all and some groups of one. The third hears only which numbers the agent's namespace gives
 * and takes back, for whoever reads by number: no link that flaps can drown that. Their messages are bells: they
 * say where to look, never what is there. (That of a route says whom it is about, so that nothing is believed of those
 * until somebody has looked.)
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/ip4.h"

/* What rang. */
struct bell {
	int32_t nsid;       /* the namespace, NSID_OWN for the agent's */
	bool netns_changed; /* a link or an address in it */
	bool veth_changed;  /* a veth of the agent's: perhaps somebody moves in somewhere */
	bool nsid_given;    /* a namespace got the number `changed_nsid` … */
	bool nsid_taken;    /* … or lost it, with its life: the next one may get it at once */
	int32_t changed_nsid;
	bool routes_changed; /* a route, nexthop, rule or link of the agent's own namespace */
	bool one_route;      /* and that is all: one route to `route`, which is not a default one */
	struct ip4_prefix route;
	bool tc_changed; /* a qdisc or filter of `tc_ifindex`, in the agent's own */
	uint32_t tc_ifindex;
	bool neighbour_changed; /* the entry of this neighbour */
	uint32_t neighbour_ifindex;
	struct ip4 neighbour;
	/* Messages were lost, hence of all namespaces, or of what matters in the agent's own only, any may have changed. */
	bool overrun, own_overrun;
};

typedef void bell_fn(const struct bell *bell, void *userdata);

enum events_scope {
	EVENTS_ALL_NETNS, /* links, addresses, nsids */
	EVENTS_OWN_NETNS, /* routes, nexthops, rules, neighbours, qdiscs and filters */
	EVENTS_NSIDS,     /* of the agent's own namespace */
};

/*
 * Opens and subscribes. 0 or -errno; -EPERM: NETLINK_LISTEN_ALL_NSID needs CAP_NET_BROADCAST.
 * `receive_buffer`: bytes, 0 for the default.
 */
int events_open(enum events_scope scope, int receive_buffer, int *ret_fd);

/*
 * Reads until nothing is left, calling `ring` for each. `scope`: what it was opened for. `own_nsid`: the number that the
 * agent's namespace has in itself, if somebody gave it one (NSID_NONE: nobody did); its messages then carry it.
 * 0 or -errno.
 */
int events_read(int fd, enum events_scope scope, int32_t own_nsid, bell_fn *ring, void *userdata);

/*
 * The same for what one datagram brought: any bytes, aligned as a struct nlmsghdr. `nsid`: the namespace
 * that they are about.
 */
void events_decode(void *buffer, size_t size, int32_t nsid, bell_fn *ring, void *userdata);

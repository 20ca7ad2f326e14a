/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One netlink socket that hears links, IPv4 addresses and nsids of every namespace that has an nsid,
 * and routes and neighbours of the agent's own. Its messages are bells: they say where to look, never
 * what is there.
 */

#include <stdbool.h>
#include <stdint.h>

/* What rang. */
struct bell {
	int32_t nsid;        /* the namespace, NSID_OWN for the agent's */
	bool netns_changed;  /* a link or an address in it */
	bool nsids_changed;  /* a namespace got or lost its nsid */
	bool routes_changed; /* a route or a link of the agent's own namespace */
	bool overrun;        /* messages were lost: everything may have changed */
};

typedef void bell_fn(const struct bell *bell, void *userdata);

/*
 * Opens and subscribes. 0 or -errno; -EPERM: NETLINK_LISTEN_ALL_NSID needs CAP_NET_BROADCAST.
 * `receive_buffer`: bytes, 0 for the default.
 */
int events_open(int receive_buffer, int *ret_fd);

/* Reads until nothing is left, calling `ring` for each. 0 or -errno. */
int events_read(int fd, bell_fn *ring, void *userdata);

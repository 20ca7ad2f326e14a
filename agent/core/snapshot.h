/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the kernel said: namespaces, their ipip devices and their IPv4 addresses. Plain data, filled by
 * kern/, read by everything behind it. Pure: no fd, clock, log, libbpf or libnl.
 */

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/ip4.h"

#define NSID_OWN (-1) /* the agent's own namespace: messages carry no nsid at all */

/* A namespace's identity for as long as it lives: the inode behind its file (stat(2)). */
struct netns_id {
	uint64_t dev;
	uint64_t ino;
};

/* One netdev of kind "ipip". */
struct ipip_link {
	uint32_t ifindex;
	char name[IFNAMSIZ];
	bool up; /* IFF_UP */
	struct ip4 local;
	struct ip4 remote;
	bool external;       /* IFLA_IPTUN_COLLECT_METADATA: the remote is chosen a packet */
	uint16_t encap_type; /* IFLA_IPTUN_ENCAP_TYPE: 0 none, 1 FOU, 2 GUE (linux/if_tunnel.h) */
	uint8_t proto;       /* IFLA_IPTUN_PROTO: 4 ipip, 137 mplsip, 0 any */
};

/* One IPv4 address of one netdev. */
struct netns_address {
	uint32_t ifindex;
	struct ip4 address; /* IFA_LOCAL */
	uint8_t prefix_length;
};

/* What was read from one namespace in one go. */
struct netns_view {
	struct ipip_link *links; /* sorted by ifindex */
	size_t n_links;
	struct netns_address *addresses; /* sorted by ifindex, address */
	size_t n_addresses;
};

struct netns {
	struct netns_id id;
	int32_t nsid; /* as the agent's namespace numbers it, or NSID_OWN */
	char **names; /* file names it was found under, sorted; the own namespace may have none */
	size_t n_names;
	/* Order in which namespaces were first seen: the older claim to an address wins. */
	uint64_t seq;
	/* 0: `view` is what the last read said. -errno: that read failed; `view` is an older one. */
	int error;
	bool has_view; /* whether any read ever succeeded */
	struct netns_view view;
};

/* A file that looked like a namespace and is none, with the reason. */
struct netns_skipped {
	char *path;
	const char *reason; /* a string literal */
};

struct snapshot {
	struct netns *netns; /* sorted by seq */
	size_t n_netns;
	struct netns_skipped *skipped;
	size_t n_skipped;
	/*
	 * Whether the list of namespaces was read to its end and each of them was read at least once.
	 * Unknown is not absent: without it nothing may be deleted.
	 */
	bool complete;
};

/* Name for people: the first file name, "host" for the own namespace without a name. Never NULL. */
const char *netns_label(const struct netns *netns);

bool netns_id_equal(const struct netns_id *a, const struct netns_id *b);

/* _done() clears the contents, of half-built objects too, and leaves them zeroed. */
void netns_view_done(struct netns_view *view);
void netns_done(struct netns *netns);
void snapshot_done(struct snapshot *snapshot);

/* Puts a view into the order that the rest of the core relies on. */
void netns_view_sort(struct netns_view *view);

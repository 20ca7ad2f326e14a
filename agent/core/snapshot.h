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

#define NSID_OWN (-1)  /* the agent's own namespace: messages carry no nsid at all */
#define NSID_NONE (-2) /* there is none, or it could not be asked for */

/* Namespaces that are looked at; more are reported, not read, so `limits` may not have more. */
#define NETNS_MAX 16384

#define NETNS_SKIPPED_MAX 256 /* skipped files that are listed one by one, of each source */

/* What is kept of one namespace at most: its owner may fill it as he likes. */
#define NETNS_LINKS_MAX 16384
#define NETNS_ADDRESSES_MAX 65536

/*
 * The inode behind a namespace's file (stat(2)), where one can be opened; zeros where not. What a
 * namespace is known by as long as it lives is its nsid.
 */
struct netns_id {
	uint64_t dev;
	uint64_t ino;
};

/*
 * The user namespace behind a network namespace. Its owner may do there what he likes, even call an
 * ipip device's remote by any address: only the host's own is taken at its word.
 */
enum netns_owner {
	OWNER_UNKNOWN,
	OWNER_HOST,  /* the agent's user namespace */
	OWNER_OTHER, /* another: a rootless container, unshare(1) -r */
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
	bool truncated; /* there was more than is kept of one namespace */
};

struct netns {
	struct netns_id id;
	int32_t nsid; /* as the agent's namespace numbers it, or NSID_OWN */
	char **names; /* file names it was found under, sorted; the own namespace may have none */
	size_t n_names;
	char **found; /* where: "the agent's own", "file PATH", "process PID"; or "nsid only" */
	size_t n_found;
	/* Who lives there, or did last: unit, container id, command or "nsid-N"; NULL: nobody knows. */
	char *label;
	enum netns_owner owner;
	/* Order in which namespaces were first seen: the older claim to an address wins. */
	uint64_t seq;
	/* 0: `view` is what the last read said. -errno: that read failed; `view` is an older one. */
	int error;
	bool has_view; /* whether any read ever succeeded */
	struct netns_view view;
	/* The observer's: read it again; its number was given back, so that another may have it. */
	bool is_stale, is_renewed;
	uint64_t not_before;    /* CLOCK_MONOTONIC, microseconds; 0: whenever it rings */
	uint64_t failing_since; /* the same; 0: the last read did not fail */
	bool is_put_off;        /* with `error`: nobody waits for it, it is read when it is due */
};

/* A file that looked like a namespace and is none, or cannot be opened, with the reason. */
struct netns_skipped {
	char *path;
	const char *reason; /* a string literal */
	bool half_made;     /* perhaps a namespace that is just being made: look again soon */
	unsigned int tries; /* how often that was done */
};

/* A place where namespaces are looked for. */
struct netns_source {
	const char *name; /* "/run/netns", "/proc"; a string literal */
	int error;     /* 0, or -errno: the last look failed, and what the one before saw holds */
	bool was_read; /* any look ever succeeded */
};

#define NETNS_SOURCES_MAX 4

struct snapshot {
	struct netns *netns; /* sorted by seq */
	size_t n_netns;
	struct netns_skipped *skipped;
	size_t n_skipped;
	size_t n_skipped_more;   /* beyond NETNS_SKIPPED_MAX: not listed */
	size_t n_more;           /* namespaces beyond NETNS_MAX: not looked at */
	size_t n_more_untrusted; /* of them, those that could contribute nothing */
	size_t n_unresolved;     /* files that lead to a namespace, nobody knows which */
	struct netns_source sources[NETNS_SOURCES_MAX];
	size_t n_sources;
	/* Messages of numbers were lost while it was read: whose each view is, nobody can say for sure. */
	bool is_doubtful;
	/*
	 * Whether each source was read to its end, each of their namespaces is known, and each was read
	 * at least once, but for those that are known to be another's and those beyond the limit that
	 * could contribute nothing. Unknown is not absent: without it
	 * nothing may be deleted; see also tunnels_are_known().
	 */
	bool complete;
};

/*
 * Name for people: the first file name; without one "host" for the own namespace, and the label for
 * others. Never NULL.
 */
const char *netns_label(const struct netns *netns);

bool netns_id_equal(const struct netns_id *a, const struct netns_id *b);
bool netns_id_is_none(const struct netns_id *id);

/* "host", "other", "unknown". */
const char *netns_owner_name(enum netns_owner owner);

/* _done() clears the contents, of half-built objects too, and leaves them zeroed. */
void netns_view_done(struct netns_view *view);
void netns_done(struct netns *netns);
void snapshot_done(struct snapshot *snapshot);

/* Puts a view into the order that the rest of the core relies on. */
void netns_view_sort(struct netns_view *view);

/*
 * Leaves out the addresses of tunnels that came after the links were listed and before the addresses were: `later` has the
 * links as they were after both, and ends without those of before. They would be taken for another interface's; in the
 * agent's own namespace that is the host's, and remembered (core/once_held.h) long after the bell that tells of the tunnel.
 */
void netns_view_leave_out_newcomers(struct netns_view *view, struct netns_view *later);

/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * From a snapshot to its tunnels: which ipip devices count, and which address each one's clients know
 * it by. Pure.
 */

#include <stddef.h>

#include "agent/core/config.h"
#include "agent/core/override.h"
#include "agent/core/snapshot.h"

/* What became of a tunnel, in the order of the sequence that decides. */
enum tunnel_state {
	TUNNEL_MAPPED,   /* it has rows in the maps, in the mode of its policy */
	TUNNEL_SKIPPED,  /* not a tunnel that direct return can serve; `reason` says why */
	TUNNEL_CONFLICT, /* it would be one, but `rival` stands against it */
};

enum tunnel_reason {
	REASON_NONE,
	/* skipped */
	REASON_FALLBACK_DEVICE,   /* tunl0, the module's fallback device */
	REASON_NO_REMOTE,         /* remote 0.0.0.0: the remote is chosen a packet */
	REASON_EXTERNAL,          /* external (collect_md) mode, likewise */
	REASON_ENCAPSULATION,     /* FOU or GUE: the packets that leave are UDP, not IPIP */
	REASON_NOT_IPIP,          /* mode mplsip */
	REASON_REMOTE_FORBIDDEN,  /* a remote that is no unicast address */
	REASON_NO_PUBLIC_ADDRESS, /* nothing that a client could know it by */
	REASON_UNTRUSTED,         /* nobody vouches for its namespace */
	REASON_TOO_MANY_NETNS,    /* its namespace is beyond a limit of the configuration */
	REASON_TOO_MANY_TUNNELS,
	REASON_TOO_MANY_ADDRESSES,
	REASON_ADDRESSES_UNKNOWN, /* whether a public address is the server's or the host's cannot be told */
	/* skipped, or, when only some of its addresses are refused, conflict */
	REASON_NOT_ALLOWED, /* allowed_game_server_ips lacks its game server IP */
	/* conflict */
	REASON_ADDRESS_CLAIMED, /* another namespace held the game server IP first */
	REASON_AMBIGUOUS,       /* same remote and same inner source as the rival */
	REASON_NO_INNER_SOURCE, /* shares its remote and has no address to tell it apart */
	REASON_COUNT,
};

/* Which rule chose the game server IP. */
enum address_source {
	SOURCE_NONE,
	SOURCE_AUTO_REMOTE,
	SOURCE_AUTO_TUNNEL_ADDRESS,
	SOURCE_REMOTE,
	SOURCE_TUNNEL_ADDRESS,
	SOURCE_EXPLICIT,
};

struct tunnel {
	const struct netns *netns;    /* in the snapshot, which must live on */
	const struct ipip_link *link; /* likewise */
	struct policy policy;
	enum tunnel_state state;
	enum tunnel_reason reason;
	size_t rival; /* index of the tunnel it collides with; SIZE_MAX: none */
	enum address_source address_source;
	struct ip4 *game_server_ips; /* sorted; more than one only with tunnel addresses */
	size_t n_game_server_ips;
	struct ip4 *refused_ips; /* sorted; chosen likewise, and not allowed */
	size_t n_refused_ips;
};

/*
 * Tunnels of namespaces that contribute nothing are listed up to this number: they show why, and their
 * owners shall not fill the memory with them.
 */
#define TUNNELS_IDLE_MAX 4096

struct tunnels {
	struct tunnel *list; /* by age of the namespace, then ifindex */
	size_t n;
	size_t n_idle;      /* of these, tunnels of namespaces that contribute nothing */
	size_t n_unlisted;  /* further such tunnels */
	bool unlisted_send; /* some of them send IPIP, nobody knows to whom */
};

struct once_held;

/* Notes what the host's interfaces hold now. 0 or -ENOMEM. */
int tunnels_note_held(const struct snapshot *snapshot, struct once_held *once_held);

/*
 * Finds the tunnels and chooses their addresses. What an untrusted namespace holds changes nothing for
 * anybody else, and one whose number was given back has none: who has it now is not known. `overrides`,
 * `once_held`: NULL means none. 0 or -ENOMEM.
 */
int tunnels_make(const struct snapshot *snapshot, const struct config *config,
	const struct overrides *overrides, const struct once_held *once_held, struct tunnels *ret);
void tunnels_done(struct tunnels *tunnels);

/*
 * Whether the tunnels of all namespaces that may contribute are known. If not, what seems superfluous
 * may be that of a namespace nobody has read yet. One that contributes nothing need not be known: its
 * owner could keep it unread for ever.
 */
bool tunnels_are_known(const struct snapshot *snapshot, const struct config *config);

/* Whether what was read in a namespace can count at all: it is within the limits. */
bool tunnels_view_counts(const struct netns_view *view, const struct config *config);

/* Whether its packets are IPIP to its remote, though its namespace contributes nothing. */
bool tunnel_is_idle(const struct tunnel *tunnel);

/* Calls for each address of the tunnel's device; the range is [*first, *first + n). */
size_t tunnel_addresses(const struct tunnel *tunnel, const struct netns_address **ret_first);

/* Names for status and CLI ("conflict"), and a sentence for people. Never NULL. */
const char *tunnel_state_name(enum tunnel_state state);
const char *tunnel_reason_name(enum tunnel_reason reason);
const char *tunnel_reason_text(enum tunnel_reason reason);
const char *address_source_name(enum address_source source);

/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#pragma once
/*
 * The binary contract between the BPF program and everything in userspace that opens its maps.
 *
 * Included by bpf/ (with the kernel's types) and by agent/ and tools/. Fixed-width fields, no implicit
 * padding, addresses in network byte order and typed __be32, everything else in host byte order. A
 * change to the layout or to the meaning of a field raises MAPS_ABI; maps of different ABIs live in
 * different directories and never meet.
 */

#include <linux/types.h>

#define MAPS_ABI 1
#define MAPS_STRING(x) #x
#define MAPS_STRING_OF(x) MAPS_STRING(x)

/*
 * Pins. bpffs refuses names with a dot (kernel/bpf/inode.c, bpf_lookup()) and interface names may have
 * one, so what belongs to an interface is named by its index.
 */
#define MAPS_PIN_ROOT "/sys/fs/bpf/ipipdirect"
/*
 * The maps, below MAPS_PIN_ROOT. The pins of links, programs and jumps lie beside this directory, named
 * alike in all ABIs: so each version can take over from any other in place.
 */
#define MAPS_PIN_ABI_DIR "v" MAPS_STRING_OF(MAPS_ABI)

#define MAPS_REMOTES_MAX_DEFAULT 16384

/* Slot 0 of `direct` and `kept` belongs to no entry: it counts IPIP packets to unknown remotes. */
#define MAPS_SLOT_NONE 0

/* What to do with the packets of an entry. */
enum maps_mode {
	MAPS_MODE_DIRECT = 0, /* strip, rewrite, send straight to the client */
	MAPS_MODE_SHADOW = 1, /* count what would go direct, change nothing */
	MAPS_MODE_TUNNEL = 2, /* leave everything to the tunnel (drain) */
	MAPS_MODE_COUNT,
};

enum maps_flag {
	/* Several tunnels share this remote: `sources` decides by inner source. Only in `remotes`. */
	MAPS_FLAG_SHARED = 1 << 0,
	/*
	 * Queries of Valve's server protocol that POPs answer from a cache and must go on seeing: UDP
	 * payloads that begin FF FF FF FF and the letter.
	 */
	MAPS_FLAG_EXEMPT_A2S_INFO = 1 << 1,      /* 49, S2A_INFO_SRC */
	MAPS_FLAG_EXEMPT_A2S_CHALLENGE = 1 << 2, /* 41, S2C_CHALLENGE */
	MAPS_FLAG_EXEMPT_A2S_PLAYERS = 1 << 3,   /* 44, S2A_PLAYER */
	MAPS_FLAG_EXEMPT_A2S_RULES = 1 << 4,     /* 45, S2A_RULES */
	MAPS_FLAG_SERVER_PORTS = 1 << 5,         /* only source ports in `server_ports`[slot] */
	MAPS_FLAG_EXEMPT_CLIENTS = 1 << 6,       /* look the client up in `exempt_clients` */
	/* Only packets whose inner source is the game server IP itself. Only in `remotes`. */
	MAPS_FLAG_OWN_SOURCE = 1 << 7,
	/*
	 * Only packets whose inner source is private (RFC 1918, RFC 6598, RFC 3927), or the game server IP itself. Of a tunnel
	 * whose device has no public address: nobody knows what a public inner source is then, and the device may be about
	 * to get it. Only in `remotes`.
	 */
	MAPS_FLAG_PRIVATE_SOURCE = 1 << 8,
};

/* Which packets a row of `remotes` is for; at most one of them. */
#define MAPS_FLAGS_SOURCE (MAPS_FLAG_SHARED | MAPS_FLAG_OWN_SOURCE | MAPS_FLAG_PRIVATE_SOURCE)

#define MAPS_FLAGS_EXEMPT_A2S                                                                      \
	(MAPS_FLAG_EXEMPT_A2S_INFO | MAPS_FLAG_EXEMPT_A2S_CHALLENGE |                              \
		MAPS_FLAG_EXEMPT_A2S_PLAYERS | MAPS_FLAG_EXEMPT_A2S_RULES)

/* Key of `remotes`: the outer destination of an outgoing IPIP packet. */
struct maps_remote_key {
	__be32 remote;
};

/* Key of `sources`, consulted only below a remote flagged MAPS_FLAG_SHARED. */
struct maps_source_key {
	__be32 remote;
	__be32 inner_source;
};

/* Value of `remotes` and of `sources`. */
struct maps_entry {
	__be32 game_server_ip; /* the new source address; 0 in a row flagged MAPS_FLAG_SHARED */
	__u32 slot;     /* index into `direct` and `kept`; one an entry, never MAPS_SLOT_NONE */
	__u16 flags;    /* enum maps_flag */
	__u8 mode;      /* enum maps_mode */
	__u8 reserved8; /* 0 */
	/*
	 * Once more the last address of its key, the remote or the inner source; 0: not said. The kernel gives the
	 * memory of a row that was changed to the next one that is (kernel/bpf/hashtab.c, htab_map_update_elem()), so a
	 * reader that was held up may find another row's value where its own was.
	 */
	__be32 key;
};

#define MAPS_PORT_RANGES_MAX 16

/* Both ends belong to the range; host byte order. */
struct maps_port_range {
	__u16 first;
	__u16 last;
};

/* Value of `server_ports`, a hash with the slot as key (host byte order), for flagged entries. */
struct maps_server_ports {
	__u32 n; /* ranges in use; the others are 0 */
	struct maps_port_range ranges[MAPS_PORT_RANGES_MAX];
};

#define MAPS_EXEMPT_CLIENTS_MAX 4096

/*
 * Key of `exempt_clients`, an LPM trie: clients whose packets stay on the tunnel. The value is one
 * byte without meaning.
 */
struct maps_client_key {
	__u32 prefix_length; /* 0..32, host byte order */
	__be32 client;       /* the inner destination */
};

/* Value of `direct`, a per-CPU array: what was sent straight to clients. */
struct maps_direct_counters {
	__u64 packets; /* as they leave the wire: a super-packet counts its segments */
	__u64 bytes; /* IP length without the stripped header, of the super-packet where there is one */
};

/*
 * What follows is between one agent and the program that it loaded, and is never pinned: it is true
 * only while that agent watches the host's routes. When the agent ends, the kernel empties the
 * program array `alive`, and nobody looks at it any more.
 */

/* `alive`, a program array: held by that agent's file descriptor alone, a dead man's switch. */
enum maps_alive {
	MAPS_ALIVE_FAST = 0,
	MAPS_ALIVE_FAST_L3 = 1,
	MAPS_ALIVE_COUNT,
};

/*
 * `jumps`, a program array as well, joins the parts of one program. It is pinned as long as that
 * program is attached.
 */
enum maps_jump {
	MAPS_JUMP_FULL = 0,
	MAPS_JUMP_FULL_L3 = 1,
	MAPS_JUMP_FINISH = 2,
	MAPS_JUMP_FINISH_L3 = 3,
	MAPS_JUMP_COUNT,
};

/*
 * `front`, an array: the rows of `remotes` that need no second look (mode direct, no flags but
 * MAPS_FLAG_OWN_SOURCE or MAPS_FLAG_PRIVATE_SOURCE), once more, in buckets of one cache line. A row that finds its bucket full is
 * served from `remotes`.
 *
 * Both words hold the remote, and each is read and written in one piece, so a reader cannot mix two
 * remotes; it reads the second before and after the first, so nor can it two rows of one. 0 is an empty way.
 */
#define MAPS_FRONT_WAYS 4
#define MAPS_FRONT_BITS_MAX 18 /* 16 MiB of buckets */

struct maps_front_way {
	__u64 address; /* remote << 32 | game server IP, both as __be32 */
	__u64 counter; /* remote << 32 | slot, with MAPS_FRONT_FLAGS for rows flagged so */
};

#define MAPS_FRONT_OWN_SOURCE (1U << 31)
#define MAPS_FRONT_PRIVATE_SOURCE (1U << 30)
#define MAPS_FRONT_FLAGS (MAPS_FRONT_OWN_SOURCE | MAPS_FRONT_PRIVATE_SOURCE)

struct maps_front {
	struct maps_front_way ways[MAPS_FRONT_WAYS];
};

/* The bucket of a remote among 1 << @bits, 1 <= @bits <= MAPS_FRONT_BITS_MAX. */
static inline __u32 maps_front_index(__be32 remote, __u32 bits)
{
	return ((__u32)remote * 0x9e3779b1U) >> (32 - bits); /* Knuth's multiplicative hash */
}

/*
 * `uplinks`, a variable, an interface at the place of its index modulo MAPS_UPLINKS: where all clients
 * go that no route but the default one leads to. Of two interfaces with the same place, one has it.
 */
#define MAPS_UPLINKS 16
#define MAPS_UPLINK_VIAS 4 /* of a route with more next hops, packets by the others ask the FIB */
#define MAPS_UPLINK_PREFIX 13 /* bits of an address that choose a bit of `routed` */

struct maps_uplink {
	__u32 ifindex; /* 0: nobody's, or being written; none that exists: not to be believed just now */
	/*
	 * Changes with the routes. The program adds it to what it learns from the FIB, so that nothing
	 * learned from former routes is used.
	 */
	__u16 generation;
	__u16 is_default; /* 1: the best default route leads out of this interface */
	/*
	 * What the FIB last said: the MAC address of the default route's gateway, in the upper 6 bytes,
	 * and the generation. Written by the program.
	 */
	__u64 gateway;
	/*
	 * The gateways of the default route out of this interface, as IPv4 addresses; 0: none. The program learns the
	 * MAC address of nobody else: a route that it does not know of yet, or a client on-link, has another.
	 */
	__be32 via[MAPS_UPLINK_VIAS];
	/*
	 * A bit for each /13 prefix, its lowest bit first in a byte: 1 where some route other than the
	 * default one leads to a part of it, a local address or one that is no client's lies in it.
	 */
	__u8 routed[(1 << MAPS_UPLINK_PREFIX) / 8];
};

/* The value of `gateway`. The MAC address is in the first six of the eight bytes at @mac. */
static inline __u64 maps_gateway_make(const void *mac, __u16 generation)
{
	__u64 word = *(const __u64 *)mac;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	word <<= 16;
#else
	word &= ~0xffffULL;
#endif
	return word | generation;
}

/* The MAC address of 6 bytes in the value @word of `gateway`. */
static inline const __u8 *maps_gateway_mac(const __u64 *word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return (const __u8 *)word + 2;
#else
	return (const __u8 *)word;
#endif
}

/*
 * Why a packet stayed on the tunnel. Names for people are in maps_reason_name(); each is explained in
 * docs/DATAPATH.md. Append only: the numbers are part of the ABI.
 */
enum maps_reason {
	MAPS_KEPT_NO_ENTRY = 0,       /* slot 0: no row for this remote */
	MAPS_KEPT_NO_SOURCE = 1,      /* no row is for this inner source */
	MAPS_KEPT_SHADOW = 2,         /* mode shadow: would have gone direct */
	MAPS_KEPT_MODE_TUNNEL = 3,    /* mode tunnel */
	MAPS_KEPT_OUTER_OPTIONS = 4,  /* the outer header has options */
	MAPS_KEPT_OUTER_FRAGMENT = 5, /* the outer packet is a fragment */
	MAPS_KEPT_OUTER_LENGTH = 6,   /* the outer total length disagrees with the packet */
	MAPS_KEPT_INNER_VERSION = 7,  /* the inner packet is not IPv4, or its ihl is below 5 */
	MAPS_KEPT_INNER_SHORT = 8,    /* the inner packet ends before its headers do */
	MAPS_KEPT_INNER_LENGTH = 9,   /* the inner total length disagrees with the outer one */
	MAPS_KEPT_ICMP_ERROR = 10,    /* an ICMP error whose embedded packet cannot be rewritten */
	MAPS_KEPT_NO_NEXT_HOP =
		11, /* no route to the client out of this interface, or no neighbour */
	MAPS_KEPT_PULL_FAILED = 12,   /* no memory to make the headers writable */
	MAPS_KEPT_STRIP_FAILED = 13,  /* the kernel refused to strip the outer header */
	MAPS_DROP_WRITE_FAILED = 14,  /* not kept but dropped: a write after the strip failed */
	MAPS_KEPT_SERVER_PORT = 15,   /* its source port is not one of server_ports */
	MAPS_KEPT_EXEMPT_QUERY = 16,  /* an answer to a query that POPs cache */
	MAPS_KEPT_EXEMPT_CLIENT = 17, /* the client is in exempt_clients */
	MAPS_KEPT_NO_PROGRAM = 18, /* slot 0: a part of the program is missing, its pin removed */
	MAPS_REASON_COUNT,
};

#define MAPS_REASON_ROOM 32 /* places in struct maps_kept_counters; reasons may grow into it */

/* Value of `kept`, an array shared by all CPUs: packets, added to atomically. */
struct maps_kept_counters {
	__u64 packets[MAPS_REASON_ROOM];
};

_Static_assert(sizeof(struct maps_remote_key) == 4, "maps ABI");
_Static_assert(sizeof(struct maps_source_key) == 8, "maps ABI");
_Static_assert(sizeof(struct maps_entry) == 16, "maps ABI");
_Static_assert(sizeof(struct maps_server_ports) == 4 + 4 * MAPS_PORT_RANGES_MAX, "maps ABI");
_Static_assert(sizeof(struct maps_client_key) == 8, "maps ABI");
_Static_assert(sizeof(struct maps_direct_counters) == 16, "maps ABI");
_Static_assert(sizeof(struct maps_front) == 64, "maps ABI");
_Static_assert(
	sizeof(struct maps_uplink) == 16 + 4 * MAPS_UPLINK_VIAS + (1 << MAPS_UPLINK_PREFIX) / 8,
	"maps ABI");
_Static_assert(sizeof(struct maps_kept_counters) == 8 * MAPS_REASON_ROOM, "maps ABI");
_Static_assert((int)MAPS_REASON_COUNT <= MAPS_REASON_ROOM, "maps ABI");

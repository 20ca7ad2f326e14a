/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/*
 * What an operator wants left to the tunnel: packets of other source ports, answers that POPs cache,
 * certain clients. An entry without any of these flags pays one branch for all.
 */

#include <linux/bpf.h>
#include <linux/in.h>
#include <bpf/bpf_helpers.h>

#include "bpf/maps.h"
#include "bpf/parse.h"

#define POLICY_FLAGS (MAPS_FLAGS_EXEMPT_A2S | MAPS_FLAG_SERVER_PORTS | MAPS_FLAG_EXEMPT_CLIENTS)

#define QUERY_LEN 5 /* FF FF FF FF and a letter */

static __always_inline bool policy_is_fragment(const struct inner *inner)
{
	return inner->head.ip.frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET);
}

static __always_inline bool policy_has_ports(__u8 ip_proto)
{
	switch (ip_proto) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_DCCP:
	case IPPROTO_SCTP:
		return true;
	default:
		return false;
	}
}

/*
 * Only the first fragment of a datagram shows its port, and all must take one path: the first one
 * stays on the tunnel with the others. What has no ports, ICMP above all, belongs to none of them.
 */
static __always_inline bool policy_port_is_direct(__u32 slot, const struct inner *inner)
{
	struct maps_server_ports *ports;
	__u16 port = bpf_ntohs(inner->sport);

	if (!policy_has_ports(inner->head.ip.protocol) || policy_is_fragment(inner))
		return false;
	ports = bpf_map_lookup_elem(&server_ports, &slot);
	if (!ports)
		return false;
	for (__u32 i = 0; i < MAPS_PORT_RANGES_MAX; i++) {
		if (i >= ports->n)
			break;
		if (port >= ports->ranges[i].first && port <= ports->ranges[i].last)
			return true;
	}
	return false;
}

/* The flag that exempts answers with this letter; 0 for others. */
static __always_inline __u32 policy_query_flag(__u8 letter)
{
	switch (letter) {
	case 0x49:
		return MAPS_FLAG_EXEMPT_A2S_INFO;
	case 0x41:
		return MAPS_FLAG_EXEMPT_A2S_CHALLENGE;
	case 0x44:
		return MAPS_FLAG_EXEMPT_A2S_PLAYERS;
	case 0x45:
		return MAPS_FLAG_EXEMPT_A2S_RULES;
	default:
		return 0;
	}
}

/*
 * Fragments and UDP super-packets may hold such an answer where nobody looks, in a later fragment's
 * company or in a later segment, so they stay on the tunnel as if they did.
 */
static __always_inline bool policy_is_exempt_query(
	struct __sk_buff *skb, __u32 l2_len, __u32 flags, const struct inner *inner)
{
	__u32 offset = parse_bound(l2_len + OUTER_LEN + inner->l4 + IPPROTO_UDP_LEN);
	__u8 start[QUERY_LEN];

	if (!(flags & MAPS_FLAGS_EXEMPT_A2S) || inner->head.ip.protocol != IPPROTO_UDP)
		return false;
	if (policy_is_fragment(inner) || skb->gso_size)
		return true;
	if (inner->total < inner->l4 + IPPROTO_UDP_LEN + QUERY_LEN)
		return false;
	if (bpf_skb_load_bytes(skb, offset, start, sizeof(start)))
		return true;
	return start[0] == 0xff && start[1] == 0xff && start[2] == 0xff && start[3] == 0xff &&
	       (flags & policy_query_flag(start[4]));
}

static __always_inline bool policy_is_exempt_client(__be32 client)
{
	struct maps_client_key key = { .prefix_length = 32, .client = client };

	return bpf_map_lookup_elem(&exempt_clients, &key);
}

/* Returns why the packet stays on the tunnel, or NOT_KEPT. */
static __always_inline int policy_check(struct __sk_buff *skb, __u32 l2_len,
	const struct maps_entry *entry, const struct inner *inner)
{
	if (!(entry->flags & POLICY_FLAGS))
		return NOT_KEPT;
	if (entry->flags & MAPS_FLAG_SERVER_PORTS && !policy_port_is_direct(entry->slot, inner))
		return MAPS_KEPT_SERVER_PORT;
	if (policy_is_exempt_query(skb, l2_len, entry->flags, inner))
		return MAPS_KEPT_EXEMPT_QUERY;
	if (entry->flags & MAPS_FLAG_EXEMPT_CLIENTS &&
		policy_is_exempt_client(inner->head.ip.daddr))
		return MAPS_KEPT_EXEMPT_CLIENT;
	return NOT_KEPT;
}

/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/*
 * Where a direct packet goes next. The outer packet's destination MAC is the next hop of the POP,
 * which need not be that of the client, so the kernel's own FIB is asked.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#include "bpf/parse.h"

#define AF_INET 2 /* <linux/socket.h> has no address families */

/*
 * Loopback, multicast, broadcast and the like are no clients' addresses, but the FIB has no route
 * of its own for them out of this interface, and would lead them to the gateway like anybody.
 */
static __always_inline bool next_hop_is_client(__be32 address)
{
	__u32 first = bpf_ntohl(address) >> 24;

	return first != 0 && first != 127 && first < 224;
}

/*
 * Looks up the client's next hop out of this interface and puts its MAC addresses into the head.
 *
 * tot_len 0 makes the helper compare the packet with the device's MTU instead of the route's. That
 * is what we want: a super-packet is longer than any route's MTU, and no packet is longer now than
 * it was when the tunnel sent it out of this very interface.
 *
 * FIB_LOOKUP_OUTPUT: the route a local socket bound to this interface gets. The helper insists, on
 * all kernels, that IPv4 forwarding is on for the interface.
 *
 * An interface without link-layer header has nobody to ask for a MAC, yet the helper looks for a
 * neighbour there too. On a point-to-point device it finds the one of 0.0.0.0, made when the
 * tunnel's packet came by; on other NOARP devices the client may have none.
 * BPF_FIB_LOOKUP_SKIP_NEIGH came with 6.3, but the egress device has been told along with NO_NEIGH
 * since 5.10, and that is all we need.
 */
static __always_inline bool next_hop_find(
	struct __sk_buff *skb, __u32 l2_len, __be32 game_server_ip, struct inner *inner)
{
	struct bpf_fib_lookup fib = {
		.family = AF_INET,
		.l4_protocol = inner->head.ip.protocol,
		.sport = inner->sport,
		.dport = inner->dport,
		.ifindex = skb->ifindex,
		.tos = inner->head.ip.tos,
		.ipv4_src = game_server_ip,
		.ipv4_dst = inner->head.ip.daddr,
	};
	long r;

	if (!next_hop_is_client(fib.ipv4_dst))
		return false;
	r = bpf_fib_lookup(skb, &fib, sizeof(fib), BPF_FIB_LOOKUP_OUTPUT);
	/* Routing rules and VRFs may lead elsewhere all the same. */
	if (fib.ifindex != skb->ifindex)
		return false;
	if (!l2_len)
		return r == BPF_FIB_LKUP_RET_SUCCESS || r == BPF_FIB_LKUP_RET_NO_NEIGH;
	if (r != BPF_FIB_LKUP_RET_SUCCESS)
		return false;

	__builtin_memcpy(inner->head.eth.h_dest, fib.dmac, ETH_ALEN);
	__builtin_memcpy(inner->head.eth.h_source, fib.smac, ETH_ALEN);
	inner->head.eth.h_proto = bpf_htons(ETH_P_IP);
	return true;
}

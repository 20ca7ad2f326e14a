/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/*
 * Where a direct packet goes next. The outer packet's destination MAC is the next hop of the POP.
 * Where it is the default gateway, and no other route leads to the client, it is the client's too;
 * else the kernel's own FIB is asked.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_helpers.h>

#include "bpf/maps.h"
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

/* The place where the agent may say something of this interface, or of another one. */
static __always_inline struct maps_uplink *next_hop_uplink(struct __sk_buff *skb)
{
	return &uplinks[skb->ifindex % MAPS_UPLINKS];
}

/* Does the agent say that no route but the default one leads to @client? */
static __always_inline bool next_hop_is_default(
	struct __sk_buff *skb, const struct maps_uplink *uplink, __be32 client)
{
	__u32 prefix = bpf_ntohl(client) >> (32 - MAPS_UPLINK_PREFIX);

	return uplink->ifindex == skb->ifindex && !(uplink->routed[prefix / 8] >> prefix % 8 & 1);
}

/*
 * Is the next hop that the kernel found for the outer packet the client's too? It is if the client
 * is behind the default gateway and the frame is addressed to that. What the frame says is never
 * out of date: when the gateway changes, so does the frame, and the FIB is asked again. @frame has
 * been seen to hold an Ethernet header, if @l2_len says that there is one.
 */
static __always_inline bool next_hop_is_same(
	struct __sk_buff *skb, __u32 l2_len, const void *frame, __be32 client)
{
	struct maps_uplink *uplink = next_hop_uplink(skb);

	if (!next_hop_is_default(skb, uplink, client))
		return false;
	if (!l2_len)
		return uplink->is_default;
	return maps_gateway_make(frame, uplink->generation) == uplink->gateway;
}

/* Is the FIB's answer a gateway of the default route? The helper puts it in the client's place. */
static __always_inline bool next_hop_is_gateway(
	const struct maps_uplink *uplink, const struct bpf_fib_lookup *fib)
{
	bool is = false;

#pragma clang loop unroll(full)
	for (int i = 0; i < MAPS_UPLINK_VIAS; i++)
		is |= uplink->via[i] == fib->ipv4_dst;
	return is && fib->family == AF_INET && fib->ipv4_dst;
}

/*
 * From the FIB's answer for a client behind the default route, as far as the agent knows. Without a gateway, or where the
 * kernel knows of another route by now, it is that client's alone.
 */
static __always_inline void next_hop_learn(
	struct maps_uplink *uplink, const struct bpf_fib_lookup *fib, __u16 generation)
{
	__u64 aligned = 0, word;

	if (!next_hop_is_gateway(uplink, fib))
		return;
	__builtin_memcpy(&aligned, fib->dmac, ETH_ALEN); /* the verifier wants it so on the stack */
	word = maps_gateway_make(&aligned, generation);
	if (uplink->gateway != word)
		*(volatile __u64 *)&uplink->gateway = word;
}

/*
 * Asks the kernel's FIB for the route of a packet from @game_server_ip.
 *
 * tot_len 0 makes the helper compare the packet with the device's MTU instead of the route's. That
 * is what we want: a super-packet is longer than any route's MTU, and no packet is longer now than
 * it was when the tunnel sent it out of this very interface.
 *
 * The helper insists, on all kernels, that IPv4 forwarding is on for the interface.
 *
 * An interface without link-layer header has nobody to ask for a MAC, yet the helper looks for a
 * neighbour there too. On a point-to-point device it finds the one of 0.0.0.0, made when the
 * tunnel's packet came by; on other NOARP devices the client may have none.
 * BPF_FIB_LOOKUP_SKIP_NEIGH came with 6.3, but the egress device has been told along with NO_NEIGH
 * since 5.10, and that is all we need.
 */
static __always_inline long next_hop_ask(struct __sk_buff *skb, const struct inner *inner,
	__be32 game_server_ip, __u32 flags, struct bpf_fib_lookup *ret_fib)
{
	*ret_fib = (struct bpf_fib_lookup){
		.family = AF_INET,
		.l4_protocol = inner->head.ip.protocol,
		.sport = inner->sport,
		.dport = inner->dport,
		.ifindex = skb->ifindex,
		.tos = inner->head.ip.tos,
		.ipv4_src = game_server_ip,
		.ipv4_dst = inner->head.ip.daddr,
	};
	return bpf_fib_lookup(skb, ret_fib, sizeof(*ret_fib), flags);
}

/*
 * Has the host no better route to the client out of another interface? With FIB_LOOKUP_OUTPUT the
 * helper sees routes out of this one only. Without, it sees all, but takes the packet for one that
 * came in here; where routing rules make a difference of that, the packet stays on the tunnel.
 */
static __always_inline bool next_hop_is_best(
	struct __sk_buff *skb, const struct inner *inner, __be32 game_server_ip)
{
	struct bpf_fib_lookup fib;
	long r = next_hop_ask(skb, inner, game_server_ip, 0, &fib);

	return (r == BPF_FIB_LKUP_RET_SUCCESS || r == BPF_FIB_LKUP_RET_NO_NEIGH) &&
	       fib.ifindex == skb->ifindex;
}

/* Puts MAC addresses into the head that will be written. */
static __always_inline void next_hop_set(
	struct inner *inner, const void *destination, const void *source)
{
	__builtin_memcpy(inner->head.eth.h_dest, destination, ETH_ALEN);
	__builtin_memcpy(inner->head.eth.h_source, source, ETH_ALEN);
	inner->head.eth.h_proto = bpf_htons(ETH_P_IP);
}

static __always_inline bool next_hop_from_fib(struct __sk_buff *skb, __u32 l2_len,
	__be32 game_server_ip, bool routes_known, struct inner *inner)
{
	struct maps_uplink *uplink = next_hop_uplink(skb);
	__u16 generation = uplink->generation;
	struct bpf_fib_lookup fib;
	const bool is_private = parse_is_private(inner->head.ip.daddr);
	long r;

	/*
	 * A gateway is a way to a private address only where the host's network has it. Often it is a POP's network that
	 * has: one that looks after its servers, or puts its own address in the client's place.
	 */
	if (!next_hop_is_client(inner->head.ip.daddr) || (!l2_len && is_private))
		return false;
	/* The route that a local socket bound to this interface gets. */
	r = next_hop_ask(skb, inner, game_server_ip, BPF_FIB_LOOKUP_OUTPUT, &fib);
	/* Routing rules and VRFs may lead elsewhere all the same. */
	if (fib.ifindex != skb->ifindex)
		return false;
	/* A neighbour is no doubt. The helper puts a gateway, of either family, in the client's place. */
	if (l2_len && is_private && fib.ipv4_dst != inner->head.ip.daddr)
		return false;
	if (r != BPF_FIB_LKUP_RET_SUCCESS && (l2_len || r != BPF_FIB_LKUP_RET_NO_NEIGH))
		return false;
	/* Kernels that do not look at a neighbour's state give what an unresolved one has: nothing. */
	if (l2_len && !(fib.dmac[0] | fib.dmac[1] | fib.dmac[2] | fib.dmac[3] | fib.dmac[4] |
			      fib.dmac[5]))
		return false;
	if (l2_len)
		next_hop_set(inner, fib.dmac, fib.smac);
	if (!routes_known || !next_hop_is_default(skb, uplink, inner->head.ip.daddr))
		return next_hop_is_best(skb, inner, game_server_ip);
	if (l2_len)
		next_hop_learn(uplink, &fib, generation);
	return true;
}

/*
 * Finds the client's next hop out of this interface and puts its MAC addresses into the head.
 * @routes_known: an agent watches the routes, so what `uplinks` says is true.
 */
static __always_inline bool next_hop_find(struct __sk_buff *skb, __u32 l2_len,
	__be32 game_server_ip, bool routes_known, struct inner *inner)
{
	void *frame = (void *)(long)skb->data;

	if (frame + l2_len > (void *)(long)skb->data_end)
		return false;
	if (!routes_known || !next_hop_is_same(skb, l2_len, frame, inner->head.ip.daddr))
		return next_hop_from_fib(skb, l2_len, game_server_ip, routes_known, inner);
	if (l2_len)
		next_hop_set(inner, frame, frame + ETH_ALEN);
	return true;
}

/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/*
 * The common case in a straight line: a whole TCP or UDP packet without IP options, of a tunnel that
 * the agent put into `front`, to a client behind the same gateway as its POP. One lookup, no FIB, no
 * policy, no copy of a header. It decides nothing by itself: whatever is not exactly this, goes on
 * to full().
 *
 * It runs only while an agent does, since only an agent keeps `front` and `uplinks` true: the jump
 * to it is in `alive`, which the kernel empties when the agent's file descriptor is gone.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "bpf/maps.h"
#include "bpf/next_hop.h"
#include "bpf/parse.h"
#include "bpf/rewrite.h"

/* What it takes to make the packet direct, as finish() finds it in skb->cb. */
struct fast {
	__be32 game_server_ip;
	__u32 slot;
	__u32 segments;
	__u32 total;    /* IP length, without the outer header */
	__u32 ip_check; /* the checksums, as they shall be */
	__u32 l4_check;
	__u32 l4; /* where the L4 checksum is in the frame; 0: it stays as it is */
};

/* Set in fast.l4: only the kernel knows what the checksum's field holds. */
#define FAST_L4_ASK 0x80000000

/* The first eight bytes of an IPv4 header, in one piece. */
static __always_inline __u64 fast_start(const struct iphdr *ip)
{
	return bpf_be64_to_cpu(*(const __u64 *)ip);
}

/* Version 4, no options, no fragment. */
static __always_inline bool fast_is_plain(__u64 start)
{
	return (start & 0xff00000000003fff) == 0x4500000000000000;
}

static __always_inline __u32 fast_total(__u64 start)
{
	return start >> 32 & 0xffff;
}

/*
 * Both words of a way name its remote, and each is read in one piece: whatever the agent does
 * meanwhile, they belong to one remote or do not match. What a row says besides its address must not be
 * that of the remote's next row, so that word is looked at twice.
 */
static __always_inline bool fast_look_up(__be32 remote, struct fast *ret_fast)
{
	__u32 index = maps_front_index(remote, front_bits);
	struct maps_front *found = bpf_map_lookup_elem(&front, &index);

	if (!found)
		return false;
#pragma clang loop unroll(full)
	for (int i = 0; i < MAPS_FRONT_WAYS; i++) {
		const volatile struct maps_front_way *way = &found->ways[i];
		__u64 counter = way->counter, address = way->address;

		if (address >> 32 != remote || counter >> 32 != remote || way->counter != counter)
			continue;
		ret_fast->game_server_ip = (__u32)address;
		ret_fast->slot = (__u32)counter;
		return true;
	}
	return false;
}

/*
 * One's complement sums in plain 64-bit arithmetic, where only the rest modulo 0xffff counts; byte
 * order does not matter to them. Two sums side by side, 32 bits each, become checksums in one go.
 */
#define FAST_LANES 0x0000ffff0000ffffULL

static __always_inline __u64 fast_fold_lanes(__u64 lanes)
{
	/* Each is below 2^18 at first, then at most 0xffff + 3. */
	lanes = (lanes & FAST_LANES) + (lanes >> 16 & FAST_LANES);
	return (lanes + (lanes >> 16 & FAST_LANES)) & FAST_LANES;
}

/* Is @value, which need not be positive, a multiple of 0xffff? */
static __always_inline bool fast_is_zero(__u64 value)
{
	const __u64 quotient_max = 0x0001000100010001; /* (2^64 - 1) / 0xffff */

	/* Its negative is the inverse of 0xffff modulo 2^64: only multiples stay that small. */
	return value * -quotient_max <= quotient_max;
}

/*
 * Is @check the sum of the pseudo header alone, as CHECKSUM_PARTIAL has it there? A finished
 * checksum is that by chance once in 65,536 packets; only the kernel can tell.
 */
static __always_inline bool fast_is_partial(const struct iphdr *ip, __u16 check)
{
	/* The length of the payload is tot_len less the header. */
	__u64 sum = (__u64)ip->saddr + ip->daddr + bpf_htons(ip->protocol) + ip->tot_len +
		    (0xffff - bpf_htons(sizeof(*ip)));

	return fast_is_zero(sum - check);
}

/* What @ip with its L4 checksum at @check needs to come from the game server IP. */
static __always_inline void fast_set_checks(
	const struct iphdr *ip, const __u16 *check, __u32 l4, struct fast *fast)
{
	bool zero_is_none = ip->protocol == IPPROTO_UDP;
	__u64 change = (ip->saddr ^ 0xffffffffULL) + fast->game_server_ip, lanes;
	__u16 old = *check;

	fast->l4 = 0;
	fast->ip_check = ip->check;
	if (ip->saddr == fast->game_server_ip)
		return;
	change = (change & 0xffff) + (change >> 16);
	lanes = (ip->check | (__u64)old << 32) ^ FAST_LANES;
	lanes = fast_fold_lanes(lanes + (change | change << 32)) ^ FAST_LANES;
	fast->ip_check = (__u32)lanes;
	if (zero_is_none && !old)
		return;
	fast->l4 = l4;
	fast->l4_check = lanes >> 32;
	if (zero_is_none && !fast->l4_check)
		fast->l4_check = 0xffff;
	if (fast_is_partial(ip, old))
		fast->l4 |= FAST_L4_ASK;
}

/* Looks at everything; full() takes what is refused. */
static __always_inline bool fast_decide(struct __sk_buff *skb, __u32 l2_len, struct fast *ret_fast)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct iphdr *outer = data + l2_len, *inner = outer + 1;
	__u64 outer_start, inner_start;
	__u32 total, check = 6, l4_len = IPPROTO_UDP_LEN;

	if ((void *)(inner + 1) + IPPROTO_UDP_LEN > data_end)
		return false;
	if (l2_len && *(__be16 *)(data + offsetof(struct ethhdr, h_proto)) != bpf_htons(ETH_P_IP))
		return false;
	outer_start = fast_start(outer);
	inner_start = fast_start(inner);
	if (!fast_is_plain(outer_start) || !fast_is_plain(inner_start))
		return false;
	total = fast_total(inner_start);
	if (total + OUTER_LEN != fast_total(outer_start) || l2_len + OUTER_LEN + total > skb->len)
		return false;

	if (inner->protocol != IPPROTO_UDP) {
		if (inner->protocol != IPPROTO_TCP ||
			(void *)(inner + 1) + IPPROTO_TCP_LEN > data_end)
			return false;
		check = 16;
		l4_len = IPPROTO_TCP_LEN;
	}
	if (total < sizeof(*inner) + l4_len)
		return false;
	if (!next_hop_is_same(skb, l2_len, data, inner->daddr) ||
		!fast_look_up(outer->daddr, ret_fast))
		return false;
	if (ret_fast->slot & MAPS_FRONT_OWN_SOURCE && inner->saddr != ret_fast->game_server_ip)
		return false;
	if (ret_fast->slot & MAPS_FRONT_PRIVATE_SOURCE && !parse_is_private(inner->saddr) &&
		inner->saddr != ret_fast->game_server_ip)
		return false;
	ret_fast->slot &= ~MAPS_FRONT_FLAGS;
	ret_fast->segments = skb->gso_segs ?: 1; /* the strip sets it to 0 */
	ret_fast->total = total;
	fast_set_checks(
		inner, (void *)(inner + 1) + check, l2_len + sizeof(*inner) + check, ret_fast);
	return true;
}

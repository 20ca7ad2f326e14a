/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/*
 * Looking at a packet. Nothing here changes a byte of it: at most its headers are pulled into the
 * linear part. Packet memory is only ever read directly; a direct write anywhere in the program
 * would make the verifier put a prologue in front that makes every cloned packet of the interface
 * writable.
 */

#include <stdbool.h>
#include <stddef.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "schema/maps.h"

/* What the parse and decision steps return beside an enum maps_reason. */
#define NOT_KEPT (-1)

#define OUTER_LEN ((__u32)sizeof(struct iphdr)) /* an outer header with options is never stripped */

#define IP_MORE_FRAGMENTS 0x2000
#define IP_OFFSET 0x1fff /* in units of 8 bytes */

#define IPPROTO_DCCP_LEN 12 /* the generic header with short sequence numbers, RFC 4340 */
#define IPPROTO_SCTP_LEN 12
#define IPPROTO_TCP_LEN 20
#define IPPROTO_UDP_LEN 8 /* UDP-Lite too */
#define IPPROTO_ICMP_LEN 8

/*
 * The ranges of agent/core/ip4.c that are not public, but may be a host's: RFC 1918, RFC 6598, RFC 3927. Without a
 * branch for each, which the verifier would follow: a product of 8, 12, 16, 10 and 16 bits, 0 where one of them is.
 */
static __always_inline bool parse_is_private(__be32 address)
{
	const __u64 host = bpf_ntohl(address);

	return !(((host ^ 0x0a000000) >> 24) * ((host ^ 0xac100000) >> 20) *
		 ((host ^ 0xc0a80000) >> 16) * ((host ^ 0x64400000) >> 22) *
		 ((host ^ 0xa9fe0000) >> 16));
}

struct outer {
	__be32 destination;
	__be16 frag_off;
	__u16 total;
	bool options;
};

/*
 * The Ethernet and the inner IPv4 header as they shall be, so that one helper call can write both.
 */
struct head {
	__u16 unused; /* puts `ip` on a multiple of 4: the verifier wants aligned stack accesses */
	struct ethhdr eth;
	struct iphdr ip;
};

struct inner {
	struct head head; /* head.ip is a copy of the inner header, as it came */
	__u32 l4;         /* where its payload starts, counted from the inner IPv4 header */
	__u32 total;
	__be16 sport; /* 0 where there are none */
	__be16 dport;
	__u8 icmp_type;
	bool first; /* not a later fragment: the L4 header is here */
};

/*
 * Is this an untagged IPv4 packet that carries IPv4? Runs on everybody's packets, so it asks the
 * cheap questions first. Headers outside the linear part are read with a helper, not pulled: a
 * foreign packet stays as it is.
 *
 * A VLAN tag means that the packet belongs to an interface stacked on this one, with other routes
 * and neighbours; where the tag is in the frame the protocol is not IPv4, so where it is in the
 * metadata it is left alone just the same.
 */
static __always_inline bool parse_is_ipip(struct __sk_buff *skb, __u32 l2_len)
{
	void *data = (void *)(long)skb->data;
	void *data_end = (void *)(long)skb->data_end;
	__u8 ip_proto;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return false;

	if (data + l2_len + sizeof(struct iphdr) <= data_end)
		ip_proto = ((struct iphdr *)(data + l2_len))->protocol;
	else if (bpf_skb_load_bytes(skb, l2_len + offsetof(struct iphdr, protocol), &ip_proto, 1))
		return false;

	return ip_proto == IPPROTO_IPIP && !skb->vlan_present;
}

/*
 * @value with a bound that the verifier sees: it loses bounds where a value goes through the stack,
 * and clang knows too much to emit a plain mask. Every offset into the headers is below 256.
 */
static __always_inline __u32 parse_bound(__u32 value)
{
	asm volatile("" : "+r"(value));
	return value & 0xff;
}

/*
 * Makes the first @len bytes of the packet linear. The caller has made sure that it is that long,
 * so a failure is a want of memory.
 */
static __always_inline bool parse_pull(struct __sk_buff *skb, __u32 len)
{
	if ((void *)(long)skb->data + len <= (void *)(long)skb->data_end)
		return true;
	return !bpf_skb_pull_data(skb, len);
}

/* Returns false for what is no IPv4 header after all; the packet is then nobody's we know. */
static __always_inline bool parse_outer(
	struct __sk_buff *skb, __u32 l2_len, struct outer *ret_outer)
{
	void *data, *data_end;
	struct iphdr *ip;

	if (!parse_pull(skb, l2_len + OUTER_LEN))
		return false;

	data = (void *)(long)skb->data;
	data_end = (void *)(long)skb->data_end;
	ip = data + l2_len;
	if ((void *)(ip + 1) > data_end)
		return false;
	/* skb->protocol is what the sender of a raw frame says; the frame decides. */
	if (l2_len == ETH_HLEN && ((struct ethhdr *)data)->h_proto != bpf_htons(ETH_P_IP))
		return false;
	if (ip->version != 4 || ip->ihl < 5)
		return false;

	ret_outer->destination = ip->daddr;
	ret_outer->frag_off = ip->frag_off;
	ret_outer->total = bpf_ntohs(ip->tot_len);
	ret_outer->options = ip->ihl > 5;
	return true;
}

/*
 * The frame may be longer than the outer total length, by Ethernet padding, never shorter. A GSO
 * super-packet has the length of the whole super-packet in both headers; a BIG TCP one (IPv4 since
 * 6.3), too long for the field, has 0 there and stays on the tunnel.
 */
static __always_inline int parse_check_outer(
	struct __sk_buff *skb, __u32 l2_len, const struct outer *outer)
{
	if (outer->options)
		return MAPS_KEPT_OUTER_OPTIONS;
	if (outer->frag_off & bpf_htons(IP_MORE_FRAGMENTS | IP_OFFSET))
		return MAPS_KEPT_OUTER_FRAGMENT;
	if (outer->total < OUTER_LEN || l2_len + outer->total > skb->len)
		return MAPS_KEPT_OUTER_LENGTH;
	return NOT_KEPT;
}

static __always_inline int parse_inner(
	struct __sk_buff *skb, __u32 l2_len, const struct outer *outer, struct inner *ret_inner)
{
	struct iphdr *ip;

	if (outer->total < OUTER_LEN + sizeof(*ip))
		return MAPS_KEPT_INNER_SHORT;
	if (!parse_pull(skb, l2_len + OUTER_LEN + sizeof(*ip)))
		return MAPS_KEPT_PULL_FAILED;

	ip = (void *)(long)skb->data + l2_len + OUTER_LEN;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return MAPS_KEPT_PULL_FAILED;
	if (ip->version != 4 || ip->ihl < 5)
		return MAPS_KEPT_INNER_VERSION;

	ret_inner->head.ip = *ip;
	ret_inner->l4 = ip->ihl * 4;
	ret_inner->total = bpf_ntohs(ip->tot_len);
	ret_inner->first = !(ip->frag_off & bpf_htons(IP_OFFSET));
	return NOT_KEPT;
}

/*
 * How much of the payload must be one piece: the header, for protocols whose header we touch or
 * read.
 */
static __always_inline __u32 parse_l4_len(__u8 ip_proto)
{
	switch (ip_proto) {
	case IPPROTO_TCP:
		return IPPROTO_TCP_LEN;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
		return IPPROTO_UDP_LEN;
	case IPPROTO_DCCP:
		return IPPROTO_DCCP_LEN;
	case IPPROTO_SCTP:
		return IPPROTO_SCTP_LEN;
	case IPPROTO_ICMP:
		return IPPROTO_ICMP_LEN;
	default:
		return 0;
	}
}

/*
 * A header torn by fragmentation (RFC 1858) keeps all its pieces on the tunnel: the first has no
 * checksum that we could repair, and a later one that starts inside the header may hold it.
 */
static __always_inline int parse_check_l4(const struct inner *inner)
{
	__u32 l4_len = parse_l4_len(inner->head.ip.protocol);

	if (inner->total < inner->l4)
		return MAPS_KEPT_INNER_SHORT;
	if (!inner->first) {
		__u32 offset = bpf_ntohs(inner->head.ip.frag_off) & IP_OFFSET;

		return offset * 8 < l4_len ? MAPS_KEPT_INNER_SHORT : NOT_KEPT;
	}
	return inner->total < inner->l4 + l4_len ? MAPS_KEPT_INNER_SHORT : NOT_KEPT;
}

/*
 * The lengths, then the first bytes of the L4 header. The inner total length must be the outer one
 * less the outer header, exactly: padding is outside both, and super-packets have theirs in both.
 */
static __always_inline int parse_l4(
	struct __sk_buff *skb, __u32 l2_len, const struct outer *outer, struct inner *inner)
{
	__u32 offset = parse_bound(l2_len + OUTER_LEN + inner->l4);
	__u32 l4_len = parse_l4_len(inner->head.ip.protocol);
	__be16 *ports;
	int reason;

	if (inner->total != outer->total - OUTER_LEN)
		return MAPS_KEPT_INNER_LENGTH;
	reason = parse_check_l4(inner);
	if (reason != NOT_KEPT)
		return reason;

	inner->sport = inner->dport = 0;
	inner->icmp_type = 0;
	if (!inner->first || !l4_len)
		return NOT_KEPT;

	if (!parse_pull(skb, offset + l4_len))
		return MAPS_KEPT_PULL_FAILED;
	ports = (void *)(long)skb->data + offset;
	if ((void *)(ports + 2) > (void *)(long)skb->data_end)
		return MAPS_KEPT_PULL_FAILED;
	if (inner->head.ip.protocol == IPPROTO_ICMP) {
		inner->icmp_type = *(__u8 *)ports;
	} else {
		inner->sport = ports[0];
		inner->dport = ports[1];
	}
	return NOT_KEPT;
}

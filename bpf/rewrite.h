/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/*
 * Changing a packet: the strip, which may still fail and then leaves the packet as it was, and the
 * writes after it, which cannot.
 *
 * Why they cannot: bpf_skb_adjust_room() has made the packet's head ours alone (skb_unclone() in
 * bpf_skb_net_shrink(), 5.10 to 6.18), and every byte written lies in the part that parsing has
 * seen to be linear. Their results are checked all the same, because half a rewrite must not leave
 * the host.
 */

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/parse.h"

/*
 * How to strip, set before loading (agent/kern/strip.h). DECAP_IPXIP4, where the kernel has it,
 * takes the tunnel's mark from the packet, GSO type and skb->encapsulation.
 */
const volatile __u64 strip_flags = BPF_F_ADJ_ROOM_FIXED_GSO;

/*
 * Takes the outer header out. FIXED_GSO: a super-packet's segments keep the size the tunnel gave
 * them; without it the helper would enlarge them by 20 bytes, and refuse UDP super-packets.
 *
 * BPF_F_ADJ_ROOM_NO_CSUM_RESET is left out: the reset only turns CHECKSUM_UNNECESSARY into
 * CHECKSUM_NONE, and what some device has verified is true no more once the addresses change.
 */
static __always_inline bool rewrite_strip(struct __sk_buff *skb)
{
	return !bpf_skb_adjust_room(skb, -(__s32)OUTER_LEN, BPF_ADJ_ROOM_MAC, strip_flags);
}

/*
 * Sum of the two halves of @word, on top of @sum. Byte order does not matter to a one's complement
 * sum.
 */
static __always_inline __u32 rewrite_add(__u32 sum, __u32 word)
{
	return sum + (word & 0xffff) + (word >> 16);
}

static __always_inline __u16 rewrite_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* RFC 1624, equation 3: @check of some data in which @from became @to. Never yields 0xffff. */
static __always_inline __u16 rewrite_checksum(__u16 check, __be32 from, __be32 to)
{
	return rewrite_fold(rewrite_add(rewrite_add((__u16)~check, ~from), to));
}

/*
 * Where the checksum over the pseudo header is, counted from the L4 header; 0 for protocols that
 * have none there: ICMP, SCTP (a CRC over itself), ESP and whatever we do not know.
 */
static __always_inline __u32 rewrite_checksum_offset(__u8 ip_proto)
{
	switch (ip_proto) {
	case IPPROTO_TCP:
		return 16;
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_DCCP:
		return 6;
	default:
		return 0;
	}
}

/*
 * Protocols that write a checksum of 0 as 0xffff. To UDP a 0 means that there is none; UDP-Lite
 * must not send it (RFC 3828), and if one does all the same, it shall not become a checksum here.
 * To TCP and DCCP, 0 is a checksum like any other.
 */
static __always_inline bool rewrite_zero_is_none(__u8 ip_proto)
{
	return ip_proto == IPPROTO_UDP || ip_proto == IPPROTO_UDPLITE;
}

/*
 * Repairs the L4 checksum of a packet whose source @from becomes @to; @l4 is where its L4 header
 * starts. The helper knows whether the field holds a finished checksum or, with CHECKSUM_PARTIAL,
 * the sum of the pseudo header alone; that is what BPF_F_PSEUDO_HDR is for. MARK_MANGLED_0 leaves a
 * checksum of 0 alone and writes 0xffff where the result is 0.
 */
static __always_inline bool rewrite_l4(
	struct __sk_buff *skb, __u32 l4, __u8 ip_proto, __be32 from, __be32 to)
{
	__u32 offset = rewrite_checksum_offset(ip_proto);
	__u64 flags = BPF_F_PSEUDO_HDR | sizeof(to);

	if (!offset)
		return true;
	if (rewrite_zero_is_none(ip_proto))
		flags |= BPF_F_MARK_MANGLED_0;
	return !bpf_l4_csum_replace(skb, l4 + offset, from, to, flags);
}

/*
 * Writes the link-layer header and the inner IPv4 header up to its source address. The checksum
 * over the whole packet that CHECKSUM_COMPLETE keeps need not be told: header and header checksum
 * cancel out.
 */
static __always_inline bool rewrite_head(
	struct __sk_buff *skb, __u32 l2_len, struct inner *inner, __be32 source)
{
	struct head *head = &inner->head;
	const __u32 ip_len = offsetof(struct iphdr, daddr);

	head->ip.check = rewrite_checksum(head->ip.check, head->ip.saddr, source);
	head->ip.saddr = source;
	if (!l2_len)
		return !bpf_skb_store_bytes(skb, 0, &head->ip, ip_len, 0);
	return !bpf_skb_store_bytes(skb, 0, &head->eth, ETH_HLEN + ip_len, 0);
}

/*
 * All writes. Where the server is bound to its public address already, only the MAC addresses are
 * new.
 */
static __always_inline bool rewrite_packet(
	struct __sk_buff *skb, __u32 l2_len, struct inner *inner, __be32 source)
{
	if (inner->head.ip.saddr == source)
		return !l2_len || !bpf_skb_store_bytes(skb, 0, &inner->head.eth, ETH_HLEN, 0);
	if (inner->first && !rewrite_l4(skb, l2_len + inner->l4, inner->head.ip.protocol,
				    inner->head.ip.saddr, source))
		return false;
	return rewrite_head(skb, l2_len, inner, source);
}

/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/*
 * The packet that an ICMP error quotes: the client's, addressed to what the game server believes
 * its address to be. The client sent it to the public address, so that is what it must read, or it
 * will find no socket for the error. The ICMP checksum covers the quote, so it changes along.
 *
 * Rare enough for helpers everywhere; looked at before the strip, written after it, like the rest.
 */

#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_helpers.h>

#include "bpf/parse.h"
#include "bpf/rewrite.h"

#define ICMP_CHECKSUM 2 /* where it is in the ICMP header */

struct quote {
	__u32 offset; /* of the quoted IPv4 header, from the inner IPv4 header; 0: nothing to do */
	__u32 checksum; /* of the quoted L4 checksum, likewise; 0: not there, or none */
	struct iphdr ip;
	__u16 l4_check;
	__u16 icmp_check;
};

static __always_inline bool quote_expected(const struct inner *inner)
{
	if (inner->head.ip.protocol != IPPROTO_ICMP)
		return false;
	switch (inner->icmp_type) {
	case 3:  /* destination unreachable */
	case 4:  /* source quench */
	case 5:  /* redirect */
	case 11: /* time exceeded */
	case 12: /* parameter problem */
		return true;
	default:
		return false;
	}
}

/*
 * Errors quote as little as 8 bytes behind the header (RFC 792), so a TCP checksum may not be
 * there. Half a checksum cannot be repaired. Returns false if the quote cannot be rewritten.
 */
static __always_inline bool quote_parse_l4(
	struct __sk_buff *skb, __u32 start, const struct inner *inner, struct quote *quote)
{
	__u32 field = rewrite_checksum_offset(quote->ip.protocol);

	quote->checksum = 0;
	if (!field)
		return true;
	field += quote->offset + quote->ip.ihl * 4;
	if (field >= inner->total)
		return true;
	if (field + sizeof(quote->l4_check) > inner->total)
		return false;
	if (bpf_skb_load_bytes(skb, start + field, &quote->l4_check, sizeof(quote->l4_check)))
		return false;
	if (rewrite_zero_is_none(quote->ip.protocol) && !quote->l4_check)
		return true;
	quote->checksum = field;
	return true;
}

/*
 * Reads the quote and makes it linear as far as it will be written. Kept on the tunnel: what is too
 * short to hold a header, quotes another destination than this server, or a later fragment (which
 * no socket is found for anyway).
 */
static __always_inline int quote_parse(
	struct __sk_buff *skb, __u32 l2_len, const struct inner *inner, struct quote *ret_quote)
{
	const __u32 start = l2_len + OUTER_LEN;
	struct quote *quote = ret_quote;
	__u32 end;

	quote->offset = inner->l4 + IPPROTO_ICMP_LEN;
	if (quote->offset + sizeof(quote->ip) > inner->total)
		return MAPS_KEPT_ICMP_ERROR;
	if (bpf_skb_load_bytes(skb, start + quote->offset, &quote->ip, sizeof(quote->ip)))
		return MAPS_KEPT_ICMP_ERROR;
	if (quote->ip.version != 4 || quote->ip.ihl < 5 ||
		quote->offset + quote->ip.ihl * 4 > inner->total)
		return MAPS_KEPT_ICMP_ERROR;
	if (quote->ip.daddr != inner->head.ip.saddr || quote->ip.frag_off & bpf_htons(IP_OFFSET))
		return MAPS_KEPT_ICMP_ERROR;
	if (!quote_parse_l4(skb, start, inner, quote))
		return MAPS_KEPT_ICMP_ERROR;
	if (bpf_skb_load_bytes(skb, start + inner->l4 + ICMP_CHECKSUM, &quote->icmp_check,
		    sizeof(quote->icmp_check)))
		return MAPS_KEPT_ICMP_ERROR;

	end = quote->checksum ? quote->checksum + sizeof(quote->l4_check)
			      : quote->offset + sizeof(quote->ip);
	return parse_pull(skb, parse_bound(start + end)) ? NOT_KEPT : MAPS_KEPT_PULL_FAILED;
}

/*
 * To the ICMP checksum the new address and the new header checksum cancel out; what remains is the
 * change of the quoted L4 checksum.
 */
static __always_inline bool quote_write_checksums(struct __sk_buff *skb, __u32 l2_len,
	const struct inner *inner, struct quote *quote, __be32 to)
{
	__u16 check = rewrite_checksum(quote->l4_check, quote->ip.daddr, to);

	if (!check && rewrite_zero_is_none(quote->ip.protocol))
		check = 0xffff;
	quote->icmp_check = rewrite_checksum(quote->icmp_check, quote->l4_check, check);
	return !bpf_skb_store_bytes(skb, l2_len + quote->checksum, &check, sizeof(check), 0) &&
	       !bpf_skb_store_bytes(skb, l2_len + inner->l4 + ICMP_CHECKSUM, &quote->icmp_check,
		       sizeof(quote->icmp_check), 0);
}

/* After the strip. The header is written from its checksum on: checksum, source, destination. */
static __always_inline bool quote_write(struct __sk_buff *skb, __u32 l2_len,
	const struct inner *inner, struct quote *quote, __be32 to)
{
	const __u32 from = offsetof(struct iphdr, check);

	if (!quote->offset)
		return true;
	if (quote->checksum && !quote_write_checksums(skb, l2_len, inner, quote, to))
		return false;
	quote->ip.check = rewrite_checksum(quote->ip.check, quote->ip.daddr, to);
	quote->ip.daddr = to;
	return !bpf_skb_store_bytes(
		skb, l2_len + quote->offset + from, &quote->ip.check, sizeof(quote->ip) - from, 0);
}

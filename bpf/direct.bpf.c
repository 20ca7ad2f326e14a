// SPDX-License-Identifier: GPL-2.0-only
/*
 * Direct return: a TC egress program that takes a game server's replies out of their IPIP tunnel
 * and sends them straight to the client. The sequence only; its steps are in parse.h, policy.h,
 * quote.h, next_hop.h and rewrite.h.
 *
 * The law: when in doubt, leave the packet to the tunnel. So everything is looked at first, the
 * outer header is stripped as the last step that may fail, and only then is anything written.
 *
 * The verdict is always TC_ACT_UNSPEC, "not decided here", for packets left alone and for rewritten
 * ones: the programs and filters after this one shall see what really leaves. TC_ACT_OK from a TCX
 * program would skip everybody's clsact filters.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#include "bpf/maps.h"
#include "bpf/next_hop.h"
#include "bpf/parse.h"
#include "bpf/policy.h"
#include "bpf/quote.h"
#include "bpf/rewrite.h"

char LICENSE[] SEC("license") = "GPL";

static __always_inline void count_reason(__u32 slot, int reason)
{
	struct maps_kept_counters *row = bpf_map_lookup_elem(&kept, &slot);

	if (row)
		__sync_fetch_and_add(&row->packets[reason & (MAPS_REASON_ROOM - 1)], 1);
}

static __always_inline void count_direct(__u32 slot, __u32 packets, __u32 bytes)
{
	struct maps_direct_counters *row = bpf_map_lookup_elem(&counters, &slot);

	if (!row)
		return;
	row->packets += packets;
	row->bytes += bytes;
}

/* Below a shared remote, the inner source tells whose packet it is. */
static __always_inline bool find_source(
	__be32 remote, const struct inner *inner, struct maps_entry *ret_entry)
{
	struct maps_source_key key = { .remote = remote, .inner_source = inner->head.ip.saddr };
	struct maps_entry *found = bpf_map_lookup_elem(&sources, &key);

	if (!found)
		return false;
	*ret_entry = *found;
	return true;
}

/* Everything there is to look at. Returns why the packet stays on the tunnel, or NOT_KEPT. */
static __always_inline int decide(struct __sk_buff *skb, __u32 l2_len, const struct outer *outer,
	struct maps_entry *entry, struct inner *ret_inner, struct quote *ret_quote)
{
	int reason = parse_check_outer(skb, l2_len, outer);

	if (reason == NOT_KEPT)
		reason = parse_inner(skb, l2_len, outer, ret_inner);
	if (reason != NOT_KEPT)
		return reason;

	if (entry->flags & MAPS_FLAG_SHARED && !find_source(outer->destination, ret_inner, entry))
		return MAPS_KEPT_NO_SOURCE;

	reason = parse_l4(skb, l2_len, outer, ret_inner);
	if (reason != NOT_KEPT)
		return reason;
	if (entry->mode == MAPS_MODE_TUNNEL)
		return MAPS_KEPT_MODE_TUNNEL;
	reason = policy_check(skb, l2_len, entry, ret_inner);
	if (reason != NOT_KEPT)
		return reason;
	/* With the public address on the server, nothing in a quote is wrong. */
	ret_quote->offset = 0;
	if (quote_expected(ret_inner) && ret_inner->head.ip.saddr != entry->game_server_ip)
		reason = quote_parse(skb, l2_len, ret_inner, ret_quote);
	if (reason != NOT_KEPT)
		return reason;
	if (!next_hop_find(skb, l2_len, entry->game_server_ip, ret_inner))
		return MAPS_KEPT_NO_NEXT_HOP;
	/* Last, so that it counts what would really have gone direct. */
	return entry->mode == MAPS_MODE_SHADOW ? MAPS_KEPT_SHADOW : NOT_KEPT;
}

static __always_inline int send_direct(struct __sk_buff *skb, __u32 l2_len,
	const struct maps_entry *entry, struct inner *inner, struct quote *quote)
{
	__u32 segments = skb->gso_segs; /* the strip sets it to 0 */

	if (!rewrite_strip(skb)) {
		count_reason(entry->slot, MAPS_KEPT_STRIP_FAILED);
		return TC_ACT_UNSPEC;
	}
	if (!quote_write(skb, l2_len, inner, quote, entry->game_server_ip) ||
		!rewrite_packet(skb, l2_len, inner, entry->game_server_ip)) {
		count_reason(entry->slot, MAPS_DROP_WRITE_FAILED);
		return TC_ACT_SHOT;
	}
	count_direct(entry->slot, segments ?: 1, inner->total);
	return TC_ACT_UNSPEC;
}

static __always_inline int handle(struct __sk_buff *skb, __u32 l2_len)
{
	struct maps_remote_key key = {};
	struct maps_entry *found, entry;
	struct outer outer;
	struct inner inner;
	struct quote quote;
	int reason;

	if (!parse_is_ipip(skb, l2_len) || !parse_outer(skb, l2_len, &outer))
		return TC_ACT_UNSPEC;

	key.remote = outer.destination;
	found = bpf_map_lookup_elem(&remotes, &key);
	if (!found) {
		count_reason(MAPS_SLOT_NONE, MAPS_KEPT_NO_ENTRY);
		return TC_ACT_UNSPEC;
	}
	entry = *found;

	reason = decide(skb, l2_len, &outer, &entry, &inner, &quote);
	if (reason != NOT_KEPT) {
		count_reason(entry.slot, reason);
		return TC_ACT_UNSPEC;
	}
	return send_direct(skb, l2_len, &entry, &inner, &quote);
}

/* For interfaces whose frames start with an Ethernet header. */
SEC("tc")
int direct(struct __sk_buff *skb)
{
	return handle(skb, ETH_HLEN);
}

/* For interfaces whose packets start with the IP header: tun, ppp, wireguard. */
SEC("tc")
int direct_l3(struct __sk_buff *skb)
{
	return handle(skb, 0);
}

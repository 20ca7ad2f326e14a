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

#include "bpf/fast.h"
#include "bpf/maps.h"
#include "bpf/next_hop.h"
#include "bpf/parse.h"
#include "bpf/policy.h"
#include "bpf/quote.h"
#include "bpf/rewrite.h"

/*
 * What one part tells the next, in skb->cb. Only written on packets that are IPIP; nobody reads it
 * before a queueing discipline makes it its own.
 */
enum {
	CB_ROUTES_KNOWN = 0, /* to full(): an agent is alive */
	/* To finish(): struct fast. */
	CB_GAME_SERVER_IP = 0,
	CB_SLOT = 1,
	CB_IP_CHECK = 2,
	CB_L4_CHECK = 3,
	CB_L4 = 4,
};

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

/* Copies a row. Is it what was looked up, and not what its memory was given to meanwhile? */
static __always_inline bool take_entry(
	const struct maps_entry *found, __be32 address, struct maps_entry *ret_entry)
{
	__be32 key;

	*ret_entry = *found;
	barrier(); /* the key last: what was read before it was this row's */
	key = *(const volatile __be32 *)&found->key;
	return !key || key == address;
}

/* Below a shared remote, the inner source tells whose packet it is. */
static __always_inline bool find_source(
	__be32 remote, const struct inner *inner, struct maps_entry *ret_entry)
{
	struct maps_source_key key = { .remote = remote, .inner_source = inner->head.ip.saddr };
	struct maps_entry *found = bpf_map_lookup_elem(&sources, &key), entry;

	if (!found)
		return false;
	if (!take_entry(found, key.inner_source, &entry))
		return false;
	*ret_entry = entry;
	return true;
}

/* Is a row for packets with that inner source? */
static __always_inline bool serves(const struct maps_entry *entry, __be32 inner_source)
{
	if (inner_source == entry->game_server_ip)
		return true;
	if (entry->flags & MAPS_FLAG_OWN_SOURCE)
		return false;
	return !(entry->flags & MAPS_FLAG_PRIVATE_SOURCE) || parse_is_private(inner_source);
}

/* Everything there is to look at. Returns why the packet stays on the tunnel, or NOT_KEPT. */
static __always_inline int decide(struct __sk_buff *skb, __u32 l2_len, bool routes_known,
	const struct outer *outer, struct maps_entry *entry, struct inner *ret_inner,
	struct quote *ret_quote)
{
	int reason = parse_check_outer(skb, l2_len, outer);

	if (reason == NOT_KEPT)
		reason = parse_inner(skb, l2_len, outer, ret_inner);
	if (reason != NOT_KEPT)
		return reason;

	if (entry->flags & MAPS_FLAG_SHARED && !find_source(outer->destination, ret_inner, entry))
		return MAPS_KEPT_NO_SOURCE;
	if (!serves(entry, ret_inner->head.ip.saddr))
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
	if (!next_hop_find(skb, l2_len, entry->game_server_ip, routes_known, ret_inner))
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

/* The whole contract, for every packet that is IPIP. */
static __always_inline int full_handle(struct __sk_buff *skb, __u32 l2_len)
{
	bool routes_known = skb->cb[CB_ROUTES_KNOWN];
	struct maps_remote_key key = {};
	struct maps_entry *found, entry;
	struct outer outer;
	struct inner inner;
	struct quote quote;
	int reason;

	if (!parse_outer(skb, l2_len, &outer))
		return TC_ACT_UNSPEC;

	key.remote = outer.destination;
	found = bpf_map_lookup_elem(&remotes, &key);
	if (!found || !take_entry(found, key.remote, &entry)) {
		count_reason(MAPS_SLOT_NONE, MAPS_KEPT_NO_ENTRY);
		return TC_ACT_UNSPEC;
	}

	reason = decide(skb, l2_len, routes_known, &outer, &entry, &inner, &quote);
	if (reason != NOT_KEPT) {
		count_reason(entry.slot, reason);
		return TC_ACT_UNSPEC;
	}
	return send_direct(skb, l2_len, &entry, &inner, &quote);
}

/* The verdict for a packet that fast() has counted as direct. */
static __always_inline int finish_verdict(const struct fast *fast, bool written)
{
	if (written)
		return TC_ACT_UNSPEC;
	count_reason(fast->slot, MAPS_DROP_WRITE_FAILED);
	return TC_ACT_SHOT;
}

/* What finish() does, should it not be there: the packet is stripped already. */
static __always_inline int finish_here(struct __sk_buff *skb, __u32 l2_len, const struct fast *fast)
{
	struct inner inner = { .l4 = sizeof(struct iphdr), .first = true };
	__u32 len = l2_len + sizeof(struct iphdr);
	void *head = l2_len ? (void *)&inner.head.eth : (void *)&inner.head.ip;

	return finish_verdict(
		fast, !bpf_skb_load_bytes(skb, 0, head, len) &&
			      rewrite_packet(skb, l2_len, &inner, fast->game_server_ip));
}

static __always_inline int fast_handle(
	struct __sk_buff *skb, __u32 l2_len, enum maps_jump full_jump, enum maps_jump finish_jump)
{
	struct fast fast = {};

	if (!fast_decide(skb, l2_len, &fast)) {
		skb->cb[CB_ROUTES_KNOWN] = 1;
		bpf_tail_call_static(skb, &jumps, full_jump);
		count_reason(MAPS_SLOT_NONE, MAPS_KEPT_NO_PROGRAM);
		return TC_ACT_UNSPEC;
	}
	if (!rewrite_strip(skb)) {
		count_reason(fast.slot, MAPS_KEPT_STRIP_FAILED);
		return TC_ACT_UNSPEC;
	}
	/* Here, not at the end, so that the processor has it done while it does the rest. */
	count_direct(fast.slot, fast.segments, fast.total);
	skb->cb[CB_GAME_SERVER_IP] = fast.game_server_ip;
	skb->cb[CB_SLOT] = fast.slot;
	skb->cb[CB_IP_CHECK] = fast.ip_check;
	skb->cb[CB_L4_CHECK] = fast.l4_check;
	skb->cb[CB_L4] = fast.l4;
	bpf_tail_call_static(skb, &jumps, finish_jump);
	return finish_here(skb, l2_len, &fast);
}

/*
 * Writes directly into the packet. In a program of its own, behind the strip: the prologue that the
 * verifier puts before such a program unshares clones, for which it might drop a packet, but the
 * strip has left none.
 */
static __always_inline bool finish_write(
	struct __sk_buff *skb, __u32 l2_len, const struct fast *fast)
{
	void *data = (void *)(long)skb->data, *data_end = (void *)(long)skb->data_end;
	struct iphdr *ip = data + l2_len;
	__u16 *check = data + (fast->l4 & 0xff);
	__be32 from;

	if ((void *)(ip + 1) > data_end)
		return false;
	from = ip->saddr;
	ip->check = (__u16)fast->ip_check;
	ip->saddr = fast->game_server_ip;
	if (!fast->l4)
		return true;
	if (fast->l4 & FAST_L4_ASK)
		return rewrite_l4(
			skb, l2_len + sizeof(*ip), ip->protocol, from, fast->game_server_ip);
	if ((void *)(check + 1) > data_end)
		return false;
	*check = (__u16)fast->l4_check;
	return true;
}

static __always_inline int finish_handle(struct __sk_buff *skb, __u32 l2_len)
{
	struct fast fast = {
		.game_server_ip = skb->cb[CB_GAME_SERVER_IP],
		.slot = skb->cb[CB_SLOT],
		.ip_check = skb->cb[CB_IP_CHECK],
		.l4_check = skb->cb[CB_L4_CHECK],
		.l4 = skb->cb[CB_L4],
	};

	return finish_verdict(&fast, finish_write(skb, l2_len, &fast));
}

static __always_inline int enter(
	struct __sk_buff *skb, __u32 l2_len, enum maps_alive fast_jump, enum maps_jump full_jump)
{
	if (!parse_is_ipip(skb, l2_len))
		return TC_ACT_UNSPEC;
	bpf_tail_call_static(skb, &alive, fast_jump);
	skb->cb[CB_ROUTES_KNOWN] = 0;
	bpf_tail_call_static(skb, &jumps, full_jump);
	count_reason(MAPS_SLOT_NONE, MAPS_KEPT_NO_PROGRAM);
	return TC_ACT_UNSPEC;
}

/*
 * On interfaces whose frames start with an Ethernet header. The order is that in which the kernel
 * lays the programs out in memory: what the common packet runs through stands together.
 */

SEC("tc")
int direct(struct __sk_buff *skb)
{
	return enter(skb, ETH_HLEN, MAPS_ALIVE_FAST, MAPS_JUMP_FULL);
}

SEC("tc")
int fast(struct __sk_buff *skb)
{
	return fast_handle(skb, ETH_HLEN, MAPS_JUMP_FULL, MAPS_JUMP_FINISH);
}

SEC("tc")
int finish(struct __sk_buff *skb)
{
	return finish_handle(skb, ETH_HLEN);
}

SEC("tc")
int full(struct __sk_buff *skb)
{
	return full_handle(skb, ETH_HLEN);
}

/* On those whose packets start with the IP header: tun, ppp, wireguard. */

SEC("tc")
int direct_l3(struct __sk_buff *skb)
{
	return enter(skb, 0, MAPS_ALIVE_FAST_L3, MAPS_JUMP_FULL_L3);
}

SEC("tc")
int fast_l3(struct __sk_buff *skb)
{
	return fast_handle(skb, 0, MAPS_JUMP_FULL_L3, MAPS_JUMP_FINISH_L3);
}

SEC("tc")
int finish_l3(struct __sk_buff *skb)
{
	return finish_handle(skb, 0);
}

SEC("tc")
int full_l3(struct __sk_buff *skb)
{
	return full_handle(skb, 0);
}

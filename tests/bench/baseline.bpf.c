// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the datapath is measured against: a program that does nothing, one that only strips, and one
 * for each part of the work. The parts may spoil the packet; nobody reads it.
 */

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "schema/maps.h"

#define AF_INET 2               /* <linux/socket.h> has no address families */
#define FIB_LOOKUP_SKIP_NEIGH 4 /* BPF_FIB_LOOKUP_SKIP_NEIGH, since 6.3 */
#define OUTER_LEN ((__s32)sizeof(struct iphdr))
#define HEAD_LEN 30 /* Ethernet, and IPv4 up to its source address */

char LICENSE[] SEC("license") = "GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAPS_REMOTES_MAX_DEFAULT);
	__type(key, struct maps_remote_key);
	__type(value, struct maps_entry);
} bench_remotes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, struct maps_direct_counters);
} bench_counters SEC(".maps");

/* Returns the outer header, or NULL. */
static __always_inline struct iphdr *find_ipip(struct __sk_buff *skb)
{
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;

	if (skb->protocol != bpf_htons(ETH_P_IP))
		return NULL;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end || ip->protocol != IPPROTO_IPIP)
		return NULL;
	return ip;
}

SEC("tc")
int nop(struct __sk_buff *skb)
{
	(void)skb;
	return TC_ACT_UNSPEC;
}

SEC("tc")
int strip(struct __sk_buff *skb)
{
	if (find_ipip(skb))
		(void)bpf_skb_adjust_room(
			skb, -OUTER_LEN, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int part_parse(struct __sk_buff *skb)
{
	return find_ipip(skb) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

SEC("tc")
int part_lookup(struct __sk_buff *skb)
{
	struct iphdr *ip = find_ipip(skb);
	struct maps_remote_key key = {};

	if (!ip)
		return TC_ACT_UNSPEC;
	key.remote = ip->daddr;
	return bpf_map_lookup_elem(&bench_remotes, &key) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

static __always_inline int look_up_route(struct __sk_buff *skb, __u32 flags)
{
	struct iphdr *ip = find_ipip(skb);
	struct bpf_fib_lookup fib = { .family = AF_INET, .ifindex = skb->ifindex };
	long r;

	if (!ip || (void *)(ip + 2) > (void *)(long)skb->data_end)
		return TC_ACT_UNSPEC;
	fib.ipv4_src = ip[1].saddr;
	fib.ipv4_dst = ip[1].daddr;
	r = bpf_fib_lookup(skb, &fib, sizeof(fib), BPF_FIB_LOOKUP_OUTPUT | flags);
	return r == BPF_FIB_LKUP_RET_SUCCESS ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

SEC("tc")
int part_fib(struct __sk_buff *skb)
{
	return look_up_route(skb, 0);
}

/* Neither rules nor the local table. */
SEC("tc")
int part_fib_main(struct __sk_buff *skb)
{
	return look_up_route(skb, BPF_FIB_LOOKUP_DIRECT);
}

SEC("tc")
int part_fib_no_neighbour(struct __sk_buff *skb)
{
	return look_up_route(skb, FIB_LOOKUP_SKIP_NEIGH);
}

SEC("tc")
int part_checksum(struct __sk_buff *skb)
{
	if (find_ipip(skb))
		(void)bpf_l4_csum_replace(skb, ETH_HLEN + 2 * OUTER_LEN + 6, bpf_htonl(0x0a000001),
			bpf_htonl(0x0a000002),
			BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0 | sizeof(__be32));
	return TC_ACT_UNSPEC;
}

SEC("tc")
int part_store(struct __sk_buff *skb)
{
	char head[HEAD_LEN + 2] = { 2 };

	/* Behind the headers, so that the packet remains one. */
	if (find_ipip(skb))
		(void)bpf_skb_store_bytes(skb, ETH_HLEN + 2 * OUTER_LEN + 8, head, HEAD_LEN, 0);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int part_counter(struct __sk_buff *skb)
{
	struct maps_direct_counters *row;
	__u32 slot = 1;

	if (!find_ipip(skb))
		return TC_ACT_UNSPEC;
	row = bpf_map_lookup_elem(&bench_counters, &slot);
	if (row) {
		row->packets += 1;
		row->bytes += skb->len;
	}
	return TC_ACT_UNSPEC;
}

/*
 * Writes directly into the packets it takes, and into no others: what that costs the others is the
 * prologue that the verifier adds.
 */
SEC("tc")
int direct_write(struct __sk_buff *skb)
{
	struct iphdr *ip = find_ipip(skb);

	if (ip)
		ip->ttl = 1;
	return TC_ACT_UNSPEC;
}

/* SPDX-License-Identifier: GPL-2.0-only */
/* Somebody else's egress program: counts packets and lets everything pass to the next. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} foreign_seen SEC(".maps");

SEC("tc")
int foreign(struct __sk_buff *skb)
{
	__u32 key = 0;
	__u64 *seen = bpf_map_lookup_elem(&foreign_seen, &key);

	(void)skb;
	if (seen)
		__sync_fetch_and_add(seen, 1);
	return -1; /* TC_ACT_UNSPEC: the next one decides */
}

char LICENSE[] SEC("license") = "GPL";

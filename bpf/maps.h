/* SPDX-License-Identifier: GPL-2.0-only */
#pragma once
/*
 * The maps of the datapath. Their keys and values are schema/maps.h, the contract with userspace;
 * here are only their kinds and sizes. The agent may set other sizes before it loads the object.
 *
 * A map and a program cannot share a name in one C file, so the per-CPU counters of direct packets,
 * which the contract calls `direct`, are the map `counters`.
 */

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "schema/maps.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAPS_REMOTES_MAX_DEFAULT);
	__type(key, struct maps_remote_key);
	__type(value, struct maps_entry);
} remotes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAPS_REMOTES_MAX_DEFAULT);
	__type(key, struct maps_source_key);
	__type(value, struct maps_entry);
} sources SEC(".maps");

/* For entries flagged MAPS_FLAG_SERVER_PORTS, by slot. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAPS_REMOTES_MAX_DEFAULT);
	/* Few tunnels have any. */
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct maps_server_ports);
} server_ports SEC(".maps");

/* For entries flagged MAPS_FLAG_EXEMPT_CLIENTS. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAPS_EXEMPT_CLIENTS_MAX);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* a trie insists */
	__type(key, struct maps_client_key);
	__type(value, __u8);
} exempt_clients SEC(".maps");

/* One slot an entry of either hash; slot 0 is MAPS_SLOT_NONE. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAPS_REMOTES_MAX_DEFAULT);
	__type(key, __u32);
	__type(value, struct maps_direct_counters);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAPS_REMOTES_MAX_DEFAULT);
	__type(key, __u32);
	__type(value, struct maps_kept_counters);
} kept SEC(".maps");

/* From here on unpinned, see schema/maps.h. */

/* `front` has 1 << front_bits buckets. In .bss, near `uplinks`, to spare a page. */
__u32 front_bits;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct maps_front);
} front SEC(".maps");

struct maps_uplink uplinks[MAPS_UPLINKS]; /* in .bss, which is mapped into the agent */

/*
 * The kernel empties a program array when nobody in userspace holds it. This one is pinned, as long
 * as the program that jumps through it is attached.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, MAPS_JUMP_COUNT);
	__type(key, __u32);
	__type(value, __u32);
} jumps SEC(".maps");

/* Held by the agent's file descriptor alone: a dead man's switch. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, MAPS_ALIVE_COUNT);
	__type(key, __u32);
	__type(value, __u32);
} alive SEC(".maps");

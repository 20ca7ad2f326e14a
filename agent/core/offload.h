/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The guard against devices that segment IPIP by themselves: what to do on one interface, and the
 * memory of what was done, so that it can be given back. Pure.
 *
 * Why: the ipip device marks super-packets as tunnelled (SKB_GSO_IPXIP4, skb->encapsulation). Kernels
 * before 7.1 cannot clear the mark when the outer header is stripped. A device with the feature below
 * then gets a plain TCP super-packet that claims to be a tunnelled one. Without the feature the kernel
 * segments in software, by what is really in the packet.
 */

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OFFLOAD_FEATURE "tx-ipxip4-segmentation" /* as ethtool(8) spells it */

enum offload_policy {
	OFFLOAD_AUTO, /* off where the device has it and the kernel cannot clear the mark */
	OFFLOAD_ON,   /* off wherever the device has it */
	OFFLOAD_OFF,  /* left alone */
};

/* One feature of a device; all false: the device has no such feature. */
struct offload_feature {
	bool changeable; /* else [fixed] */
	bool wanted;     /* as somebody asked for it */
	bool active;     /* as it is; what is wanted may need another feature */
};

enum offload_verb {
	OFFLOAD_LEAVE,
	OFFLOAD_TURN_OFF,  /* remember first, then turn off */
	OFFLOAD_GIVE_BACK, /* turn on, then forget */
};

enum offload_reason {
	OFFLOAD_REASON_TURNED_OFF,
	OFFLOAD_REASON_ALREADY_OFF,
	OFFLOAD_REASON_NO_FEATURE,
	OFFLOAD_REASON_KERNEL_CLEARS,
	OFFLOAD_REASON_POLICY_OFF,
	OFFLOAD_REASON_FIXED_ON,
	OFFLOAD_REASON_FAILED,
	OFFLOAD_REASON_COUNT
};

struct offload_decision {
	enum offload_verb verb;
	enum offload_reason reason; /* what holds once the verb is carried out */
};

/* `ours`: the agent turned it off at some time and has not given it back. */
struct offload_decision offload_decide(enum offload_policy policy, bool kernel_clears,
	const struct offload_feature *feature, bool ours);

/* Whether a stripped super-packet may be handed to a device with this reason. */
bool offload_is_safe(enum offload_reason reason, bool kernel_clears);

/* What the guard does on one interface, for the status. */
struct offload_guard {
	bool known; /* false: there is no such interface */
	enum offload_policy policy;
	enum offload_reason reason;
};

const char *offload_policy_name(enum offload_policy policy);
int offload_policy_parse(const char *name, enum offload_policy *ret);
const char *offload_reason_name(enum offload_reason reason);

/* An interface on which the agent turned the feature off. */
struct offload_record {
	uint64_t netns; /* inode of its network namespace: indices mean nothing in another one */
	uint32_t ifindex;
	char ifname[IFNAMSIZ]; /* at that time; for people */
};

struct offload_memory {
	struct offload_record *list;
	size_t n;
};

void offload_memory_done(struct offload_memory *memory);
const struct offload_record *offload_memory_find(
	const struct offload_memory *memory, uint64_t netns, uint32_t ifindex);
/* 0, also when it is there already, or -ENOMEM. */
int offload_memory_add(struct offload_memory *memory, const struct offload_record *record);
void offload_memory_remove(struct offload_memory *memory, uint64_t netns, uint32_t ifindex);

/* The memory as text of a file and back. -EBADMSG: it is no such text. */
json_t *offload_memory_make(const struct offload_memory *memory);
int offload_memory_parse(const char *text, size_t size, struct offload_memory *ret);

/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Guards an interface against devices that segment IPIP by themselves (agent/core/offload.h): reads,
 * lets the core decide, carries out. Used by the agent and by `ipipdirectctl detach`; never logs.
 *
 * What was turned off is kept in a file of the run directory, since it must be given back by whoever
 * comes: a later agent, or none. The file is written before the device is changed, and after it is
 * given back. Whenever the agent is killed, the worst that the file says is that the feature is ours
 * to turn on, when nobody has turned it off yet.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/offload.h"

#define GUARD_FILE "offloads.json"

struct guard {
	int directory; /* of the file; borrowed. -1: change nothing, as in a dry run */
	bool kernel_clears;
};

/* What guard_interface() found and did. */
struct guarded {
	struct offload_guard view;
	bool turned_off; /* just now */
	bool again;      /* and it was ours: somebody had turned it on */
	bool give_back;  /* call guard_give_back() once the program is attached */
	int error;       /* with OFFLOAD_REASON_FAILED: -errno */
};

/* Turns the feature off on an interface, or leaves it, as the policy wants. Before attaching. */
void guard_interface(const struct guard *guard, enum offload_policy policy, uint32_t ifindex,
	const char *ifname, struct guarded *ret);

/*
 * After the program was taken off, its packets may still wait in the queue of the interface. They are cut when they
 * leave it (net/sched/sch_generic.c, sch_direct_xmit()), so the feature stays off for so long.
 */
#define GUARD_QUEUE_SECONDS 1

/*
 * Turns the feature on again where it was turned off by an agent. 1: done; 0: there was nothing, or
 * the interface is gone; or -errno, and it is tried again the next time.
 */
int guard_give_back(int directory, uint32_t ifindex);

/* What is remembered of this network namespace, resp. of others. The caller's. No file: none. */
int guard_read(
	int directory, struct offload_memory *ret_here, struct offload_memory *ret_elsewhere);

/* Forgets all interfaces of other network namespaces. */
int guard_forget_elsewhere(int directory);

/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What explain and doctor ask the kernel's network: routes, links, and who else is on an interface's
 * egress. A thin door that changes nothing. All functions return 0 or -errno.
 */

#include <net/if.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/ip4.h"

/*
 * The interface by which this namespace sends to `destination`, from `source` where that is an address of its own: the
 * kernel says nothing of others'. -ENETUNREACH: none.
 */
int net_route(struct ip4 destination, struct ip4 source, uint32_t *ret_ifindex);

/* The MTU of an interface; of this namespace with NSID_OWN, else of the one with that id. */
int net_mtu(int32_t nsid, uint32_t ifindex, uint32_t *ret);

/* One TC filter on a clsact egress. */
struct net_filter {
	uint32_t priority; /* smaller ones run first */
	uint32_t handle;
	char kind[16];       /* "bpf", "flower", … */
	uint32_t program_id; /* of kind bpf; 0: unknown */
};

/* In the order in which they run; the caller frees *ret. No clsact: none. */
int net_filters(uint32_t ifindex, struct net_filter **ret, size_t *ret_n);

#define NET_PROGRAMS_MAX 64

/*
 * The programs on the TCX egress, in the order in which they run. CAP_NET_ADMIN. -EINVAL: this kernel
 * has no TCX.
 */
int net_tcx_programs(uint32_t ifindex, uint32_t ret[static NET_PROGRAMS_MAX], uint32_t *ret_n);

/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Loading, pinning, attaching and detaching the BPF program. Touches nothing that is not ours: no qdisc
 * is removed, no filter or link of anybody else is changed.
 *
 * Everything is pinned (or held by a filter), so the agent's death changes nothing on the wire, and
 * what a former agent left is adopted. All functions return 0 or -errno.
 */

#include <stddef.h>
#include <stdint.h>

#include "agent/core/attachment.h"
#include "agent/kern/entry_map.h"
#include "agent/kern/rtnl.h"

struct dataplane;

/*
 * Loads the program and opens its maps: the pinned ones where they are, which then keep their size,
 * else new ones of `max_rows`, pinned. Nothing is attached yet. -EINVAL: what is pinned is not of this
 * ABI.
 */
int dataplane_load(uint32_t max_rows, struct dataplane **ret);
void dataplane_free(struct dataplane *dataplane);

/*
 * Attaches to the egress of `interface`, before everybody else's programs: a TCX link where the kernel
 * has it (6.6), else a clsact filter of our own priority and handle. What an earlier agent attached is
 * replaced in place, without a gap.
 */
int dataplane_attach(struct dataplane *dataplane, const struct host_interface *interface,
	struct attachment *ret);

/* Whether the attachment is still there, with our program in it: 0, or -ENOENT. */
int dataplane_check(const struct attachment *attachment);

/* The interfaces that have something of ours, by their pins. The caller frees *ret. */
int dataplane_attached(uint32_t **ret_ifindexes, size_t *ret_n);

/* Removes what is ours from one interface, and its pin. Nothing there is no error. */
int dataplane_detach(uint32_t ifindex);

/* Removes all pins, maps included. Detach first. */
int dataplane_remove_pins(void);

/* SPDX-License-Identifier: MIT */
#pragma once
/* The pinned maps in memory, as agent/kern/entry_map.c writes them and bpf/direct.bpf.c reads them. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/plan.h"

/* One operation is at most this many writes. */
#define MODEL_WRITES_MAX 3

/*
 * Write number `i` of an operation, from 0; `ret_done`: it was the last one. Returns false where the operation does not fit:
 * it adds what is there, or changes, moves to another slot or removes what is not.
 */
bool model_write(struct rows *maps, const struct plan_op *op, size_t i, bool *ret_done);

/* All writes of an operation. */
bool model_apply(struct rows *maps, const struct plan_op *op);

/* What becomes of the packets of one inner source to one remote. */
struct model_way {
	uint32_t game_server_ip; /* their new source address, big-endian; 0: all take the tunnel */
	uint8_t mode;            /* enum maps_mode */
	uint16_t flags;          /* what of them takes the tunnel even so: enum maps_flag */
	struct maps_server_ports server_ports;
};

struct model_way model_look_up(const struct rows *maps, struct ip4 remote, struct ip4 source);

/*
 * Whether what is there between two writes is safe, with what was there before all and will be after: the way before, the
 * way after, or the tunnel. A server that is direct before and after takes no detour, but where its ports change.
 */
bool model_is_safe(
	const struct model_way *was, const struct model_way *is, const struct model_way *will);

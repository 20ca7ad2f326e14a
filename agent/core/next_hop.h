/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The gateways by which direct packets may leave, and when the kernel must be asked to look after one.
 *
 * The program only reads the neighbour table. A gateway that the host itself sends nothing to turns
 * stale there and stays so: if its MAC address changes without being announced, packets go on to the
 * old one. So the agent has the kernel probe it. Pure: time and states come from outside.
 */

#include <linux/if_ether.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/ip4.h"
#include "agent/core/route.h"

#define NEXT_HOPS_MAX 64 /* those of default routes first; further ones are not looked after */

/* An entry of the kernel's neighbour table. */
struct neighbour {
	uint16_t nud;          /* NUD_*, linux/neighbour.h; 0: there is none */
	uint8_t mac[ETH_ALEN]; /* zeros: not known, or not an Ethernet one */
};

struct next_hop {
	uint32_t ifindex;
	struct ip4 gateway;
	bool is_default;       /* of the default route that is preferred out of the interface */
	uint8_t mac[ETH_ALEN]; /* when it was last looked at; zeros: not known */
	unsigned int asked;    /* times in a row, without it being reachable in between */
	uint64_t quiet_until;  /* microseconds: not to be asked again before */
};

struct next_hops {
	struct next_hop list[NEXT_HOPS_MAX];
	size_t n;
};

/*
 * The gateways of all routes out of these interfaces, each once. What is known of one that was there
 * before stays known.
 */
void next_hops_update(
	struct next_hops *hops, const struct routes *routes, const uint32_t *ifindexes, size_t n);

/* Whether a packet that goes out by the default route may be addressed so. */
bool next_hops_are_reached_by(
	const struct next_hops *hops, uint32_t ifindex, const uint8_t mac[static ETH_ALEN]);

bool next_hops_has(const struct next_hops *hops, uint32_t ifindex, struct ip4 gateway);

/* What the kernel's neighbour table says. */
enum next_hop_state {
	NEXT_HOP_NONE,   /* no entry, or nobody answered */
	NEXT_HOP_STALE,  /* an address, of which nobody knows whether it still holds */
	NEXT_HOP_PROBED, /* the kernel is asking for it */
	NEXT_HOP_GOOD,   /* confirmed, or set by hand */
};

/* From NUD_*, linux/neighbour.h; 0 for an entry that is not there. */
enum next_hop_state next_hop_state(uint16_t nud);

/*
 * Whether the kernel shall be asked to probe it now; if so, that is noted. One that does not answer is
 * asked at once, then after 1, 2, 4 … 64 seconds.
 */
bool next_hop_ask(struct next_hop *hop, enum next_hop_state state, uint64_t now);

/* Microseconds to wait before one must be looked at again unasked; UINT64_MAX: none must. */
uint64_t next_hops_wait(const struct next_hops *hops, uint64_t now);

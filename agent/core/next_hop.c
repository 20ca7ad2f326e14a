/* SPDX-License-Identifier: MIT */
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "agent/core/next_hop.h"

#define QUIET_MIN_USEC (1000 * 1000)
#define QUIET_MAX_SHIFT 6

static struct next_hop *find(struct next_hops *hops, uint32_t ifindex, struct ip4 gateway)
{
	for (size_t i = 0; i < hops->n; i++)
		if (hops->list[i].ifindex == ifindex && hops->list[i].gateway.be == gateway.be)
			return &hops->list[i];
	return NULL;
}

bool next_hops_has(const struct next_hops *hops, uint32_t ifindex, struct ip4 gateway)
{
	return find((struct next_hops *)hops, ifindex, gateway) != NULL;
}

bool next_hops_are_reached_by(
	const struct next_hops *hops, uint32_t ifindex, const uint8_t mac[static ETH_ALEN])
{
	for (size_t i = 0; i < hops->n; i++)
		if (hops->list[i].ifindex == ifindex && hops->list[i].is_default &&
			memcmp(hops->list[i].mac, mac, ETH_ALEN) == 0)
			return true;
	return false;
}

static bool is_among(const uint32_t *ifindexes, size_t n, uint32_t ifindex)
{
	for (size_t i = 0; i < n; i++)
		if (ifindexes[i] == ifindex)
			return true;
	return false;
}

static void add_gateways(struct next_hops *hops, const struct route *route,
	const uint32_t *ifindexes, size_t n_ifindexes)
{
	for (size_t i = 0; i < route->n_ifindexes && hops->n < NEXT_HOPS_MAX; i++) {
		struct next_hop hop = { .ifindex = route->ifindexes[i],
			.gateway = route->gateways[i] };

		if (!ip4_is_none(hop.gateway) && is_among(ifindexes, n_ifindexes, hop.ifindex) &&
			!next_hops_has(hops, hop.ifindex, hop.gateway))
			hops->list[hops->n++] = hop;
	}
}

static void mark_defaults(
	struct next_hops *hops, const struct routes *routes, const uint32_t *ifindexes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct route *best = routes_best_default(routes, ifindexes[i]);

		for (size_t j = 0; best && j < best->n_ifindexes; j++) {
			struct next_hop *hop = find(hops, ifindexes[i], best->gateways[j]);

			if (hop && best->ifindexes[j] == ifindexes[i])
				hop->is_default = true;
		}
	}
}

void next_hops_update(
	struct next_hops *hops, const struct routes *routes, const uint32_t *ifindexes, size_t n)
{
	struct next_hops fresh = { .n = 0 };

	for (int defaults = 1; defaults >= 0; defaults--)
		for (size_t i = 0; i < routes->n; i++)
			if (routes->list[i].type == RTN_UNICAST &&
				(routes->list[i].destination.length == 0) == defaults)
				add_gateways(&fresh, &routes->list[i], ifindexes, n);
	for (size_t i = 0; i < fresh.n; i++) {
		const struct next_hop *known =
			find(hops, fresh.list[i].ifindex, fresh.list[i].gateway);

		if (known)
			fresh.list[i] = *known;
		fresh.list[i].is_default = false;
	}
	mark_defaults(&fresh, routes, ifindexes, n);
	*hops = fresh;
}

enum next_hop_state next_hop_state(uint16_t nud)
{
	if (nud & (NUD_REACHABLE | NUD_PERMANENT | NUD_NOARP))
		return NEXT_HOP_GOOD;
	if (nud & (NUD_INCOMPLETE | NUD_DELAY | NUD_PROBE))
		return NEXT_HOP_PROBED;
	return nud & NUD_STALE ? NEXT_HOP_STALE : NEXT_HOP_NONE;
}

bool next_hop_ask(struct next_hop *hop, enum next_hop_state state, uint64_t now)
{
	unsigned int shift;

	switch (state) {
	case NEXT_HOP_GOOD:
		hop->asked = 0;
		hop->quiet_until = 0;
		return false;
	case NEXT_HOP_PROBED:
		return false;
	case NEXT_HOP_STALE:
	case NEXT_HOP_NONE:
		break;
	}
	if (now < hop->quiet_until)
		return false;
	/* The first time it may be a stale address that fails; asked again, the kernel broadcasts. */
	shift = hop->asked > 1 ? hop->asked - 1 : 0;
	if (hop->asked > 0)
		hop->quiet_until =
			now + ((uint64_t)QUIET_MIN_USEC
				      << (shift < QUIET_MAX_SHIFT ? shift : QUIET_MAX_SHIFT));
	hop->asked++;
	return true;
}

uint64_t next_hops_wait(const struct next_hops *hops, uint64_t now)
{
	uint64_t wait = UINT64_MAX;

	for (size_t i = 0; i < hops->n; i++) {
		uint64_t until = hops->list[i].quiet_until;

		if (hops->list[i].asked > 0 && until > now && until - now < wait)
			wait = until - now;
	}
	return wait;
}

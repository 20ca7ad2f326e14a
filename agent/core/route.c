/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/route.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

void routes_done(struct routes *routes)
{
	free(routes->list);
	*routes = (struct routes){ 0 };
}

uint64_t routes_pause(uint64_t took)
{
	const uint64_t min = ROUTES_PAUSE_MIN_USEC, max = 5 * 1000 * 1000;

	if (took > max / 10)
		return max;
	return 10 * took < min ? min : 10 * took;
}

static bool is_default(const struct route *route)
{
	return route->destination.length == 0;
}

int routes_add(struct routes *routes, const struct route *route)
{
	struct route *slot;

	if (routes->n >= ROUTES_MAX && !is_default(route)) {
		routes->more = true;
		return 0;
	}
	slot = ARRAY_APPEND(routes->list, routes->n);
	if (!slot)
		return -ENOMEM;
	*slot = *route;
	routes->n++;
	return 0;
}

static bool leads_out(const struct route *route)
{
	return is_default(route) && route->type == RTN_UNICAST && route->table == RT_TABLE_MAIN &&
	       route->n_ifindexes > 0;
}

static int compare_defaults(const void *pa, const void *pb)
{
	const struct route *a = *(struct route *const *)pa, *b = *(struct route *const *)pb;

	if (a->metric != b->metric)
		return a->metric < b->metric ? -1 : 1;
	if (a->ifindexes[0] != b->ifindexes[0])
		return a->ifindexes[0] < b->ifindexes[0] ? -1 : 1;
	return 0;
}

/* The default routes that lead out, the best first. */
static int sort_defaults(const struct routes *routes, const struct route ***ret, size_t *ret_n)
{
	_cleanup_free_ const struct route **list = NULL;
	size_t n = 0;

	for (size_t i = 0; i < routes->n; i++) {
		const struct route **slot;

		if (!leads_out(&routes->list[i]))
			continue;
		slot = ARRAY_APPEND(list, n);
		if (!slot)
			return -ENOMEM;
		*slot = &routes->list[i];
		n++;
	}
	if (n > 0)
		qsort(list, n, sizeof(*list), compare_defaults);
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

static int add_once(uint32_t **list, size_t *n, uint32_t value)
{
	uint32_t *slot;

	for (size_t i = 0; i < *n; i++)
		if ((*list)[i] == value)
			return 0;
	slot = ARRAY_APPEND(*list, *n);
	if (!slot)
		return -ENOMEM;
	*slot = value;
	(*n)++;
	return 0;
}

int routes_default_interfaces(const struct routes *routes, uint32_t **ret, size_t *ret_n)
{
	_cleanup_free_ const struct route **defaults = NULL;
	_cleanup_free_ uint32_t *list = NULL;
	size_t n_defaults, n = 0;
	int r;

	r = sort_defaults(routes, &defaults, &n_defaults);
	for (size_t i = 0; r == 0 && i < n_defaults; i++)
		for (size_t j = 0; r == 0 && j < defaults[i]->n_ifindexes; j++)
			r = add_once(&list, &n, defaults[i]->ifindexes[j]);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(list);
	*ret_n = n;
	return 0;
}

void uplink_mark(struct maps_uplink *uplink, const struct ip4_prefix *destination)
{
	uint32_t first = ntohl(destination->address.be) >> (32 - MAPS_UPLINK_PREFIX), n = 1;

	if (destination->length < MAPS_UPLINK_PREFIX)
		n = UINT32_C(1) << (MAPS_UPLINK_PREFIX - destination->length);
	first &= ~(n - 1); /* with host bits it would end behind the map */
	for (uint32_t i = first; i < first + n; i++)
		uplink->routed[i / 8] |= (uint8_t)(1U << i % 8);
}

/* Only these are looked at where there are no rules but the kernel's own. */
static bool is_looked_at(uint32_t table)
{
	return table == RT_TABLE_LOCAL || table == RT_TABLE_MAIN || table == RT_TABLE_DEFAULT;
}

static bool leads_through(const struct route *route, uint32_t ifindex)
{
	for (size_t i = 0; i < route->n_ifindexes; i++)
		if (route->ifindexes[i] == ifindex)
			return true;
	return false;
}

const struct route *routes_best_default(const struct routes *routes, uint32_t ifindex)
{
	const struct route *best = NULL;

	for (size_t i = 0; i < routes->n; i++) {
		const struct route *route = &routes->list[i];

		if (!is_default(route) || route->type != RTN_UNICAST ||
			!is_looked_at(route->table) || !leads_through(route, ifindex))
			continue;
		/* RT_TABLE_LOCAL is asked first, then MAIN, then DEFAULT: 255, 254, 253. */
		if (!best || route->table > best->table ||
			(route->table == best->table && route->metric < best->metric))
			best = route;
	}
	return best;
}

static enum uplink_state check(const struct routes *routes)
{
	if (!routes->rules_plain)
		return UPLINK_RULES;
	if (routes->more)
		return UPLINK_MANY;
	for (size_t i = 0; i < routes->n; i++)
		if (is_default(&routes->list[i]) && routes->list[i].tos != 0)
			return UPLINK_TOS;
	return UPLINK_SHORTCUT;
}

static void set_gateways(const struct route *best, uint32_t ifindex, struct maps_uplink *uplink)
{
	size_t n = 0;

	for (size_t i = 0; best && i < best->n_ifindexes && n < MAPS_UPLINK_VIAS; i++)
		if (best->ifindexes[i] == ifindex && !ip4_is_none(best->gateways[i]))
			uplink->via[n++] = best->gateways[i].be;
}

enum uplink_state uplink_make(
	const struct routes *routes, uint32_t ifindex, struct maps_uplink *ret)
{
	enum uplink_state state = check(routes);
	const struct route *best = NULL;
	struct ip4_prefix prefix;

	*ret = (struct maps_uplink){ 0 };
	if (state != UPLINK_SHORTCUT)
		return state;
	/* Routed as the default route says, but not for bpf/next_hop.h, which judges them by the FIB's answer. */
	for (size_t i = 0; ip4_not_public(i, &prefix); i++)
		uplink_mark(ret, &prefix);
	for (size_t i = 0; i < routes->n; i++) {
		const struct route *route = &routes->list[i];

		if (!is_default(route) && is_looked_at(route->table))
			uplink_mark(ret, &route->destination);
		if (is_default(route) && route->table == RT_TABLE_MAIN &&
			(!best || route->metric < best->metric))
			best = route;
	}
	/* With several next hops the packet may belong to another of them. */
	ret->is_default = best && best->type == RTN_UNICAST && best->n_ifindexes == 1 &&
			  leads_through(best, ifindex);
	set_gateways(routes_best_default(routes, ifindex), ifindex, ret);
	ret->ifindex = ifindex;
	return state;
}

bool uplink_equal(const struct maps_uplink *a, const struct maps_uplink *b)
{
	return ((a->ifindex ^ b->ifindex) & ~UPLINK_SUSPENDED) == 0 &&
	       a->is_default == b->is_default && memcmp(a->via, b->via, sizeof(a->via)) == 0 &&
	       memcmp(a->routed, b->routed, sizeof(a->routed)) == 0;
}

void uplink_store(struct maps_uplink *place, const struct maps_uplink *wanted, bool suspended)
{
	if (uplink_equal(place, wanted))
		return;
	__atomic_store_n(&place->ifindex, 0, __ATOMIC_SEQ_CST);
	memcpy(place->routed, wanted->routed, sizeof(place->routed));
	memcpy(place->via, wanted->via, sizeof(place->via));
	place->is_default = wanted->is_default;
	place->gateway = 0;
	place->generation++;
	__atomic_store_n(&place->ifindex, wanted->ifindex | (suspended ? UPLINK_SUSPENDED : 0),
		__ATOMIC_SEQ_CST);
}

const char *uplink_state_name(enum uplink_state state)
{
	switch (state) {
	case UPLINK_SHORTCUT:
		return "shortcut";
	case UPLINK_RULES:
		return "routing-rules";
	case UPLINK_TOS:
		return "tos-routes";
	case UPLINK_MANY:
		return "many-routes";
	case UPLINK_NO_PLACE:
		return "no-place";
	case UPLINK_NO_GATEWAY:
		return "no-gateway";
	case UPLINK_UNREAD:
		return "unread";
	}
	return "?";
}

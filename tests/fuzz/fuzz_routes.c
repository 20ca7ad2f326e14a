/* SPDX-License-Identifier: MIT */
/*
 * Route tables: what the program may know of an interface follows from the set of routes, not from their
 * order, and every address that another route than the default one decides is marked.
 */

#include <arpa/inet.h>
#include <linux/rtnetlink.h>

#include "agent/core/route.h"
#include "agent/util/cleanup.h"
#include "tests/fuzz/fuzz.h"

#define MANY 64
#define INTERFACES 4

static struct route take_route(struct input *input)
{
	static const uint8_t types[] = { RTN_UNICAST, RTN_LOCAL, RTN_BLACKHOLE, RTN_UNREACHABLE };
	static const uint32_t tables[] = { RT_TABLE_MAIN, RT_TABLE_LOCAL, RT_TABLE_DEFAULT, 100 };
	uint8_t choice = take_byte(input);
	struct route route = {
		.type = types[choice & 3],
		.table = tables[choice >> 2 & 3],
		.tos = choice >> 4 == 15,
		.n_ifindexes = choice >> 4 & 3,
		.metric = take_byte(input),
	};

	route.destination.length = take_byte(input) % 33;
	take_bytes(input, &route.destination.address, sizeof(route.destination.address));
	for (size_t i = 0; i < route.n_ifindexes; i++)
		route.ifindexes[i] = 1 + take_byte(input) % INTERFACES;
	return route;
}

static bool is_marked(const struct maps_uplink *uplink, struct ip4 address)
{
	uint32_t bit = ntohl(address.be) >> (32 - MAPS_UPLINK_PREFIX);

	return uplink->routed[bit / 8] >> bit % 8 & 1;
}

static void check_marks(const struct routes *routes, const struct maps_uplink *uplink)
{
	for (size_t i = 0; i < routes->n; i++) {
		const struct route *route = &routes->list[i];
		uint32_t table = route->table, host_bits;
		uint8_t length = route->destination.length;
		struct ip4 last;

		if (length == 0 || (table != RT_TABLE_MAIN && table != RT_TABLE_LOCAL &&
					   table != RT_TABLE_DEFAULT))
			continue;
		host_bits = length == 32 ? 0 : UINT32_MAX >> length;
		last.be = htonl(ntohl(route->destination.address.be) | host_bits);
		CHECK(is_marked(uplink, route->destination.address));
		CHECK(is_marked(uplink, last));
	}
}

static void check_defaults(const struct routes *routes)
{
	_cleanup_free_ uint32_t *list = NULL;
	size_t n;

	CHECK(routes_default_interfaces(routes, &list, &n) == 0);
	CHECK(n <= INTERFACES);
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			CHECK(list[i] != list[j]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(routes_done) struct routes routes = { 0 }, reversed = { 0 };
	struct input input = { data, size };

	routes.rules_plain = reversed.rules_plain = take_byte(&input) != 0;
	while (input.size > 0 && routes.n < MANY) {
		struct route route = take_route(&input);

		CHECK(routes_add(&routes, &route) == 0);
	}
	for (size_t i = routes.n; i > 0; i--)
		CHECK(routes_add(&reversed, &routes.list[i - 1]) == 0);
	for (uint32_t ifindex = 1; ifindex <= INTERFACES; ifindex++) {
		struct maps_uplink uplink, other;
		enum uplink_state state = uplink_make(&routes, ifindex, &uplink);

		CHECK(uplink_make(&reversed, ifindex, &other) == state);
		CHECK(memcmp(uplink.routed, other.routed, sizeof(uplink.routed)) == 0);
		if (state == UPLINK_SHORTCUT)
			check_marks(&routes, &uplink);
		else
			CHECK(uplink.ifindex == 0 && !uplink.is_default);
	}
	check_defaults(&routes);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Which gateways are looked after, and when the kernel is asked to. */

#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "agent/core/next_hop.h"
#include "agent/util/cleanup.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

#define ETH0 2
#define ETH1 3
#define SECOND UINT64_C(1000000)

static const uint32_t both[] = { ETH0, ETH1 };

static void add_route(
	struct routes *routes, const char *prefix, uint32_t ifindex, const char *gateway)
{
	struct route route = { .table = RT_TABLE_MAIN,
		.type = RTN_UNICAST,
		.ifindexes = { ifindex },
		.gateways = { gateway ? ip4_of(gateway) : (struct ip4){ 0 } },
		.n_ifindexes = 1 };

	if (strcmp(prefix, "default") != 0)
		assert_int_equal(ip4_prefix_parse(prefix, &route.destination), 0);
	assert_int_equal(routes_add(routes, &route), 0);
}

static void test_gateways_out_of_the_interfaces(void **state)
{
	_cleanup_(routes_done) struct routes routes = { 0 };
	struct next_hops hops = { 0 };

	(void)state;
	add_route(&routes, "198.51.100.0/24", ETH0, "192.0.2.9");
	add_route(&routes, "192.0.2.0/24", ETH0, NULL);
	add_route(&routes, "10.9.0.0/16", 7, "10.9.0.1");
	add_route(&routes, "198.51.101.0/24", ETH0, "192.0.2.9");
	add_route(&routes, "default", ETH0, "192.0.2.1");
	add_route(&routes, "default", ETH1, "192.0.3.1");
	next_hops_update(&hops, &routes, both, 2);
	assert_int_equal(hops.n, 3);
	assert_true(next_hops_has(&hops, ETH0, ip4_of("192.0.2.9")));
	assert_false(next_hops_has(&hops, ETH1, ip4_of("192.0.2.9")));
	/* Those of default routes have the first places. */
	assert_int_equal(hops.list[0].gateway.be, ip4_of("192.0.2.1").be);
	assert_int_equal(hops.list[1].gateway.be, ip4_of("192.0.3.1").be);
	next_hops_update(&hops, &routes, both, 1);
	assert_int_equal(hops.n, 2);
}

/* Those of the route that the kernel prefers, out of each interface by itself. */
static void test_only_the_best_default_route_counts(void **state)
{
	static const uint8_t one[ETH_ALEN] = { 2, 0, 0, 0, 0, 1 },
			     two[ETH_ALEN] = { 2, 0, 0, 0, 0, 2 };
	_cleanup_(routes_done) struct routes routes = { 0 };
	struct next_hops hops = { 0 };

	(void)state;
	add_route(&routes, "default", ETH0, "192.0.2.1");
	add_route(&routes, "default", ETH1, "192.0.3.1");
	add_route(&routes, "198.51.100.0/24", ETH0, "192.0.2.2");
	routes.list[1].metric = 100;
	next_hops_update(&hops, &routes, both, 2);
	for (size_t i = 0; i < hops.n; i++)
		memcpy(hops.list[i].mac,
			hops.list[i].gateway.be == ip4_of("192.0.2.2").be ? two : one, ETH_ALEN);
	assert_true(next_hops_are_reached_by(&hops, ETH0, one));
	assert_true(next_hops_are_reached_by(&hops, ETH1, one));
	assert_false(next_hops_are_reached_by(&hops, ETH0, two));
	/* A better one, by a router that is known already. */
	routes.list[0].metric = 200;
	add_route(&routes, "default", ETH0, "192.0.2.2");
	next_hops_update(&hops, &routes, both, 2);
	assert_false(next_hops_are_reached_by(&hops, ETH0, one));
	assert_true(next_hops_are_reached_by(&hops, ETH0, two));
	assert_true(next_hops_are_reached_by(&hops, ETH1, one));
}

static void test_there_are_never_more_than_fit(void **state)
{
	_cleanup_(routes_done) struct routes routes = { 0 };
	struct next_hops hops = { 0 };

	(void)state;
	for (uint32_t i = 1; i <= NEXT_HOPS_MAX + 5; i++) {
		char prefix[32], gateway[32];

		(void)snprintf(prefix, sizeof(prefix), "198.51.%u.0/24", i);
		(void)snprintf(gateway, sizeof(gateway), "192.0.2.%u", i);
		add_route(&routes, prefix, ETH0, gateway);
	}
	add_route(&routes, "default", ETH0, "192.0.2.254");
	next_hops_update(&hops, &routes, both, 2);
	assert_int_equal(hops.n, NEXT_HOPS_MAX);
	assert_true(next_hops_has(&hops, ETH0, ip4_of("192.0.2.254")));
}

static void test_only_what_needs_it_is_asked_for(void **state)
{
	struct next_hop hop = { 0 };

	(void)state;
	assert_false(next_hop_ask(&hop, next_hop_state(NUD_REACHABLE), 0));
	assert_false(next_hop_ask(&hop, next_hop_state(NUD_PERMANENT), 0));
	assert_false(next_hop_ask(&hop, next_hop_state(NUD_NOARP), 0));
	assert_false(next_hop_ask(&hop, next_hop_state(NUD_INCOMPLETE), 0));
	assert_false(next_hop_ask(&hop, next_hop_state(NUD_DELAY), 0));
	assert_false(next_hop_ask(&hop, next_hop_state(NUD_PROBE), 0));
	assert_true(next_hop_ask(&hop, next_hop_state(NUD_STALE), 0));
	assert_false(next_hop_ask(&hop, next_hop_state(NUD_REACHABLE), 0));
	assert_true(next_hop_ask(&hop, next_hop_state(NUD_FAILED), 0));
	assert_false(next_hop_ask(&hop, next_hop_state(NUD_REACHABLE), 0));
	assert_true(next_hop_ask(&hop, next_hop_state(0), 0));
}

/* However often it fails, it is asked for a bounded number of times, and never given up. */
static void test_one_that_is_silent_is_asked_ever_more_rarely(void **state)
{
	_cleanup_(routes_done) struct routes routes = { 0 };
	struct next_hops hops = { 0 };
	unsigned int asked = 0, last = 0;

	(void)state;
	add_route(&routes, "default", ETH0, "192.0.2.1");
	next_hops_update(&hops, &routes, both, 1);
	for (uint64_t now = 0; now < 1000 * SECOND; now += SECOND / 10) {
		next_hops_update(&hops, &routes, both, 1); /* remembers */
		asked += next_hop_ask(&hops.list[0], NEXT_HOP_NONE, now);
		if (now == 5 * SECOND)
			assert_in_range(asked, 4, 5);
		if (now == 900 * SECOND)
			last = asked;
	}
	assert_in_range(asked, 15, 25);
	assert_true(asked > last);
	/* And once it is there, it may fail anew without having to wait. */
	assert_false(next_hop_ask(&hops.list[0], NEXT_HOP_GOOD, 1000 * SECOND));
	assert_true(next_hop_ask(&hops.list[0], NEXT_HOP_STALE, 1000 * SECOND));
}

static void test_the_wait_ends_when_one_may_be_asked_again(void **state)
{
	_cleanup_(routes_done) struct routes routes = { 0 };
	struct next_hops hops = { 0 };

	(void)state;
	add_route(&routes, "default", ETH0, "192.0.2.1");
	add_route(&routes, "default", ETH1, "192.0.3.1");
	next_hops_update(&hops, &routes, both, 2);
	assert_true(next_hops_wait(&hops, 0) == UINT64_MAX);
	assert_true(next_hop_ask(&hops.list[0], NEXT_HOP_NONE, 0));
	assert_true(next_hops_wait(&hops, 0) == UINT64_MAX); /* its failure will ring */
	assert_true(next_hop_ask(&hops.list[0], NEXT_HOP_NONE, 5));
	assert_true(next_hops_wait(&hops, 5) == SECOND);
	assert_true(next_hops_wait(&hops, 5 + SECOND / 4) == SECOND - SECOND / 4);
	assert_false(next_hop_ask(&hops.list[0], NEXT_HOP_NONE, 5 + SECOND / 4));
	assert_true(next_hop_ask(&hops.list[0], NEXT_HOP_NONE, 5 + SECOND));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gateways_out_of_the_interfaces),
		cmocka_unit_test(test_only_the_best_default_route_counts),
		cmocka_unit_test(test_there_are_never_more_than_fit),
		cmocka_unit_test(test_only_what_needs_it_is_asked_for),
		cmocka_unit_test(test_one_that_is_silent_is_asked_ever_more_rarely),
		cmocka_unit_test(test_the_wait_ends_when_one_may_be_asked_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

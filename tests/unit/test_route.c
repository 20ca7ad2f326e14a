/* SPDX-License-Identifier: MIT */
/* What the program may know of an interface's routes, and which interfaces the default routes have. */

#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/route.h"
#include "agent/util/cleanup.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

#define ETH0 2
#define ETH1 3

static void add_route(struct routes *routes, const char *prefix, uint32_t ifindex, uint32_t metric)
{
	struct route route = { .table = RT_TABLE_MAIN,
		.type = RTN_UNICAST,
		.metric = metric,
		.ifindexes = { ifindex },
		.n_ifindexes = 1 };

	if (strcmp(prefix, "default") != 0)
		assert_int_equal(ip4_prefix_parse(prefix, &route.destination), 0);
	assert_int_equal(routes_add(routes, &route), 0);
}

static struct routes host_routes(void)
{
	struct routes routes = { .rules_plain = true };

	add_route(&routes, "default", ETH0, 100);
	add_route(&routes, "198.51.100.0/24", ETH0, 0);
	add_route(&routes, "198.51.100.10/32", ETH0, 0);
	routes.list[2].table = RT_TABLE_LOCAL;
	routes.list[2].type = RTN_LOCAL;
	return routes;
}

static bool is_routed(const struct maps_uplink *uplink, const char *address)
{
	uint32_t bit = __builtin_bswap32(ip4_of(address).be) >> (32 - MAPS_UPLINK_PREFIX);

	return uplink->routed[bit / 8] >> bit % 8 & 1;
}

static void test_only_the_default_route_leads_to_most(void **state)
{
	_cleanup_(routes_done) struct routes routes = host_routes();
	struct maps_uplink uplink;

	(void)state;
	assert_int_equal(uplink_make(&routes, ETH0, &uplink), UPLINK_SHORTCUT);
	assert_int_equal(uplink.ifindex, ETH0);
	assert_int_equal(uplink.is_default, 1);
	assert_false(is_routed(&uplink, "1.1.1.1"));
	assert_false(is_routed(&uplink, "203.0.113.7"));
	assert_false(is_routed(&uplink, "223.255.255.255"));
	assert_true(is_routed(&uplink, "198.51.100.77"));
	/* Who shares the bit asks the FIB as well. */
	assert_true(is_routed(&uplink, "198.48.0.0"));
	assert_true(is_routed(&uplink, "198.55.255.255"));
	assert_false(is_routed(&uplink, "198.47.255.255"));
	assert_false(is_routed(&uplink, "198.56.0.0"));
}

/* Nobody's, or private: what the FIB says has to be looked at, in bpf/next_hop.h. */
static void test_no_client_has_these_addresses(void **state)
{
	static const char *const none[] = { "0.0.0.0", "0.255.255.255", "127.0.0.1",
		"127.255.255.255", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255", "169.254.0.1",
		"172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255" };
	_cleanup_(routes_done) struct routes routes = host_routes();
	struct maps_uplink uplink;

	(void)state;
	(void)uplink_make(&routes, ETH0, &uplink);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_true(is_routed(&uplink, none[i]));
	assert_false(is_routed(&uplink, "172.32.0.0"));
	assert_false(is_routed(&uplink, "100.128.0.0"));
}

static void test_prefixes_of_every_length(void **state)
{
	(void)state;
	for (int length = 1; length <= 32; length++) {
		_cleanup_(routes_done) struct routes routes = { .rules_plain = true };
		struct maps_uplink uplink, plain;
		char prefix[32];

		(void)snprintf(prefix, sizeof(prefix), "128.0.0.0/%d", length);
		add_route(&routes, "default", ETH0, 0);
		assert_int_equal(uplink_make(&routes, ETH0, &plain), UPLINK_SHORTCUT);
		add_route(&routes, prefix, ETH1, 0);
		assert_int_equal(uplink_make(&routes, ETH0, &uplink), UPLINK_SHORTCUT);
		for (uint32_t bit = 0; bit < 1 << MAPS_UPLINK_PREFIX; bit++) {
			int common = length < MAPS_UPLINK_PREFIX ? length : MAPS_UPLINK_PREFIX;
			bool covered = bit >> (MAPS_UPLINK_PREFIX - common) == 1U << (common - 1);

			assert_int_equal(uplink.routed[bit / 8] >> bit % 8 & 1,
				covered || (plain.routed[bit / 8] >> bit % 8 & 1));
		}
	}
}

static void test_host_bits_do_not_count(void **state)
{
	_cleanup_(routes_done) struct routes routes = { .rules_plain = true };
	_cleanup_(routes_done) struct routes same = { .rules_plain = true };
	struct maps_uplink uplink, plain;

	(void)state;
	add_route(&routes, "128.0.0.0/1", ETH0, 0);
	add_route(&same, "128.0.0.0/1", ETH0, 0);
	routes.list[0].destination.address = ip4_of("255.255.255.255");
	(void)uplink_make(&routes, ETH0, &uplink);
	(void)uplink_make(&same, ETH0, &plain);
	assert_true(uplink_equal(&uplink, &plain));
}

static void test_other_tables_count_only_with_rules(void **state)
{
	_cleanup_(routes_done) struct routes routes = host_routes();
	struct maps_uplink uplink;

	(void)state;
	add_route(&routes, "9.0.0.0/8", ETH1, 0);
	routes.list[routes.n - 1].table = 77;
	assert_int_equal(uplink_make(&routes, ETH0, &uplink), UPLINK_SHORTCUT);
	assert_false(is_routed(&uplink, "9.9.9.9"));
	routes.rules_plain = false;
	assert_int_equal(uplink_make(&routes, ETH0, &uplink), UPLINK_RULES);
	assert_int_equal(uplink.ifindex, 0);
}

static void test_tos_decides_too(void **state)
{
	_cleanup_(routes_done) struct routes routes = host_routes();
	struct maps_uplink uplink;

	(void)state;
	add_route(&routes, "default", ETH1, 100);
	routes.list[routes.n - 1].tos = 0x10;
	assert_int_equal(uplink_make(&routes, ETH0, &uplink), UPLINK_TOS);
	assert_int_equal(uplink.ifindex, 0);
}

static void test_too_many_routes(void **state)
{
	_cleanup_(routes_done) struct routes routes = host_routes();
	_cleanup_free_ uint32_t *ifindexes = NULL;
	struct maps_uplink uplink;
	size_t n;

	(void)state;
	for (size_t i = 0; i < ROUTES_MAX; i++)
		add_route(&routes, "9.0.0.0/8", ETH1, 0);
	add_route(&routes, "default", ETH1, 200);
	assert_true(routes.more);
	assert_int_equal(uplink_make(&routes, ETH0, &uplink), UPLINK_MANY);
	/* The default routes are known all the same. */
	assert_int_equal(routes_default_interfaces(&routes, &ifindexes, &n), 0);
	assert_int_equal(n, 2);
}

static void test_default_interfaces_by_metric(void **state)
{
	_cleanup_(routes_done) struct routes routes = { .rules_plain = true };
	_cleanup_free_ uint32_t *ifindexes = NULL;
	struct maps_uplink uplink;
	size_t n;

	(void)state;
	add_route(&routes, "default", ETH0, 200);
	add_route(&routes, "default", ETH1, 100);
	add_route(&routes, "default", ETH1, 300);
	add_route(&routes, "default", 9, 50);
	routes.list[3].type = RTN_BLACKHOLE;
	add_route(&routes, "default", 10, 50);
	routes.list[4].table = 77;
	assert_int_equal(routes_default_interfaces(&routes, &ifindexes, &n), 0);
	assert_int_equal(n, 2);
	assert_int_equal(ifindexes[0], ETH1);
	assert_int_equal(ifindexes[1], ETH0);
	routes.list[3].metric = 1000;
	(void)uplink_make(&routes, ETH1, &uplink);
	assert_int_equal(uplink.is_default, 1);
	(void)uplink_make(&routes, ETH0, &uplink);
	assert_int_equal(uplink.is_default, 0);
	routes.list[3].metric = 1; /* the blackhole is the best now */
	(void)uplink_make(&routes, ETH1, &uplink);
	assert_int_equal(uplink.is_default, 0);
}

static void test_several_next_hops_are_nobodys_default(void **state)
{
	_cleanup_(routes_done) struct routes routes = host_routes();
	_cleanup_free_ uint32_t *ifindexes = NULL;
	struct maps_uplink uplink;
	size_t n;

	(void)state;
	routes.list[0].ifindexes[1] = ETH1;
	routes.list[0].n_ifindexes = 2;
	assert_int_equal(uplink_make(&routes, ETH0, &uplink), UPLINK_SHORTCUT);
	assert_int_equal(uplink.is_default, 0);
	assert_int_equal(routes_default_interfaces(&routes, &ifindexes, &n), 0);
	assert_int_equal(n, 2);
}

static void test_gateways_of_the_default_route(void **state)
{
	_cleanup_(routes_done) struct routes routes = host_routes();
	struct route *route = &routes.list[0];
	struct maps_uplink uplink, other;

	(void)state;
	assert_int_equal(uplink_make(&routes, ETH0, &uplink), UPLINK_SHORTCUT);
	assert_int_equal(uplink.via[0], 0);
	route->gateways[0] = ip4_of("198.51.100.1");
	(void)uplink_make(&routes, ETH0, &other);
	assert_int_equal(other.via[0], ip4_of("198.51.100.1").be);
	assert_false(uplink_equal(&uplink, &other));
	/* Of several next hops those out of this interface, as many as there is room for. */
	for (size_t i = 1; i < ROUTE_HOPS_MAX; i++) {
		char text[20];

		(void)snprintf(text, sizeof(text), "198.51.100.%zu", i + 1);
		route->ifindexes[i] = i == 1 ? ETH1 : ETH0;
		route->gateways[i] = i == 2 ? (struct ip4){ 0 } : ip4_of(text);
	}
	route->n_ifindexes = ROUTE_HOPS_MAX;
	(void)uplink_make(&routes, ETH0, &uplink);
	assert_int_equal(uplink.via[0], ip4_of("198.51.100.1").be);
	assert_int_equal(uplink.via[1], ip4_of("198.51.100.4").be);
	assert_int_equal(uplink.via[MAPS_UPLINK_VIAS - 1], ip4_of("198.51.100.6").be);
	/* A better route has others. */
	add_route(&routes, "default", ETH0, 50);
	routes.list[3].gateways[0] = ip4_of("198.51.100.9");
	(void)uplink_make(&routes, ETH0, &uplink);
	assert_int_equal(uplink.via[0], ip4_of("198.51.100.9").be);
	assert_int_equal(uplink.via[1], 0);
}

static void test_equality_is_blind_to_what_the_program_wrote(void **state)
{
	_cleanup_(routes_done) struct routes routes = host_routes();
	struct maps_uplink a, b;

	(void)state;
	(void)uplink_make(&routes, ETH0, &a);
	b = a;
	b.gateway = 42;
	b.generation = 3;
	assert_true(uplink_equal(&a, &b));
	b.routed[5] ^= 1;
	assert_false(uplink_equal(&a, &b));
}

/* What is told while nobody hears is there to be believed, once somebody does. */
static void test_what_is_stored_while_nobody_hears(void **state)
{
	const struct maps_uplink first = { .ifindex = 3, .is_default = 1 },
				 second = { .ifindex = 3 };
	struct maps_uplink place = { .ifindex = 3 };

	(void)state;
	uplink_store(&place, &first, true);
	assert_int_equal(place.ifindex, 3 | UPLINK_SUSPENDED);
	assert_true(uplink_equal(&place, &first) && place.generation == 1);
	/* The same again changes nothing. */
	uplink_store(&place, &first, true);
	uplink_store(&place, &first, false);
	assert_int_equal(place.ifindex, 3 | UPLINK_SUSPENDED);
	assert_int_equal(place.generation, 1);
	place.gateway = 7;
	uplink_store(&place, &second, false);
	assert_int_equal(place.ifindex, 3);
	assert_true(place.gateway == 0 && place.generation == 2 && !place.is_default);
}

/* A tenth of a processor at most, but never deaf for long. */
static void test_the_pause_grows_with_the_time_it_took(void **state)
{
	(void)state;
	assert_int_equal(routes_pause(0), 10 * 1000);
	assert_int_equal(routes_pause(1000), 10 * 1000);
	assert_int_equal(routes_pause(20 * 1000), 200 * 1000);
	assert_int_equal(routes_pause(500 * 1000), 5 * 1000 * 1000);
	assert_int_equal(routes_pause(UINT64_MAX), 5 * 1000 * 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_stored_while_nobody_hears),
		cmocka_unit_test(test_the_pause_grows_with_the_time_it_took),
		cmocka_unit_test(test_only_the_default_route_leads_to_most),
		cmocka_unit_test(test_no_client_has_these_addresses),
		cmocka_unit_test(test_prefixes_of_every_length),
		cmocka_unit_test(test_other_tables_count_only_with_rules),
		cmocka_unit_test(test_tos_decides_too),
		cmocka_unit_test(test_too_many_routes),
		cmocka_unit_test(test_default_interfaces_by_metric),
		cmocka_unit_test(test_several_next_hops_are_nobodys_default),
		cmocka_unit_test(test_host_bits_do_not_count),
		cmocka_unit_test(test_gateways_of_the_default_route),
		cmocka_unit_test(test_equality_is_blind_to_what_the_program_wrote),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>

#include "agent/core/ip4.h"
#include "agent/util/array.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

static void parses_dotted_quads_only(void **state)
{
	static const char *const bad[] = { "", "1", "1.2.3", "1.2.3.4.5", "256.0.0.1", "1.2.3.4 ",
		" 1.2.3.4", "0x1.2.3.4", "1.2.3.4/8", "::1" };
	struct ip4 address;

	(void)state;
	assert_int_equal(ip4_parse("192.0.2.1", &address), 0);
	assert_memory_equal(&address.be, ((uint8_t[]){ 192, 0, 2, 1 }), 4);
	for (size_t i = 0; i < ELEMENTS_OF(bad); i++)
		assert_int_equal(ip4_parse(bad[i], &address), -EINVAL);
}

static void formats_what_it_parses(void **state)
{
	(void)state;
	assert_string_equal(IP4_FORMAT(ip4_of("255.255.255.255")), "255.255.255.255");
	assert_string_equal(IP4_FORMAT(ip4_of("0.0.0.0")), "0.0.0.0");
}

static void compares_as_numbers(void **state)
{
	(void)state;
	assert_true(ip4_compare(ip4_of("9.0.0.0"), ip4_of("10.0.0.0")) < 0);
	assert_true(ip4_compare(ip4_of("200.0.0.0"), ip4_of("100.0.0.0")) > 0);
	assert_int_equal(ip4_compare(ip4_of("1.2.3.4"), ip4_of("1.2.3.4")), 0);
}

static void knows_public_addresses(void **state)
{
	static const struct {
		const char *address;
		bool is_public, is_claimable;
	} cases[] = {
		{ "0.0.0.0", false, false },
		{ "0.255.255.255", false, false },
		{ "1.0.0.0", true, true },
		{ "9.255.255.255", true, true },
		{ "10.0.0.0", false, true },
		{ "10.255.255.255", false, true },
		{ "11.0.0.0", true, true },
		{ "100.63.255.255", true, true },
		{ "100.64.0.0", false, true },
		{ "100.127.255.255", false, true },
		{ "100.128.0.0", true, true },
		{ "127.0.0.1", false, false },
		{ "128.0.0.0", true, true },
		{ "169.253.255.255", true, true },
		{ "169.254.0.1", false, true },
		{ "172.15.255.255", true, true },
		{ "172.16.0.0", false, true },
		{ "172.31.255.255", false, true },
		{ "172.32.0.0", true, true },
		{ "192.0.2.1", true, true },
		{ "192.168.0.1", false, true },
		{ "198.51.100.1", true, true },
		{ "203.0.113.1", true, true },
		{ "223.255.255.255", true, true },
		{ "224.0.0.1", false, false },
		{ "239.255.255.255", false, false },
		{ "240.0.0.1", false, false },
		{ "255.255.255.255", false, false },
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		if (ip4_is_public(ip4_of(cases[i].address)) != cases[i].is_public)
			fail_msg("%s: public?", cases[i].address);
		if (ip4_is_claimable(ip4_of(cases[i].address)) != cases[i].is_claimable)
			fail_msg("%s: claimable?", cases[i].address);
	}
}

static void parses_prefixes(void **state)
{
	static const char *const bad[] = { "1.2.3.4/33", "1.2.3.4/24", "1.2.3.0/-1", "1.2.3.0/",
		"1.2.3.0/+8", "1.2.3.0/24x", "1.2.3/24", "/24", "1.2.3.0/4294967320" };
	struct ip4_prefix prefix;

	(void)state;
	assert_int_equal(ip4_prefix_parse("192.0.2.0/24", &prefix), 0);
	assert_int_equal(prefix.length, 24);
	assert_true(ip4_in_prefix(ip4_of("192.0.2.255"), &prefix));
	assert_false(ip4_in_prefix(ip4_of("192.0.3.0"), &prefix));
	assert_int_equal(ip4_prefix_parse("0.0.0.0/0", &prefix), 0);
	assert_true(ip4_in_prefix(ip4_of("255.1.2.3"), &prefix));
	assert_int_equal(ip4_prefix_parse("192.0.2.7", &prefix), 0);
	assert_int_equal(prefix.length, 32);
	assert_false(ip4_in_prefix(ip4_of("192.0.2.6"), &prefix));
	for (size_t i = 0; i < ELEMENTS_OF(bad); i++)
		if (ip4_prefix_parse(bad[i], &prefix) != -EINVAL)
			fail_msg("'%s' was taken for a prefix", bad[i]);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_dotted_quads_only),
		cmocka_unit_test(formats_what_it_parses),
		cmocka_unit_test(compares_as_numbers),
		cmocka_unit_test(knows_public_addresses),
		cmocka_unit_test(parses_prefixes),
	};

	return cmocka_run_group_tests_name("ip4", tests, NULL, NULL);
}

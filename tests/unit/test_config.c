/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include <stdio.h>

#include "agent/core/config.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

static void reads_a_full_file(void **state)
{
	static const char text[] =
		"{\"interfaces\": [\"eth0\", \"eth0.100\"], \"game_server_ip\": \"remote\","
		" \"mode\": \"shadow\", \"max_entries\": 64, \"resync_interval\": 5,"
		" \"rules\": [{\"comment\": \"x\", \"match\": {\"netns\": \"g*\"},"
		" \"set\": {\"mode\": \"tunnel\"}}]}";
	_cleanup_(config_done) struct config config = { 0 };
	char error[CONFIG_ERROR_MAX];

	(void)state;
	assert_int_equal(config_parse(text, strlen(text), &config, error), 0);
	assert_int_equal(config.n_interfaces, 2);
	assert_string_equal(config.interfaces[1], "eth0.100");
	assert_int_equal(config.defaults.address, ADDRESS_REMOTE);
	assert_int_equal(config.defaults.mode, MAPS_MODE_SHADOW);
	assert_int_equal(config.max_entries, 64);
	assert_int_equal(config.resync_interval_s, 5);
	assert_int_equal(config.n_rules, 1);
	assert_string_equal(config.rules[0].netns, "g*");
	assert_int_equal(config.rules[0].set.mode, MAPS_MODE_TUNNEL);
}

static void reads_ports_and_exemptions(void **state)
{
	static const char text[] =
		"{\"server_ports\": [\"27015-27020\", 80], \"exempt\": [\"a2s-info\", \"a2s-rules\"],"
		" \"exempt_clients\": [\"192.0.2.0/24\", \"198.51.100.7\"],"
		" \"rules\": [{\"match\": {}, \"set\": {\"exempt\": [], \"mode\": \"shadow\"}}]}";
	_cleanup_(config_done) struct config config = { 0 };
	const struct ipip_link link = { 0 };
	const struct netns netns = { 0 };
	char error[CONFIG_ERROR_MAX];
	struct policy policy;

	(void)state;
	assert_int_equal(config_parse(text, strlen(text), &config, error), 0);
	assert_int_equal(config.defaults.server_ports.n, 2);
	assert_int_equal(config.defaults.server_ports.ranges[0].first, 80); /* sorted */
	assert_int_equal(config.defaults.server_ports.ranges[1].last, 27020);
	assert_int_equal(config.defaults.flags,
		MAPS_FLAG_SERVER_PORTS | MAPS_FLAG_EXEMPT_A2S_INFO | MAPS_FLAG_EXEMPT_A2S_RULES);
	assert_int_equal(config.n_exempt_clients, 2);
	assert_int_equal(config.exempt_clients[1].length, 32);
	/* The rule takes the exemptions away and leaves the ports. */
	policy = config_policy(&config, &netns, &link);
	assert_int_equal(policy.flags, MAPS_FLAG_SERVER_PORTS | MAPS_FLAG_EXEMPT_CLIENTS);
	assert_int_equal(policy.server_ports.n, 2);
}

static void an_empty_object_is_the_default(void **state)
{
	_cleanup_(config_done) struct config config = { 0 }, none = { 0 };
	char error[CONFIG_ERROR_MAX];

	(void)state;
	config_init(&none);
	assert_int_equal(config_parse("{}", 2, &config, error), 0);
	assert_memory_equal(&config, &none, sizeof(config));
}

static const struct bad_case {
	const char *text;
	const char *error; /* a part of the message */
} bad_cases[] = {
	{ "", "line 1" },
	{ "[]", "expected an object" },
	{ "{\"mode\": \"direct\", \"mode\": \"shadow\"}", "duplicate" },
	{ "{\n \"mode\" \"x\"}", "line 2" },
	{ "{\"moed\": \"direct\"}", "moed: unknown key" },
	{ "{\"mode\": \"off\"}", "mode: expected \"direct\"" },
	{ "{\"mode\": 1}", "mode: expected \"direct\"" },
	{ "{\"game_server_ip\": \"127.0.0.1\"}", "game_server_ip: expected" },
	{ "{\"game_server_ip\": \"224.0.0.1\"}", "game_server_ip: expected" },
	{ "{\"game_server_ip\": null}", "game_server_ip: expected" },
	{ "{\"max_entries\": 0}", "max_entries: expected a whole number from 16" },
	{ "{\"max_entries\": 64.5}", "max_entries: expected" },
	{ "{\"max_entries\": 99999999999999999999}", "too big" },
	{ "{\"resync_interval\": -1}", "resync_interval: expected" },
	{ "{\"interfaces\": \"eth0\"}", "interfaces: expected an array" },
	{ "{\"interfaces\": [\"eth0\", 3]}", "interfaces[1]: expected a string" },
	{ "{\"interfaces\": [\"\"]}", "interfaces[0]: expected a string" },
	{ "{\"interfaces\": [\"abcdefghijklmnop\"]}", "interfaces[0]: an interface name" },
	{ "{\"interfaces\": [\"a\\u0000b\"]}", "line 1" },
	{ "{\"server_ports\": 80}", "server_ports: expected an array" },
	{ "{\"server_ports\": [0]}", "server_ports[0]: expected a whole number from 1 to 65535" },
	{ "{\"server_ports\": [65536]}", "server_ports[0]: expected a whole number" },
	{ "{\"server_ports\": [80, \"90-80\"]}", "server_ports[1]: expected a range" },
	{ "{\"server_ports\": [\"80\"]}", "server_ports[0]: expected a range" },
	{ "{\"server_ports\": [\"1-65536\"]}", "server_ports[0]: expected a range" },
	{ "{\"server_ports\": [\"1-2 \"]}", "server_ports[0]: expected a range" },
	{ "{\"server_ports\": [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}",
		"server_ports: expected an array of at most 16" },
	{ "{\"exempt\": [\"a2s\"]}", "exempt[0]: expected \"a2s-info\"" },
	{ "{\"exempt_clients\": [\"192.0.2.1/24\"]}",
		"exempt_clients[0]: expected an IPv4 prefix" },
	{ "{\"rules\": {}}", "rules: expected an array" },
	{ "{\"rules\": [{}]}", "rules[0]: a rule needs both" },
	{ "{\"rules\": [{\"match\": {}, \"set\": {\"mdoe\": 1}}]}", "rules[0].set.mdoe: unknown" },
	{ "{\"rules\": [{\"match\": {\"remote\": \"192.0.2.1/24\"}, \"set\": {}}]}",
		"rules[0].match.remote: expected an IPv4 prefix" },
};

static void bad_text_is_refused(void **state)
{
	const struct bad_case *c = *state;
	char error[CONFIG_ERROR_MAX] = "";
	struct config config = { .max_entries = 7 };

	assert_int_equal(config_parse(c->text, strlen(c->text), &config, error), -EINVAL);
	if (!strstr(error, c->error))
		fail_msg("'%s' says: %s", c->text, error);
	assert_int_equal(config.max_entries, 7); /* untouched */
}

static void huge_and_deep_texts_are_refused(void **state)
{
	static char text[CONFIG_SIZE_MAX + 1];
	char error[CONFIG_ERROR_MAX];
	struct config config;

	(void)state;
	memset(text, '[', sizeof(text));
	assert_int_equal(config_parse(text, sizeof(text), &config, error), -E2BIG);
	assert_int_equal(config_parse(text, CONFIG_SIZE_MAX, &config, error), -EINVAL);
}

int main(void)
{
	struct CMUnitTest tests[ELEMENTS_OF(bad_cases) + 4] = {
		cmocka_unit_test(reads_a_full_file),
		cmocka_unit_test(reads_ports_and_exemptions),
		cmocka_unit_test(an_empty_object_is_the_default),
		cmocka_unit_test(huge_and_deep_texts_are_refused),
	};
	static char names[ELEMENTS_OF(bad_cases)][32];

	for (size_t i = 0; i < ELEMENTS_OF(bad_cases); i++) {
		(void)snprintf(names[i], sizeof(names[i]), "bad_text_is_refused_%zu", i + 1);
		tests[4 + i] = (struct CMUnitTest){ names[i], bad_text_is_refused, NULL, NULL,
			(void *)&bad_cases[i] };
	}
	return _cmocka_run_group_tests("config", tests, ELEMENTS_OF(tests), NULL, NULL);
}

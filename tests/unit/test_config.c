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
		" \"offload_guard\": \"on\","
		" \"rules\": [{\"comment\": \"x\", \"match\": {\"netns\": \"g*\"},"
		" \"set\": {\"mode\": \"tunnel\"}}]}";
	_cleanup_(config_done) struct config config = { 0 };
	struct config_error error;

	(void)state;
	assert_int_equal(config_parse(text, strlen(text), &config, &error), 0);
	assert_int_equal(config.n_interfaces, 2);
	assert_string_equal(config.interfaces[1], "eth0.100");
	assert_int_equal(config.defaults.address, ADDRESS_REMOTE);
	assert_int_equal(config.defaults.mode, MAPS_MODE_SHADOW);
	assert_int_equal(config.max_entries, 64);
	assert_int_equal(config.resync_interval_s, 5);
	assert_int_equal(config.offload_guard, OFFLOAD_ON);
	assert_int_equal(config.n_rules, 1);
	assert_string_equal(config.rules[0].match.netns, "g*");
	assert_int_equal(config.rules[0].set.policy.mode, MAPS_MODE_TUNNEL);
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
	struct config_error error;
	struct policy policy;

	(void)state;
	assert_int_equal(config_parse(text, strlen(text), &config, &error), 0);
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

static void reads_limits_and_what_is_allowed(void **state)
{
	static const char text[] =
		"{\"allowed_game_server_ips\": [\"203.0.113.0/24\"],"
		" \"limits\": {\"namespaces\": 3, \"addresses_per_namespace\": 5},"
		" \"rules\": [{\"match\": {\"label\": \"x\"}, \"set\": {\"trust\": true}}]}";
	_cleanup_(config_done) struct config config = { 0 };
	struct config_error error;

	(void)state;
	assert_int_equal(config_parse(text, strlen(text), &config, &error), 0);
	assert_true(config_allows(&config, ip4_of("203.0.113.255")));
	assert_false(config_allows(&config, ip4_of("203.0.114.0")));
	assert_int_equal(config.limits.namespaces, 3);
	assert_int_equal(config.limits.tunnels_per_namespace, CONFIG_TUNNELS_DEFAULT);
	assert_int_equal(config.limits.addresses_per_namespace, 5);
	assert_string_equal(config.rules[0].match.label, "x");
	assert_int_equal(config.rules[0].set.sets, SETS_TRUST);
}

static void an_empty_object_is_the_default(void **state)
{
	_cleanup_(config_done) struct config config = { 0 }, none = { 0 };
	struct config_error error;

	(void)state;
	config_init(&none);
	assert_int_equal(config_parse("{}", 2, &config, &error), 0);
	assert_memory_equal(&config, &none, sizeof(config));
}

static const struct bad_case {
	const char *text;
	const char *error; /* a part of the message */
} bad_cases[] = {
	{ "", "line 1, column 1: '[' or '{' expected" },
	{ "[]", "line 1, column 1: expected an object" },
	{ "\n {\"mode\": \"direct\", \"mode\": \"shadow\"}", "line 2, column 21: duplicate" },
	{ "{\n \"mode\" \"x\"}", "line 2, column 9: ':' expected" },
	{ "{\"mode\": \"direct\"", "line 1, column 17: '}' expected near end of file" },
	{ "{\"mode\": \"direct\",}", "line 1, column 19: string or '}' expected" },
	{ "{\"moed\": \"direct\"}",
		"line 1, column 2: moed: unknown key; expected interfaces, game_server_ip, " },
	{ "{\"moed\": \"direct\"}", "; did you mean \"mode\"?" },
	{ "{\"interface\": [\"eth0\"]}", "or resync_interval; did you mean \"interfaces\"?" },
	{ "{\"\\u0052ules\": []}", "line 1, column 2: Rules: unknown key" },
	{ "{\"mode\": \"off\"}", "line 1, column 10: mode: expected \"direct\"" },
	{ "{\"mode\": 1}", "mode: expected \"direct\"" },
	{ "{\"game_server_ip\": \"127.0.0.1\"}", "game_server_ip: expected" },
	{ "{\"game_server_ip\": \"224.0.0.1\"}", "game_server_ip: expected" },
	{ "{\"game_server_ip\": null}", "game_server_ip: expected" },
	{ "{\"max_entries\": 0}", "max_entries: expected a whole number from 16" },
	{ "{\"max_entries\": 64.5}", "max_entries: expected" },
	{ "{\"max_entries\":\n99999999999999999999}", "line 2, column 1: too big" },
	{ "{\"max_entries\": 1e999}", "column 17: real number overflow" },
	{ "{\"resync_interval\": -1}", "resync_interval: expected" },
	{ "{\"interfaces\": \"eth0\"}", "interfaces: expected an array" },
	{ "{\"interfaces\": [\"eth0\", 3]}",
		"line 1, column 25: interfaces[1]: expected a string" },
	{ "{\"interfaces\": [\"\"]}", "interfaces[0]: expected a string" },
	{ "{\"interfaces\": [\"abcdefghijklmnop\"]}", "interfaces[0]: an interface name" },
	{ "{\"interfaces\": [\"a\\u0000b\"]}", "line 1" },
	{ "{\"interfaces\": [\"\xff\"]}", "line 1, column 18: unable to decode byte 0xff" },
	{ "{\"server_ports\": 80}", "server_ports: expected an array of at most 16 ports" },
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
	{ "{\"allowed_game_server_ips\": [\"192.0.2.0/24\",\n \"x\"]}",
		"line 2, column 2: allowed_game_server_ips[1]: expected an IPv4 prefix" },
	{ "{\"limits\": {\"namespaces\": 16385}}",
		"limits.namespaces: expected a whole number from 1 to 16384" },
	{ "{\"limits\": {\"tunnels\": 1}}",
		"limits.tunnels: unknown key; expected namespaces, tunnels_per_namespace or "
		"addresses_per_namespace" },
	{ "{\"offload_guard\": \"yes\"}", "offload_guard: expected \"auto\"" },
	{ "{\"offload_guard\": true}", "offload_guard: expected \"auto\"" },
	{ "{\"rules\": {}}", "rules: expected an array" },
	{ "{\"rules\": [{}]}", "line 1, column 12: rules[0]: a rule needs both" },
	{ "{\"rules\": [{\"match\": 1}]}", "rules[0].match: expected an object" },
	{ "{\"rules\": [{\"match\": {}, \"set\": {\"mdoe\": 1}}]}",
		"line 1, column 34: rules[0].set.mdoe: unknown key; expected game_server_ip, mode, "
		"server_ports, exempt or trust; did you mean \"mode\"?" },
	{ "{\"rules\": [{\"match\": {\"remote\": \"192.0.2.1/24\"}, \"set\": {}}]}",
		"line 1, column 33: rules[0].match.remote: expected an IPv4 prefix" },
	{ "{\"rules\": [{\"set\": {\"trust\": true}, \"match\": {\"remote\": \"192.0.2.0/24\"}}]}",
		"line 1, column 30: rules[0].set.trust: only a rule with" },
	{ "{\"rules\": [{\"set\": {\"trust\": false}, \"match\": {\"ifname\": \"tun0\"}}]}",
		"rules[0].set.trust: a rule that distrusts" },
};

static void bad_text_is_refused(void **state)
{
	const struct bad_case *c = *state;
	char line[CONFIG_ERROR_MAX];
	struct config_error error;
	struct config config = { .max_entries = 7 };

	assert_int_equal(config_parse(c->text, strlen(c->text), &config, &error), -EINVAL);
	if (!strstr(config_error_format(&error, line), c->error))
		fail_msg("'%s' says: %s", c->text, line);
	assert_int_equal(config.max_entries, 7); /* untouched */
}

static void a_nul_byte_is_refused(void **state)
{
	static const char text[] = "{\n\"mode\": \"di\0rect\"}";
	struct config_error error;
	struct config config;

	(void)state;
	assert_int_equal(config_parse(text, sizeof(text) - 1, &config, &error), -EINVAL);
	assert_int_equal(error.line, 2);
	assert_int_equal(error.column, 12);
	assert_non_null(strstr(error.message, "NUL"));
}

/* A key of any length neither fits nor overruns the message. */
static void a_long_key_is_refused(void **state)
{
	static char text[100000];
	char line[CONFIG_ERROR_MAX];
	struct config_error error;
	struct config config;

	(void)state;
	memset(text, 'x', sizeof(text));
	memcpy(text, "{\"", 2);
	memcpy(text + sizeof(text) - 4, "\":1}", 4);
	assert_int_equal(config_parse(text, sizeof(text), &config, &error), -EINVAL);
	assert_int_equal(error.column, 2);
	assert_non_null(strstr(config_error_format(&error, line), "unknown key; expected"));
}

static const struct trust_case {
	const char *rules;
	const char *name, *label; /* of the namespace; NULL: none */
	enum netns_owner owner;
	const char *remote; /* of the link; NULL: asked for the namespace as a whole */
	bool trusted;
} trust_cases[] = {
	{ "", "game1", NULL, OWNER_HOST, "192.0.2.1", true },
	{ "", "game1", NULL, OWNER_OTHER, "192.0.2.1", false },
	{ "", "game1", NULL, OWNER_UNKNOWN, "192.0.2.1", false },
	{ "", "game1", NULL, OWNER_OTHER, NULL, false },
	{ "{\"match\": {\"netns\": \"game*\"}, \"set\": {\"trust\": true}}", "game1", NULL,
		OWNER_OTHER, NULL, true },
	{ "{\"match\": {\"netns\": \"game*\"}, \"set\": {\"trust\": true}}", "other", NULL,
		OWNER_OTHER, NULL, false },
	/* A command can be called as any file is: a label is no name. */
	{ "{\"match\": {\"netns\": \"game*\"}, \"set\": {\"trust\": true}}", NULL, "game1",
		OWNER_OTHER, NULL, false },
	{ "{\"match\": {\"netns\": \"*\"}, \"set\": {\"trust\": true}}", NULL, "host", OWNER_OTHER,
		NULL, false },
	{ "{\"match\": {\"label\": \"unit-*\"}, \"set\": {\"trust\": true}}", NULL, "unit-7",
		OWNER_OTHER, NULL, true },
	{ "{\"match\": {\"label\": \"*\"}, \"set\": {\"trust\": true}}", "game1", NULL, OWNER_OTHER,
		NULL, false },
	/* The rest of a match narrows it, and admits nothing as a whole. */
	{ "{\"match\": {\"netns\": \"g\", \"remote\": \"192.0.2.0/31\"}, \"set\": {\"trust\": "
	  "true}}",
		"g", NULL, OWNER_OTHER, "192.0.2.1", true },
	{ "{\"match\": {\"netns\": \"g\", \"remote\": \"192.0.2.0/31\"}, \"set\": {\"trust\": "
	  "true}}",
		"g", NULL, OWNER_OTHER, "192.0.2.2", false },
	{ "{\"match\": {\"netns\": \"g\", \"remote\": \"192.0.2.0/31\"}, \"set\": {\"trust\": "
	  "true}}",
		"g", NULL, OWNER_OTHER, NULL, false },
	{ "{\"match\": {}, \"set\": {\"trust\": false}}", "game1", NULL, OWNER_HOST, "192.0.2.1",
		false },
	/* The first that sets it, even behind one that matches and sets other things. */
	{ "{\"match\": {\"remote\": \"192.0.2.1\"}, \"set\": {\"mode\": \"shadow\"}},"
	  "{\"match\": {\"netns\": \"g\"}, \"set\": {\"trust\": false}},"
	  "{\"match\": {\"netns\": \"*\"}, \"set\": {\"trust\": true}}",
		"g", NULL, OWNER_HOST, "192.0.2.1", false },
	{ "{\"match\": {\"netns\": \"h\"}, \"set\": {\"trust\": false}},"
	  "{\"match\": {\"netns\": \"*\"}, \"set\": {\"trust\": true}}",
		"g", NULL, OWNER_OTHER, "192.0.2.1", true },
};

static void trust_is_decided(void **state)
{
	const struct trust_case *c = *state;
	char text[1024], *name = (char *)c->name;
	_cleanup_(config_done) struct config config = { 0 };
	struct netns netns = { .nsid = 3,
		.names = &name,
		.n_names = c->name != NULL,
		.label = (char *)c->label,
		.owner = c->owner };
	struct ipip_link link = { .name = "tun0" };
	struct config_error error;

	(void)snprintf(text, sizeof(text), "{\"rules\": [%s]}", c->rules);
	assert_int_equal(config_parse(text, strlen(text), &config, &error), 0);
	if (c->remote)
		link.remote = ip4_of(c->remote);
	assert_int_equal(config_trusts(&config, &netns, c->remote ? &link : NULL), c->trusted);
}

static void huge_and_deep_texts_are_refused(void **state)
{
	static char text[CONFIG_SIZE_MAX + 1];
	struct config_error error;
	struct config config;

	(void)state;
	memset(text, '[', sizeof(text));
	assert_int_equal(config_parse(text, sizeof(text), &config, &error), -E2BIG);
	assert_int_equal(config_parse(text, CONFIG_SIZE_MAX, &config, &error), -EINVAL);
}

static struct CMUnitTest numbered(const char *name, size_t i, CMUnitTestFunction function,
	const void *initial_state, char (*buf)[48])
{
	(void)snprintf(*buf, sizeof(*buf), "%s_%zu", name, i + 1);
	return (struct CMUnitTest){ *buf, function, NULL, NULL, (void *)initial_state };
}

int main(void)
{
	struct CMUnitTest tests[7 + ELEMENTS_OF(bad_cases) + ELEMENTS_OF(trust_cases)] = {
		cmocka_unit_test(reads_a_full_file),
		cmocka_unit_test(reads_ports_and_exemptions),
		cmocka_unit_test(reads_limits_and_what_is_allowed),
		cmocka_unit_test(an_empty_object_is_the_default),
		cmocka_unit_test(huge_and_deep_texts_are_refused),
		cmocka_unit_test(a_nul_byte_is_refused),
		cmocka_unit_test(a_long_key_is_refused),
	};
	static char names[ELEMENTS_OF(tests)][48];
	size_t n = 7;

	for (size_t i = 0; i < ELEMENTS_OF(bad_cases); i++, n++)
		tests[n] = numbered(
			"bad_text_is_refused", i, bad_text_is_refused, &bad_cases[i], &names[n]);
	for (size_t i = 0; i < ELEMENTS_OF(trust_cases); i++, n++)
		tests[n] = numbered(
			"trust_is_decided", i, trust_is_decided, &trust_cases[i], &names[n]);
	return _cmocka_run_group_tests("config", tests, n, NULL, NULL);
}

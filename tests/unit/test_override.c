/* SPDX-License-Identifier: MIT */
/* Modes given at run time: whom they are about, and that they come back from text as they were. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/override.h"
#include "agent/core/tunnel.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tests/random.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

static const char world[] = "host 198.18.0.2\n"
			    "netns game1\n"
			    " tun0 203.0.113.1 10.0.0.1\n"
			    " tun1 203.0.113.2 10.0.0.2\n"
			    "netns game2\n"
			    " tun0 203.0.113.3 10.0.0.3\n"
			    "netns x unnamed label=app.service\n"
			    " tun0 203.0.113.4 10.0.0.4\n"
			    "guest evil\n"
			    " tun0 203.0.113.5 10.0.0.5\n";

/* "direct/default tunnel/override …", in the order of the world. */
static void assert_modes_of(const char *world_text, const struct overrides *overrides,
	const char *config_text, const char *expected)
{
	_cleanup_(snapshot_done) struct snapshot snapshot = { 0 };
	_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };
	_cleanup_(config_done) struct config config = { 0 };
	struct config_error error;
	char text[512] = "";

	world_parse(world_text, &snapshot);
	assert_int_equal(config_parse(config_text, strlen(config_text), &config, &error), 0);
	assert_int_equal(tunnels_make(&snapshot, &config, overrides, NULL, &tunnels), 0);
	for (size_t i = 0; i < tunnels.n; i++) {
		const struct policy *policy = &tunnels.list[i].policy;
		size_t n = strlen(text);

		(void)snprintf(text + n, sizeof(text) - n, "%s%s/%s", i > 0 ? " " : "",
			maps_mode_name(policy->mode), mode_source_name(policy->mode_source));
	}
	assert_string_equal(text, expected);
}

static void assert_modes(
	const struct overrides *overrides, const char *config_text, const char *expected)
{
	assert_modes_of(world, overrides, config_text, expected);
}

#define RULES                                                                                      \
	"{\"mode\": \"shadow\", \"rules\": [{\"match\": {\"netns\": \"game1\"}, "                  \
	"\"set\": {\"mode\": \"tunnel\"}}, {\"match\": {\"netns\": \"game2\"}, "                   \
	"\"set\": {\"exempt\": [\"a2s-info\"]}}]}"

static void it_wins_over_rules_and_defaults(void **state)
{
	_cleanup_(overrides_done) struct overrides overrides = { 0 };

	(void)state;
	assert_modes(NULL, RULES,
		"tunnel/rule tunnel/rule shadow/default shadow/default shadow/default");
	assert_int_equal(overrides_set(&overrides, "game1", "tun1", MAPS_MODE_DIRECT, false), 0);
	assert_int_equal(overrides_set(&overrides, "game2", "tun0", MAPS_MODE_TUNNEL, false), 0);
	assert_int_equal(
		overrides_set(&overrides, "app.service", "tun0", MAPS_MODE_DIRECT, false), 0);
	assert_int_equal(overrides_set(&overrides, "gone", "tun0", MAPS_MODE_DIRECT, false), 0);
	assert_modes(&overrides, RULES,
		"tunnel/rule direct/override tunnel/override direct/override shadow/default");
	assert_true(overrides_remove(&overrides, "game1", "tun1"));
	assert_false(overrides_remove(&overrides, "game1", "tun1"));
	assert_modes(&overrides, RULES,
		"tunnel/rule tunnel/rule tunnel/override direct/override shadow/default");
}

/* By the name that it was given for, whoever has it, and where it was given, whatever that is called later. */
static void it_stays_where_it_was_given(void **state)
{
	static const char relabelled[] = "netns x unnamed label=sidecar\n"
					 " tun0 203.0.113.4 10.0.0.4\n"
					 "netns y unnamed label=game\n"
					 " tun0 203.0.113.5 10.0.0.5\n";
	_cleanup_(overrides_done) struct overrides overrides = { 0 }, copy = { 0 };
	struct netns other = { .seq = 77, .nsid = 77, .label = (char *)"other" };

	(void)state;
	assert_int_equal(overrides_set(&overrides, "game", "tun0", MAPS_MODE_SHADOW, false), 0);
	assert_modes_of(relabelled, &overrides, "{}", "direct/default shadow/override");
	assert_int_equal(overrides_give(&overrides, "game", "tun0", 0), 0);
	assert_int_equal(overrides_give(&overrides, "game", "tun0", 0), 0);
	assert_int_equal(overrides_give(&overrides, "game", "tun0", 77), 0);
	assert_int_equal(overrides.list[0].n_given, 2);
	assert_modes_of(relabelled, &overrides, "{}", "shadow/override shadow/override");
	assert_int_equal(overrides_copy(&overrides, &copy), 0);
	/* Of several what sends less direct. */
	assert_int_equal(overrides_set(&copy, "sidecar", "tun0", MAPS_MODE_DIRECT, false), 0);
	assert_modes_of(relabelled, &copy, "{}", "shadow/override shadow/override");
	assert_int_equal(overrides_set(&copy, "sidecar", "tun0", MAPS_MODE_TUNNEL, false), 0);
	assert_modes_of(relabelled, &copy, "{}", "tunnel/override shadow/override");
	/* Whoever is called otherwise takes it along, when the name gets another. */
	assert_int_equal(overrides_move(&copy, "game", "tun0", &other), 0);
	assert_true(overrides_has(&copy, "other", "tun0"));
	assert_int_equal(overrides_move(&copy, "game", "tun0", &other), 0);
	assert_true(overrides_remove(&copy, "game", "tun0"));
	assert_true(overrides_remove(&copy, "sidecar", "tun0"));
	assert_modes_of(relabelled, &copy, "{}", "direct/default direct/default");
	overrides_take_from(&overrides, 0, "tun0");
	assert_modes_of(relabelled, &overrides, "{}", "direct/default shadow/override");
}

/* What an operator says of a guest's tunnel makes nobody trust it. */
static void it_lifts_no_distrust(void **state)
{
	_cleanup_(overrides_done) struct overrides overrides = { 0 };
	_cleanup_(snapshot_done) struct snapshot snapshot = { 0 };
	_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };
	_cleanup_(config_done) struct config config = { 0 };

	(void)state;
	config_init(&config);
	world_parse(world, &snapshot);
	assert_int_equal(overrides_set(&overrides, "evil", "tun0", MAPS_MODE_DIRECT, false), 0);
	assert_int_equal(tunnels_make(&snapshot, &config, &overrides, NULL, &tunnels), 0);
	assert_int_equal(tunnels.list[4].policy.mode_source, MODE_SOURCE_OVERRIDE);
	assert_int_equal(tunnels.list[4].reason, REASON_UNTRUSTED);
}

static void text_brings_them_back(void **state)
{
	_cleanup_(overrides_done) struct overrides overrides = { 0 }, again = { 0 }, kept = { 0 };
	_cleanup_free_ char *text = NULL, *second = NULL;
	size_t lost;

	(void)state;
	for (int i = 0; i < 100; i++) {
		char netns[32];

		(void)snprintf(netns, sizeof(netns), "g%d \" \\ \xc3\xa4", i * 37 % 100);
		assert_int_equal(overrides_set(&overrides, netns, "tun0", i % 3, i % 2), 0);
	}
	assert_int_equal(overrides.n, 100);
	text = overrides_text(&overrides);
	assert_int_equal(overrides_parse(text, strlen(text), &again, &lost), 0);
	assert_int_equal(lost, 0);
	second = overrides_text(&again);
	assert_string_equal(text, second);
	assert_int_equal(overrides_copy(&again, &kept), 0);
	overrides_drop_until_reload(&kept);
	assert_int_equal(kept.n, 50);
	for (size_t i = 0; i < kept.n; i++)
		assert_false(kept.list[i].until_reload);
}

/* Of each length, any bytes that a name may have. */
static void random_name(char *name, size_t max)
{
	size_t n = 1 + random_below((uint32_t)max);

	for (size_t i = 0; i < n; i++)
		name[i] = (char)(1 + random_below(random_below(2) ? 255 : 127));
	name[n] = '\0';
}

static void check_equal(const struct overrides *a, const struct overrides *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		assert_string_equal(a->list[i].netns, b->list[i].netns);
		assert_string_equal(a->list[i].ifname, b->list[i].ifname);
		assert_int_equal(a->list[i].mode, b->list[i].mode);
		assert_int_equal(a->list[i].until_reload, b->list[i].until_reload);
	}
}

/* A tenant may have a say in what his namespace is called. */
static void text_brings_back_any_name(void **state)
{
	(void)state;
	random_state = 521288629;
	for (int round = 0; round < 200; round++) {
		_cleanup_(overrides_done) struct overrides overrides = { 0 }, again = { 0 };
		_cleanup_free_ char *text = NULL;
		size_t lost;

		for (uint32_t i = random_below(8); i > 0; i--) {
			char netns[OVERRIDE_NAME_MAX + 1], ifname[IFNAMSIZ];

			random_name(netns, OVERRIDE_NAME_MAX);
			random_name(ifname, IFNAMSIZ - 1);
			assert_int_equal(overrides_set(&overrides, netns, ifname, i % 3, i % 2), 0);
		}
		text = overrides_text(&overrides);
		assert_int_equal(overrides_parse(text, strlen(text), &again, &lost), 0);
		assert_int_equal(lost, 0);
		check_equal(&overrides, &again);
	}
}

#define ENTRY(netns, ifname, mode)                                                                 \
	"{\"netns\": \"" netns "\", \"ifname\": \"" ifname "\", \"mode\": \"" mode                 \
	"\", \"until_reload\": false}"

/* Those beside it stay; where it is known whom it was about, its packets are the tunnel's. */
static void one_that_is_not_understood_is_lost_alone(void **state)
{
	static const struct {
		const char *list, *entry;
		const char *netns; /* NULL: nobody's */
	} cases[] = {
		{ "overrides", "1", NULL },
		{ "overrides", "{}", NULL },
		{ "overrides", ENTRY("", "b", "direct"), NULL },
		{ "overrides", ENTRY("a", "0123456789abcdef", "direct"), NULL },
		{ "overrides", ENTRY("a", "b", "sideways"), "a" },
		{ "overrides", "{\"netns\": \"a\", \"ifname\": \"b\"}", "a" },
		{ "overrides_hex", ENTRY("", "62", "direct"), NULL },
		{ "overrides_hex", ENTRY("6", "62", "direct"), NULL },
		{ "overrides_hex", ENTRY("6x", "62", "direct"), NULL },
		{ "overrides_hex", ENTRY("6100", "62", "direct"), NULL },
		{ "overrides_hex", ENTRY("61", "62", "sideways"), "a" },
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		_cleanup_(overrides_done) struct overrides overrides = { 0 };
		bool hex = strcmp(cases[i].list, "overrides_hex") == 0;
		char text[1024];
		size_t lost;

		(void)snprintf(text, sizeof(text),
			"{\"version\": 1, \"overrides\": [%s%s], \"overrides_hex\": [%s]}",
			hex ? "" : cases[i].entry,
			hex ? ENTRY("z", "tun0", "shadow") : "," ENTRY("z", "tun0", "shadow"),
			hex ? cases[i].entry : "");
		assert_int_equal(overrides_parse(text, strlen(text), &overrides, &lost), 0);
		assert_int_equal(lost, 1);
		assert_true(overrides_has(&overrides, "z", "tun0"));
		assert_int_equal(overrides.n, cases[i].netns ? 2 : 1);
		if (cases[i].netns)
			assert_int_equal(overrides.list[0].mode, MAPS_MODE_TUNNEL);
	}
}

static void another_text_is_refused(void **state)
{
	static const char *const texts[] = { "", "[]", "{}", "{\"version\": 1}",
		"{\"version\": 2, \"overrides\": []}", "{\"version\": 1, \"overrides\": {}}",
		"{\"version\": 1, \"overrides\": [], \"overrides_hex\": {}}" };
	struct overrides overrides = { .n = 42 };
	size_t lost;

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(texts); i++)
		assert_int_equal(
			overrides_parse(texts[i], strlen(texts[i]), &overrides, &lost), -EBADMSG);
	assert_int_equal(overrides.n, 42);
}

static void there_is_a_bound(void **state)
{
	_cleanup_(overrides_done) struct overrides overrides = { 0 };
	char netns[32];

	(void)state;
	for (int i = 0; i < OVERRIDES_MAX; i++) {
		(void)snprintf(netns, sizeof(netns), "g%d", i);
		assert_int_equal(
			overrides_set(&overrides, netns, "tun0", MAPS_MODE_TUNNEL, false), 0);
	}
	assert_int_equal(
		overrides_set(&overrides, "more", "tun0", MAPS_MODE_TUNNEL, false), -E2BIG);
	assert_int_equal(overrides_set(&overrides, "g7", "tun0", MAPS_MODE_DIRECT, false), 0);
	assert_int_equal(overrides_set(&overrides, "", "tun0", MAPS_MODE_DIRECT, false), -EINVAL);
	assert_int_equal(
		overrides_set(&overrides, "a", "0123456789abcdef", MAPS_MODE_DIRECT, false),
		-EINVAL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_wins_over_rules_and_defaults),
		cmocka_unit_test(it_stays_where_it_was_given),
		cmocka_unit_test(it_lifts_no_distrust),
		cmocka_unit_test(text_brings_them_back),
		cmocka_unit_test(text_brings_back_any_name),
		cmocka_unit_test(one_that_is_not_understood_is_lost_alone),
		cmocka_unit_test(another_text_is_refused),
		cmocka_unit_test(there_is_a_bound),
	};

	return cmocka_run_group_tests_name("override", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* An address that leaves the host's interface does not become a server's. */

#include <string.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/once_held.h"
#include "agent/core/tunnel.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

#define SERVER                                                                                     \
	"netns game1\n"                                                                            \
	" tun0 203.0.113.1 198.51.100.10\n"

static const char with[] = "host 198.51.100.9 198.51.100.10\n" SERVER;
static const char without[] = "host 198.51.100.9\n" SERVER;

/* "remote", "tunnel" or "doubt": what the first tunnel of that world is taken for. */
static const char *chosen(const char *world, struct once_held *once)
{
	_cleanup_(snapshot_done) struct snapshot snapshot = { 0 };
	_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };
	_cleanup_(config_done) struct config config = { 0 };
	const struct tunnel *first;

	world_parse(world, &snapshot);
	world_config(NULL, &config);
	assert_int_equal(tunnels_note_held(&snapshot, once), 0);
	assert_int_equal(tunnels_make(&snapshot, &config, NULL, once, &tunnels), 0);
	assert_true(tunnels.n > 0);
	first = &tunnels.list[0];
	if (first->reason == REASON_ADDRESSES_UNKNOWN)
		return first->n_game_server_ips == 0 ? "doubt" : "?";
	return first->address_source == SOURCE_AUTO_REMOTE           ? "remote"
	       : first->address_source == SOURCE_AUTO_TUNNEL_ADDRESS ? "tunnel"
								     : "?";
}

static void test_gone(void **state)
{
	_cleanup_(once_held_done) struct once_held once = { 0 };

	(void)state;
	assert_string_equal(chosen(without, &once), "tunnel"); /* nobody ever saw it on the host */
	assert_string_equal(chosen(with, &once), "remote");
	assert_string_equal(chosen(without, &once), "doubt");
	assert_string_equal(chosen(without, &once), "doubt");
	assert_string_equal(chosen(with, &once), "remote");
}

static void test_what_it_sends_from_is_no_doubt(void **state)
{
	_cleanup_(once_held_done) struct once_held once = { 0 };

	(void)state;
	assert_string_equal(chosen(with, &once), "remote");
	assert_string_equal(chosen("host 198.51.100.9\n"
				   "netns game1\n"
				   " tun0 203.0.113.1 198.51.100.10 local=198.51.100.10\n",
				    &once),
		"remote");
}

static void test_other_addresses_of_guests_and_tunnels_are_not_the_hosts(void **state)
{
	_cleanup_(once_held_done) struct once_held once = { 0 };

	(void)state;
	(void)chosen("host 198.51.100.9 10.0.0.1\n"
		     " tun7 203.0.113.7 198.51.100.10\n"
		     "netns other 198.51.100.11\n",
		&once);
	assert_int_equal(once.n, 1);
	assert_true(once_held_has(&once, ip4_of("198.51.100.9")));
	assert_string_equal(chosen(without, &once), "tunnel");
}

static void test_as_text(void **state)
{
	_cleanup_(once_held_done) struct once_held first = { 0 }, second = { 0 };
	_cleanup_free_ char *text = NULL, *again = NULL;

	(void)state;
	(void)chosen(with, &first);
	assert_true(first.is_unsaved);
	text = once_held_text(&first);
	assert_string_equal(text,
		"{\"version\":1,\"overflows\":false,\"addresses\":[\"198.51.100.9\",\"198.51.100.10\"]}");
	assert_int_equal(once_held_parse(text, strlen(text), &second), 0);
	assert_false(second.is_unsaved);
	again = once_held_text(&second);
	assert_string_equal(again, text);
	/* The agent that is started while it is away. */
	assert_string_equal(chosen(without, &second), "doubt");
	assert_false(second.is_unsaved);
}

static void test_what_is_no_such_text(void **state)
{
	static const char *const texts[] = { "", "{}", "[]", "{\"version\":1}",
		"{\"version\":2,\"overflows\":false,\"addresses\":[]}",
		"{\"version\":1,\"overflows\":0,\"addresses\":[]}",
		"{\"version\":1,\"overflows\":false,\"addresses\":{}}",
		"{\"version\":1,\"overflows\":false,\"addresses\":[\"198.51.100.9\",1]}",
		"{\"version\":1,\"overflows\":false,\"addresses\":[\"198.51.100\"]}" };

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(texts); i++) {
		struct once_held once = { 0 };

		assert_int_equal(once_held_parse(texts[i], strlen(texts[i]), &once), -EBADMSG);
		assert_true(once.n == 0 && !once.list && !once.overflows);
	}
}

static void test_many(void **state)
{
	_cleanup_(once_held_done) struct once_held once = { 0 };

	(void)state;
	for (uint32_t i = 0; i < ONCE_HELD_MAX; i++) /* in no order */
		assert_int_equal(once_held_add(&once, (struct ip4){ i * 2654435761u }), 0);
	assert_int_equal(once.n, ONCE_HELD_MAX);
	for (uint32_t i = 0; i < ONCE_HELD_MAX; i++)
		assert_true(once_held_has(&once, (struct ip4){ i * 2654435761u }));
	assert_false(once.overflows);
	assert_int_equal(once_held_add(&once, ip4_of("198.51.100.10")), 0);
	assert_int_equal(once.n, ONCE_HELD_MAX);
	assert_true(once.overflows);
	assert_string_equal(chosen(without, &once), "doubt");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gone),
		cmocka_unit_test(test_what_it_sends_from_is_no_doubt),
		cmocka_unit_test(test_other_addresses_of_guests_and_tunnels_are_not_the_hosts),
		cmocka_unit_test(test_as_text),
		cmocka_unit_test(test_what_is_no_such_text),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

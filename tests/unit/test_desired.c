/* SPDX-License-Identifier: MIT */
/* From worlds to rows: the POP models, the policies, shared remotes and conflicts. */

#include <string.h>

#include "agent/util/array.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

struct world_case {
	const char *name;
	const char *config; /* NULL: none */
	const char *world;
	const char *outcome;
};

static const struct world_case cases[] = {
	{
		.name = "model A: the remote is the game server IP",
		.world = "host 198.51.100.10\n"
			 "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "netns game2\n"
			 " tun0 203.0.113.2 10.0.0.2\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "game2/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n"
			   "remote 203.0.113.2 -> 203.0.113.2 direct\n",
	},
	{
		.name = "model A': the device repeats the host's own public address",
		.world = "host 198.51.100.10\n"
			 "netns game1\n"
			 " tun0 203.0.113.1 198.51.100.10\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "model A': an interface of another namespace has it",
		.world = "host\n"
			 "netns game1\n"
			 " tun0 203.0.113.1 198.51.100.10\n"
			 "netns router 198.51.100.10\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "model C: the tunnel's address is the game server IP",
		.world = "host 198.51.100.10\n"
			 "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "model C: servers that share a POP are told apart by inner source",
		.world = "host 198.51.100.10\n"
			 "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns game2\n"
			 " tun0 192.0.2.1 203.0.113.2\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "game2/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.1 -> 203.0.113.1 direct\n"
			   "source 192.0.2.1 203.0.113.2 -> 203.0.113.2 direct\n",
	},
	{
		.name = "model C with a private address beside the public one",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 10.0.0.2 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "model C: one namespace behind two POPs",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 " tun1 192.0.2.2 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "game1/tun1 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct\n"
			   "remote 192.0.2.2 -> 203.0.113.1 direct\n",
	},
	{
		.name = "several public addresses on one device: each answers for itself",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.2 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.1 -> 203.0.113.1 direct\n"
			   "source 192.0.2.1 203.0.113.2 -> 203.0.113.2 direct\n",
	},
	{
		.name = "no address at all on the device: the remote",
		.world = "netns game1\n"
			 " tun0 203.0.113.1 -\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "a tunnel in the host's own namespace counts as well",
		.world = "host 198.51.100.10\n"
			 " tun0 203.0.113.1 10.0.0.2\n",
		.outcome = "host/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "a tunnel that is down keeps its row",
		.world = "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2 down\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "what is no plain tunnel is skipped, with the reason",
		.world = "netns game1\n"
			 " tunl0 0.0.0.0 -\n"
			 " any0 0.0.0.0 10.0.0.2\n"
			 " fou0 203.0.113.1 - fou\n"
			 " gue0 203.0.113.2 - gue\n"
			 " ext0 0.0.0.0 - external\n"
			 " mpls0 203.0.113.3 - mpls\n"
			 " mc0 224.0.0.5 10.0.0.2\n"
			 " lo0 127.0.0.1 10.0.0.2\n"
			 " priv0 10.1.1.1 10.0.0.2\n",
		.outcome = "game1/tunl0 skipped fallback-device\n"
			   "game1/any0 skipped no-remote\n"
			   "game1/fou0 skipped encapsulation\n"
			   "game1/gue0 skipped encapsulation\n"
			   "game1/ext0 skipped external\n"
			   "game1/mpls0 skipped not-ipip\n"
			   "game1/mc0 skipped remote-forbidden\n"
			   "game1/lo0 skipped remote-forbidden\n"
			   "game1/priv0 skipped no-public-address\n",
	},
	{
		.name = "model C behind a private POP",
		.world = "netns game1\n"
			 " tun0 10.1.1.1 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 10.1.1.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "policy remote",
		.config = "{\"game_server_ip\": \"remote\"}",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "game1/tun0 mapped remote\n"
			   "remote 192.0.2.1 -> 192.0.2.1 direct\n",
	},
	{
		.name = "policy tunnel-address takes the host's own address too, and nothing else",
		.config = "{\"game_server_ip\": \"tunnel-address\"}",
		.world = "host 198.51.100.10\n"
			 "netns game1\n"
			 " tun0 192.0.2.1 198.51.100.10\n"
			 "netns game2\n"
			 " tun0 192.0.2.2 10.0.0.2\n",
		.outcome = "game1/tun0 mapped tunnel-address\n"
			   "game2/tun0 skipped no-public-address\n"
			   "remote 192.0.2.1 -> 198.51.100.10 direct\n",
	},
	{
		.name = "an explicit address for the tunnels that a rule matches",
		.config =
			"{\"rules\": [{\"match\": {\"netns\": \"game[12]\", \"ifname\": \"tun*\"},"
			" \"set\": {\"game_server_ip\": \"203.0.113.9\"}}]}",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 10.0.0.2\n"
			 "netns game3\n"
			 " tun0 192.0.2.3 10.0.0.2\n",
		.outcome = "game1/tun0 mapped explicit\n"
			   "game3/tun0 mapped auto:remote\n"
			   "remote 192.0.2.1 -> 203.0.113.9 direct\n"
			   "remote 192.0.2.3 -> 192.0.2.3 direct\n",
	},
	{
		.name = "the first rule that matches decides",
		.config = "{\"mode\": \"shadow\", \"rules\": ["
			  "{\"match\": {\"remote\": \"203.0.113.0/31\"}, \"set\": {\"mode\": "
			  "\"tunnel\"}},"
			  "{\"match\": {\"remote\": \"203.0.113.0/24\"}, \"set\": {\"mode\": "
			  "\"direct\"}}]}",
		.world = "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 " tun1 203.0.113.2 10.0.0.2\n"
			 " tun2 192.0.2.2 10.0.0.2\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "game1/tun1 mapped auto:remote\n"
			   "game1/tun2 mapped auto:remote\n"
			   "remote 192.0.2.2 -> 192.0.2.2 shadow\n"
			   "remote 203.0.113.1 -> 203.0.113.1 tunnel\n"
			   "remote 203.0.113.2 -> 203.0.113.2 direct\n",
	},
	{
		.name = "one public address in two namespaces: the older keeps it",
		.world = "netns old\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns new\n"
			 " tun0 192.0.2.2 203.0.113.1\n"
			 "netns other\n"
			 " tun0 192.0.2.3 203.0.113.3\n",
		.outcome = "old/tun0 mapped auto:tunnel-address\n"
			   "new/tun0 conflict address-claimed by old/tun0\n"
			   "other/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct\n"
			   "remote 192.0.2.2 shared\n"
			   "remote 192.0.2.3 -> 203.0.113.3 direct\n",
	},
	{
		.name = "same remote, same private address: nobody can tell whose packet it is",
		.world = "netns a\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "netns b\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "netns c\n"
			 " tun0 203.0.113.9 10.0.0.2\n",
		.outcome = "a/tun0 conflict ambiguous by b/tun0\n"
			   "b/tun0 conflict address-claimed by a/tun0\n"
			   "c/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 shared\n"
			   "remote 203.0.113.9 -> 203.0.113.9 direct\n",
	},
	{
		.name = "same remote as game server IP, told apart: the older goes direct",
		.world = "netns a\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "netns b\n"
			 " tun0 203.0.113.1 10.0.0.3\n",
		.outcome = "a/tun0 mapped auto:remote\n"
			   "b/tun0 conflict address-claimed by a/tun0\n"
			   "remote 203.0.113.1 shared\n"
			   "source 203.0.113.1 10.0.0.2 -> 203.0.113.1 direct\n",
	},
	{
		.name = "shared remote, a tunnel without any address",
		.config = "{\"rules\": ["
			  "{\"match\": {\"netns\": \"b\"}, \"set\": {\"game_server_ip\": "
			  "\"203.0.113.2\"}}]}",
		.world = "netns a\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns b\n"
			 " tun0 192.0.2.1 -\n",
		.outcome = "a/tun0 mapped auto:tunnel-address\n"
			   "b/tun0 conflict no-inner-source by a/tun0\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "shared remote, one pair collides, the third is served",
		.config = "{\"rules\": ["
			  "{\"match\": {\"netns\": \"a\"}, \"set\": {\"game_server_ip\": "
			  "\"203.0.113.1\"}},"
			  "{\"match\": {\"netns\": \"b\"}, \"set\": {\"game_server_ip\": "
			  "\"203.0.113.2\"}}]}",
		.world = "netns a\n"
			 " tun0 192.0.2.1 10.0.0.2\n"
			 "netns b\n"
			 " tun0 192.0.2.1 10.0.0.2\n"
			 "netns c\n"
			 " tun0 192.0.2.1 203.0.113.3\n",
		.outcome = "a/tun0 conflict ambiguous by b/tun0\n"
			   "b/tun0 conflict ambiguous by a/tun0\n"
			   "c/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.3 -> 203.0.113.3 direct\n",
	},
	{
		.name = "shared remote, two modes",
		.config = "{\"rules\": ["
			  "{\"match\": {\"netns\": \"b\"}, \"set\": {\"mode\": \"shadow\"}}]}",
		.world = "netns a\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns b\n"
			 " tun0 192.0.2.1 203.0.113.2\n",
		.outcome = "a/tun0 mapped auto:tunnel-address\n"
			   "b/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.1 -> 203.0.113.1 direct\n"
			   "source 192.0.2.1 203.0.113.2 -> 203.0.113.2 shadow\n",
	},
	{
		.name = "shared remote, same wishes but for the ports",
		.config = "{\"rules\": [{\"match\": {\"netns\": \"b\"},"
			  " \"set\": {\"server_ports\": [27015]}}]}",
		.world = "netns a\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns b\n"
			 " tun0 192.0.2.1 203.0.113.2\n",
		.outcome = "a/tun0 mapped auto:tunnel-address\n"
			   "b/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.1 -> 203.0.113.1 direct\n"
			   "source 192.0.2.1 203.0.113.2 -> 203.0.113.2 direct flags 0x20\n",
	},
	{
		.name = "an empty host",
		.world = "host 198.51.100.10\n",
		.outcome = "",
	},
};

static void run_case(void **state)
{
	const struct world_case *c = *state;

	assert_string_equal(world_outcome(c->world, c->config), c->outcome);
	/* Pure: the same again. */
	assert_string_equal(world_outcome(c->world, c->config), c->outcome);
}

int main(void)
{
	struct CMUnitTest tests[ELEMENTS_OF(cases)];

	for (size_t i = 0; i < ELEMENTS_OF(cases); i++)
		tests[i] = (struct CMUnitTest){ cases[i].name, run_case, NULL, NULL,
			(void *)&cases[i] };
	return _cmocka_run_group_tests("desired", tests, ELEMENTS_OF(tests), NULL, NULL);
}

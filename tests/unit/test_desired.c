/* SPDX-License-Identifier: MIT */
/* From worlds to rows: the POP models, the policies, shared remotes and conflicts. */

#include <stdio.h>
#include <string.h>

#include "agent/util/array.h"
#include "agent/util/cleanup.h"
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
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n"
			   "remote 203.0.113.2 -> 203.0.113.2 direct private\n",
	},
	{
		.name = "model B: the device repeats the host's own public address",
		.world = "host 198.51.100.10\n"
			 "netns game1\n"
			 " tun0 203.0.113.1 198.51.100.10\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "model B: another interface of the same namespace has it, and the tunnel sends from it",
		.world = "host\n"
			 "netns game1 198.51.100.10\n"
			 " tun0 203.0.113.1 198.51.100.10 local=198.51.100.10\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "model B while nobody has it, as an address that moves from one host to another: it sends from it",
		.world = "host\n"
			 "netns game1\n"
			 " tun0 203.0.113.1 198.51.100.10 local=198.51.100.10\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "an interface of a third namespace has it: a router's, or a rival's trick",
		.config = "{\"rules\": [{\"match\": {\"netns\": \"game2\"},"
			  " \"set\": {\"game_server_ip\": \"remote\"}},"
			  " {\"match\": {\"netns\": \"game3\"},"
			  " \"set\": {\"game_server_ip\": \"tunnel-address\"}}]}",
		.world = "host\n"
			 "netns game1\n"
			 " tun0 192.0.2.1 198.51.100.10\n"
			 "netns game2\n"
			 " tun0 203.0.113.2 198.51.100.10\n"
			 "netns game3\n"
			 " tun0 192.0.2.3 198.51.100.11\n"
			 "netns game4\n"
			 " tun0 192.0.2.4 198.51.100.12 198.51.100.10\n"
			 "netns other 198.51.100.10 198.51.100.11\n",
		.outcome = "game1/tun0 skipped addresses-unknown\n"
			   "game2/tun0 mapped remote rule 0\n"
			   "game3/tun0 mapped tunnel-address rule 1\n"
			   "game4/tun0 skipped addresses-unknown\n"
			   "remote 192.0.2.3 -> 198.51.100.11 direct own\n"
			   "remote 203.0.113.2 -> 203.0.113.2 direct\n",
	},
	{
		.name = "a number that was given back: what it leads to has no row, and is a doubt at most",
		.world = "host\n"
			 "netns former 198.51.100.12 renewed\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "netns game2\n"
			 " tun0 192.0.2.2 198.51.100.12\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "game2/tun0 skipped addresses-unknown\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n",
	},
	{
		.name = "model C: the tunnel's address is the game server IP",
		.world = "host 198.51.100.10\n"
			 "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n",
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
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "model C: one namespace behind two POPs",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 " tun1 192.0.2.2 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "game1/tun1 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n"
			   "remote 192.0.2.2 -> 203.0.113.1 direct own\n",
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
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n",
	},
	{
		.name = "a tunnel in the host's own namespace counts as well",
		.world = "host 198.51.100.10\n"
			 " tun0 203.0.113.1 10.0.0.2\n",
		.outcome = "host/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n",
	},
	{
		.name = "a tunnel that is down keeps its row",
		.world = "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2 down\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n",
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
			   "remote 10.1.1.1 -> 203.0.113.1 direct own\n",
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
			   "remote 192.0.2.1 -> 198.51.100.10 direct own\n",
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
		.outcome = "game1/tun0 mapped explicit rule 0\n"
			   "game3/tun0 mapped auto:remote\n"
			   "remote 192.0.2.1 -> 203.0.113.9 direct\n"
			   "remote 192.0.2.3 -> 192.0.2.3 direct private\n",
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
		.outcome = "game1/tun0 mapped auto:remote rule 0\n"
			   "game1/tun1 mapped auto:remote rule 1\n"
			   "game1/tun2 mapped auto:remote\n"
			   "remote 192.0.2.2 -> 192.0.2.2 shadow private\n"
			   "remote 203.0.113.1 -> 203.0.113.1 tunnel private\n"
			   "remote 203.0.113.2 -> 203.0.113.2 direct private\n",
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
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n"
			   "remote 192.0.2.2 shared\n"
			   "remote 192.0.2.3 -> 203.0.113.3 direct own\n",
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
			   "remote 203.0.113.9 -> 203.0.113.9 direct private\n",
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
			   "b/tun0 conflict no-inner-source by a/tun0 rule 0\n"
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
		.outcome = "a/tun0 conflict ambiguous by b/tun0 rule 0\n"
			   "b/tun0 conflict ambiguous by a/tun0 rule 1\n"
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
			   "b/tun0 mapped auto:tunnel-address rule 0\n"
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
			   "b/tun0 mapped auto:tunnel-address rule 0\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.1 -> 203.0.113.1 direct\n"
			   "source 192.0.2.1 203.0.113.2 -> 203.0.113.2 direct flags 0x20\n",
	},
	{
		.name = "model C: the same address with two prefix lengths is one",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "model A: the same private address twice is one inner source",
		.world = "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2 10.0.0.2\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n",
	},
	{
		.name = "an address on another interface of the same namespace, lo say, is a doubt",
		.world = "netns game1 203.0.113.1\n"
			 " tun0 192.0.2.1 203.0.113.1 local=10.9.0.2\n",
		.outcome = "game1/tun0 skipped addresses-unknown\n",
	},
	{
		.name = "... also where the device has none; but not in the host's namespace, nor below the tunnel",
		.world = "host 198.51.100.10\n"
			 " tun0 203.0.113.5 -\n"
			 "netns game1 203.0.113.1\n"
			 " tun0 192.0.2.1 10.0.0.2\n"
			 " tun1 10.1.1.1 10.0.0.3\n"
			 "netns game2 198.51.100.20\n"
			 " tun0 203.0.113.2 10.0.0.2 local=198.51.100.20\n",
		.outcome = "host/tun0 mapped auto:remote\n"
			   "game1/tun0 skipped addresses-unknown\n"
			   "game1/tun1 skipped no-public-address\n"
			   "game2/tun0 mapped auto:remote\n"
			   "remote 203.0.113.2 -> 203.0.113.2 direct private\n"
			   "remote 203.0.113.5 -> 203.0.113.5 direct private\n",
	},
	{
		.name = "... which policy tunnel-address overrides",
		.config = "{\"rules\": [{\"match\": {\"netns\": \"game1\"},"
			  " \"set\": {\"game_server_ip\": \"tunnel-address\"}}]}",
		.world = "netns game1 203.0.113.1\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "game1/tun0 mapped tunnel-address rule 0\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "one public address on two tunnels of a namespace, both of one POP's pair",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1 203.0.113.2\n"
			 " tun1 192.0.2.2 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "game1/tun1 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 shared\n"
			   "remote 192.0.2.2 -> 203.0.113.1 direct own\n"
			   "source 192.0.2.1 203.0.113.1 -> 203.0.113.1 direct\n"
			   "source 192.0.2.1 203.0.113.2 -> 203.0.113.2 direct\n",
	},
	{
		.name = "model A: two tunnels of a namespace to one remote, by two locals",
		.world = "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 " tun1 203.0.113.1 10.0.0.2\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "game1/tun1 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n",
	},
	{
		.name = "model C: two tunnels of a namespace to one remote, by two locals",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 " tun1 192.0.2.1 203.0.113.2\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "game1/tun1 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.1 -> 203.0.113.1 direct\n"
			   "source 192.0.2.1 203.0.113.2 -> 203.0.113.2 direct\n",
	},
	{
		.name = "model A: a private address, the host's public one and a remote of its own",
		.world = "host 198.51.100.10\n"
			 "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2 198.51.100.10\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "one public address is the host's, another the server's: only its own",
		.world = "host 198.51.100.10\n"
			 "netns game1\n"
			 " tun0 192.0.2.1 198.51.100.10 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "a remote that is the host's own address, as of a POP on this host",
		.world = "host 198.51.100.10\n"
			 "netns game1\n"
			 " tun0 198.51.100.10 10.0.0.2\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 198.51.100.10 -> 198.51.100.10 direct private\n",
	},
	{
		.name = "an address on tunnels of two namespaces, with one remote: whose is it",
		.world = "netns a\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns b\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "a/tun0 conflict ambiguous by b/tun0\n"
			   "b/tun0 conflict address-claimed by a/tun0\n"
			   "remote 192.0.2.1 shared\n",
	},
	{
		.name = "model A and model C side by side",
		.world = "netns a\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "netns c\n"
			 " tun0 192.0.2.1 203.0.113.2\n",
		.outcome = "a/tun0 mapped auto:remote\n"
			   "c/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.2 direct own\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n",
	},
	{
		.name = "model C beside model B: a POP's address, and one that is both",
		.world = "host 198.51.100.10\n"
			 "netns a\n"
			 " tun0 203.0.113.1 198.51.100.10\n"
			 "netns c\n"
			 " tun0 203.0.113.1 203.0.113.2\n",
		.outcome = "a/tun0 mapped auto:remote\n"
			   "c/tun0 mapped auto:tunnel-address\n"
			   "remote 203.0.113.1 shared\n"
			   "source 203.0.113.1 198.51.100.10 -> 203.0.113.1 direct\n"
			   "source 203.0.113.1 203.0.113.2 -> 203.0.113.2 direct\n",
	},
	{
		.name = "policy remote: two namespaces behind one POP, told apart, one address",
		.config = "{\"game_server_ip\": \"remote\"}",
		.world = "netns a\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns b\n"
			 " tun0 192.0.2.1 203.0.113.2\n",
		.outcome = "a/tun0 mapped remote\n"
			   "b/tun0 conflict address-claimed by a/tun0\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.1 -> 192.0.2.1 direct\n",
	},
	{
		.name = "policy remote behind a private remote: it was asked for",
		.config = "{\"game_server_ip\": \"remote\"}",
		.world = "netns a\n"
			 " tun0 10.1.1.1 10.0.0.2\n",
		.outcome = "a/tun0 mapped remote\n"
			   "remote 10.1.1.1 -> 10.1.1.1 direct\n",
	},
	{
		.name = "a tunnel that gets no entry shares its remote with one that does",
		.world = "netns a\n"
			 " tun0 10.1.1.1 203.0.113.1\n"
			 "netns b\n"
			 " tun0 10.1.1.1 10.0.0.2\n",
		.outcome = "a/tun0 mapped auto:tunnel-address\n"
			   "b/tun0 skipped no-public-address\n"
			   "remote 10.1.1.1 shared\n"
			   "source 10.1.1.1 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "... and cannot be told apart from it",
		.config = "{\"rules\": [{\"match\": {\"netns\": \"a\"},"
			  " \"set\": {\"game_server_ip\": \"203.0.113.1\"}}]}",
		.world = "netns a\n"
			 " tun0 10.1.1.1 10.0.0.2\n"
			 "netns b\n"
			 " tun0 10.1.1.1 10.0.0.2\n",
		.outcome = "a/tun0 conflict ambiguous by b/tun0 rule 0\n"
			   "b/tun0 skipped no-public-address\n"
			   "remote 10.1.1.1 shared\n",
	},
	{
		.name = "one without address below a remote that another, refused one shares",
		.config =
			"{\"rules\": ["
			"{\"match\": {\"netns\": \"a\"}, \"set\": {\"game_server_ip\": \"remote\"}}]}",
		.world = "netns a\n"
			 " tun0 203.0.113.1 -\n"
			 "netns b\n"
			 " tun0 203.0.113.1 10.0.0.2\n",
		.outcome = "a/tun0 conflict no-inner-source by b/tun0 rule 0\n"
			   "b/tun0 conflict address-claimed by a/tun0\n"
			   "remote 203.0.113.1 shared\n",
	},
	{
		.name = "FOU and MPLS to the remote of a plain tunnel: no IPIP, no rivals",
		.world = "netns a\n"
			 " tun0 203.0.113.1 -\n"
			 "netns b\n"
			 " fou0 203.0.113.1 10.0.0.2 fou\n"
			 " mpls0 203.0.113.1 10.0.0.3 mpls\n",
		.outcome = "a/tun0 mapped auto:remote\n"
			   "b/fou0 skipped encapsulation\n"
			   "b/mpls0 skipped not-ipip\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n",
	},
	{
		.name = "trust: what another user namespace owns contributes nothing",
		.world = "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "guest evil\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 " tun1 192.0.2.9 203.0.113.1\n"
			 " tun2 203.0.113.9 10.0.0.9\n"
			 " tunl0 0.0.0.0 -\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "evil/tun0 skipped untrusted\n"
			   "evil/tun1 skipped untrusted\n"
			   "evil/tun2 skipped untrusted\n"
			   "evil/tunl0 skipped fallback-device\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n",
	},
	{
		.name = "trust: neither the oldest nor one that shares a POP takes anything; its own stay",
		.world = "guest evil 203.0.113.1\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 " tun1 192.0.2.2 10.0.0.2\n"
			 "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns game2\n"
			 " tun0 192.0.2.2 203.0.113.2\n"
			 "netns game3\n"
			 " tun0 203.0.113.3 -\n"
			 "guest evil2\n"
			 " tun0 203.0.113.3 -\n",
		.outcome = "evil/tun0 skipped untrusted\n"
			   "evil/tun1 skipped untrusted\n"
			   "game1/tun0 mapped auto:tunnel-address\n"
			   "game2/tun0 mapped auto:tunnel-address\n"
			   "game3/tun0 mapped auto:remote\n"
			   "evil2/tun0 skipped untrusted\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n"
			   "remote 192.0.2.2 -> 203.0.113.2 direct own\n"
			   "remote 203.0.113.3 -> 203.0.113.3 direct private\n",
	},
	{
		.name = "trust: a tunnel that cannot be told by its inner source keeps its row all the same",
		.config = "{\"game_server_ip\": \"203.0.113.9\"}",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 -\n"
			 "guest evil\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "game1/tun0 mapped explicit\n"
			   "evil/tun0 skipped untrusted\n"
			   "remote 192.0.2.1 -> 203.0.113.9 direct\n",
	},
	{
		.name = "trust: a private inner source tells its packets from a guest's",
		.config = "{\"game_server_ip\": \"203.0.113.9\"}",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 10.0.0.2\n"
			 "guest evil\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "game1/tun0 mapped explicit\n"
			   "evil/tun0 skipped untrusted\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 10.0.0.2 -> 203.0.113.9 direct\n",
	},
	{
		.name = "trust: what sends no IPIP, or none to that POP, makes no difference",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "guest evil\n"
			 " tun0 192.0.2.2 203.0.113.2\n"
			 " tun1 192.0.2.1 203.0.113.2 fou\n"
			 " tun2 0.0.0.0 203.0.113.2\n"
			 " tunl0 192.0.2.1 203.0.113.2\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "evil/tun0 skipped untrusted\n"
			   "evil/tun1 skipped encapsulation\n"
			   "evil/tun2 skipped no-remote\n"
			   "evil/tunl0 skipped fallback-device\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "limits: likewise for one beyond them",
		.config = "{\"limits\": {\"addresses_per_namespace\": 2}}",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns many\n"
			 " tun0 192.0.2.1 203.0.113.2 203.0.113.3 203.0.113.4\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "many/tun0 skipped too-many-addresses\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "trust: an address on some interface there is not the host's",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "guest evil 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "trust: a rule admits a namespace, for one remote; the younger claim is refused",
		.config =
			"{\"rules\": [{\"match\": {\"netns\": \"pod\", \"remote\": \"203.0.113.0/29\"},"
			" \"set\": {\"trust\": true}}]}",
		.world = "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "guest pod 198.51.100.1\n"
			 " tun0 203.0.113.2 10.0.0.2 local=198.51.100.1\n"
			 " tun1 203.0.113.1 10.0.0.9 local=198.51.100.1\n"
			 " tun2 192.0.2.2 10.0.0.2\n"
			 "guest other\n"
			 " tun0 203.0.113.3 10.0.0.2\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "pod/tun0 mapped auto:remote rule 0\n"
			   "pod/tun1 conflict address-claimed by game1/tun0 rule 0\n"
			   "pod/tun2 skipped untrusted\n"
			   "other/tun0 skipped untrusted\n"
			   "remote 203.0.113.1 shared\n"
			   "remote 203.0.113.2 -> 203.0.113.2 direct private\n"
			   "source 203.0.113.1 10.0.0.2 -> 203.0.113.1 direct\n",
	},
	{
		.name = "trust: a rule distrusts a namespace of the host",
		.config =
			"{\"rules\": [{\"match\": {\"ifname\": \"tun1\"}, \"set\": {\"mode\": \"shadow\"}},"
			"{\"match\": {\"netns\": \"rented-*\"}, \"set\": {\"trust\": false}}]}",
		.world = "netns rented-1 203.0.113.1\n"
			 " tun0 203.0.113.9 10.0.0.2\n"
			 " tun1 192.0.2.1 203.0.113.1\n"
			 "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "rented-1/tun0 skipped untrusted rule 1\n"
			   "rented-1/tun1 skipped untrusted rule 0\n"
			   "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "trust: by label, where nobody gave it a name",
		.config =
			"{\"rules\": [{\"match\": {\"label\": \"panel-*\"}, \"set\": {\"trust\": true}}]}",
		.world = "guest x unnamed label=panel-7\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "guest y unnamed label=sh\n"
			 " tun0 203.0.113.2 10.0.0.2\n",
		.outcome = "panel-7/tun0 mapped auto:remote rule 0\n"
			   "sh/tun0 skipped untrusted\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n",
	},
	{
		.name = "allowed_game_server_ips: no claim beyond them",
		.config = "{\"allowed_game_server_ips\": [\"203.0.113.0/25\"]}",
		.world = "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "netns game2\n"
			 " tun0 203.0.113.200 10.0.0.2\n"
			 "netns game3\n"
			 " tun0 192.0.2.1 198.51.100.1\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "game2/tun0 skipped not-allowed\n"
			   "game3/tun0 skipped not-allowed\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n",
	},
	{
		.name = "allowed_game_server_ips: an explicit address is no exception",
		.config = "{\"allowed_game_server_ips\": [\"203.0.113.0/25\"],"
			  " \"game_server_ip\": \"198.51.100.1\"}",
		.world = "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2\n",
		.outcome = "game1/tun0 skipped not-allowed\n",
	},
	{
		.name = "allowed_game_server_ips: one address of two; packets of the other stay",
		.config = "{\"allowed_game_server_ips\": [\"203.0.113.0/25\"]}",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1 203.0.113.200\n",
		.outcome = "game1/tun0 conflict not-allowed\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "allowed_game_server_ips: what is refused still shares its remote",
		.config = "{\"allowed_game_server_ips\": [\"203.0.113.0/25\"]}",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.200\n"
			 "netns game2\n"
			 " tun0 192.0.2.1 203.0.113.2\n",
		.outcome = "game1/tun0 skipped not-allowed\n"
			   "game2/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.2 -> 203.0.113.2 direct\n",
	},
	{
		.name = "allowed_game_server_ips: who may not claim holds nothing against others",
		.config =
			"{\"allowed_game_server_ips\": [\"203.0.113.0/25\"], \"rules\": ["
			"{\"match\": {\"netns\": \"game1\"}, \"set\": {\"game_server_ip\": \"remote\"}}]}",
		.world = "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns game2\n"
			 " tun0 192.0.2.2 203.0.113.1\n",
		.outcome = "game1/tun0 skipped not-allowed rule 0\n"
			   "game2/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.2 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "limits: a namespace with too many tunnels or addresses contributes nothing",
		.config =
			"{\"limits\": {\"tunnels_per_namespace\": 2, \"addresses_per_namespace\": 3}}",
		.world = "netns game1 10.9.0.2\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 " tun1 203.0.113.2 10.0.0.2\n"
			 "netns game2\n"
			 " tun0 203.0.113.1 -\n"
			 " tun1 203.0.113.4 -\n"
			 " tun2 203.0.113.5 -\n"
			 "netns game3 10.9.0.2 10.9.0.3 10.9.0.4\n"
			 " tun0 203.0.113.1 10.0.0.3\n"
			 "guest evil 10.9.0.2 10.9.0.3 10.9.0.4\n"
			 " tun0 203.0.113.1 10.0.0.3\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "game1/tun1 mapped auto:remote\n"
			   "game2/tun0 skipped too-many-tunnels\n"
			   "game2/tun1 skipped too-many-tunnels\n"
			   "game2/tun2 skipped too-many-tunnels\n"
			   "game3/tun0 skipped too-many-addresses\n"
			   "evil/tun0 skipped untrusted\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n"
			   "remote 203.0.113.2 -> 203.0.113.2 direct private\n",
	},
	{
		.name = "limits: addresses beyond them are the host's all the same",
		.config = "{\"limits\": {\"addresses_per_namespace\": 2}}",
		.world = "host 198.51.100.10 198.51.100.11 198.51.100.12\n"
			 "netns game1\n"
			 " tun0 203.0.113.1 198.51.100.12\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "limits: namespaces beyond them; those of others take nobody's place",
		.config = "{\"limits\": {\"namespaces\": 3}}",
		.world = "host 198.51.100.10\n"
			 "guest evil1\n"
			 "guest evil2\n"
			 "guest evil3\n"
			 "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2\n"
			 "netns game2\n"
			 " tun0 203.0.113.2 10.0.0.2\n"
			 "netns game3\n"
			 " tun0 203.0.113.3 10.0.0.2\n",
		.outcome = "game1/tun0 mapped auto:remote\n"
			   "game2/tun0 mapped auto:remote\n"
			   "game3/tun0 skipped too-many-namespaces\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct private\n"
			   "remote 203.0.113.2 -> 203.0.113.2 direct private\n",
	},
	{
		.name = "limits: what others have too many of says nothing of anybody else",
		.world = "netns crowded truncated\n"
			 " tun0 203.0.113.9 10.0.0.2\n"
			 "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "crowded/tun0 skipped too-many-addresses\n"
			   "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "limits: addresses that nobody kept may be the host's: auto cannot tell",
		.config = "{\"rules\": [{\"match\": {\"netns\": \"game4\"},"
			  " \"set\": {\"game_server_ip\": \"tunnel-address\"}}]}",
		.world = "netns host truncated\n"
			 " tun0 203.0.113.9 10.0.0.2\n"
			 "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns game2\n"
			 " tun0 203.0.113.2 10.0.0.2\n"
			 "netns game3\n"
			 " tun0 192.0.2.1 203.0.113.3\n"
			 "netns game4\n"
			 " tun0 192.0.2.1 203.0.113.4\n",
		.outcome = "host/tun0 skipped too-many-addresses\n"
			   "game1/tun0 skipped addresses-unknown\n"
			   "game2/tun0 mapped auto:remote\n"
			   "game3/tun0 skipped addresses-unknown\n"
			   "game4/tun0 mapped tunnel-address rule 0\n"
			   "remote 192.0.2.1 shared\n"
			   "remote 203.0.113.2 -> 203.0.113.2 direct private\n"
			   "source 192.0.2.1 203.0.113.4 -> 203.0.113.4 direct\n",
	},
	{
		.name = "limits: no guest makes auto unable to tell",
		.world = "guest crowded truncated\n"
			 "netns game1\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n",
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

/* What the maps hold already: `before` is the world whose rows they are. */
static const struct present_case {
	const char *name;
	const char *before, *config, *world;
	bool incomplete;
	const char *outcome;
} present_cases[] = {
	{
		.name = "restart: the older claim stays when the younger comes first in the list",
		.before = "netns old\n"
			  " tun0 192.0.2.1 203.0.113.1\n",
		.world = "netns new\n"
			 " tun0 192.0.2.2 203.0.113.1\n"
			 "netns old\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "new/tun0 conflict address-claimed by old/tun0\n"
			   "old/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n"
			   "remote 192.0.2.2 shared\n",
	},
	{
		.name = "restart: likewise below a remote that both share",
		.before = "netns old\n"
			  " tun0 203.0.113.1 10.0.0.2\n"
			  "netns new\n"
			  " tun0 203.0.113.1 10.0.0.3\n",
		.world = "netns new\n"
			 " tun0 203.0.113.1 10.0.0.3\n"
			 "netns old\n"
			 " tun0 203.0.113.1 10.0.0.2\n",
		.outcome = "new/tun0 conflict address-claimed by old/tun0\n"
			   "old/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 shared\n"
			   "source 203.0.113.1 10.0.0.2 -> 203.0.113.1 direct\n",
	},
	{
		.name = "an older namespace that claims an address later comes second",
		.before = "netns a\n"
			  " tun0 192.0.2.1 203.0.113.1\n"
			  "netns b\n"
			  " tun0 192.0.2.2 203.0.113.2\n",
		.world = "netns a\n"
			 " tun0 192.0.2.1 203.0.113.1 203.0.113.2\n"
			 "netns b\n"
			 " tun0 192.0.2.2 203.0.113.2\n",
		.outcome = "a/tun0 conflict address-claimed by b/tun0\n"
			   "b/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 shared\n"
			   "remote 192.0.2.2 -> 203.0.113.2 direct own\n"
			   "source 192.0.2.1 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "the address is free when its holder is gone",
		.before = "netns a\n"
			  " tun0 192.0.2.1 203.0.113.1\n",
		.world = "netns b\n"
			 " tun0 192.0.2.2 203.0.113.1\n",
		.outcome = "b/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.2 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "but not while somebody who is not known yet may be its holder",
		.before = "netns a\n"
			  " tun0 192.0.2.1 203.0.113.1\n",
		.world = "netns b\n"
			 " tun0 192.0.2.2 203.0.113.1\n"
			 "netns c\n"
			 " tun0 192.0.2.3 203.0.113.3\n",
		.incomplete = true,
		.outcome = "b/tun0 conflict address-claimed\n"
			   "c/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.2 shared\n"
			   "remote 192.0.2.3 -> 203.0.113.3 direct own\n",
	},
	{
		.name = "likewise for a row below a shared remote",
		.before = "netns a\n"
			  " tun0 192.0.2.1 203.0.113.1\n"
			  "netns b\n"
			  " tun0 192.0.2.1 203.0.113.2\n",
		.world = "netns b\n"
			 " tun0 192.0.2.1 203.0.113.2\n"
			 "netns c\n"
			 " tun0 192.0.2.3 203.0.113.1\n",
		.incomplete = true,
		.outcome = "b/tun0 mapped auto:tunnel-address\n"
			   "c/tun0 conflict address-claimed\n"
			   "remote 192.0.2.1 shared\n"
			   "remote 192.0.2.3 shared\n"
			   "source 192.0.2.1 203.0.113.2 -> 203.0.113.2 direct\n",
	},
	{
		.name = "not all known: a POP may have other servers, a public address has not",
		.before = "netns a\n"
			  " tun0 192.0.2.1 203.0.113.1\n",
		.config = "{\"rules\": [{\"match\": {\"netns\": \"d\"},"
			  " \"set\": {\"game_server_ip\": \"203.0.113.4\"}},"
			  "{\"match\": {\"netns\": \"e\"},"
			  " \"set\": {\"game_server_ip\": \"203.0.113.5\"}}]}",
		.world = "netns a\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns b\n"
			 " tun0 192.0.2.2 203.0.113.2\n"
			 "netns c\n"
			 " tun0 203.0.113.3 10.0.0.2\n"
			 "netns d\n"
			 " tun0 192.0.2.4 -\n"
			 "netns e\n"
			 " tun0 192.0.2.5 10.0.0.5\n",
		.incomplete = true,
		.outcome = "a/tun0 mapped auto:tunnel-address\n"
			   "b/tun0 mapped auto:tunnel-address\n"
			   "c/tun0 mapped auto:remote\n"
			   "d/tun0 mapped explicit rule 0\n"
			   "e/tun0 mapped explicit rule 1\n"
			   "remote 192.0.2.1 -> 203.0.113.1 direct own\n"
			   "remote 192.0.2.2 -> 203.0.113.2 direct own\n"
			   "remote 192.0.2.4 -> 203.0.113.4 direct\n"
			   "remote 192.0.2.5 shared\n"
			   "remote 203.0.113.3 -> 203.0.113.3 direct private\n"
			   "source 192.0.2.5 10.0.0.5 -> 203.0.113.5 direct\n",
	},
	{
		.name = "not all known: whose address changes is told by it from who may have the former one",
		.before = "netns a\n"
			  " tun0 192.0.2.1 203.0.113.1\n",
		.world = "netns a\n"
			 " tun0 192.0.2.1 203.0.113.2\n",
		.incomplete = true,
		.outcome = "a/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.2 -> 203.0.113.2 direct\n",
	},
	{
		.name = "model C while its address is away: what comes back with it must not leave as the POP",
		.before = "netns a\n"
			  " tun0 192.0.2.1 203.0.113.1\n",
		.world = "netns a\n"
			 " tun0 192.0.2.1 -\n",
		.outcome = "a/tun0 mapped auto:remote\n"
			   "remote 192.0.2.1 -> 192.0.2.1 direct private\n",
	},
	{
		.name = "an address that is neither public nor private is served as any other",
		.before = "netns a\n",
		.world = "netns a\n"
			 " tun0 203.0.113.1 240.1.0.2\n",
		.outcome = "a/tun0 mapped auto:remote\n"
			   "remote 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "a rule that says remote is for any source, as is the host's address",
		.config = "{\"rules\": [{\"match\": {\"netns\": \"a\"},"
			  " \"set\": {\"game_server_ip\": \"remote\"}}]}",
		.before = "host 198.51.100.10\n"
			  "netns a\n"
			  " tun0 192.0.2.1 -\n",
		.world = "host 198.51.100.10\n"
			 "netns a\n"
			 " tun0 192.0.2.1 -\n"
			 "netns b\n"
			 " tun0 192.0.2.2 198.51.100.10 10.0.0.2\n",
		.outcome = "a/tun0 mapped remote rule 0\n"
			   "b/tun0 mapped auto:remote\n"
			   "remote 192.0.2.1 -> 192.0.2.1 direct\n"
			   "remote 192.0.2.2 -> 192.0.2.2 direct\n",
	},
	{
		.name = "not all known: a row of its own source is not widened to any",
		.before = "netns a\n"
			  " tun0 192.0.2.1 203.0.113.1\n",
		.config = "{\"game_server_ip\": \"203.0.113.1\"}",
		.world = "netns a\n"
			 " tun0 192.0.2.1 10.0.0.2\n",
		.incomplete = true,
		.outcome = "a/tun0 mapped explicit\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 10.0.0.2 -> 203.0.113.1 direct\n",
	},
	{
		.name = "a row of its own source says whose it is",
		.before = "netns a\n"
			  " tun0 192.0.2.1 203.0.113.1\n",
		.config = "{\"rules\": [{\"match\": {\"netns\": \"b\"},"
			  " \"set\": {\"game_server_ip\": \"203.0.113.1\"}}]}",
		.world = "netns b\n"
			 " tun0 192.0.2.1 10.0.0.2\n"
			 "netns a\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.outcome = "b/tun0 conflict address-claimed by a/tun0 rule 0\n"
			   "a/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.1 shared\n"
			   "source 192.0.2.1 203.0.113.1 -> 203.0.113.1 direct\n",
	},
	{
		.name = "not all known: who may no longer have what his row says goes over the POP",
		.before = "netns a\n"
			  " tun0 192.0.2.1 203.0.113.1\n",
		.config = "{\"allowed_game_server_ips\": [\"198.51.100.0/24\"]}",
		.world = "netns a\n"
			 " tun0 192.0.2.1 203.0.113.1\n",
		.incomplete = true,
		.outcome = "a/tun0 skipped not-allowed\n"
			   "remote 192.0.2.1 shared\n",
	},
	{
		.name = "not all known: a row stays while it cannot be told whether its address is the host's",
		.before = "netns a\n"
			  " tun0 203.0.113.1 198.51.100.10\n",
		.world = "host unread\n"
			 "netns a\n"
			 " tun0 203.0.113.1 198.51.100.10\n",
		.incomplete = true,
		.outcome = "a/tun0 skipped addresses-unknown\n",
	},
	{
		.name = "rows give no trust: a guest that has one loses it",
		.before = "netns evil\n"
			  " tun0 192.0.2.1 203.0.113.1\n",
		.world = "guest evil\n"
			 " tun0 192.0.2.1 203.0.113.1\n"
			 "netns game1\n"
			 " tun0 192.0.2.2 203.0.113.1\n",
		.outcome = "evil/tun0 skipped untrusted\n"
			   "game1/tun0 mapped auto:tunnel-address\n"
			   "remote 192.0.2.2 -> 203.0.113.1 direct own\n",
	},
	{
		.name = "nor what may not be claimed",
		.before = "netns game1\n"
			  " tun0 203.0.113.1 10.0.0.2\n",
		.config = "{\"allowed_game_server_ips\": [\"198.51.100.0/24\"]}",
		.world = "netns game1\n"
			 " tun0 203.0.113.1 10.0.0.2\n",
		.outcome = "game1/tun0 skipped not-allowed\n",
	},
};

static void run_present_case(void **state)
{
	const struct present_case *c = *state;
	_cleanup_(rows_done) struct rows rows = { 0 };
	struct present present = { &rows, !c->incomplete };

	world_rows(c->before, NULL, &rows);
	assert_string_equal(world_outcome_with(c->world, c->config, &present), c->outcome);
}

static void a_guest_that_cannot_be_read_holds_up_nothing(void **state)
{
	static const struct {
		const char *world, *rules;
		bool known;
	} known_cases[] = {
		{ "netns a\nguest evil unread\n", "", true },
		{ "netns a unread\nguest evil\n", "", false },
		{ "netns a renewed\n", "", false },
		{ "netns a\nguest evil renewed\n", "", true },
		{ "netns a unread\n",
			"{\"match\": {\"netns\": \"a\"}, \"set\": {\"trust\": false}}", true },
		{ "guest pod unread\n",
			"{\"match\": {\"netns\": \"pod\", \"remote\": \"192.0.2.0/24\"},"
			" \"set\": {\"trust\": true}}",
			false },
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(known_cases); i++) {
		_cleanup_(snapshot_done) struct snapshot snapshot = { 0 };
		_cleanup_(config_done) struct config config = { 0 };
		struct config_error error;
		char text[256];

		world_parse(known_cases[i].world, &snapshot);
		(void)snprintf(text, sizeof(text), "{\"rules\": [%s]}", known_cases[i].rules);
		assert_int_equal(config_parse(text, strlen(text), &config, &error), 0);
		assert_int_equal(tunnels_are_known(&snapshot, &config), known_cases[i].known);
		snapshot.complete = false;
		assert_false(tunnels_are_known(&snapshot, &config));
	}
}

/* While messages were lost any number may be another's. The agent's own namespace needs none. */
static void nobody_is_known_by_a_number_while_messages_are_lost(void **state)
{
	static const char *const worlds[] = { "host\nnetns a\n", "host\n" };

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(worlds); i++) {
		_cleanup_(snapshot_done) struct snapshot snapshot = { 0 };
		_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };
		_cleanup_(config_done) struct config config = { 0 };

		config_init(&config);
		world_parse(worlds[i], &snapshot);
		assert_true(tunnels_are_known(&snapshot, &config));
		snapshot.is_doubtful = true;
		assert_int_equal(tunnels_are_known(&snapshot, &config), i == 1);
	}
}

/* They show why; their owners shall not fill the memory, nor hide the tunnels of others. */
static void idle_tunnels_are_listed_up_to_a_bound(void **state)
{
	enum { TUNNELS = TUNNELS_IDLE_MAX + 10 };
	_cleanup_(snapshot_done) struct snapshot snapshot = { 0 };
	_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };
	_cleanup_(config_done) struct config config = { 0 };
	_cleanup_(rows_done) struct rows rows = { 0 }, none = { 0 };
	const struct present present = { &none, true };
	struct ipip_link *links = calloc(TUNNELS, sizeof(*links));

	(void)state;
	assert_non_null(links);
	for (uint32_t i = 0; i < TUNNELS; i++)
		links[i] = (struct ipip_link){ .ifindex = i, .remote = ip4_of("203.0.113.1") };
	links[TUNNELS - 1].remote = ip4_of("192.0.2.1");
	world_parse(
		"guest evil\nnetns game1\n tun0 203.0.113.1 10.0.0.2\n tun1 192.0.2.1 10.0.0.3\n",
		&snapshot);
	snapshot.netns[0].view.links = links;
	snapshot.netns[0].view.n_links = TUNNELS;
	world_config("{\"rules\": [{\"match\": {\"remote\": \"192.0.2.1\"},"
		     " \"set\": {\"game_server_ip\": \"203.0.113.9\"}}]}",
		&config);
	assert_int_equal(tunnels_make(&snapshot, &config, NULL, NULL, &tunnels), 0);
	assert_int_equal(tunnels.n, TUNNELS_IDLE_MAX + 2);
	assert_int_equal(tunnels.n_unlisted, 10);
	assert_int_equal(tunnels.list[0].reason, REASON_UNTRUSTED);
	assert_int_equal(tunnels.list[TUNNELS_IDLE_MAX].state, TUNNEL_MAPPED);
	/* One that is not listed has a remote in common with the second, and is told apart from it all the same. */
	assert_int_equal(desired_make(&tunnels, &present, &rows), 0);
	assert_int_equal(rows.n, 3);
	assert_true(rows.list[0].entry.flags & MAPS_FLAG_SHARED);
	assert_int_equal(rows.list[2].map, ROW_SOURCES);
}

/*
 * As many tunnels as are read of one namespace, and there were more: however wide the limits are set, nobody knows
 * what else is in it. Its first tunnel claims another's address and remote.
 */
static void a_namespace_that_was_not_read_to_its_end_contributes_nothing(void **state)
{
	_cleanup_(rows_done) struct rows rows = { 0 };
	_cleanup_free_ char *world = NULL;
	size_t size;
	FILE *file = open_memstream(&world, &size);

	(void)state;
	assert_non_null(file);
	(void)fputs(
		"host 198.51.100.10\nnetns crowded truncated\n tun0 203.0.113.1 10.0.0.2\n", file);
	for (int i = 1; i < NETNS_LINKS_MAX; i++)
		(void)fprintf(file, " tun%d 45.0.%d.%d -\n", i, i / 256, i % 256);
	(void)fputs("netns game1\n tun0 203.0.113.1 10.0.0.2\n"
		    "netns game2\n tun0 192.0.2.1 203.0.113.2\n",
		file);
	assert_int_equal(fclose(file), 0);
	world_rows(world,
		"{\"limits\": {\"tunnels_per_namespace\": 16384,"
		" \"addresses_per_namespace\": 65536}}",
		&rows);
	assert_int_equal(rows.n, 2);
	assert_true(ip4_equal(rows.list[0].remote, ip4_of("192.0.2.1")));
	assert_true(rows.list[0].entry.game_server_ip == ip4_of("203.0.113.2").be);
	assert_true(ip4_equal(rows.list[1].remote, ip4_of("203.0.113.1")));
	assert_true(rows.list[1].entry.game_server_ip == ip4_of("203.0.113.1").be);
}

/* xorshift32: the same worlds in every run. */
static uint32_t random_state = 2463534242;

static uint32_t random_below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state % n;
}

#define SERVERS 8
#define SERVER_MAX 96

/* `distinct`: no two want the same. Else they collide in every way, in a small address space. */
static void random_server(uint32_t n, bool distinct, char buf[static SERVER_MAX])
{
	char address[32] = "-";

	if (distinct)
		(void)snprintf(address, sizeof(address), "203.0.113.%u", n);
	else if (random_below(4) > 0)
		(void)snprintf(address, sizeof(address), "%s%u",
			random_below(2) ? "203.0.113." : "10.0.0.", 1 + random_below(3));
	(void)snprintf(buf, SERVER_MAX, "%s g%u\n tun0 %s%u %s\n",
		distinct || random_below(6) > 0 ? "netns" : "guest", n,
		random_below(2) ? "192.0.2." : "203.0.113.",
		1 + (distinct ? 100 + random_below(3) : random_below(3)), address);
}

static void shuffle(char (*servers)[SERVER_MAX], size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t j = random_below((uint32_t)i);
		char other[SERVER_MAX];

		memcpy(other, servers[j], SERVER_MAX);
		memcpy(servers[j], servers[i - 1], SERVER_MAX);
		memcpy(servers[i - 1], other, SERVER_MAX);
	}
}

static void join(char (*servers)[SERVER_MAX], size_t n, char *buf, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < n; i++)
		used += (size_t)snprintf(buf + used, size - used, "%s", servers[i]);
}

static void assert_same_rows(const struct rows *a, const struct rows *b, const char *world)
{
	if (a->n != b->n)
		fail_msg("%zu rows, then %zu, of\n%s", a->n, b->n, world);
	for (size_t i = 0; i < a->n; i++)
		if (row_compare(&a->list[i], &b->list[i]) != 0 ||
			!row_contents_equal(&a->list[i], &b->list[i]))
			fail_msg("row %zu differs of\n%s", i, world);
}

/* Who comes first in the list matters only where two claim the same. */
static void any_order_gives_the_same_rows(void **state)
{
	char servers[SERVERS][SERVER_MAX], world[SERVERS * SERVER_MAX];

	(void)state;
	for (int round = 0; round < 500; round++) {
		_cleanup_(rows_done) struct rows first = { 0 }, second = { 0 };

		for (uint32_t i = 0; i < SERVERS; i++)
			random_server(i, true, servers[i]);
		join(servers, SERVERS, world, sizeof(world));
		world_rows(world, NULL, &first);
		assert_true(first.n >= SERVERS);
		shuffle(servers, SERVERS);
		join(servers, SERVERS, world, sizeof(world));
		world_rows(world, NULL, &second);
		assert_same_rows(&first, &second, world);
	}
}

/* Rows that name an address are all still there. */
static void assert_kept(const struct rows *before, const struct rows *after, const char *world)
{
	for (size_t i = 0, j = 0; i < before->n; i++) {
		const struct row *row = &before->list[i];

		if (row->entry.flags & MAPS_FLAG_SHARED)
			continue;
		while (j < after->n && row_compare(&after->list[j], row) < 0)
			j++;
		if (j == after->n || row_compare(&after->list[j], row) != 0 ||
			!row_contents_equal(&after->list[j], row))
			fail_msg("row %zu is gone or different of\n%s", i, world);
	}
}

/*
 * Nothing flaps: pass for pass the rows that were made true are wanted as they are. When the agent
 * starts anew and finds the namespaces in another order, nobody loses a row to another.
 */
static void whoever_has_a_row_keeps_it(void **state)
{
	char servers[SERVERS][SERVER_MAX], world[SERVERS * SERVER_MAX];
	const struct rows none = { 0 };

	(void)state;
	for (int round = 0; round < 5000; round++) {
		_cleanup_(rows_done) struct rows first = { 0 }, second = { 0 }, anew = { 0 };

		for (uint32_t i = 0; i < SERVERS; i++)
			random_server(i, false, servers[i]);
		join(servers, SERVERS, world, sizeof(world));
		world_rows_with(world, NULL, &(struct present){ &none, true }, &first);
		world_rows_with(world, NULL, &(struct present){ &first, true }, &second);
		assert_same_rows(&first, &second, world);
		shuffle(servers, SERVERS);
		join(servers, SERVERS, world, sizeof(world));
		world_rows_with(world, NULL, &(struct present){ &second, true }, &anew);
		assert_kept(&second, &anew, world);
	}
}

static size_t add_tests(struct CMUnitTest *tests, size_t n, const char *name,
	CMUnitTestFunction run, const void *initial_state)
{
	tests[n] = (struct CMUnitTest){ name, run, NULL, NULL, (void *)initial_state };
	return n + 1;
}

int main(void)
{
	struct CMUnitTest tests[ELEMENTS_OF(cases) + ELEMENTS_OF(present_cases) + 5] = {
		cmocka_unit_test(idle_tunnels_are_listed_up_to_a_bound),
		cmocka_unit_test(a_guest_that_cannot_be_read_holds_up_nothing),
		cmocka_unit_test(nobody_is_known_by_a_number_while_messages_are_lost),
		cmocka_unit_test(a_namespace_that_was_not_read_to_its_end_contributes_nothing),
		cmocka_unit_test(any_order_gives_the_same_rows),
		cmocka_unit_test(whoever_has_a_row_keeps_it),
	};
	size_t n = 5;

	for (size_t i = 0; i < ELEMENTS_OF(cases); i++)
		n = add_tests(tests, n, cases[i].name, run_case, &cases[i]);
	for (size_t i = 0; i < ELEMENTS_OF(present_cases); i++)
		n = add_tests(tests, n, present_cases[i].name, run_present_case, &present_cases[i]);
	return _cmocka_run_group_tests("desired", tests, n, NULL, NULL);
}

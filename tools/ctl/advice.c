/* SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "agent/util/array.h"
#include "tools/ctl/advice.h"
#include "tools/ctl/agent.h"

static const struct advice kept[MAPS_REASON_COUNT] = {
	[MAPS_KEPT_NO_ENTRY] = { "their remote has no row",
		"'ipipdirectctl tunnels' says why a tunnel has none" },
	[MAPS_KEPT_NO_SOURCE] = { "their inner source is none that the rows of the remote are for",
		"bind the server to an address of its tunnel device, or give the device that address" },
	[MAPS_KEPT_SHADOW] = { "mode shadow only counts them",
		"set mode direct when the numbers please", .wanted = true },
	[MAPS_KEPT_MODE_TUNNEL] = { "mode tunnel leaves them there", NULL, .wanted = true },
	[MAPS_KEPT_OUTER_OPTIONS] = { "their outer header has IP options",
		"find out who sends them: Linux does not" },
	[MAPS_KEPT_OUTER_FRAGMENT] = { "they were fragmented on the outside",
		"lower the MTU of the tunnel device to that of the interface less 20" },
	[MAPS_KEPT_OUTER_LENGTH] = { "their outer length disagrees with the packet",
		"with BIG TCP: ip link set TUNNEL gso_ipv4_max_size 65536" },
	[MAPS_KEPT_INNER_VERSION] = { "what they carry is not IPv4", NULL },
	[MAPS_KEPT_INNER_SHORT] = { "the inner packet ends before its headers do", NULL },
	[MAPS_KEPT_INNER_LENGTH] = { "the inner length disagrees with the outer one", NULL },
	[MAPS_KEPT_ICMP_ERROR] = { "they are ICMP errors that quote nothing that could be rewritten",
		NULL },
	[MAPS_KEPT_NO_NEXT_HOP] = { "the kernel knew no next hop for the client",
		"look at 'ip route get CLIENT from GAME_SERVER_IP oif IF' and 'ip neigh show dev IF'; "
		"IPv4 forwarding must be on for IF" },
	[MAPS_KEPT_PULL_FAILED] = { "the host was short of memory",
		"see 'free' and the kernel's log" },
	[MAPS_KEPT_STRIP_FAILED] = { "the kernel refused to strip the outer header",
		"turn off segmentation offloads of that protocol on the tunnel device (ethtool -K)" },
	[MAPS_DROP_WRITE_FAILED] = { "a write after the strip failed, and they were dropped",
		"report it, with the version of the kernel" },
	[MAPS_KEPT_SERVER_PORT] = { "their source port is not in server_ports", NULL,
		.wanted = true },
	[MAPS_KEPT_EXEMPT_QUERY] = { "they are answers that POPs cache (exempt)", NULL,
		.wanted = true },
	[MAPS_KEPT_EXEMPT_CLIENT] = { "the client is in exempt_clients", NULL, .wanted = true },
	[MAPS_KEPT_NO_PROGRAM] = { "a part of the program was missing, since its pin was removed",
		"start the agent again: systemctl restart ipipdirect" },
};

struct advice advice_kept(enum maps_reason reason)
{
	if (reason < MAPS_REASON_COUNT && kept[reason].meaning)
		return kept[reason];
	return (struct advice){ "for a reason that this version does not know", NULL, false };
}

struct word {
	const char *word, *text;
};

static const char *find_word(const struct word *words, size_t n, const char *word)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(words[i].word, word) == 0)
			return words[i].text;
	return NULL;
}

const char *advice_tunnel(const char *reason)
{
	static const struct word words[] = {
		{ "no-remote",
			"give the device a fixed remote: ip tunnel change IF remote ADDRESS" },
		{ "external",
			"a device in external mode cannot be served; use one with a fixed remote" },
		{ "encapsulation",
			"only plain IPIP can be served: leave out encap fou or gue if the POP can" },
		{ "not-ipip", "only IPv4 in IPIP can be served: mode ipip" },
		{ "remote-forbidden", "give the device a unicast address as remote" },
		{ "no-public-address", "set game_server_ip for it; see ipipdirect-config(5)" },
		{ "untrusted",
			"if its owner may claim its address, trust it by a rule; see ipipdirect-config(5)" },
		{ "too-many-namespaces",
			"find out who makes so many, or raise limits.namespaces; see ipipdirect-config(5)" },
		{ "too-many-tunnels",
			"find out who makes so many, or raise limits.tunnels_per_namespace; see "
			"ipipdirect-config(5)" },
		{ "too-many-addresses",
			"find out who makes so many, or raise limits.addresses_per_namespace; see "
			"ipipdirect-config(5)" },
		{ "addresses-unknown", "set game_server_ip for it; see ipipdirect-config(5)" },
		{ "not-allowed", "correct its address, or add that to allowed_game_server_ips; see "
				 "ipipdirect-config(5)" },
		{ "address-claimed",
			"give one of the two another address, or remove the tunnel that should not be" },
		{ "ambiguous", "give one of the two another inner address or another remote" },
		{ "no-inner-source", "give the device the address that the server is bound to" },
	};

	return find_word(words, ELEMENTS_OF(words), reason);
}

const char *advice_source(const char *source)
{
	static const struct word words[] = {
		{ "auto:remote",
			"policy auto: its device has no public address of its own, so clients know "
			"the server by the tunnel's remote" },
		{ "auto:tunnel-address",
			"policy auto: its device has public addresses that no other interface holds, "
			"so clients know the server by these" },
		{ "remote", "policy remote: clients know the server by the tunnel's remote" },
		{ "tunnel-address",
			"policy tunnel-address: clients know the server by the public addresses of "
			"the device" },
		{ "explicit", "the configuration names it" },
		{ "none", "no rule chose one" },
	};
	const char *text = find_word(words, ELEMENTS_OF(words), source);

	return text ? text : "by a rule that this version does not know";
}

const char *advice_next_hop(const char *next_hop)
{
	static const struct word words[] = {
		{ "shortcut", "most packets go to the default gateway without a route lookup" },
		{ "routing-rules",
			"each packet asks the kernel's routes, because there are routing rules" },
		{ "tos-routes",
			"each packet asks the kernel's routes, because a default route is for a certain "
			"TOS" },
		{ "many-routes",
			"each packet asks the kernel's routes, because there are too many of them" },
		{ "no-place",
			"each packet asks the kernel's routes, because another interface has its place" },
		{ "no-gateway",
			"each packet asks the kernel's routes, because the default route has no IPv4 "
			"gateway" },
		{ "unread",
			"each packet asks the kernel's routes, because they changed and the agent could "
			"not read them yet" },
	};
	const char *text = find_word(words, ELEMENTS_OF(words), next_hop);

	return text ? text : "how its packets find their next hop is not known";
}

void advise_forwarding(
	struct findings *findings, const char *interface, bool is_on, bool has_shortcut)
{
	if (is_on) {
		findings_add(
			findings, "forwarding", RESULT_OK, "%s: IPv4 forwarding is on", interface);
		return;
	}
	findings_add(findings, "forwarding", has_shortcut ? RESULT_WARN : RESULT_FAIL,
		"%s: IPv4 forwarding is off, and the kernel's route lookup for the program insists on "
		"it: %s stay as no-next-hop",
		interface,
		has_shortcut ? "packets that cannot take the shortcut to the default gateway"
			     : "packets");
	findings_remedy(findings, "sysctl -w net.ipv4.ip_forward=1");
}

/* What follows `start` in the first of `found` that begins with it; NULL: none does. */
static const char *find_place(const json_t *found, const char *start)
{
	const json_t *place;
	size_t i;

	json_array_foreach((json_t *)found, i, place)
	{
		const char *text = json_string_value(place);

		if (text && strncmp(text, start, strlen(start)) == 0)
			return text + strlen(start);
	}
	return NULL;
}

void advice_ip(const json_t *document, const char *label, char ret[static ADVICE_IP_MAX])
{
	const json_t *found = json_object_get(agent_netns(document, label), "found");
	const char *place;

	if (find_place(found, "the agent's own"))
		(void)snprintf(ret, ADVICE_IP_MAX, "ip");
	else if ((place = find_place(found, "file /run/netns/")) && !strchr(place, '/'))
		(void)snprintf(ret, ADVICE_IP_MAX, "ip -n %s", SHELL_WORD(place));
	else if ((place = find_place(found, "file ")))
		(void)snprintf(ret, ADVICE_IP_MAX, "nsenter --net=%s ip", SHELL_WORD(place));
	else if ((place = find_place(found, "process ")))
		(void)snprintf(ret, ADVICE_IP_MAX, "nsenter --net=/proc/%s/ns/net ip", place);
	else /* only the kernel knows it: whoever made it has a way in */
		(void)snprintf(ret, ADVICE_IP_MAX, "in namespace %s: ip", label);
}

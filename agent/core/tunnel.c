/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/tunnel.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

#define PROTO_MPLS 137 /* IPPROTO_MPLS, RFC 4023 */

static const struct {
	const char *name;
	const char *text;
} reasons[REASON_COUNT] = {
	[REASON_NONE] = { "none", "" },
	[REASON_FALLBACK_DEVICE] = { "fallback-device", "the ipip module's own fallback device" },
	[REASON_NO_REMOTE] = { "no-remote", "it has no fixed remote" },
	[REASON_EXTERNAL] = { "external", "external mode: each packet chooses its remote" },
	[REASON_ENCAPSULATION] = { "encapsulation",
		"FOU or GUE: its packets leave as UDP, not as IPIP" },
	[REASON_NOT_IPIP] = { "not-ipip", "it carries MPLS, not IPv4" },
	[REASON_REMOTE_FORBIDDEN] = { "remote-forbidden", "its remote is no unicast address" },
	[REASON_NO_PUBLIC_ADDRESS] = { "no-public-address",
		"neither the device nor the remote has an address that clients could know" },
	[REASON_ADDRESS_CLAIMED] = { "address-claimed",
		"another namespace held its game server IP first" },
	[REASON_AMBIGUOUS] = { "ambiguous",
		"another tunnel has the same remote and the same inner source" },
	[REASON_NO_INNER_SOURCE] = { "no-inner-source",
		"it shares its remote and has no address to tell it apart by" },
};

const char *tunnel_reason_name(enum tunnel_reason reason)
{
	return reason < REASON_COUNT ? reasons[reason].name : "?";
}

const char *tunnel_reason_text(enum tunnel_reason reason)
{
	return reason < REASON_COUNT ? reasons[reason].text : "?";
}

const char *tunnel_state_name(enum tunnel_state state)
{
	switch (state) {
	case TUNNEL_MAPPED:
		return "mapped";
	case TUNNEL_SKIPPED:
		return "skipped";
	case TUNNEL_CONFLICT:
		return "conflict";
	}
	return "?";
}

const char *address_source_name(enum address_source source)
{
	switch (source) {
	case SOURCE_NONE:
		return "none";
	case SOURCE_AUTO_REMOTE:
		return "auto:remote";
	case SOURCE_AUTO_TUNNEL_ADDRESS:
		return "auto:tunnel-address";
	case SOURCE_REMOTE:
		return "remote";
	case SOURCE_TUNNEL_ADDRESS:
		return "tunnel-address";
	case SOURCE_EXPLICIT:
		return "explicit";
	}
	return "?";
}

void tunnels_done(struct tunnels *tunnels)
{
	for (size_t i = 0; i < tunnels->n; i++)
		free(tunnels->list[i].game_server_ips);
	free(tunnels->list);
	*tunnels = (struct tunnels){ 0 };
}

static bool is_tunnel_ifindex(const struct netns_view *view, uint32_t ifindex)
{
	size_t low = 0, high = view->n_links;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (view->links[middle].ifindex < ifindex)
			low = middle + 1;
		else
			high = middle;
	}
	return low < view->n_links && view->links[low].ifindex == ifindex;
}

static int compare_ip4(const void *pa, const void *pb)
{
	return ip4_compare(*(const struct ip4 *)pa, *(const struct ip4 *)pb);
}

struct ip4_set {
	struct ip4 *list; /* sorted */
	size_t n;
};

static void ip4_set_done(struct ip4_set *set)
{
	free(set->list);
}

static bool ip4_set_has(const struct ip4_set *set, struct ip4 a)
{
	return set->n > 0 && bsearch(&a, set->list, set->n, sizeof(a), compare_ip4);
}

/*
 * The public addresses that some interface which is no tunnel holds, in any namespace: those are the
 * host's own (model A'), whatever tunnel device repeats them.
 */
static int collect_host_addresses(const struct snapshot *snapshot, struct ip4_set *ret)
{
	_cleanup_(ip4_set_done) struct ip4_set set = { 0 };

	for (size_t i = 0; i < snapshot->n_netns; i++) {
		const struct netns_view *view = &snapshot->netns[i].view;

		for (size_t j = 0; j < view->n_addresses; j++) {
			const struct netns_address *address = &view->addresses[j];
			struct ip4 *slot;

			if (!ip4_is_public(address->address) ||
				is_tunnel_ifindex(view, address->ifindex))
				continue;
			slot = ARRAY_APPEND(set.list, set.n);
			if (!slot)
				return -ENOMEM;
			*slot = address->address;
			set.n++;
		}
	}
	if (set.n > 0)
		qsort(set.list, set.n, sizeof(*set.list), compare_ip4);
	*ret = set;
	set = (struct ip4_set){ 0 };
	return 0;
}

static enum tunnel_reason reason_to_skip(const struct ipip_link *link)
{
	/* The fallback device is always called so: net/ipv4/ipip.c, ipip_init_net(). */
	if (strcmp(link->name, "tunl0") == 0)
		return REASON_FALLBACK_DEVICE;
	if (link->external)
		return REASON_EXTERNAL;
	if (link->encap_type != 0)
		return REASON_ENCAPSULATION;
	if (link->proto == PROTO_MPLS)
		return REASON_NOT_IPIP;
	if (ip4_is_none(link->remote))
		return REASON_NO_REMOTE;
	if (!ip4_is_claimable(link->remote))
		return REASON_REMOTE_FORBIDDEN;
	return REASON_NONE;
}

size_t tunnel_addresses(const struct tunnel *tunnel, const struct netns_address **ret_first)
{
	const struct netns_view *view = &tunnel->netns->view;
	size_t first = 0, n = 0;

	/* Sorted by ifindex. */
	while (first < view->n_addresses && view->addresses[first].ifindex < tunnel->link->ifindex)
		first++;
	while (first + n < view->n_addresses &&
		view->addresses[first + n].ifindex == tunnel->link->ifindex)
		n++;
	*ret_first = n > 0 ? &view->addresses[first] : NULL;
	return n;
}

static int add_game_server_ip(struct tunnel *tunnel, struct ip4 address)
{
	struct ip4 *slot;

	/* The same address may stand on a device twice, with two prefix lengths. */
	if (tunnel->n_game_server_ips > 0 &&
		ip4_equal(tunnel->game_server_ips[tunnel->n_game_server_ips - 1], address))
		return 0;
	slot = ARRAY_APPEND(tunnel->game_server_ips, tunnel->n_game_server_ips);
	if (!slot)
		return -ENOMEM;
	*slot = address;
	tunnel->n_game_server_ips++;
	return 0;
}

/* `host_addresses`: those to leave out; NULL takes all public addresses of the device. */
static int add_tunnel_addresses(struct tunnel *tunnel, const struct ip4_set *host_addresses)
{
	const struct netns_address *addresses;
	size_t n = tunnel_addresses(tunnel, &addresses);

	for (size_t i = 0; i < n; i++) {
		struct ip4 address = addresses[i].address;
		int r;

		if (!ip4_is_public(address))
			continue;
		if (host_addresses && ip4_set_has(host_addresses, address))
			continue;
		r = add_game_server_ip(tunnel, address);
		if (r < 0)
			return r;
	}
	return 0;
}

static int choose_auto(struct tunnel *tunnel, const struct ip4_set *host_addresses)
{
	int r;

	r = add_tunnel_addresses(tunnel, host_addresses);
	if (r < 0)
		return r;
	if (tunnel->n_game_server_ips > 0) {
		tunnel->address_source = SOURCE_AUTO_TUNNEL_ADDRESS;
		return 0;
	}
	/* A private remote is a POP inside somebody's network, nothing a client ever saw. */
	if (!ip4_is_public(tunnel->link->remote))
		return 0;
	tunnel->address_source = SOURCE_AUTO_REMOTE;
	return add_game_server_ip(tunnel, tunnel->link->remote);
}

static int choose_addresses(struct tunnel *tunnel, const struct ip4_set *host_addresses)
{
	switch (tunnel->policy.address) {
	case ADDRESS_AUTO:
		return choose_auto(tunnel, host_addresses);
	case ADDRESS_REMOTE:
		tunnel->address_source = SOURCE_REMOTE;
		return add_game_server_ip(tunnel, tunnel->link->remote);
	case ADDRESS_TUNNEL_ADDRESS:
		tunnel->address_source = SOURCE_TUNNEL_ADDRESS;
		return add_tunnel_addresses(tunnel, NULL);
	case ADDRESS_EXPLICIT:
		tunnel->address_source = SOURCE_EXPLICIT;
		return add_game_server_ip(tunnel, tunnel->policy.explicit_address);
	}
	return 0;
}

static int tunnel_init(struct tunnel *tunnel, const struct netns *netns,
	const struct ipip_link *link, const struct config *config,
	const struct ip4_set *host_addresses)
{
	int r;

	*tunnel = (struct tunnel){
		.netns = netns,
		.link = link,
		.policy = config_policy(config, netns, link),
		.reason = reason_to_skip(link),
		.rival = SIZE_MAX,
	};
	if (tunnel->reason == REASON_NONE) {
		r = choose_addresses(tunnel, host_addresses);
		if (r < 0)
			return r;
		if (tunnel->n_game_server_ips == 0)
			tunnel->reason = REASON_NO_PUBLIC_ADDRESS;
	}
	if (tunnel->reason != REASON_NONE)
		tunnel->state = TUNNEL_SKIPPED;
	return 0;
}

int tunnels_make(const struct snapshot *snapshot, const struct config *config, struct tunnels *ret)
{
	_cleanup_(ip4_set_done) struct ip4_set host_addresses = { 0 };
	_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };
	int r;

	r = collect_host_addresses(snapshot, &host_addresses);
	if (r < 0)
		return r;
	for (size_t i = 0; i < snapshot->n_netns; i++) {
		const struct netns *netns = &snapshot->netns[i];

		for (size_t j = 0; j < netns->view.n_links; j++) {
			struct tunnel *tunnel = ARRAY_APPEND(tunnels.list, tunnels.n);

			if (!tunnel)
				return -ENOMEM;
			tunnels.n++;
			r = tunnel_init(
				tunnel, netns, &netns->view.links[j], config, &host_addresses);
			if (r < 0)
				return r;
		}
	}
	*ret = tunnels;
	tunnels = (struct tunnels){ 0 };
	return 0;
}

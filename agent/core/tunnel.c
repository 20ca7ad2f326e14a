/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/once_held.h"
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
	[REASON_UNTRUSTED] = { "untrusted",
		"whoever owns its namespace could claim any address, and nobody vouches for him" },
	[REASON_TOO_MANY_NETNS] = { "too-many-namespaces",
		"there are more namespaces than limits.namespaces allows" },
	[REASON_TOO_MANY_TUNNELS] = { "too-many-tunnels",
		"its namespace has more tunnels than limits.tunnels_per_namespace allows" },
	[REASON_TOO_MANY_ADDRESSES] = { "too-many-addresses",
		"its namespace has more addresses than limits.addresses_per_namespace allows" },
	[REASON_ADDRESSES_UNKNOWN] = { "addresses-unknown",
		"an interface that is no tunnel, here or in another namespace, holds a public address "
		"that may be the server's or the host's, or the host's held it before, or has too "
		"many to tell" },
	[REASON_NOT_ALLOWED] = { "not-allowed",
		"allowed_game_server_ips does not have its game server IP" },
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
	for (size_t i = 0; i < tunnels->n; i++) {
		free(tunnels->list[i].game_server_ips);
		free(tunnels->list[i].refused_ips);
	}
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

/* A public one, of an interface that is no tunnel. */
static bool is_public_elsewhere(const struct netns_view *view, const struct netns_address *address)
{
	return ip4_is_public(address->address) && !is_tunnel_ifindex(view, address->ifindex);
}

/* A public address that an interface which is no tunnel holds. */
struct held {
	struct ip4 address;
	uint64_t seq; /* the namespace's */
};

struct held_set {
	struct held *list; /* sorted by address, seq */
	size_t n;
	uint64_t own_seq; /* the agent's namespace's */
	bool incomplete;  /* there may be more in it */
	const struct once_held *once;
};

enum holder {
	HOLDER_NONE,
	HOLDER_HOST,  /* the agent's namespace; or it is what the tunnel sends from */
	HOLDER_OTHER, /* the tunnel's own otherwise, or a third one; or the agent's, before */
};

static int compare_held(const void *pa, const void *pb)
{
	const struct held *a = pa, *b = pb;
	int order = ip4_compare(a->address, b->address);

	return order != 0 ? order : a->seq < b->seq ? -1 : a->seq > b->seq;
}

static int compare_held_address(const void *pa, const void *pb)
{
	const struct held *a = pa, *b = pb;

	return ip4_compare(a->address, b->address);
}

static void held_set_done(struct held_set *set)
{
	free(set->list);
}

static bool held_by(const struct held_set *set, struct ip4 address, uint64_t seq)
{
	const struct held key = { address, seq };

	return set->n > 0 && bsearch(&key, set->list, set->n, sizeof(key), compare_held);
}

static enum holder find_holder(
	const struct held_set *set, struct ip4 address, const struct tunnel *tunnel)
{
	const struct held key = { .address = address };

	/* POPs tunnel to that one, so it is no server's, be it gone from the interface for a moment. */
	if (held_by(set, address, set->own_seq) || ip4_equal(address, tunnel->link->local))
		return HOLDER_HOST;
	if (set->n > 0 && bsearch(&key, set->list, set->n, sizeof(key), compare_held_address))
		return HOLDER_OTHER;
	/* Away from the host's interface for a moment, or for good and given to a server: nobody can tell. */
	return set->once && once_held_has(set->once, address) ? HOLDER_OTHER : HOLDER_NONE;
}

static int add_held(struct held_set *set, const struct netns *netns)
{
	const struct netns_view *view = &netns->view;

	for (size_t i = 0; i < view->n_addresses; i++) {
		const struct netns_address *address = &view->addresses[i];
		struct held *slot;

		if (!is_public_elsewhere(view, address))
			continue;
		slot = ARRAY_APPEND(set->list, set->n);
		if (!slot)
			return -ENOMEM;
		*slot = (struct held){ address->address, netns->seq };
		set->n++;
	}
	return 0;
}

/*
 * The public addresses that some interface which is no tunnel holds. In the agent's namespace those are the
 * host's (model B), whatever tunnel device repeats them, and in the tunnel's own the one that its packets leave
 * from. Another one there may be what the server is bound to (lo, mostly: model C) as well as a second of the host's,
 * and a third namespace has them for a reason, or to have the packets of another's server leave with the address of
 * its POP: nobody can tell. An untrusted one is not even asked. Limits do not count here: an address less would
 * turn model B into model C. Nor does it count whether a number was given back: this only ever adds doubt.
 */
static int collect_held(
	const struct snapshot *snapshot, const struct config *config, struct held_set *ret)
{
	_cleanup_(held_set_done) struct held_set set = { .own_seq = UINT64_MAX };

	for (size_t i = 0; i < snapshot->n_netns; i++) {
		const struct netns *netns = &snapshot->netns[i];
		int r;

		if (!config_trusts(config, netns, NULL))
			continue;
		if (netns->nsid == NSID_OWN) {
			set.own_seq = netns->seq;
			set.incomplete = !netns->has_view || netns->view.truncated;
		}
		r = add_held(&set, netns);
		if (r < 0)
			return r;
	}
	if (set.n > 0)
		qsort(set.list, set.n, sizeof(*set.list), compare_held);
	*ret = set;
	set = (struct held_set){ 0 };
	return 0;
}

int tunnels_note_held(const struct snapshot *snapshot, struct once_held *once_held)
{
	for (size_t i = 0; i < snapshot->n_netns; i++) {
		const struct netns_view *view = &snapshot->netns[i].view;

		if (snapshot->netns[i].nsid != NSID_OWN)
			continue;
		for (size_t j = 0; j < view->n_addresses; j++) {
			int r = 0;

			if (is_public_elsewhere(view, &view->addresses[j]))
				r = once_held_add(once_held, view->addresses[j].address);
			if (r < 0)
				return r;
		}
	}
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

static int add_ip(struct ip4 **list, size_t *n, struct ip4 address)
{
	struct ip4 *slot;

	/* The same address may stand on a device twice, with two prefix lengths. */
	if (*n > 0 && ip4_equal((*list)[*n - 1], address))
		return 0;
	slot = ARRAY_APPEND(*list, *n);
	if (!slot)
		return -ENOMEM;
	*slot = address;
	(*n)++;
	return 0;
}

/* What all the tunnels of a pass are judged by. */
struct court {
	const struct config *config;
	const struct overrides *overrides;
	struct held_set held;
	size_t n_trusted; /* namespaces so far */
};

static int add_game_server_ip(const struct court *court, struct tunnel *tunnel, struct ip4 address)
{
	if (!config_allows(court->config, address))
		return add_ip(&tunnel->refused_ips, &tunnel->n_refused_ips, address);
	return add_ip(&tunnel->game_server_ips, &tunnel->n_game_server_ips, address);
}

static bool has_game_server_ip(const struct tunnel *tunnel)
{
	return tunnel->n_game_server_ips > 0 || tunnel->n_refused_ips > 0;
}

/* `but_host`: leave out those that are the host's own. */
static int add_tunnel_addresses(const struct court *court, struct tunnel *tunnel, bool but_host)
{
	const struct netns_address *addresses;
	size_t n = tunnel_addresses(tunnel, &addresses);

	for (size_t i = 0; i < n; i++) {
		struct ip4 address = addresses[i].address;
		int r;

		if (!ip4_is_public(address))
			continue;
		if (but_host && find_holder(&court->held, address, tunnel) == HOLDER_HOST)
			continue;
		r = add_game_server_ip(court, tunnel, address);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Whether one of its public addresses is the host's, or not, and nobody can tell. */
static bool has_doubtful_address(const struct court *court, const struct tunnel *tunnel)
{
	const struct netns_address *addresses;
	size_t n = tunnel_addresses(tunnel, &addresses);

	for (size_t i = 0; i < n; i++) {
		struct ip4 address = addresses[i].address;
		enum holder holder = find_holder(&court->held, address, tunnel);

		if (ip4_is_public(address) &&
			(holder == HOLDER_OTHER ||
				(holder == HOLDER_NONE && court->held.incomplete)))
			return true;
	}
	return false;
}

/*
 * Whether a server that the tunnel's device has no public address for may be bound to one of another interface. The
 * agent's namespace has the host's there.
 */
static bool has_address_elsewhere(const struct court *court, const struct tunnel *tunnel)
{
	const struct netns_view *view = &tunnel->netns->view;

	if (tunnel->netns->seq == court->held.own_seq)
		return false;
	for (size_t i = 0; i < view->n_addresses; i++) {
		const struct netns_address *address = &view->addresses[i];

		if (is_public_elsewhere(view, address) &&
			!ip4_equal(address->address, tunnel->link->local))
			return true;
	}
	return false;
}

static int choose_auto(const struct court *court, struct tunnel *tunnel)
{
	int r;

	if (has_doubtful_address(court, tunnel)) {
		tunnel->reason = REASON_ADDRESSES_UNKNOWN;
		return 0;
	}
	r = add_tunnel_addresses(court, tunnel, true);
	if (r < 0)
		return r;
	if (has_game_server_ip(tunnel)) {
		tunnel->address_source = SOURCE_AUTO_TUNNEL_ADDRESS;
		return 0;
	}
	/* A private remote is a POP inside somebody's network, nothing a client ever saw. */
	if (!ip4_is_public(tunnel->link->remote))
		return 0;
	if (has_address_elsewhere(court, tunnel)) {
		tunnel->reason = REASON_ADDRESSES_UNKNOWN;
		return 0;
	}
	tunnel->address_source = SOURCE_AUTO_REMOTE;
	return add_game_server_ip(court, tunnel, tunnel->link->remote);
}

static int choose_addresses(const struct court *court, struct tunnel *tunnel)
{
	switch (tunnel->policy.address) {
	case ADDRESS_AUTO:
		return choose_auto(court, tunnel);
	case ADDRESS_REMOTE:
		tunnel->address_source = SOURCE_REMOTE;
		return add_game_server_ip(court, tunnel, tunnel->link->remote);
	case ADDRESS_TUNNEL_ADDRESS:
		tunnel->address_source = SOURCE_TUNNEL_ADDRESS;
		return add_tunnel_addresses(court, tunnel, false);
	case ADDRESS_EXPLICIT:
		tunnel->address_source = SOURCE_EXPLICIT;
		return add_game_server_ip(court, tunnel, tunnel->policy.explicit_address);
	}
	return 0;
}

bool tunnel_is_idle(const struct tunnel *tunnel)
{
	switch (tunnel->reason) {
	case REASON_UNTRUSTED:
	case REASON_TOO_MANY_NETNS:
	case REASON_TOO_MANY_TUNNELS:
	case REASON_TOO_MANY_ADDRESSES:
		return reason_to_skip(tunnel->link) == REASON_NONE;
	default:
		return false;
	}
}

static enum tunnel_reason view_reason(
	const struct netns_view *view, const struct config_limits *limits)
{
	if (view->n_links > limits->tunnels_per_namespace ||
		(view->truncated && view->n_links == NETNS_LINKS_MAX))
		return REASON_TOO_MANY_TUNNELS;
	if (view->n_addresses > limits->addresses_per_namespace || view->truncated)
		return REASON_TOO_MANY_ADDRESSES;
	return REASON_NONE;
}

bool tunnels_view_counts(const struct netns_view *view, const struct config *config)
{
	return view_reason(view, &config->limits) == REASON_NONE;
}

/* Why nothing in a trusted namespace counts. */
static enum tunnel_reason netns_reason(const struct court *court, const struct netns *netns)
{
	const struct config_limits *limits = &court->config->limits;

	if (court->n_trusted >= limits->namespaces)
		return REASON_TOO_MANY_NETNS;
	return view_reason(&netns->view, limits);
}

static int judge(const struct court *court, struct tunnel *tunnel)
{
	int r;

	tunnel->reason = reason_to_skip(tunnel->link);
	if (tunnel->reason != REASON_NONE)
		return 0;
	r = choose_addresses(court, tunnel);
	if (r < 0 || tunnel->reason != REASON_NONE)
		return r;
	if (!has_game_server_ip(tunnel))
		tunnel->reason = REASON_NO_PUBLIC_ADDRESS;
	else if (tunnel->n_game_server_ips == 0)
		tunnel->reason = REASON_NOT_ALLOWED;
	return 0;
}

/* The configuration, and then what an operator said since. */
static struct policy choose_policy(
	const struct court *court, const struct netns *netns, const struct ipip_link *link)
{
	const struct mode_override *override = overrides_find(court->overrides, netns, link);
	struct policy policy = config_policy(court->config, netns, link);

	if (override) {
		policy.mode = override->mode;
		policy.mode_source = MODE_SOURCE_OVERRIDE;
	}
	return policy;
}

/* `reason`: why nothing in its namespace counts. */
static int add_tunnel(const struct court *court, struct tunnels *tunnels, const struct netns *netns,
	const struct ipip_link *link, enum tunnel_reason reason)
{
	bool trusted = config_trusts(court->config, netns, link);
	struct tunnel *tunnel;
	int r;

	/* What would be no tunnel anywhere is none here: every namespace has a tunl0. */
	if (!trusted)
		reason = reason_to_skip(link) ?: REASON_UNTRUSTED;
	if (reason != REASON_NONE && tunnels->n_idle >= TUNNELS_IDLE_MAX) {
		tunnels->n_unlisted++;
		tunnels->unlisted_send |= reason_to_skip(link) == REASON_NONE;
		return 0;
	}
	tunnel = ARRAY_APPEND(tunnels->list, tunnels->n);
	if (!tunnel)
		return -ENOMEM;
	tunnels->n++;
	tunnels->n_idle += reason != REASON_NONE;
	*tunnel = (struct tunnel){
		.netns = netns,
		.link = link,
		.policy = choose_policy(court, netns, link),
		.reason = reason,
		.rival = SIZE_MAX,
	};
	if (reason == REASON_NONE) {
		r = judge(court, tunnel);
		if (r < 0)
			return r;
	}
	if (tunnel->reason != REASON_NONE)
		tunnel->state = TUNNEL_SKIPPED;
	return 0;
}

static int add_netns(struct court *court, struct tunnels *tunnels, const struct netns *netns)
{
	enum tunnel_reason reason = netns_reason(court, netns);
	const struct netns_view *view = &netns->view;
	int r;

	for (size_t i = 0; i < view->n_links; i++) {
		r = add_tunnel(court, tunnels, netns, &view->links[i], reason);
		if (r < 0)
			return r;
	}
	court->n_trusted += config_trusts(court->config, netns, NULL);
	return 0;
}

int tunnels_make(const struct snapshot *snapshot, const struct config *config,
	const struct overrides *overrides, const struct once_held *once_held, struct tunnels *ret)
{
	struct court court = { .config = config, .overrides = overrides };
	_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };
	int r;

	r = collect_held(snapshot, config, &court.held);
	court.held.once = once_held;
	if (once_held && once_held->overflows)
		court.held.incomplete = true;
	for (size_t i = 0; r == 0 && i < snapshot->n_netns; i++)
		if (!snapshot->netns[i].is_renewed)
			r = add_netns(&court, &tunnels, &snapshot->netns[i]);
	held_set_done(&court.held);
	if (r < 0)
		return r;
	*ret = tunnels;
	tunnels = (struct tunnels){ 0 };
	return 0;
}

bool tunnels_are_known(const struct snapshot *snapshot, const struct config *config)
{
	for (size_t i = 0; i < snapshot->n_netns; i++) {
		const struct netns *netns = &snapshot->netns[i];

		if ((!netns->has_view || netns->is_renewed) && config_may_trust(config, netns))
			return false;
		if (snapshot->is_doubtful && netns->nsid != NSID_OWN)
			return false;
	}
	return snapshot->complete;
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/desired.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

/*
 * A claim: packets of this tunnel with this inner source leave with that game server IP. A tunnel makes
 * one for each pair that its policy and its addresses give.
 */
struct claim {
	size_t tunnel;
	struct ip4 remote;
	struct ip4 inner_source; /* none: the device has no address, any inner source is meant */
	struct ip4 game_server_ip;
	enum tunnel_reason refused;
	size_t rival;
};

struct claims {
	struct claim *list;
	size_t n;
};

static void claims_done(struct claims *claims)
{
	free(claims->list);
}

int row_compare(const struct row *a, const struct row *b)
{
	int c;

	if (a->map != b->map)
		return a->map < b->map ? -1 : 1;
	c = ip4_compare(a->remote, b->remote);
	return c ? c : ip4_compare(a->inner_source, b->inner_source);
}

bool row_contents_equal(const struct row *a, const struct row *b)
{
	return a->entry.game_server_ip == b->entry.game_server_ip &&
	       a->entry.flags == b->entry.flags && a->entry.mode == b->entry.mode &&
	       memcmp(&a->server_ports, &b->server_ports, sizeof(a->server_ports)) == 0;
}

static int compare_rows(const void *pa, const void *pb)
{
	return row_compare(pa, pb);
}

void rows_sort(struct rows *rows)
{
	if (rows->n > 0)
		qsort(rows->list, rows->n, sizeof(*rows->list), compare_rows);
}

void rows_done(struct rows *rows)
{
	free(rows->list);
	*rows = (struct rows){ 0 };
}

static int add_claim(struct claims *claims, const struct tunnels *tunnels, size_t tunnel,
	struct ip4 inner, struct ip4 ip)
{
	struct claim *claim = ARRAY_APPEND(claims->list, claims->n);

	if (!claim)
		return -ENOMEM;
	claims->n++;
	*claim = (struct claim){
		.tunnel = tunnel,
		.remote = tunnels->list[tunnel].link->remote,
		.inner_source = inner,
		.game_server_ip = ip,
		.rival = SIZE_MAX,
	};
	return 0;
}

/* A tunnel known by its own addresses answers with each of them; otherwise all leave as the one. */
static int claim_tunnel(struct claims *claims, const struct tunnels *tunnels, size_t index)
{
	const struct tunnel *tunnel = &tunnels->list[index];
	bool by_address = tunnel->address_source == SOURCE_TUNNEL_ADDRESS ||
			  tunnel->address_source == SOURCE_AUTO_TUNNEL_ADDRESS;
	const struct netns_address *addresses;
	size_t n = tunnel_addresses(tunnel, &addresses);
	int r;

	if (by_address) {
		for (size_t i = 0; i < tunnel->n_game_server_ips; i++) {
			struct ip4 ip = tunnel->game_server_ips[i];

			r = add_claim(claims, tunnels, index, ip, ip);
			if (r < 0)
				return r;
		}
		return 0;
	}
	for (size_t i = 0; i < n; i++) {
		if (i > 0 && ip4_equal(addresses[i].address, addresses[i - 1].address))
			continue;
		r = add_claim(
			claims, tunnels, index, addresses[i].address, tunnel->game_server_ips[0]);
		if (r < 0)
			return r;
	}
	return n > 0 ? 0
		     : add_claim(claims, tunnels, index, (struct ip4){ 0 },
			       tunnel->game_server_ips[0]);
}

/* The tunnels' indices are in order of age, so an older claim always has the smaller index. */
static int compare_claims_by_ip(const void *pa, const void *pb)
{
	const struct claim *a = pa, *b = pb;
	int c = ip4_compare(a->game_server_ip, b->game_server_ip);

	if (c)
		return c;
	if (a->tunnel != b->tunnel)
		return a->tunnel < b->tunnel ? -1 : 1;
	return ip4_compare(a->inner_source, b->inner_source);
}

static int compare_claims_by_key(const void *pa, const void *pb)
{
	const struct claim *a = pa, *b = pb;
	int c = ip4_compare(a->remote, b->remote);

	if (c)
		return c;
	c = ip4_compare(a->inner_source, b->inner_source);
	if (c)
		return c;
	return a->tunnel < b->tunnel ? -1 : a->tunnel > b->tunnel;
}

static void refuse(struct claim *claim, enum tunnel_reason reason, size_t rival)
{
	if (claim->refused != REASON_NONE)
		return;
	claim->refused = reason;
	claim->rival = rival;
}

/* One public address belongs to one namespace: the oldest that claims it. */
static void refuse_claimed_addresses(struct claims *claims, const struct tunnels *tunnels)
{
	const struct claim *oldest = NULL;

	qsort(claims->list, claims->n, sizeof(*claims->list), compare_claims_by_ip);
	for (size_t i = 0; i < claims->n; i++) {
		struct claim *claim = &claims->list[i];

		if (!oldest || !ip4_equal(oldest->game_server_ip, claim->game_server_ip))
			oldest = claim;
		else if (tunnels->list[oldest->tunnel].netns != tunnels->list[claim->tunnel].netns)
			refuse(claim, REASON_ADDRESS_CLAIMED, oldest->tunnel);
	}
}

/* Whether the remote alone decides: every packet to it gets the same treatment. */
static bool group_is_plain(const struct claim *group, size_t n, const struct tunnels *tunnels)
{
	for (size_t i = 0; i < n; i++) {
		if (group[i].refused != REASON_NONE ||
			!ip4_equal(group[i].game_server_ip, group[0].game_server_ip) ||
			!policy_equal(&tunnels->list[group[i].tunnel].policy,
				&tunnels->list[group[0].tunnel].policy))
			return false;
	}
	return true;
}

/* Whether `a` and `b`, same remote and inner source, ask for different things. */
static bool claims_differ(
	const struct claim *a, const struct claim *b, const struct tunnels *tunnels)
{
	return a->refused != REASON_NONE || b->refused != REASON_NONE ||
	       !ip4_equal(a->game_server_ip, b->game_server_ip) ||
	       !policy_equal(&tunnels->list[a->tunnel].policy, &tunnels->list[b->tunnel].policy);
}

/*
 * Below a shared remote the inner source decides. Claims that cannot be told apart even so are all
 * refused: nobody knows whose packet it is.
 */
static void refuse_ambiguous(struct claim *group, size_t n, const struct tunnels *tunnels)
{
	for (size_t i = 0; i < n; i++)
		if (ip4_is_none(group[i].inner_source))
			refuse(&group[i], REASON_NO_INNER_SOURCE, group[i == 0 ? n - 1 : 0].tunnel);
	for (size_t i = 0, next; i < n; i = next) {
		bool differ = false;

		for (next = i + 1;
			next < n && ip4_equal(group[next].inner_source, group[i].inner_source);
			next++)
			differ = differ || claims_differ(&group[i], &group[next], tunnels);
		for (size_t j = i; differ && j < next; j++)
			refuse(&group[j], REASON_AMBIGUOUS, group[j == i ? i + 1 : i].tunnel);
	}
}

static int add_row(struct rows *rows, enum row_map map, const struct claim *claim,
	const struct tunnels *tunnels)
{
	const struct policy *policy = &tunnels->list[claim->tunnel].policy;
	struct row *row = ARRAY_APPEND(rows->list, rows->n);

	if (!row)
		return -ENOMEM;
	rows->n++;
	row->map = map;
	row->remote = claim->remote;
	if (map == ROW_SOURCES)
		row->inner_source = claim->inner_source;
	row->tunnel = claim->tunnel;
	row->entry.game_server_ip = claim->game_server_ip.be;
	row->entry.mode = (uint8_t)policy->mode;
	row->entry.flags = policy->flags;
	row->server_ports = policy->server_ports;
	return 0;
}

static int add_shared_rows(
	struct rows *rows, const struct claim *group, size_t n, const struct tunnels *tunnels)
{
	struct row *shared;
	int r;

	for (size_t i = 0; i < n; i++) {
		/* Equal claims stand side by side, and one row serves them. */
		if (group[i].refused != REASON_NONE ||
			(i > 0 && ip4_equal(group[i].inner_source, group[i - 1].inner_source)))
			continue;
		r = add_row(rows, ROW_SOURCES, &group[i], tunnels);
		if (r < 0)
			return r;
	}
	/* Without rows below it this one still keeps the packets of all on the tunnel. */
	shared = ARRAY_APPEND(rows->list, rows->n);
	if (!shared)
		return -ENOMEM;
	rows->n++;
	shared->map = ROW_REMOTES;
	shared->remote = group[0].remote;
	shared->tunnel = SIZE_MAX;
	shared->entry.flags = MAPS_FLAG_SHARED;
	return 0;
}

static int add_group(
	struct rows *rows, struct claim *group, size_t n, const struct tunnels *tunnels)
{
	if (group_is_plain(group, n, tunnels))
		return add_row(rows, ROW_REMOTES, &group[0], tunnels);
	refuse_ambiguous(group, n, tunnels);
	return add_shared_rows(rows, group, n, tunnels);
}

/* One refused claim makes the tunnel a conflict, though its other claims keep their rows. */
static void mark_conflicts(const struct claims *claims, struct tunnels *tunnels)
{
	for (size_t i = 0; i < claims->n; i++) {
		const struct claim *claim = &claims->list[i];
		struct tunnel *tunnel = &tunnels->list[claim->tunnel];

		if (claim->refused == REASON_NONE || tunnel->state == TUNNEL_CONFLICT)
			continue;
		tunnel->state = TUNNEL_CONFLICT;
		tunnel->reason = claim->refused;
		tunnel->rival = claim->rival == claim->tunnel ? SIZE_MAX : claim->rival;
	}
}

int desired_make(struct tunnels *tunnels, struct rows *ret)
{
	_cleanup_(claims_done) struct claims claims = { 0 };
	_cleanup_(rows_done) struct rows rows = { 0 };
	int r;

	for (size_t i = 0; i < tunnels->n; i++) {
		if (tunnels->list[i].state != TUNNEL_MAPPED)
			continue;
		r = claim_tunnel(&claims, tunnels, i);
		if (r < 0)
			return r;
	}
	if (claims.n > 0) {
		refuse_claimed_addresses(&claims, tunnels);
		qsort(claims.list, claims.n, sizeof(*claims.list), compare_claims_by_key);
	}
	for (size_t i = 0, next; i < claims.n; i = next) {
		for (next = i + 1; next < claims.n &&
				   ip4_equal(claims.list[next].remote, claims.list[i].remote);
			next++)
			;
		r = add_group(&rows, &claims.list[i], next - i, tunnels);
		if (r < 0)
			return r;
	}
	mark_conflicts(&claims, tunnels);
	rows_sort(&rows);
	*ret = rows;
	rows = (struct rows){ 0 };
	return 0;
}

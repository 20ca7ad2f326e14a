/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/desired.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

/*
 * A claim: packets of this tunnel with this inner source leave with that game server IP. A tunnel makes
 * one for each pair that its policy and its addresses give. One that was refused still says that such
 * packets are not those of another tunnel.
 */
struct claim {
	size_t tunnel;
	struct ip4 remote;
	struct ip4 inner_source;   /* none: the device has no address, any inner source is meant */
	struct ip4 game_server_ip; /* none: of a tunnel that was skipped */
	enum tunnel_reason refused;
	size_t rival;
	bool held; /* there is a row that says so: it is older than any that has none */
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

bool row_serves(const struct row *row, struct ip4 inner_source)
{
	if (inner_source.be == row->entry.game_server_ip)
		return true;
	if (row->entry.flags & MAPS_FLAG_OWN_SOURCE)
		return false;
	return !(row->entry.flags & MAPS_FLAG_PRIVATE_SOURCE) || ip4_is_none(inner_source) ||
	       ip4_is_private(inner_source);
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

const struct row *rows_find(const struct rows *rows, const struct row *key)
{
	return rows->n > 0 ? bsearch(key, rows->list, rows->n, sizeof(*rows->list), compare_rows)
			   : NULL;
}

void rows_done(struct rows *rows)
{
	free(rows->list);
	*rows = (struct rows){ 0 };
}

/*
 * The remotes of tunnels that contribute nothing, as nobody vouches for them or they are beyond a limit.
 * Their packets are IPIP all the same.
 */
struct others {
	struct ip4 *list; /* sorted */
	size_t n;
	bool anybody; /* there are more than are listed */
};

static void others_done(struct others *others)
{
	free(others->list);
}

static int compare_addresses(const void *pa, const void *pb)
{
	return ip4_compare(*(const struct ip4 *)pa, *(const struct ip4 *)pb);
}

static int others_find(const struct tunnels *tunnels, struct others *ret)
{
	_cleanup_(others_done) struct others others = { .anybody = tunnels->unlisted_send };

	for (size_t i = 0; i < tunnels->n; i++) {
		const struct tunnel *tunnel = &tunnels->list[i];
		struct ip4 *slot;

		if (!tunnel_is_idle(tunnel))
			continue;
		slot = ARRAY_APPEND(others.list, others.n);
		if (!slot)
			return -ENOMEM;
		*slot = tunnel->link->remote;
		others.n++;
	}
	if (others.n > 0)
		qsort(others.list, others.n, sizeof(*others.list), compare_addresses);
	*ret = others;
	others = (struct others){ 0 };
	return 0;
}

static bool others_have(const struct others *others, struct ip4 remote)
{
	return others->anybody || (others->n > 0 && bsearch(&remote, others->list, others->n,
							    sizeof(remote), compare_addresses));
}

static int add_claim(struct claims *claims, const struct tunnels *tunnels, size_t tunnel,
	struct ip4 inner, struct ip4 ip, enum tunnel_reason refused)
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
		.refused = refused,
		.rival = SIZE_MAX,
	};
	return 0;
}

/* Each address answers for itself. */
static int claim_each(struct claims *claims, const struct tunnels *tunnels, size_t index,
	const struct ip4 *ips, size_t n, enum tunnel_reason refused)
{
	for (size_t i = 0; i < n; i++) {
		int r = add_claim(claims, tunnels, index, ips[i], ips[i], refused);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Whatever its inner source, a packet of the tunnel leaves with one address. */
static int claim_one(struct claims *claims, const struct tunnels *tunnels, size_t index,
	struct ip4 ip, enum tunnel_reason refused)
{
	const struct netns_address *addresses;
	size_t n = tunnel_addresses(&tunnels->list[index], &addresses);

	for (size_t i = 0; i < n; i++) {
		int r;

		if (i > 0 && ip4_equal(addresses[i].address, addresses[i - 1].address))
			continue;
		r = add_claim(claims, tunnels, index, addresses[i].address, ip, refused);
		if (r < 0)
			return r;
	}
	return n > 0 ? 0 : add_claim(claims, tunnels, index, (struct ip4){ 0 }, ip, refused);
}

/* Whether its packets are IPIP to its remote, though it gets no entry. */
static bool is_mute(const struct tunnel *tunnel)
{
	return tunnel->reason == REASON_NO_PUBLIC_ADDRESS || tunnel->reason == REASON_NOT_ALLOWED ||
	       tunnel->reason == REASON_ADDRESSES_UNKNOWN;
}

static int claim_tunnel(struct claims *claims, const struct tunnels *tunnels, size_t index)
{
	const struct tunnel *tunnel = &tunnels->list[index];
	int r;

	if (tunnel->state == TUNNEL_SKIPPED)
		return is_mute(tunnel) ? claim_one(claims, tunnels, index, (struct ip4){ 0 },
						 tunnel->reason)
				       : 0;
	if (tunnel->address_source != SOURCE_TUNNEL_ADDRESS &&
		tunnel->address_source != SOURCE_AUTO_TUNNEL_ADDRESS)
		return claim_one(claims, tunnels, index, tunnel->game_server_ips[0], REASON_NONE);
	r = claim_each(claims, tunnels, index, tunnel->game_server_ips, tunnel->n_game_server_ips,
		REASON_NONE);
	if (r < 0)
		return r;
	return claim_each(claims, tunnels, index, tunnel->refused_ips, tunnel->n_refused_ips,
		REASON_NOT_ALLOWED);
}

static const struct row *find_row(
	const struct rows *rows, enum row_map map, struct ip4 remote, struct ip4 inner_source)
{
	struct row key = { .map = map, .remote = remote, .inner_source = inner_source };

	return rows_find(rows, &key);
}

/* Whether the row makes the claim true already. */
static bool is_held(const struct claim *claim, const struct rows *rows)
{
	const struct row *row = find_row(rows, ROW_REMOTES, claim->remote, (struct ip4){ 0 });

	if (row && (row->entry.flags & MAPS_FLAG_SHARED))
		row = find_row(rows, ROW_SOURCES, claim->remote, claim->inner_source);
	else if (row && !row_serves(row, claim->inner_source))
		return false;
	return row && row->entry.game_server_ip == claim->game_server_ip.be;
}

/*
 * The older claim first: one that has its row, then that of the older namespace, whose tunnels have the
 * smaller indices.
 */
static int compare_claims_by_ip(const void *pa, const void *pb)
{
	const struct claim *a = pa, *b = pb;
	int c = ip4_compare(a->game_server_ip, b->game_server_ip);

	if (c)
		return c;
	if (a->held != b->held)
		return a->held ? -1 : 1;
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

/* One public address belongs to one namespace: that with the oldest claim. Sorted by IP. */
static void refuse_claimed_addresses(struct claims *claims, const struct tunnels *tunnels)
{
	const struct claim *oldest = NULL;

	for (size_t i = 0; i < claims->n; i++) {
		struct claim *claim = &claims->list[i];

		if (claim->refused != REASON_NONE)
			continue;
		if (!oldest || !ip4_equal(oldest->game_server_ip, claim->game_server_ip))
			oldest = claim;
		else if (tunnels->list[oldest->tunnel].netns != tunnels->list[claim->tunnel].netns)
			refuse(claim, REASON_ADDRESS_CLAIMED, oldest->tunnel);
	}
}

/* Whether a claim is for the packets that the row is for. Sorted by key. */
static bool is_claimed(const struct row *row, const struct claims *claims)
{
	size_t low = 0, high = claims->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct claim *claim = &claims->list[middle];
		int c = ip4_compare(claim->remote, row->remote);

		if (c == 0 && row->map == ROW_SOURCES)
			c = ip4_compare(claim->inner_source, row->inner_source);
		if (c == 0)
			return true;
		if (c < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

/*
 * A row that nobody known asks for may be that of a namespace nobody has read yet. Until that is known
 * its game server IP is his, and nobody else gets a row for it. Sorted by key.
 */
static int refuse_held_by_unknown(struct claims *claims, const struct rows *rows)
{
	_cleanup_free_ struct row *orphans = calloc(rows->n + 1, sizeof(*orphans));
	size_t n = 0;

	if (!orphans)
		return -ENOMEM;
	for (size_t i = 0; i < rows->n; i++) {
		const struct row *row = &rows->list[i];

		if (!(row->entry.flags & MAPS_FLAG_SHARED) && !is_claimed(row, claims))
			orphans[n++].remote.be = row->entry.game_server_ip;
	}
	qsort(orphans, n, sizeof(*orphans), compare_rows);
	for (size_t i = 0; i < claims->n && n > 0; i++) {
		struct claim *claim = &claims->list[i];
		struct row key = { .remote = claim->game_server_ip };

		if (!claim->held && bsearch(&key, orphans, n, sizeof(key), compare_rows))
			refuse(claim, REASON_ADDRESS_CLAIMED, SIZE_MAX);
	}
	return 0;
}

/*
 * Whether nobody wants an entry: then the tunnel has these packets anyway, once the row that the remote may
 * have is gone. As long as not all is known it stays, unless it is known to be wrong.
 */
static bool needs_no_row(const struct claim *group, size_t n, const struct present *present)
{
	bool refused = false;

	for (size_t i = 0; i < n; i++) {
		if (!ip4_is_none(group[i].game_server_ip))
			return false;
		refused = refused || group[i].refused != REASON_ADDRESSES_UNKNOWN;
	}
	return present->complete || !refused ||
	       !find_row(present->rows, ROW_REMOTES, group[0].remote, (struct ip4){ 0 });
}

/* Whether all of a group want the same, and no other tunnel is known to speak against it. */
static bool group_agrees(const struct claim *group, size_t n, const struct tunnels *tunnels)
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

static bool have_inner_sources(const struct claim *group, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (ip4_is_none(group[i].inner_source))
			return false;
	return true;
}

/*
 * Whether the game server IP is the source of the group's packets already, as in model C. Then a row of the remote can
 * leave all others to the tunnel, also those of tunnels that nobody here can see: of a virtual machine, say.
 */
static bool is_of_own_source(const struct claim *group, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!ip4_equal(group[i].inner_source, group[i].game_server_ip))
			return false;
	return !ip4_equal(group[0].remote, group[0].game_server_ip);
}

/*
 * Whether the remote's address was taken for the group's as none of its own is public. One may be on its way to the
 * device, or come back, while servers send from it already; a POP's address is not what their packets are to leave with.
 */
static bool is_of_private_source(const struct claim *group, size_t n, const struct tunnels *tunnels)
{
	for (size_t i = 0; i < n; i++)
		if (tunnels->list[group[i].tunnel].address_source != SOURCE_AUTO_REMOTE ||
			!(ip4_is_none(group[i].inner_source) ||
				ip4_is_private(group[i].inner_source)))
			return false;
	return true;
}

/*
 * Whether a row of the remote is enough: every packet to it gets the same treatment, or it is of its own source. Not
 * where somebody else has a tunnel to it, or may have one, and the group's packets can be told from his by their
 * inner source: his stay on the tunnel then. Where the remote is the game server IP, what is sent to it is the group's.
 */
static bool remote_decides(const struct claim *group, size_t n, const struct tunnels *tunnels,
	const struct others *others, const struct present *present)
{
	struct ip4 remote = group[0].remote, ip = group[0].game_server_ip;
	const struct row *row = find_row(present->rows, ROW_REMOTES, remote, (struct ip4){ 0 });
	bool own = is_of_own_source(group, n);
	bool held = row && !(row->entry.flags & MAPS_FLAG_SHARED) &&
		    (own || !(row->entry.flags & MAPS_FLAG_OWN_SOURCE)) &&
		    row->entry.game_server_ip == ip.be;

	if (!group_agrees(group, n, tunnels) || (!present->complete && row && !held))
		return false;
	if (ip4_equal(ip, remote) || own || !have_inner_sources(group, n))
		return true;
	return !others_have(others, remote) && (present->complete || held);
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

static int add_remote_row(
	struct rows *rows, const struct claim *group, size_t n, const struct tunnels *tunnels)
{
	int r = add_row(rows, ROW_REMOTES, &group[0], tunnels);

	if (r < 0)
		return r;
	if (is_of_own_source(group, n))
		rows->list[rows->n - 1].entry.flags |= MAPS_FLAG_OWN_SOURCE;
	else if (is_of_private_source(group, n, tunnels))
		rows->list[rows->n - 1].entry.flags |= MAPS_FLAG_PRIVATE_SOURCE;
	return 0;
}

static int add_group(struct rows *rows, struct claim *group, size_t n,
	const struct tunnels *tunnels, const struct others *others, const struct present *present)
{
	if (needs_no_row(group, n, present))
		return 0;
	if (remote_decides(group, n, tunnels, others, present))
		return add_remote_row(rows, group, n, tunnels);
	refuse_ambiguous(group, n, tunnels);
	return add_shared_rows(rows, group, n, tunnels);
}

/* One refused claim makes the tunnel a conflict, though its other claims keep their rows. */
static void mark_conflicts(const struct claims *claims, struct tunnels *tunnels)
{
	for (size_t i = 0; i < claims->n; i++) {
		const struct claim *claim = &claims->list[i];
		struct tunnel *tunnel = &tunnels->list[claim->tunnel];

		if (claim->refused == REASON_NONE || tunnel->state != TUNNEL_MAPPED)
			continue;
		tunnel->state = TUNNEL_CONFLICT;
		tunnel->reason = claim->refused;
		tunnel->rival = claim->rival == claim->tunnel ? SIZE_MAX : claim->rival;
	}
}

static int make_claims(
	const struct tunnels *tunnels, const struct present *present, struct claims *claims)
{
	int r;

	for (size_t i = 0; i < tunnels->n; i++) {
		r = claim_tunnel(claims, tunnels, i);
		if (r < 0)
			return r;
	}
	if (claims->n == 0)
		return 0;
	for (size_t i = 0; i < claims->n; i++)
		claims->list[i].held = is_held(&claims->list[i], present->rows);
	qsort(claims->list, claims->n, sizeof(*claims->list), compare_claims_by_ip);
	refuse_claimed_addresses(claims, tunnels);
	qsort(claims->list, claims->n, sizeof(*claims->list), compare_claims_by_key);
	return present->complete ? 0 : refuse_held_by_unknown(claims, present->rows);
}

int desired_make(struct tunnels *tunnels, const struct present *present, struct rows *ret)
{
	_cleanup_(claims_done) struct claims claims = { 0 };
	_cleanup_(others_done) struct others others = { 0 };
	_cleanup_(rows_done) struct rows rows = { 0 };
	int r;

	r = make_claims(tunnels, present, &claims);
	if (r == 0)
		r = others_find(tunnels, &others);
	if (r < 0)
		return r;
	for (size_t i = 0, next; i < claims.n; i = next) {
		for (next = i + 1; next < claims.n &&
				   ip4_equal(claims.list[next].remote, claims.list[i].remote);
			next++)
			;
		r = add_group(&rows, &claims.list[i], next - i, tunnels, &others, present);
		if (r < 0)
			return r;
	}
	mark_conflicts(&claims, tunnels);
	rows_sort(&rows);
	*ret = rows;
	rows = (struct rows){ 0 };
	return 0;
}

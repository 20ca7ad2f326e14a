/* SPDX-License-Identifier: MIT */
/*
 * Two worlds, one after the other, from a small space of addresses so that they often collide: tunnels →
 * desired → plan → a model of the maps. What must hold whatever they are:
 *
 *   - the same world listed in another order gives the same plan
 *   - after each write a packet gets what it got, what it will get, or the tunnel
 *   - what was applied needs nothing more; the next passes come to rest, for who loses his row to an
 *     ambiguity leaves its address to others a pass later, and nobody's claim flaps
 *   - as long as a trusted namespace is unread, packets to remotes that nobody known has get what they got, and so
 *     do those of inner sources that nobody known has, below a shared one
 *   - a map that is too small is never filled beyond its size; who finds no room takes the tunnel, and it is nobody who was in,
 *     with an address of his own or a row of `sources`
 */

#include "agent/core/plan.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tests/fuzz/fuzz.h"
#include "tests/maps_model.h"

#define NETNS_COUNT 10
#define PASSES_MAX 2 /* that a world which stands still may take to come to rest */
#define ROWS_MAX 1024
#define ROWS_TIGHT 3

#define IP4(a, b, c, d)                                                                            \
	{                                                                                          \
		__builtin_bswap32((uint32_t)a << 24 | b << 16 | c << 8 | d)                        \
	}

static const struct ip4 remotes[] = { IP4(192, 0, 2, 1), IP4(192, 0, 2, 2), IP4(203, 0, 113, 1),
	IP4(203, 0, 113, 2), IP4(0, 0, 0, 0), IP4(224, 0, 0, 1), IP4(10, 0, 0, 9),
	IP4(192, 0, 2, 3) };
static const struct ip4 addresses[] = { IP4(203, 0, 113, 1), IP4(203, 0, 113, 2),
	IP4(203, 0, 113, 3), IP4(203, 0, 113, 4), IP4(10, 0, 0, 1), IP4(10, 0, 0, 2),
	IP4(10, 0, 0, 3), IP4(127, 0, 0, 1) };
static const char *const configs[] = {
	"{}",
	"{\"game_server_ip\":\"remote\"}",
	"{\"game_server_ip\":\"tunnel-address\",\"mode\":\"shadow\",\"server_ports\":[27016]}",
	"{\"allowed_game_server_ips\":[\"203.0.113.0/31\"]}",
	"{\"rules\":[{\"match\":{\"netns\":\"g[0-3]\"},\"set\":{\"mode\":\"tunnel\"}}]}",
	"{\"rules\":[{\"match\":{\"remote\":\"192.0.2.1\"},\"set\":{\"game_server_ip\":\"203.0.113.4\"}}]}",
	"{\"rules\":[{\"match\":{\"netns\":\"g*\"},\"set\":{\"trust\":true}}]}",
	"{\"limits\":{\"namespaces\":2,\"tunnels_per_namespace\":1}}",
	"{\"server_ports\":[27015],\"exempt\":[\"a2s-info\"]}",
};

static void take_config(struct input *input, struct config *ret)
{
	const char *text = configs[take_byte(input) % ELEMENTS_OF(configs)];
	char line[CONFIG_ERROR_MAX];
	struct config_error error;

	if (config_parse(text, strlen(text), ret, &error) < 0) {
		(void)fprintf(stderr, "%s\n", config_error_format(&error, line));
		abort();
	}
}

static void take_addresses(struct input *input, struct netns *netns, uint32_t ifindex)
{
	uint8_t set = take_byte(input);

	for (size_t i = 0; i < ELEMENTS_OF(addresses); i++) {
		struct netns_address *slot;

		if (!(set >> i & 1))
			continue;
		slot = ARRAY_APPEND(netns->view.addresses, netns->view.n_addresses);
		CHECK(slot);
		*slot = (struct netns_address){ ifindex, addresses[i], 32 };
		netns->view.n_addresses++;
	}
}

static void take_tunnel(struct input *input, struct netns *netns)
{
	struct ipip_link *link = ARRAY_APPEND(netns->view.links, netns->view.n_links);
	uint8_t choice = take_byte(input);

	CHECK(link);
	netns->view.n_links++;
	link->ifindex = 10 + (uint32_t)netns->view.n_links;
	(void)snprintf(link->name, sizeof(link->name), "tun%zu", netns->view.n_links);
	link->remote = remotes[choice & 7];
	link->proto = 4;
	link->up = choice & 8;
	link->external = (choice & 0xf0) == 0x10;
	link->encap_type = (choice & 0xf0) == 0x20;
	take_addresses(input, netns, link->ifindex);
}

static void take_netns(struct input *input, struct snapshot *snapshot)
{
	struct netns *netns = ARRAY_APPEND(snapshot->netns, snapshot->n_netns);
	size_t i = snapshot->n_netns;
	uint8_t choice = take_byte(input);
	char **name, text[8];

	CHECK(netns);
	snapshot->n_netns++;
	(void)snprintf(text, sizeof(text), "g%zu", i);
	name = ARRAY_APPEND(netns->names, netns->n_names);
	CHECK(name && (*name = strdup(text)));
	netns->n_names++;
	netns->nsid = i == 0 ? NSID_OWN : (int32_t)i;
	netns->seq = i;
	netns->owner = (choice & 7) == 7   ? OWNER_OTHER
		       : (choice & 7) == 6 ? OWNER_UNKNOWN
					   : OWNER_HOST;
	netns->has_view = (choice & 0x38) != 0x38;
	netns->error = netns->has_view ? 0 : -5;
	if (!netns->has_view) {
		snapshot->complete = snapshot->complete && netns->owner == OWNER_OTHER;
		return;
	}
	take_addresses(input, netns, 2);
	for (unsigned int n = choice >> 6; n > 0; n--)
		take_tunnel(input, netns);
}

static void take_world(struct input *input, bool reversed, struct snapshot *ret)
{
	*ret = (struct snapshot){ .complete = true };
	for (unsigned int n = take_byte(input) % (NETNS_COUNT + 1); n > 0; n--)
		take_netns(input, ret);
	for (size_t i = 0; i < ret->n_netns; i++) {
		struct netns_view *view = &ret->netns[i].view;

		for (size_t j = 0; reversed && j < view->n_links / 2; j++) {
			struct ipip_link link = view->links[j];

			view->links[j] = view->links[view->n_links - 1 - j];
			view->links[view->n_links - 1 - j] = link;
		}
		for (size_t j = 0; reversed && j < view->n_addresses / 2; j++) {
			struct netns_address address = view->addresses[j];

			view->addresses[j] = view->addresses[view->n_addresses - 1 - j];
			view->addresses[view->n_addresses - 1 - j] = address;
		}
		netns_view_sort(view);
	}
}

/* As agent/reconcile.c does it. */
static bool make_plan(const struct snapshot *snapshot, const struct config *config,
	const struct rows *maps, uint32_t max_rows, struct rows *ret_desired, struct plan *ret)
{
	struct plan_limits limits = {
		.max_rows = max_rows,
		.max_slots = 2 * max_rows + 1,
		.complete = tunnels_are_known(snapshot, config),
	};
	struct present present = { maps, limits.complete };
	_cleanup_(tunnels_done) struct tunnels tunnels = { 0 };

	CHECK(tunnels_make(snapshot, config, NULL, NULL, &tunnels) == 0);
	CHECK(desired_make(&tunnels, &present, ret_desired) == 0);
	CHECK(plan_make(ret_desired, maps, &limits, ret) == 0);
	for (size_t i = 0; i < tunnels.n; i++)
		CHECK(tunnels.list[i].rival == SIZE_MAX || tunnels.list[i].rival < tunnels.n);
	return limits.complete;
}

static void check_same_rows(const struct row *a, const struct row *b)
{
	CHECK(row_compare(a, b) == 0 && row_contents_equal(a, b));
	CHECK(a->entry.slot == b->entry.slot);
}

static void check_same_plan(const struct plan *a, const struct plan *b)
{
	CHECK(a->n_ops == b->n_ops && a->n_no_room == b->n_no_room);
	for (size_t i = 0; i < a->n_ops; i++) {
		CHECK(a->ops[i].verb == b->ops[i].verb);
		check_same_rows(&a->ops[i].row, &b->ops[i].row);
	}
	for (size_t i = 0; i < a->n_no_room; i++)
		check_same_rows(&a->no_room[i], &b->no_room[i]);
}

static bool has_remote(const struct rows *maps, struct ip4 remote)
{
	for (size_t i = 0; i < maps->n; i++)
		if (maps->list[i].map == ROW_REMOTES && ip4_equal(maps->list[i].remote, remote))
			return true;
	return false;
}

/* Whether the packets of that inner source have a row of their own, by whatever tunnel. */
static bool has_source(const struct rows *maps, struct ip4 remote, struct ip4 source)
{
	for (size_t i = 0; i < maps->n; i++)
		if (maps->list[i].map == ROW_SOURCES && ip4_equal(maps->list[i].remote, remote) &&
			ip4_equal(maps->list[i].inner_source, source))
			return true;
	return false;
}

static void check_maps(const struct rows *maps, uint32_t max_rows)
{
	size_t counts[2] = { 0 };

	for (size_t i = 0; i < maps->n; i++) {
		uint32_t slot = maps->list[i].entry.slot;

		counts[maps->list[i].map == ROW_SOURCES]++;
		CHECK(slot != MAPS_SLOT_NONE && slot < 2 * max_rows + 1);
		for (size_t j = 0; j < i; j++)
			CHECK(maps->list[j].entry.slot != slot);
	}
	CHECK(counts[0] <= max_rows && counts[1] <= max_rows);
}

static void check_packet(const struct rows *before, const struct rows *now,
	const struct rows *after, bool complete, struct ip4 remote, struct ip4 source)
{
	struct model_way was = model_look_up(before, remote, source);
	struct model_way is = model_look_up(now, remote, source);
	struct model_way will = model_look_up(after, remote, source);

	if (!complete && !has_remote(after, remote))
		CHECK(is.game_server_ip == was.game_server_ip);
	/* Nor from whom nobody can read, below a remote that others share. */
	if (!complete && was.game_server_ip != 0 && has_source(before, remote, source) &&
		!has_source(after, remote, source))
		CHECK(is.game_server_ip == was.game_server_ip);
	CHECK(model_is_safe(&was, &is, &will));
}

/* Whether what decides about packets to that remote is for one inner source only. */
static bool asks_for_source(const struct rows *maps, struct ip4 remote)
{
	for (size_t i = 0; i < maps->n; i++)
		if (maps->list[i].map == ROW_REMOTES && ip4_equal(maps->list[i].remote, remote))
			return maps->list[i].entry.flags &
			       (MAPS_FLAG_SHARED | MAPS_FLAG_OWN_SOURCE);
	return false;
}

/* In a map that has not room for all. */
static void check_tight_packet(const struct rows *before, const struct rows *now,
	const struct rows *after, struct ip4 remote, struct ip4 source)
{
	struct model_way was = model_look_up(before, remote, source);
	struct model_way is = model_look_up(now, remote, source);
	struct model_way will = model_look_up(after, remote, source);

	if (is.game_server_ip != 0 || asks_for_source(before, remote))
		CHECK(model_is_safe(&was, &is, &will));
}

/* After a write to a row of this remote; packets to others look at other rows. */
static void check_step(const struct rows *before, const struct rows *now, const struct rows *after,
	bool complete, bool roomy, struct ip4 remote)
{
	for (size_t i = 0; i < ELEMENTS_OF(addresses); i++) {
		if (roomy)
			check_packet(before, now, after, complete, remote, addresses[i]);
		else
			check_tight_packet(before, now, after, remote, addresses[i]);
	}
}

static void copy_rows(const struct rows *from, struct rows *ret)
{
	*ret = (struct rows){ 0 };
	for (size_t i = 0; i < from->n; i++) {
		CHECK(ARRAY_APPEND(ret->list, ret->n));
		ret->list[ret->n++] = from->list[i];
	}
}

/*
 * Whether a remote that is to become a shared one keeps the row of its own source, as there was no room for that below it. The
 * next plan may find some.
 */
static bool keeps_own(const struct rows *maps, const struct rows *desired, uint32_t max_rows)
{
	if (max_rows != ROWS_TIGHT)
		return false;
	for (size_t i = 0; i < maps->n; i++) {
		const struct row *row = &maps->list[i];

		if (row->map != ROW_REMOTES || !(row->entry.flags & MAPS_FLAG_OWN_SOURCE))
			continue;
		for (size_t j = 0; j < desired->n; j++)
			if (row_compare(row, &desired->list[j]) == 0 &&
				(desired->list[j].entry.flags & MAPS_FLAG_SHARED))
				return true;
	}
	return false;
}

static void apply_all(struct rows *maps, const struct plan *plan, const struct rows *desired,
	bool complete, uint32_t max_rows)
{
	_cleanup_(rows_done) struct rows before = { 0 };
	bool roomy = plan->n_no_room == 0;

	copy_rows(maps, &before);
	for (size_t i = 0; i < plan->n_ops; i++) {
		const struct plan_op *op = &plan->ops[i];
		bool done = false;

		for (size_t j = 0; !done; j++) {
			CHECK(j < MODEL_WRITES_MAX && model_write(maps, op, j, &done));
			check_maps(maps, max_rows);
			check_step(&before, maps, desired, complete, roomy, op->row.remote);
		}
	}
	if (!complete || !roomy || keeps_own(maps, desired, max_rows))
		return;
	CHECK(maps->n == desired->n);
	for (size_t i = 0; i < maps->n; i++) {
		CHECK(row_compare(&maps->list[i], &desired->list[i]) == 0);
		CHECK(row_contents_equal(&maps->list[i], &desired->list[i]));
	}
}

static void check_unread(const struct snapshot *snapshot, bool complete)
{
	for (size_t i = 0; i < snapshot->n_netns; i++)
		if (!snapshot->netns[i].has_view && snapshot->netns[i].owner == OWNER_HOST)
			CHECK(!complete);
}

static void check_done(
	const struct rows *desired, const struct rows *maps, bool complete, uint32_t max_rows)
{
	struct plan_limits limits = { max_rows, 2 * max_rows + 1, complete };
	struct plan again;

	CHECK(plan_make(desired, maps, &limits, &again) == 0);
	CHECK(again.n_ops == 0 && again.n_no_room == 0);
	plan_done(&again);
}

static void check_rest(const struct snapshot *snapshot, const struct config *config,
	struct rows *maps, uint32_t max_rows)
{
	for (size_t i = 0; i <= PASSES_MAX; i++) {
		_cleanup_(rows_done) struct rows desired = { 0 };
		_cleanup_(plan_done) struct plan plan = { 0 };
		bool complete = make_plan(snapshot, config, maps, max_rows, &desired, &plan);

		if (plan.n_ops == 0)
			return;
		apply_all(maps, &plan, &desired, complete, max_rows);
	}
	CHECK(!"at rest");
}

static void pass(struct input *input, struct rows *maps, uint32_t max_rows)
{
	_cleanup_(snapshot_done) struct snapshot snapshot = { 0 }, shuffled = { 0 };
	_cleanup_(rows_done) struct rows desired = { 0 }, same_desired = { 0 };
	_cleanup_(plan_done) struct plan plan = { 0 }, same = { 0 };
	_cleanup_(config_done) struct config config = { 0 };
	struct input twice;
	bool complete;

	take_config(input, &config);
	twice = *input;
	take_world(input, false, &snapshot);
	take_world(&twice, true, &shuffled);
	complete = make_plan(&snapshot, &config, maps, max_rows, &desired, &plan);
	check_unread(&snapshot, complete);
	CHECK(make_plan(&shuffled, &config, maps, max_rows, &same_desired, &same) == complete);
	check_same_plan(&plan, &same);
	apply_all(maps, &plan, &desired, complete, max_rows);
	if (plan.n_no_room > 0)
		return; /* what found no room may find what was freed */
	if (!keeps_own(maps, &desired, max_rows))
		check_done(&desired, maps, complete, max_rows);
	check_rest(&snapshot, &config, maps, max_rows);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(rows_done) struct rows maps = { 0 };
	struct input input = { data, size };
	uint32_t max_rows = take_byte(&input) % 4 == 3 ? ROWS_TIGHT : ROWS_MAX;

	for (int i = 0; i < 3 && input.size > 0; i++)
		pass(&input, &maps, max_rows);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Properties of the plan, over many generated pairs of worlds, with a model of the maps in memory. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/plan.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tests/maps_model.h"
#include "tests/random.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

#define ROUNDS 2000

/* A dozen servers in a small address space, so that remotes and addresses often collide. */
static void random_world(char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (uint32_t i = random_below(12); i > 0; i--) {
		n += (size_t)snprintf(buf + n, size - n, "netns g%u\n tun0 192.0.2.%u %s%u\n", i,
			1 + random_below(3), random_below(2) ? "203.0.113." : "10.0.0.",
			1 + random_below(4));
	}
}

static const char *random_config(void)
{
	static const char *const configs[] = {
		NULL,
		"{\"server_ports\":[27015]}",
		"{\"server_ports\":[27016],\"game_server_ip\":\"tunnel-address\"}",
		"{\"server_ports\":[27017],\"exempt\":[\"a2s-info\"]}",
		"{\"server_ports\":[27017],\"mode\":\"shadow\"}",
		"{\"server_ports\":[27018],\"mode\":\"tunnel\"}",
	};

	return configs[random_below(ELEMENTS_OF(configs))];
}

static const struct plan_limits roomy = { .max_rows = 1024, .max_slots = 2049, .complete = true };

static void apply_all(struct rows *maps, const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_ops; i++)
		assert_true(model_apply(maps, &plan->ops[i]));
}

static void check_slots(const struct rows *maps)
{
	for (size_t i = 0; i < maps->n; i++) {
		assert_int_not_equal(maps->list[i].entry.slot, MAPS_SLOT_NONE);
		assert_true(maps->list[i].entry.slot < roomy.max_slots);
		for (size_t j = 0; j < i; j++)
			assert_int_not_equal(maps->list[i].entry.slot, maps->list[j].entry.slot);
	}
}

static void check_equal(const struct rows *maps, const struct rows *desired)
{
	assert_int_equal(maps->n, desired->n);
	for (size_t i = 0; i < maps->n; i++) {
		const struct row *a = &maps->list[i], *b = &desired->list[i];

		assert_int_equal(row_compare(a, b), 0);
		assert_int_equal(a->entry.game_server_ip, b->entry.game_server_ip);
		assert_int_equal(a->entry.flags, b->entry.flags);
		assert_int_equal(a->entry.mode, b->entry.mode);
	}
}

typedef bool judge_fn(const struct model_way *was, const struct model_way *is,
	const struct model_way *will, struct ip4 source);

/* Asks `judge` of the packets of each source to each remote. */
static void check_packets(const struct rows *before, const struct rows *now,
	const struct rows *after, judge_fn *judge)
{
	for (unsigned int r = 1; r <= 3; r++) {
		for (unsigned int s = 1; s <= 8; s++) {
			char remote[32], source[32];
			struct model_way was, is, will;

			(void)snprintf(remote, sizeof(remote), "192.0.2.%u", r);
			(void)snprintf(source, sizeof(source), "%s%u",
				s > 4 ? "10.0.0." : "203.0.113.", s > 4 ? s - 4 : s);
			was = model_look_up(before, ip4_of(remote), ip4_of(source));
			is = model_look_up(now, ip4_of(remote), ip4_of(source));
			will = model_look_up(after, ip4_of(remote), ip4_of(source));
			if (!judge(&was, &is, &will, ip4_of(source)))
				fail_msg("remote %s source %s is misdirected or falls back", remote,
					source);
		}
	}
}

static bool is_safe(const struct model_way *was, const struct model_way *is,
	const struct model_way *will, struct ip4 source)
{
	(void)source;
	return model_is_safe(was, is, will);
}

static void copy_rows(const struct rows *from, struct rows *ret)
{
	*ret = (struct rows){ 0 };
	for (size_t i = 0; i < from->n; i++) {
		struct row *slot = ARRAY_APPEND(ret->list, ret->n);

		assert_non_null(slot);
		*slot = from->list[i];
		ret->n++;
	}
}

/* What the agent takes for the outcome is what is there after the last operation. */
static void check_outcome(const struct rows *maps, const struct rows *outcome)
{
	assert_int_equal(maps->n, outcome->n);
	for (size_t i = 0; i < maps->n; i++) {
		const struct row *a = &maps->list[i], *b = &outcome->list[i];

		assert_int_equal(row_compare(a, b), 0);
		assert_true(row_contents_equal(a, b));
		assert_int_equal(a->entry.slot, b->entry.slot);
	}
}

static void apply_stepwise(struct rows *maps, const struct plan *plan, const struct rows *desired)
{
	_cleanup_(rows_done) struct rows before = { 0 }, outcome = { 0 };

	copy_rows(maps, &before);
	assert_int_equal(plan_outcome(maps, plan, &outcome), 0);
	for (size_t i = 0; i < plan->n_ops; i++) {
		bool done = false;

		for (size_t j = 0; !done; j++) {
			assert_true(j < MODEL_WRITES_MAX);
			assert_true(model_write(maps, &plan->ops[i], j, &done));
			check_slots(maps);
			check_packets(&before, maps, desired, is_safe);
		}
	}
	check_outcome(maps, &outcome);
}

static void every_step_is_safe_and_the_end_is_right(void **state)
{
	_cleanup_(rows_done) struct rows maps = { 0 };

	(void)state;
	random_state = 2463534242;
	for (int i = 0; i < ROUNDS; i++) {
		_cleanup_(rows_done) struct rows desired = { 0 };
		_cleanup_(plan_done) struct plan plan = { 0 }, again = { 0 };
		char world[2048];

		random_world(world, sizeof(world));
		world_rows(world, random_config(), &desired);
		assert_int_equal(plan_make(&desired, &maps, &roomy, &plan), 0);
		assert_int_equal(plan.n_no_room, 0);
		apply_stepwise(&maps, &plan, &desired);
		check_equal(&maps, &desired);
		assert_int_equal(plan_make(&desired, &maps, &roomy, &again), 0);
		assert_int_equal(again.n_ops, 0);
	}
}

static void same_input_same_plan(void **state)
{
	_cleanup_(rows_done) struct rows a = { 0 }, b = { 0 };
	_cleanup_(plan_done) struct plan one = { 0 }, two = { 0 };

	(void)state;
	world_rows("netns a\n tun0 192.0.2.1 203.0.113.1\nnetns b\n tun0 192.0.2.1 203.0.113.2\n",
		NULL, &a);
	/* The same tunnels, found in another order. */
	world_rows("netns b\n tun0 192.0.2.1 203.0.113.2\nnetns a\n tun0 192.0.2.1 203.0.113.1\n",
		NULL, &b);
	assert_int_equal(plan_make(&a, &(struct rows){ 0 }, &roomy, &one), 0);
	assert_int_equal(plan_make(&b, &(struct rows){ 0 }, &roomy, &two), 0);
	assert_int_equal(one.n_ops, two.n_ops);
	for (size_t i = 0; i < one.n_ops; i++) {
		assert_int_equal(one.ops[i].verb, two.ops[i].verb);
		assert_int_equal(row_compare(&one.ops[i].row, &two.ops[i].row), 0);
		assert_memory_equal(
			&one.ops[i].row.entry, &two.ops[i].row.entry, sizeof(one.ops[i].row.entry));
	}
}

static const struct plan_limits unsure = { .max_rows = 1024, .max_slots = 2049 };

/* From one world to another of which not all is known. */
static void plan_unsure(const char *before, const char *world, struct rows *have, struct plan *ret)
{
	_cleanup_(rows_done) struct rows desired = { 0 }, wanted = { 0 };
	_cleanup_(plan_done) struct plan first = { 0 };
	struct present present = { have, false };

	world_rows(before, NULL, &desired);
	assert_int_equal(plan_make(&desired, have, &roomy, &first), 0);
	apply_all(have, &first);
	world_rows_with(world, NULL, &present, &wanted);
	assert_int_equal(plan_make(&wanted, have, &unsure, ret), 0);
}

static void who_could_not_be_read_keeps_his_row(void **state)
{
	_cleanup_(rows_done) struct rows have = { 0 };
	_cleanup_(plan_done) struct plan plan = { 0 };

	(void)state;
	plan_unsure("netns a\n tun0 192.0.2.1 203.0.113.1\nnetns b\n tun0 192.0.2.2 203.0.113.2\n",
		"netns b\n tun0 192.0.2.2 203.0.113.2\nnetns c\n tun0 203.0.113.3 10.0.0.2\n",
		&have, &plan);
	assert_int_equal(plan.n_ops, 1);
	assert_int_equal(plan.ops[0].verb, PLAN_ADD);
	assert_true(ip4_equal(plan.ops[0].row.remote, ip4_of("203.0.113.3")));
}

static uint32_t ip_of(const struct rows *maps, struct ip4 remote, struct ip4 source)
{
	return model_look_up(maps, remote, source).game_server_ip;
}

static void who_could_not_be_read_keeps_his_row_below_a_shared_remote(void **state)
{
	static const char *const worlds[] = {
		"netns b\n tun0 192.0.2.1 203.0.113.2\n",
		"netns b\n tun0 192.0.2.1 203.0.113.2\nnetns c\n tun0 192.0.2.1 203.0.113.3\n",
		"netns b\n tun0 192.0.2.9 203.0.113.9\n",
	};
	struct ip4 remote = ip4_of("192.0.2.1"), unread = ip4_of("203.0.113.1");

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(worlds); i++) {
		_cleanup_(rows_done) struct rows have = { 0 };
		_cleanup_(plan_done) struct plan plan = { 0 };

		plan_unsure(
			"netns a\n tun0 192.0.2.1 203.0.113.1\nnetns b\n tun0 192.0.2.1 203.0.113.2\n",
			worlds[i], &have, &plan);
		assert_int_equal(ip_of(&have, remote, unread), unread.be);
		apply_all(&have, &plan);
		assert_int_equal(ip_of(&have, remote, unread), unread.be);
	}
}

/* The packets of one whose address is another now, and those of whoever may have the one before. */
static void what_is_known_to_be_wrong_goes_to_the_tunnel(void **state)
{
	_cleanup_(rows_done) struct rows have = { 0 };
	_cleanup_(plan_done) struct plan plan = { 0 };
	struct ip4 remote = ip4_of("192.0.2.1"), now = ip4_of("203.0.113.4");

	(void)state;
	plan_unsure("netns a\n tun0 192.0.2.1 203.0.113.1\n",
		"netns a\n tun0 192.0.2.1 203.0.113.4\n", &have, &plan);
	assert_int_equal(ip_of(&have, remote, ip4_of("203.0.113.1")), ip4_of("203.0.113.1").be);
	assert_int_equal(ip_of(&have, remote, now), 0);
	apply_all(&have, &plan);
	assert_int_equal(ip_of(&have, remote, now), now.be);
	assert_int_equal(ip_of(&have, remote, ip4_of("203.0.113.1")), 0);
}

static void drained_at_once(void **state)
{
	static const struct plan_limits *const limits[] = { &roomy, &unsure };

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		_cleanup_(rows_done) struct rows have = { 0 }, desired = { 0 };
		_cleanup_(plan_done) struct plan first = { 0 }, plan = { 0 };

		world_rows("netns a\n tun0 192.0.2.1 203.0.113.1\n", NULL, &desired);
		assert_int_equal(plan_make(&desired, &have, limits[i], &first), 0);
		apply_all(&have, &first);
		desired.list[0].entry.mode = MAPS_MODE_TUNNEL;
		assert_int_equal(plan_make(&desired, &have, limits[i], &plan), 0);
		assert_int_equal(plan.n_ops, 1);
		assert_int_equal(plan.ops[0].verb, PLAN_CHANGE);
	}
}

static void rests_where_ports_come_with_something_else(void **state)
{
	static const struct {
		const char *was, *will;
		bool rests;
	} cases[] = {
		{ "{}", "{\"server_ports\":[1]}", false },
		{ "{\"server_ports\":[1]}", "{}", false },
		{ "{\"server_ports\":[1]}", "{\"server_ports\":[2]}", false },
		{ "{\"server_ports\":[1]}", "{\"server_ports\":[1],\"mode\":\"shadow\"}", false },
		{ "{\"server_ports\":[1]}", "{\"server_ports\":[2],\"mode\":\"shadow\"}", true },
		{ "{\"server_ports\":[1]}", "{\"server_ports\":[2],\"exempt\":[\"a2s-info\"]}",
			true },
		{ "{\"server_ports\":[1]}",
			"{\"server_ports\":[2],\"game_server_ip\":\"203.0.113.9\"}", true },
		{ "{\"server_ports\":[1]}",
			"{\"server_ports\":[1],\"game_server_ip\":\"203.0.113.9\"}", false },
		{ "{\"server_ports\":[1],\"mode\":\"tunnel\"}", "{\"server_ports\":[2]}", false },
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		static const char world[] = "netns a\n tun0 192.0.2.1 203.0.113.1\n";
		_cleanup_(rows_done) struct rows have = { 0 }, desired = { 0 };
		_cleanup_(plan_done) struct plan first = { 0 }, plan = { 0 };

		world_rows(world, cases[i].was, &desired);
		assert_int_equal(plan_make(&desired, &have, &roomy, &first), 0);
		assert_false(first.ops[0].rests);
		apply_all(&have, &first);
		rows_done(&desired);
		world_rows(world, cases[i].will, &desired);
		assert_int_equal(plan_make(&desired, &have, &roomy, &plan), 0);
		assert_int_equal(plan.n_ops, 1);
		assert_int_equal(plan.ops[0].rests, cases[i].rests);
		apply_stepwise(&have, &plan, &desired);
	}
}

/* As a plan leaves them that was not done to its end. */
static void what_does_not_count_never_will(void **state)
{
	_cleanup_(rows_done) struct rows have = { 0 }, desired = { 0 };
	_cleanup_(plan_done) struct plan first = { 0 }, plan = { 0 };
	struct row dead = { .map = ROW_SOURCES, .remote = ip4_of("192.0.2.1") };
	struct row *slot;

	(void)state;
	world_rows("netns a\n tun0 192.0.2.1 203.0.113.1\n", NULL, &desired);
	assert_int_equal(plan_make(&desired, &have, &roomy, &first), 0);
	apply_all(&have, &first);
	dead.inner_source = ip4_of("203.0.113.3");
	dead.entry.game_server_ip = dead.inner_source.be;
	dead.entry.slot = 7;
	slot = ARRAY_APPEND(have.list, have.n);
	assert_non_null(slot);
	*slot = dead;
	have.n++;
	rows_sort(&have);
	rows_done(&desired);
	world_rows("netns a\n tun0 192.0.2.1 203.0.113.1\nnetns b\n tun0 192.0.2.1 203.0.113.2\n",
		NULL, &desired);
	assert_int_equal(plan_make(&desired, &have, &roomy, &plan), 0);
	assert_int_equal(plan.ops[0].verb, PLAN_REMOVE);
	assert_true(ip4_equal(plan.ops[0].row.inner_source, dead.inner_source));
	apply_stepwise(&have, &plan, &desired);
	check_equal(&have, &desired);
}

static void a_full_map_keeps_what_it_has(void **state)
{
	const struct plan_limits tight = { .max_rows = 2, .max_slots = 5, .complete = true };
	_cleanup_(rows_done) struct rows have = { 0 }, desired = { 0 };
	_cleanup_(plan_done) struct plan first = { 0 }, plan = { 0 }, later = { 0 };

	(void)state;
	world_rows("netns b\n tun0 203.0.113.8 -\nnetns c\n tun0 203.0.113.9 -\n", NULL, &desired);
	assert_int_equal(plan_make(&desired, &have, &tight, &first), 0);
	apply_all(&have, &first);
	rows_done(&desired);
	world_rows("netns b\n tun0 203.0.113.8 -\nnetns c\n tun0 203.0.113.9 -\n"
		   "netns a\n tun0 203.0.113.1 -\n",
		NULL, &desired);
	assert_int_equal(plan_make(&desired, &have, &tight, &plan), 0);
	assert_int_equal(plan.n_ops, 0);
	assert_int_equal(plan.n_no_room, 1);
	assert_true(ip4_equal(plan.no_room[0].remote, ip4_of("203.0.113.1")));
	/* Room freed is used by the next plan. */
	have.n = 1;
	assert_int_equal(plan_make(&desired, &have, &tight, &later), 0);
	assert_int_equal(later.n_ops, 1);
	assert_int_equal(later.n_no_room, 1);
}

/* What is not right takes the tunnel, and so may what would have a way if there were room. */
static bool is_right_or_tunnel(const struct model_way *was, const struct model_way *is,
	const struct model_way *will, struct ip4 source)
{
	return is->game_server_ip == 0 || is_safe(was, is, will, source);
}

/* Who has his own address is in without a row of `sources`, too. */
static bool is_in_still(const struct model_way *was, const struct model_way *is,
	const struct model_way *will, struct ip4 source)
{
	if (!is_right_or_tunnel(was, is, will, source))
		return false;
	return was->game_server_ip != source.be || is_safe(was, is, will, source);
}

static void who_is_in_stays_in(void **state)
{
	_cleanup_(rows_done) struct rows maps = { 0 };
	size_t n_no_room = 0;

	(void)state;
	random_state = 88172645;
	for (int i = 0; i < ROUNDS; i++) {
		const struct plan_limits tight = {
			.max_rows = 4, .max_slots = 9, .complete = true
		};
		_cleanup_(rows_done) struct rows desired = { 0 }, before = { 0 };
		_cleanup_(plan_done) struct plan plan = { 0 };
		struct present present = { &maps, true };
		char world[2048];

		random_world(world, sizeof(world));
		world_rows_with(world, random_config(), &present, &desired);
		assert_int_equal(plan_make(&desired, &maps, &tight, &plan), 0);
		n_no_room += plan.n_no_room;
		copy_rows(&maps, &before);
		for (size_t j = 0; j < plan.n_ops; j++) {
			assert_true(model_apply(&maps, &plan.ops[j]));
			check_packets(&before, &maps, &desired, is_in_still);
		}
	}
	assert_true(n_no_room > ROUNDS / 10);
}

#define CROWD                                                                                      \
	"netns a\n tun0 192.0.2.9 203.0.113.21\nnetns b\n tun0 192.0.2.9 203.0.113.22\n"           \
	"netns x\n tun0 192.0.2.1 203.0.113.50\n"
#define NEWCOMER "netns y\n tun0 192.0.2.1 203.0.113.40\n"

/* Rows that are read from the maps do not say whose they are. */
static void check_owners(const struct rows *have, const struct rows *wanted)
{
	for (size_t i = 0; i < have->n; i++) {
		bool shared = have->list[i].entry.flags & MAPS_FLAG_SHARED;

		assert_int_equal(plan_tunnel_of(wanted, &have->list[i]) == SIZE_MAX, shared);
	}
}

/* To one whose remote was his alone, with room for so many more rows of `sources`. */
static void join(struct rows *have, const char *config, uint32_t more, struct plan *ret)
{
	const struct plan_limits tight = {
		.max_rows = 2 + more, .max_slots = 5 + 2 * more, .complete = true
	};
	_cleanup_(rows_done) struct rows desired = { 0 }, wanted = { 0 };
	_cleanup_(plan_done) struct plan first = { 0 };
	struct present present = { have, true };

	world_rows(CROWD, config, &desired);
	assert_int_equal(plan_make(&desired, have, &tight, &first), 0);
	apply_all(have, &first);
	world_rows_with(CROWD NEWCOMER, config, &present, &wanted);
	assert_int_equal(plan_make(&wanted, have, &tight, ret), 0);
	apply_all(have, ret);
	check_owners(have, &wanted);
}

static void the_last_place_is_not_the_newcomers(void **state)
{
	/* Where an address is given by a rule, any packet to that remote leaves with it. */
	static const char given[] = "{\"rules\":[{\"match\":{\"netns\":\"x\"},"
				    "\"set\":{\"game_server_ip\":\"203.0.113.51\"}}]}";
	static const struct {
		const char *config;
		uint32_t more;
		uint32_t n_no_room;
		const char *address; /* NULL: the tunnel has his packets */
	} cases[] = {
		{ NULL, 2, 0, "203.0.113.50" },
		{ NULL, 1, 1, "203.0.113.50" },
		{ NULL, 0, 1, "203.0.113.50" },
		{ given, 2, 0, "203.0.113.51" },
		{ given, 1, 1, "203.0.113.51" },
		{ given, 0, 2, NULL },
	};
	struct ip4 remote = ip4_of("192.0.2.1"), in = ip4_of("203.0.113.50"),
		   late = ip4_of("203.0.113.40");

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		_cleanup_(rows_done) struct rows have = { 0 };
		_cleanup_(plan_done) struct plan plan = { 0 };

		join(&have, cases[i].config, cases[i].more, &plan);
		assert_int_equal(plan.n_no_room, cases[i].n_no_room);
		assert_int_equal(ip_of(&have, remote, in),
			cases[i].address ? ip4_of(cases[i].address).be : 0);
		assert_int_equal(ip_of(&have, remote, late), cases[i].more == 2 ? late.be : 0);
		if (plan.n_no_room > 0)
			assert_true(ip4_equal(plan.no_room[0].inner_source, late));
	}
}

/* What is wanted of his packets is done, whichever row they have. */
static void who_has_no_room_is_drained_all_the_same(void **state)
{
	const struct plan_limits tight = { .max_rows = 2, .max_slots = 5, .complete = true };
	_cleanup_(rows_done) struct rows have = { 0 }, desired = { 0 };
	_cleanup_(plan_done) struct plan first = { 0 }, plan = { 0 }, again = { 0 };
	struct ip4 remote = ip4_of("192.0.2.1"), source = ip4_of("203.0.113.50");
	struct present present = { &have, true };

	(void)state;
	join(&have, NULL, 0, &first);
	assert_int_equal(ip_of(&have, remote, source), source.be);
	world_rows_with(CROWD NEWCOMER,
		"{\"rules\":[{\"match\":{\"netns\":\"x\"},\"set\":{\"mode\":\"tunnel\"}}]}",
		&present, &desired);
	assert_int_equal(plan_make(&desired, &have, &tight, &plan), 0);
	apply_all(&have, &plan);
	assert_int_equal(ip_of(&have, remote, source), 0);
	assert_int_equal(plan_make(&desired, &have, &tight, &again), 0);
	assert_int_equal(again.n_ops, 0);
}

/* As far as it comes before one of its writes fails. */
static void fail_in(struct rows *maps, const struct plan_op *op)
{
	bool has_ports = op->row.entry.flags & MAPS_FLAG_SERVER_PORTS, done = false;
	uint32_t n_writes = op->verb == PLAN_CHANGE ? 1U + op->rests + has_ports : 1;
	uint32_t n = random_below(n_writes);

	for (size_t i = 0; i < n; i++)
		assert_true(model_write(maps, op, i, &done));
	assert_false(done);
}

/* Leaves rows behind that do not count, or not yet. */
static void apply_until_killed(struct rows *maps, const struct plan *plan)
{
	uint32_t n = random_below((uint32_t)plan->n_ops + 1);

	for (size_t i = 0; i < n; i++)
		assert_true(model_apply(maps, &plan->ops[i]));
}

/* One in four, and whatever comes after them. */
static void apply_with_failures(struct rows *maps, struct plan *plan, const struct rows *desired)
{
	_cleanup_(rows_done) struct rows before = { 0 };

	copy_rows(maps, &before);
	for (size_t i = 0; i < plan->n_ops; i++) {
		const struct plan_op *op = &plan->ops[i];

		if (op->left_out)
			continue;
		if (random_below(4) == 0) {
			fail_in(maps, op);
			plan_op_failed(plan, i);
		} else {
			assert_true(model_apply(maps, op));
		}
		check_packets(&before, maps, desired, is_right_or_tunnel);
	}
}

static void a_write_that_fails_makes_no_other_wrong(void **state)
{
	_cleanup_(rows_done) struct rows maps = { 0 };

	(void)state;
	random_state = 123456789;
	for (int i = 0; i < 2 * ROUNDS; i++) {
		_cleanup_(rows_done) struct rows desired = { 0 };
		_cleanup_(plan_done) struct plan plan = { 0 };
		char world[2048];

		random_world(world, sizeof(world));
		world_rows(world, random_config(), &desired);
		assert_int_equal(plan_make(&desired, &maps, &roomy, &plan), 0);
		if (i % 2 == 0)
			apply_until_killed(&maps, &plan);
		else
			apply_with_failures(&maps, &plan, &desired);
	}
}

/* Who has his remote for himself, by the source of his packets, loses nothing by a newcomer's row that fails. */
static void who_is_right_anyway_stays_where_a_write_fails(void **state)
{
	static const char one[] = "netns a\n tun0 192.0.2.1 203.0.113.1\n",
			  two[] = "netns a\n tun0 192.0.2.1 203.0.113.1\n"
				  "netns b\n tun0 192.0.2.1 203.0.113.2\n";
	struct ip4 remote = ip4_of("192.0.2.1"), in = ip4_of("203.0.113.1"),
		   late = ip4_of("203.0.113.2");

	(void)state;
	for (size_t failing = 0; failing < 3; failing++) {
		_cleanup_(rows_done) struct rows have = { 0 }, desired = { 0 }, wanted = { 0 };
		_cleanup_(plan_done) struct plan first = { 0 }, plan = { 0 };

		world_rows(one, NULL, &desired);
		assert_int_equal(plan_make(&desired, &have, &roomy, &first), 0);
		apply_all(&have, &first);
		world_rows(two, NULL, &wanted);
		assert_int_equal(plan_make(&wanted, &have, &roomy, &plan), 0);
		assert_int_equal(plan.n_ops, 3);
		for (size_t i = 0; i < plan.n_ops; i++) {
			if (i == failing)
				plan_op_failed(&plan, i);
			else if (!plan.ops[i].left_out)
				assert_true(model_apply(&have, &plan.ops[i]));
		}
		assert_int_equal(ip_of(&have, remote, in), in.be);
		assert_int_equal(ip_of(&have, remote, late), 0);
	}
}

/* Nobody goes direct who did not, nor in another way; who is wrong does not go direct. */
static bool is_held_back(const struct model_way *was, const struct model_way *is,
	const struct model_way *will, struct ip4 source)
{
	(void)source;
	return is->game_server_ip == 0 ||
	       (model_is_safe(was, is, was) && model_is_safe(will, is, will));
}

static void held_back_nothing_more_goes_direct(void **state)
{
	_cleanup_(rows_done) struct rows maps = { 0 };

	(void)state;
	random_state = 362436069;
	for (int i = 0; i < 2 * ROUNDS; i++) {
		_cleanup_(rows_done) struct rows desired = { 0 }, before = { 0 };
		_cleanup_(plan_done) struct plan plan = { 0 };
		char world[2048];

		random_world(world, sizeof(world));
		world_rows(world, random_config(), &desired);
		assert_int_equal(plan_make(&desired, &maps, &roomy, &plan), 0);
		if (i % 2 == 0) {
			apply_until_killed(&maps, &plan);
			continue;
		}
		copy_rows(&maps, &before);
		for (size_t j = 0; j < plan.n_ops; j++)
			if (plan_hold_back(&plan.ops[j]))
				assert_true(model_apply(&maps, &plan.ops[j]));
		check_packets(&before, &maps, &desired, is_held_back);
	}
}

static void a_slot_is_not_reused_while_its_row_is_being_removed(void **state)
{
	_cleanup_(rows_done) struct rows have = { 0 }, desired = { 0 };
	_cleanup_(plan_done) struct plan first = { 0 }, plan = { 0 };

	(void)state;
	world_rows("netns a\n tun0 203.0.113.1 -\n", NULL, &desired);
	assert_int_equal(plan_make(&desired, &have, &roomy, &first), 0);
	apply_all(&have, &first);
	rows_done(&desired);
	world_rows("netns a\n tun0 203.0.113.2 -\n", NULL, &desired);
	assert_int_equal(plan_make(&desired, &have, &roomy, &plan), 0);
	assert_int_equal(plan.n_ops, 2);
	assert_int_equal(plan.ops[0].verb, PLAN_ADD);
	assert_int_equal(plan.ops[1].verb, PLAN_REMOVE);
	assert_int_not_equal(plan.ops[0].row.entry.slot, plan.ops[1].row.entry.slot);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_step_is_safe_and_the_end_is_right),
		cmocka_unit_test(same_input_same_plan),
		cmocka_unit_test(who_could_not_be_read_keeps_his_row),
		cmocka_unit_test(who_could_not_be_read_keeps_his_row_below_a_shared_remote),
		cmocka_unit_test(what_is_known_to_be_wrong_goes_to_the_tunnel),
		cmocka_unit_test(drained_at_once),
		cmocka_unit_test(rests_where_ports_come_with_something_else),
		cmocka_unit_test(what_does_not_count_never_will),
		cmocka_unit_test(a_full_map_keeps_what_it_has),
		cmocka_unit_test(who_is_in_stays_in),
		cmocka_unit_test(the_last_place_is_not_the_newcomers),
		cmocka_unit_test(who_has_no_room_is_drained_all_the_same),
		cmocka_unit_test(a_write_that_fails_makes_no_other_wrong),
		cmocka_unit_test(who_is_right_anyway_stays_where_a_write_fails),
		cmocka_unit_test(held_back_nothing_more_goes_direct),
		cmocka_unit_test(a_slot_is_not_reused_while_its_row_is_being_removed),
	};

	return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}

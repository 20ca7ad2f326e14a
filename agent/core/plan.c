/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "agent/core/plan.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

/* Which counter slots are in use: one byte each, slot 0 always is. */
struct slots {
	uint8_t *used;
	uint32_t n;
	uint32_t next; /* no free one below */
};

static void slots_done(struct slots *slots)
{
	free(slots->used);
}

/* What a plan is made from, and as far as it has come. */
struct draft {
	const struct rows *desired, *have;
	const struct plan_limits *limits;
	struct slots slots;
	bool *waits; /* which of the desired rows found no room */
	struct plan plan;
};

static void draft_done(struct draft *draft)
{
	slots_done(&draft->slots);
	free(draft->waits);
	plan_done(&draft->plan);
}

const char *plan_verb_name(enum plan_verb verb)
{
	switch (verb) {
	case PLAN_ADD:
		return "add";
	case PLAN_CHANGE:
		return "change";
	case PLAN_REMOVE:
		return "remove";
	}
	return "?";
}

void plan_done(struct plan *plan)
{
	free(plan->ops);
	free(plan->no_room);
	*plan = (struct plan){ 0 };
}

/*
 * Slots of rows that this plan removes stay taken until the next plan: a packet under way may still
 * count there.
 */
static int slots_init(struct slots *slots, const struct rows *have, uint32_t n)
{
	slots->used = calloc(n, 1);
	if (!slots->used)
		return -ENOMEM;
	slots->n = n;
	slots->next = 1;
	slots->used[MAPS_SLOT_NONE] = 1;
	for (size_t i = 0; i < have->n; i++)
		if (have->list[i].entry.slot < n)
			slots->used[have->list[i].entry.slot] = 1;
	return 0;
}

static bool slots_take(struct slots *slots, uint32_t *ret)
{
	for (; slots->next < slots->n; slots->next++) {
		if (slots->used[slots->next])
			continue;
		slots->used[slots->next] = 1;
		*ret = slots->next++;
		return true;
	}
	return false;
}

static struct plan_op *add_op(
	struct plan *plan, enum plan_verb verb, const struct row *row, uint32_t slot)
{
	struct plan_op *op = ARRAY_APPEND(plan->ops, plan->n_ops);

	if (!op)
		return NULL;
	plan->n_ops++;
	*op = (struct plan_op){ .verb = verb, .row = *row };
	op->row.entry.slot = slot;
	return op;
}

static int add_no_room(struct plan *plan, const struct row *row)
{
	struct row *slot = ARRAY_APPEND(plan->no_room, plan->n_no_room);

	if (!slot)
		return -ENOMEM;
	plan->n_no_room++;
	*slot = *row;
	return 0;
}

static uint32_t count_map(const struct rows *rows, enum row_map map)
{
	uint32_t n = 0;

	for (size_t i = 0; i < rows->n; i++)
		n += rows->list[i].map == map;
	return n;
}

static const struct row *find_above(const struct rows *have, const struct row *row)
{
	const struct row key = { .map = ROW_REMOTES, .remote = row->remote };

	return rows_find(have, &key);
}

/* A row of `sources` that no packet gets to, since that of its remote does not say "shared". */
static bool is_dead(const struct rows *have, const struct row *row)
{
	const struct row *above = row->map == ROW_SOURCES ? find_above(have, row) : row;

	return !above || (row != above && !(above->entry.flags & MAPS_FLAG_SHARED));
}

/*
 * What a row may become while somebody who is not known may have it: no packet gets another game server
 * IP by it than it has, or than the one that is known to be its own; others go to the tunnel.
 */
static struct row retreat(const struct rows *have, const struct row *old, const struct row *wanted)
{
	struct row row = *wanted;

	if (is_dead(have, old) || (wanted->entry.flags & MAPS_FLAG_SHARED))
		return row;
	if (old->entry.flags & MAPS_FLAG_SHARED)
		return *old;
	if (old->entry.game_server_ip != wanted->entry.game_server_ip) {
		row = *old;
		row.entry.mode = MAPS_MODE_TUNNEL;
	}
	return row;
}

/* Ports and what they are for are two writes; as long as only one of them changes, there is nothing between. */
static bool must_rest(const struct row *old, const struct row *changed)
{
	struct row with_old_ports = *changed;

	with_old_ports.server_ports = old->server_ports;
	return old->entry.flags & changed->entry.flags & MAPS_FLAG_SERVER_PORTS &&
	       old->entry.mode != MAPS_MODE_TUNNEL &&
	       !row_contents_equal(changed, &with_old_ports) &&
	       !row_contents_equal(old, &with_old_ports);
}

/*
 * The row of `sources` that says of some packets what their remote's row says now, as that is of its own source: all
 * others are the tunnel's by either. NULL: none is wanted.
 */
static const struct row *find_heir(const struct rows *desired, const struct row *old)
{
	struct row key = { .map = ROW_SOURCES, .remote = old->remote };
	const struct row *heir;

	if (!(old->entry.flags & MAPS_FLAG_OWN_SOURCE))
		return NULL;
	key.inner_source.be = old->entry.game_server_ip;
	heir = rows_find(desired, &key);
	return heir && heir->entry.game_server_ip == old->entry.game_server_ip ? heir : NULL;
}

/* The row of a remote that does for the heir's packets what the heir would. */
static struct row row_of_own_source(const struct row *heir)
{
	struct row row = *heir;

	row.map = ROW_REMOTES;
	row.inner_source = (struct ip4){ 0 };
	row.entry.flags |= MAPS_FLAG_OWN_SOURCE;
	return row;
}

static bool may_wait(const struct draft *draft, const struct row *old, const struct row *changed)
{
	const struct row *heir = find_heir(draft->desired, old);
	struct row own;

	if (!heir || !(changed->entry.flags & MAPS_FLAG_SHARED))
		return false;
	own = row_of_own_source(heir);
	return row_contents_equal(old, &own);
}

static int plan_change(struct draft *draft, const struct row *old, const struct row *wanted)
{
	struct row changed = draft->limits->complete ? *wanted : retreat(draft->have, old, wanted);
	struct plan_op *op;

	if (row_contents_equal(old, &changed))
		return 0;
	op = add_op(&draft->plan, PLAN_CHANGE, &changed, old->entry.slot);
	if (!op)
		return -ENOMEM;
	op->rests = must_rest(old, &changed);
	op->may_wait = may_wait(draft, old, &changed);
	return 0;
}

/* `n_rows`: of the row's map. Existing rows stay when it is full; it is the new ones that must wait for room. */
static int plan_upsert(
	struct draft *draft, const struct row *row, uint32_t *n_rows, bool *ret_waits)
{
	const struct row *old = rows_find(draft->have, row);
	uint32_t slot;

	if (old)
		return plan_change(draft, old, row);
	*ret_waits = *n_rows >= draft->limits->max_rows || !slots_take(&draft->slots, &slot);
	if (*ret_waits)
		return 0;
	(*n_rows)++;
	return add_op(&draft->plan, PLAN_ADD, row, slot) ? 0 : -ENOMEM;
}

/* Whether its packets have that way already, by the row of their remote alone. */
static bool is_in(const struct rows *have, const struct row *row)
{
	const struct row *above = find_above(have, row);

	return above && !(above->entry.flags & MAPS_FLAG_SHARED) &&
	       above->entry.game_server_ip == row->entry.game_server_ip &&
	       row_serves(above, row->inner_source);
}

/* Who is in stays in: when a remote comes to be shared, who had it comes before who has nothing yet. */
static int plan_sources(struct draft *draft)
{
	uint32_t n_rows = count_map(draft->have, ROW_SOURCES);

	for (int newcomers = 0; newcomers < 2; newcomers++) {
		for (size_t i = 0; i < draft->desired->n; i++) {
			const struct row *row = &draft->desired->list[i];
			int r;

			if (row->map != ROW_SOURCES || is_in(draft->have, row) == newcomers)
				continue;
			r = plan_upsert(draft, row, &n_rows, &draft->waits[i]);
			if (r < 0)
				return r;
		}
	}
	return 0;
}

/* What comes of the desired row of a remote; instead of a shared one whose heir found no room, its own one. */
static struct row choose_row(const struct draft *draft, const struct row *row)
{
	const struct row *old = rows_find(draft->have, row);
	const struct row *heir = old ? find_heir(draft->desired, old) : NULL;
	bool *waits = heir ? &draft->waits[heir - draft->desired->list] : NULL;

	if (!waits || !*waits)
		return *row;
	*waits = false;
	return row_of_own_source(heir);
}

static int plan_remotes(struct draft *draft)
{
	uint32_t n_rows = count_map(draft->have, ROW_REMOTES);

	draft->plan.first_remote = draft->plan.n_ops;
	for (size_t i = 0; i < draft->desired->n; i++) {
		struct row row;
		int r;

		if (draft->desired->list[i].map != ROW_REMOTES)
			continue;
		row = choose_row(draft, &draft->desired->list[i]);
		r = plan_upsert(draft, &row, &n_rows, &draft->waits[i]);
		if (r < 0)
			return r;
	}
	draft->plan.n_remotes = draft->plan.n_ops - draft->plan.first_remote;
	return 0;
}

static int plan_removals(struct draft *draft, enum row_map map, bool dead)
{
	for (size_t i = 0; i < draft->have->n; i++) {
		const struct row *row = &draft->have->list[i];

		if (row->map != map || is_dead(draft->have, row) != dead ||
			rows_find(draft->desired, row))
			continue;
		if (!add_op(&draft->plan, PLAN_REMOVE, row, row->entry.slot))
			return -ENOMEM;
	}
	return 0;
}

static int list_no_room(struct draft *draft)
{
	for (size_t i = 0; i < draft->desired->n; i++) {
		int r = draft->waits[i] ? add_no_room(&draft->plan, &draft->desired->list[i]) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

int plan_make(const struct rows *desired, const struct rows *have, const struct plan_limits *limits,
	struct plan *ret)
{
	_cleanup_(draft_done) struct draft draft = {
		.desired = desired,
		.have = have,
		.limits = limits,
		.waits = calloc(desired->n + 1, sizeof(*draft.waits)),
	};
	int r = draft.waits ? slots_init(&draft.slots, have, limits->max_slots) : -ENOMEM;

	/*
	 * The order that keeps every step safe. A shared row that appears before its sources only
	 * keeps packets on the tunnel, but sources first means that no packet of a running server
	 * takes the detour. What is dead below a remote, as a plan leaves it that was not done to
	 * its end, goes before all else: nobody wants it to count when that row becomes a shared one.
	 */
	if (r == 0)
		r = plan_removals(&draft, ROW_SOURCES, true);
	if (r == 0)
		r = plan_sources(&draft);
	if (r == 0)
		r = plan_remotes(&draft);
	if (r == 0 && limits->complete)
		r = plan_removals(&draft, ROW_REMOTES, false);
	if (r == 0 && limits->complete)
		r = plan_removals(&draft, ROW_SOURCES, false);
	if (r == 0)
		r = list_no_room(&draft);
	if (r < 0)
		return r;
	*ret = draft.plan;
	draft.plan = (struct plan){ 0 };
	return 0;
}

static int compare_remote(const void *pkey, const void *pop)
{
	const struct ip4 *remote = pkey;
	const struct plan_op *op = pop;

	return ip4_compare(*remote, op->row.remote);
}

/* The operation that adds or changes the row of a remote. */
static struct plan_op *find_remote_op(const struct plan *plan, struct ip4 remote)
{
	return plan->n_remotes > 0 ? bsearch(&remote, &plan->ops[plan->first_remote],
					     plan->n_remotes, sizeof(*plan->ops), compare_remote)
				   : NULL;
}

/* Instead of a shared one: as it is, where that is right, or none. */
static void keep_from_sharing(struct plan_op *op)
{
	if (op->verb == PLAN_ADD || op->may_wait)
		op->left_out = true;
	else
		op->verb = PLAN_REMOVE;
}

void plan_op_failed(struct plan *plan, size_t i)
{
	const struct plan_op *failed = &plan->ops[i];
	struct plan_op *above = find_remote_op(plan, failed->row.remote);

	if (failed->row.map != ROW_SOURCES || !above ||
		!(above->row.entry.flags & MAPS_FLAG_SHARED))
		return;
	/* One that is missing only leaves its packets to the tunnel; but why have that, where it need not be? */
	if (failed->verb != PLAN_ADD || above->may_wait)
		keep_from_sharing(above);
}

bool plan_hold_back(struct plan_op *op)
{
	if (op->row.entry.flags & MAPS_FLAG_SHARED && op->verb != PLAN_REMOVE)
		keep_from_sharing(op);
	else if (op->verb == PLAN_ADD)
		op->left_out = true;
	else if (op->verb == PLAN_CHANGE)
		op->row.entry.mode = MAPS_MODE_TUNNEL;
	return !op->left_out;
}

size_t plan_tunnel_of(const struct rows *desired, const struct row *row)
{
	const struct row *wanted = rows_find(desired, row), *heir = find_heir(desired, row);

	if (wanted && heir && (wanted->entry.flags & MAPS_FLAG_SHARED))
		return heir->tunnel;
	return wanted ? wanted->tunnel : SIZE_MAX;
}

static int compare_ops(const void *pa, const void *pb)
{
	const struct plan_op *const *a = pa, *const *b = pb;

	return row_compare(&(*a)->row, &(*b)->row);
}

/* A plan has at most one operation a row, so their order does not count here. */
int plan_outcome(const struct rows *have, const struct plan *plan, struct rows *ret)
{
	_cleanup_free_ const struct plan_op **ops = calloc(plan->n_ops + 1, sizeof(*ops));
	struct row *list = calloc(have->n + plan->n_ops + 1, sizeof(*list));
	size_t n = 0, i = 0;

	if (!ops || !list) {
		free(list);
		return -ENOMEM;
	}
	for (size_t j = 0; j < plan->n_ops; j++)
		ops[j] = &plan->ops[j];
	qsort(ops, plan->n_ops, sizeof(*ops), compare_ops);
	for (size_t j = 0; j < plan->n_ops; j++) {
		const struct row *row = &ops[j]->row;

		while (i < have->n && row_compare(&have->list[i], row) < 0)
			list[n++] = have->list[i++];
		if (i < have->n && row_compare(&have->list[i], row) == 0)
			i++;
		if (ops[j]->verb != PLAN_REMOVE)
			list[n++] = *row;
	}
	while (i < have->n)
		list[n++] = have->list[i++];
	*ret = (struct rows){ list, n };
	return 0;
}

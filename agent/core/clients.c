/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/clients.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

static const struct ip4_prefix everybody; /* 0.0.0.0/0 */

struct draft {
	struct clients have, wanted; /* sorted, each once */
	size_t room, n;              /* n: how many there are after what is planned */
	struct client_plan plan;
};

void clients_done(struct clients *clients)
{
	free(clients->list);
	*clients = (struct clients){ 0 };
}

void client_plan_done(struct client_plan *plan)
{
	free(plan->ops);
	*plan = (struct client_plan){ 0 };
}

static void draft_done(struct draft *draft)
{
	clients_done(&draft->have);
	clients_done(&draft->wanted);
	client_plan_done(&draft->plan);
}

static int compare(const void *pa, const void *pb)
{
	const struct ip4_prefix *a = pa, *b = pb;
	int c = ip4_compare(a->address, b->address);

	return c != 0 ? c : (a->length > b->length) - (a->length < b->length);
}

static int sort(const struct clients *clients, struct clients *ret)
{
	struct ip4_prefix *list = calloc(clients->n + 1, sizeof(*list));
	size_t n = 0;

	if (!list)
		return -ENOMEM;
	if (clients->n > 0)
		memcpy(list, clients->list, clients->n * sizeof(*list));
	qsort(list, clients->n, sizeof(*list), compare);
	for (size_t i = 0; i < clients->n; i++)
		if (n == 0 || compare(&list[n - 1], &list[i]) != 0)
			list[n++] = list[i];
	*ret = (struct clients){ list, n };
	return 0;
}

static bool has(const struct clients *clients, const struct ip4_prefix *prefix)
{
	return bsearch(prefix, clients->list, clients->n, sizeof(*prefix), compare);
}

static int add_op(struct draft *draft, const struct ip4_prefix *prefix, bool add)
{
	struct client_op *op = ARRAY_APPEND(draft->plan.ops, draft->plan.n_ops);

	if (!op)
		return -ENOMEM;
	*op = (struct client_op){ *prefix, add };
	draft->plan.n_ops++;
	draft->n = add ? draft->n + 1 : draft->n - 1;
	return 0;
}

/* All that is not wanted. If everybody is to be exempt, that comes first, or as soon as there is room for it. */
static int remove_others(struct draft *draft, bool exempt_everybody)
{
	bool is_missing = exempt_everybody && !has(&draft->have, &everybody);
	int r = 0;

	for (size_t i = 0; r == 0 && i < draft->have.n; i++) {
		const struct ip4_prefix *prefix = &draft->have.list[i];

		if (has(&draft->wanted, prefix) ||
			(exempt_everybody && compare(prefix, &everybody) == 0))
			continue;
		if (is_missing && draft->n < draft->room) {
			r = add_op(draft, &everybody, true);
			is_missing = false;
		}
		if (r == 0)
			r = add_op(draft, prefix, false);
	}
	return r == 0 && is_missing ? add_op(draft, &everybody, true) : r;
}

static int add_missing(struct draft *draft, bool is_everybody_exempt)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < draft->wanted.n && draft->n < draft->room; i++) {
		const struct ip4_prefix *prefix = &draft->wanted.list[i];

		if (!has(&draft->have, prefix) &&
			!(is_everybody_exempt && compare(prefix, &everybody) == 0))
			r = add_op(draft, prefix, true);
	}
	return r;
}

static bool fits(const struct draft *draft)
{
	size_t n = draft->have.n;

	for (size_t i = 0; i < draft->wanted.n; i++)
		n += !has(&draft->have, &draft->wanted.list[i]);
	return n <= draft->room;
}

int client_plan_make(const struct clients *have, const struct clients *wanted, size_t room,
	bool rows_are_written, struct client_plan *ret)
{
	_cleanup_(draft_done) struct draft draft = { .room = room };
	bool exempt_everybody;
	int r;

	if ((r = sort(have, &draft.have)) < 0 || (r = sort(wanted, &draft.wanted)) < 0)
		return r;
	draft.n = draft.have.n;
	exempt_everybody = !rows_are_written && !fits(&draft);
	if (rows_are_written || exempt_everybody)
		r = remove_others(&draft, exempt_everybody);
	if (r == 0)
		r = add_missing(&draft, exempt_everybody);
	if (r < 0)
		return r;
	*ret = draft.plan;
	draft.plan = (struct client_plan){ 0 };
	return 0;
}

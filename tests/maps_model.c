/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "agent/util/array.h"
#include "tests/maps_model.h"

static struct row *find(const struct rows *maps, const struct row *key)
{
	for (size_t i = 0; i < maps->n; i++)
		if (row_compare(&maps->list[i], key) == 0)
			return &maps->list[i];
	return NULL;
}

static bool add(struct rows *maps, const struct row *row)
{
	struct row *slot = ARRAY_APPEND(maps->list, maps->n);

	if (!slot)
		return false;
	*slot = *row;
	maps->n++;
	rows_sort(maps);
	return true;
}

static void remove_row(struct rows *maps, struct row *row)
{
	*row = maps->list[--maps->n];
	rows_sort(maps);
}

/* The row at rest, then its ports, then the row; what does not apply is left out. */
static void change(struct row *row, const struct plan_op *op, size_t i, bool *ret_done)
{
	bool has_ports = op->row.entry.flags & MAPS_FLAG_SERVER_PORTS;
	struct row next = op->row;

	if (i < op->rests) {
		next.entry.mode = MAPS_MODE_TUNNEL;
		next.server_ports = row->server_ports;
		*row = next;
	} else if (has_ports && i == op->rests) {
		row->server_ports = next.server_ports;
	} else {
		*row = next;
		*ret_done = true;
	}
}

bool model_write(struct rows *maps, const struct plan_op *op, size_t i, bool *ret_done)
{
	struct row *row = find(maps, &op->row);

	*ret_done = op->verb != PLAN_CHANGE;
	if (op->verb == PLAN_ADD)
		return !row && add(maps, &op->row);
	if (!row || row->entry.slot != op->row.entry.slot)
		return false;
	if (op->verb == PLAN_REMOVE)
		remove_row(maps, row);
	else
		change(row, op, i, ret_done);
	return true;
}

bool model_apply(struct rows *maps, const struct plan_op *op)
{
	bool done = false;

	for (size_t i = 0; !done; i++)
		if (i == MODEL_WRITES_MAX || !model_write(maps, op, i, &done))
			return false;
	return true;
}

struct model_way model_look_up(const struct rows *maps, struct ip4 remote, struct ip4 source)
{
	struct row key = { .map = ROW_REMOTES, .remote = remote };
	const struct row *row = find(maps, &key);
	struct model_way way = { 0 };

	if (row && (row->entry.flags & MAPS_FLAG_SHARED)) {
		key.map = ROW_SOURCES;
		key.inner_source = source;
		row = find(maps, &key);
	}
	if (!row || row->entry.mode == MAPS_MODE_TUNNEL)
		return way;
	if (row->entry.flags & MAPS_FLAG_OWN_SOURCE && row->entry.game_server_ip != source.be)
		return way;
	if (row->entry.flags & MAPS_FLAG_PRIVATE_SOURCE && !ip4_is_private(source) &&
		row->entry.game_server_ip != source.be)
		return way;
	way.game_server_ip = row->entry.game_server_ip;
	way.mode = row->entry.mode;
	way.flags = (uint16_t)(row->entry.flags & ~MAPS_FLAGS_SOURCE);
	if (way.flags & MAPS_FLAG_SERVER_PORTS)
		way.server_ports = row->server_ports;
	return way;
}

static bool have_same_ports(const struct model_way *a, const struct model_way *b)
{
	return memcmp(&a->server_ports, &b->server_ports, sizeof(a->server_ports)) == 0;
}

static bool are_equal(const struct model_way *a, const struct model_way *b)
{
	return a->game_server_ip == b->game_server_ip && a->mode == b->mode &&
	       a->flags == b->flags && have_same_ports(a, b);
}

bool model_is_safe(
	const struct model_way *was, const struct model_way *is, const struct model_way *will)
{
	if (is->game_server_ip != 0)
		return are_equal(is, was) || are_equal(is, will);
	if (was->game_server_ip == 0 || was->game_server_ip != will->game_server_ip)
		return true;
	return !have_same_ports(was, will);
}

/* SPDX-License-Identifier: MIT */
#include "agent/core/front.h"

static uint64_t word(struct ip4 remote, uint32_t low)
{
	return (uint64_t)remote.be << 32 | low;
}

static struct ip4 remote_of(uint64_t word)
{
	return (struct ip4){ (__be32)(word >> 32) };
}

static uint64_t counter_of(const struct row *row)
{
	uint32_t flags = 0;

	if (row->entry.flags & MAPS_FLAG_OWN_SOURCE)
		flags |= MAPS_FRONT_OWN_SOURCE;
	if (row->entry.flags & MAPS_FLAG_PRIVATE_SOURCE)
		flags |= MAPS_FRONT_PRIVATE_SOURCE;
	return word(row->remote, row->entry.slot | flags);
}

/* In one piece, for a reader on another CPU. */
static void store(__u64 *to, uint64_t value)
{
	__atomic_store_n(to, value, __ATOMIC_RELEASE);
}

uint32_t front_bits(uint32_t max_rows)
{
	uint32_t bits = 1;

	while (bits < MAPS_FRONT_BITS_MAX && (UINT32_C(1) << bits) * MAPS_FRONT_WAYS / 2 < max_rows)
		bits++;
	return bits;
}

bool front_takes(const struct row *row)
{
	return row->map == ROW_REMOTES && row->entry.mode == MAPS_MODE_DIRECT &&
	       (row->entry.flags & ~(MAPS_FLAG_OWN_SOURCE | MAPS_FLAG_PRIVATE_SOURCE)) == 0;
}

/* The way of a remote; with remote 0.0.0.0, a free one. NULL: there is none. */
static struct maps_front_way *find(
	const struct front *front, struct ip4 remote, struct ip4 in_bucket_of)
{
	struct maps_front *bucket = &front->buckets[maps_front_index(in_bucket_of.be, front->bits)];

	for (size_t i = 0; i < MAPS_FRONT_WAYS; i++)
		if (ip4_equal(remote_of(bucket->ways[i].address), remote))
			return &bucket->ways[i];
	return NULL;
}

static void clear(struct maps_front_way *way)
{
	store(&way->address, 0);
	store(&way->counter, 0);
}

void front_remove(const struct front *front, struct ip4 remote)
{
	struct maps_front_way *way;

	if (!front->buckets || ip4_is_none(remote))
		return;
	way = find(front, remote, remote);
	if (way)
		clear(way);
}

void front_put(const struct front *front, const struct row *row)
{
	struct maps_front_way *way;

	if (!front->buckets || !front_takes(row) || ip4_is_none(row->remote))
		return;
	way = find(front, row->remote, row->remote);
	if (!way)
		way = find(front, (struct ip4){ 0 }, row->remote);
	if (!way)
		return;
	store(&way->counter, counter_of(row));
	store(&way->address, word(row->remote, row->entry.game_server_ip));
}

/* Takes out what no row stands behind. */
static void sync_way(struct maps_front_way *way, const struct rows *rows)
{
	const struct row key = { .map = ROW_REMOTES, .remote = remote_of(way->address) };
	const struct row *row;

	if (way->address == 0)
		return;
	row = rows_find(rows, &key);
	if (!row || !front_takes(row) ||
		way->address != word(row->remote, row->entry.game_server_ip) ||
		way->counter != counter_of(row))
		clear(way);
}

void front_sync(const struct front *front, const struct rows *rows)
{
	if (!front->buckets)
		return;
	for (size_t i = 0; i < (size_t)1 << front->bits; i++)
		for (size_t j = 0; j < MAPS_FRONT_WAYS; j++)
			sync_way(&front->buckets[i].ways[j], rows);
	for (size_t i = 0; i < rows->n; i++)
		front_put(front, &rows->list[i]);
}

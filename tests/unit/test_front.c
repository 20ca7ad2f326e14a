/* SPDX-License-Identifier: MIT */
/* The front table: what a reader finds in it at any moment, against the rows that the map holds. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/front.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

#define BITS 3 /* so few buckets that some fill up */

static struct front new_front(void)
{
	struct front front = { calloc(1 << BITS, sizeof(struct maps_front)), BITS };

	assert_non_null(front.buckets);
	return front;
}

static struct row direct_row(const char *remote, const char *address, uint32_t slot)
{
	return (struct row){
		.map = ROW_REMOTES,
		.remote = ip4_of(remote),
		.entry = { .game_server_ip = ip4_of(address).be, .slot = slot },
	};
}

/* As bpf/fast.h reads it: both words must name the remote. Returns the slot; 0: not found. */
static uint32_t look_up(const struct front *front, const char *remote, struct ip4 *ret_address)
{
	struct ip4 address = ip4_of(remote);
	const struct maps_front *bucket =
		&front->buckets[maps_front_index(address.be, front->bits)];

	for (size_t i = 0; i < MAPS_FRONT_WAYS; i++) {
		const struct maps_front_way *way = &bucket->ways[i];

		if (way->address >> 32 != address.be || way->counter >> 32 != address.be)
			continue;
		*ret_address = (struct ip4){ (__be32)way->address };
		return (uint32_t)way->counter;
	}
	return 0;
}

static void check(const struct front *front, const char *remote, const char *address, uint32_t slot)
{
	struct ip4 found = { 0 };

	assert_int_equal(look_up(front, remote, &found), slot);
	if (slot)
		assert_int_equal(found.be, ip4_of(address).be);
}

static void test_put_and_remove(void **state)
{
	struct front front = new_front();
	struct row row = direct_row("192.0.2.1", "203.0.113.1", 7);

	(void)state;
	check(&front, "192.0.2.1", NULL, 0);
	front_put(&front, &row);
	check(&front, "192.0.2.1", "203.0.113.1", 7);
	row = direct_row("192.0.2.1", "203.0.113.2", 7);
	front_put(&front, &row);
	check(&front, "192.0.2.1", "203.0.113.2", 7);
	front_remove(&front, row.remote);
	check(&front, "192.0.2.1", NULL, 0);
	front_remove(&front, row.remote);
	free(front.buckets);
}

static void test_takes_only_what_the_remote_decides(void **state)
{
	struct front front = new_front();
	struct row rows[4];

	(void)state;
	for (size_t i = 0; i < 4; i++)
		rows[i] = direct_row("192.0.2.1", "203.0.113.1", 7);
	rows[0].map = ROW_SOURCES;
	rows[1].entry.mode = MAPS_MODE_SHADOW;
	rows[2].entry.flags = MAPS_FLAG_SHARED;
	rows[3].entry.flags = MAPS_FLAG_EXEMPT_CLIENTS;
	for (size_t i = 0; i < 4; i++) {
		assert_false(front_takes(&rows[i]));
		front_put(&front, &rows[i]);
	}
	check(&front, "192.0.2.1", NULL, 0);
	free(front.buckets);
}

static size_t fill(struct front *front, size_t n)
{
	size_t found = 0;

	for (size_t i = 1; i <= n; i++) {
		char remote[32];
		struct row row;

		(void)snprintf(remote, sizeof(remote), "192.0.2.%zu", i);
		row = direct_row(remote, remote, (uint32_t)i);
		front_put(front, &row);
	}
	for (size_t i = 1; i <= n; i++) {
		char remote[32];
		struct ip4 address;
		uint32_t slot;

		(void)snprintf(remote, sizeof(remote), "192.0.2.%zu", i);
		slot = look_up(front, remote, &address);
		found += slot != 0;
		if (slot) {
			assert_int_equal(slot, i);
			assert_int_equal(address.be, ip4_of(remote).be);
		}
	}
	return found;
}

static void test_full_buckets_take_no_more(void **state)
{
	struct front front = new_front();

	(void)state;
	assert_int_equal(fill(&front, 8), 8);
	assert_int_equal(fill(&front, 250), MAPS_FRONT_WAYS << BITS);
	free(front.buckets);
}

/* After a start the table is empty or, if somebody else wrote the maps, wrong. */
static void test_sync_mends_everything(void **state)
{
	struct front front = new_front();
	struct row list[] = {
		direct_row("192.0.2.1", "203.0.113.1", 1),
		direct_row("192.0.2.2", "203.0.113.2", 2),
		direct_row("192.0.2.3", "203.0.113.3", 3),
		direct_row("192.0.2.4", "203.0.113.4", 4),
	};
	struct rows rows = { list, 4 };
	struct row gone = direct_row("192.0.2.9", "203.0.113.9", 9);
	struct row other_address = direct_row("192.0.2.1", "203.0.113.7", 1);
	struct row other_slot = direct_row("192.0.2.2", "203.0.113.2", 8);

	(void)state;
	list[3].entry.mode = MAPS_MODE_TUNNEL;
	front_put(&front, &gone);
	front_put(&front, &other_address);
	front_put(&front, &other_slot);
	list[3].entry.mode = MAPS_MODE_DIRECT;
	front_put(&front, &list[3]);
	list[3].entry.mode = MAPS_MODE_TUNNEL;
	front_sync(&front, &rows);
	check(&front, "192.0.2.1", "203.0.113.1", 1);
	check(&front, "192.0.2.2", "203.0.113.2", 2);
	check(&front, "192.0.2.3", "203.0.113.3", 3);
	check(&front, "192.0.2.4", NULL, 0);
	check(&front, "192.0.2.9", NULL, 0);
	rows.n = 0;
	front_sync(&front, &rows);
	check(&front, "192.0.2.1", NULL, 0);
	free(front.buckets);
}

static void test_size(void **state)
{
	(void)state;
	assert_int_equal(front_bits(1), 1);
	assert_int_equal(front_bits(16384), 13);
	assert_int_equal(front_bits(65536), 15);
	assert_int_equal(front_bits(1048576), MAPS_FRONT_BITS_MAX);
	assert_true(maps_front_index(UINT32_MAX, MAPS_FRONT_BITS_MAX) < 1 << MAPS_FRONT_BITS_MAX);
}

/* The CLI, and a dry run, have no table. */
static void test_no_table(void **state)
{
	const struct front front = { 0 };
	const struct rows rows = { 0 };
	struct row row = direct_row("192.0.2.1", "203.0.113.1", 7);

	(void)state;
	front_put(&front, &row);
	front_remove(&front, row.remote);
	front_sync(&front, &rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_and_remove),
		cmocka_unit_test(test_takes_only_what_the_remote_decides),
		cmocka_unit_test(test_full_buckets_take_no_more),
		cmocka_unit_test(test_sync_mends_everything),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_no_table),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

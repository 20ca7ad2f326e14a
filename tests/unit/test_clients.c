/* SPDX-License-Identifier: MIT */
/* Properties of the plan for exempt clients, over many generated pairs of lists, with a model of the map in memory. */

#include <arpa/inet.h>
#include <string.h>

#include "agent/core/clients.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tests/random.h"
#include "tests/unit/unit.h"

#define ROUNDS 5000
#define ROOM 8
#define CLIENTS 16 /* all that there are, and one that no prefix but everybody's has */

struct world {
	struct clients have, wanted, before;
	bool is_full; /* one of the lists is as long as there is room */
};

static struct ip4 client(uint32_t n)
{
	return (struct ip4){ htonl(0xc0000200 + n) };
}

static bool exempts(const struct clients *clients, struct ip4 address)
{
	for (size_t i = 0; i < clients->n; i++)
		if (ip4_in_prefix(address, &clients->list[i]))
			return true;
	return false;
}

static size_t find(const struct clients *clients, const struct ip4_prefix *prefix)
{
	size_t i = 0;

	while (i < clients->n && (clients->list[i].length != prefix->length ||
					 !ip4_equal(clients->list[i].address, prefix->address)))
		i++;
	return i;
}

static void append(struct clients *clients, const struct ip4_prefix *prefix)
{
	struct ip4_prefix *slot = ARRAY_APPEND(clients->list, clients->n);

	assert_non_null(slot);
	*slot = *prefix;
	clients->n++;
}

static struct clients random_clients(bool twice)
{
	struct clients clients = { 0 };

	for (uint32_t i = random_below(ROOM + 1); i > 0; i--) {
		uint32_t bits = random_below(5);
		struct ip4_prefix prefix = { client(random_below(CLIENTS) >> bits << bits),
			(uint8_t)(32 - bits) };

		if (random_below(20) == 0)
			prefix = (struct ip4_prefix){ 0 };
		if (twice || find(&clients, &prefix) == clients.n)
			append(&clients, &prefix);
	}
	return clients;
}

static struct clients copy(const struct clients *clients)
{
	struct clients made = { 0 };

	for (size_t i = 0; i < clients->n; i++)
		append(&made, &clients->list[i]);
	return made;
}

/* As the strictest kernel: nothing is there twice, and there is no room for what is there. */
static void apply(struct clients *clients, const struct client_op *op)
{
	size_t i = find(clients, &op->prefix);

	if (op->add) {
		assert_true(i == clients->n && clients->n < ROOM);
		append(clients, &op->prefix);
	} else {
		assert_true(i < clients->n);
		clients->list[i] = clients->list[--clients->n];
	}
}

/* Those of `must` stay exempt. With no room to spare one prefix may be missing. */
static void check_step(const struct world *world, const struct clients *must)
{
	struct clients missing = { 0 };

	for (uint32_t i = 0; i <= CLIENTS; i++)
		if (exempts(must, client(i)) && !exempts(&world->have, client(i)))
			append(&missing, &(struct ip4_prefix){ client(i), 32 });
	for (size_t i = 0; i < must->n; i++) {
		bool is_it = true;

		for (size_t j = 0; j < missing.n; j++)
			is_it = is_it && ip4_in_prefix(missing.list[j].address, &must->list[i]);
		if (is_it && world->is_full)
			missing.n = 0;
	}
	assert_int_equal(missing.n, 0);
	clients_done(&missing);
}

static void run(struct world *world, bool rows_are_written, const struct clients *must)
{
	_cleanup_(client_plan_done) struct client_plan plan = { 0 };

	assert_int_equal(
		client_plan_make(&world->have, &world->wanted, ROOM, rows_are_written, &plan), 0);
	for (size_t i = 0; i < plan.n_ops; i++) {
		apply(&world->have, &plan.ops[i]);
		check_step(world, must);
	}
}

static void check_end(const struct world *world)
{
	for (size_t i = 0; i < world->wanted.n; i++)
		assert_true(find(&world->have, &world->wanted.list[i]) < world->have.n);
	for (size_t i = 0; i < world->have.n; i++)
		assert_true(find(&world->wanted, &world->have.list[i]) < world->wanted.n);
}

static void test_nobody_goes_direct_meanwhile(void **state)
{
	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		struct world world = { .have = random_clients(false),
			.wanted = random_clients(true) };
		bool again = random_below(4) == 0;

		world.before = copy(&world.have);
		world.is_full = world.have.n == ROOM || world.wanted.n == ROOM;
		run(&world, false, &world.before);
		for (uint32_t j = 0; j <= CLIENTS; j++)
			assert_true(exempts(&world.have, client(j)) ||
				    (!exempts(&world.before, client(j)) &&
					    !exempts(&world.wanted, client(j))));
		if (again) { /* the rows could not be written */
			size_t n = world.have.n;

			run(&world, false, &world.before);
			assert_int_equal(world.have.n, n);
		}
		run(&world, true, &world.wanted);
		check_end(&world);
		clients_done(&world.have);
		clients_done(&world.wanted);
		clients_done(&world.before);
	}
}

/* Somebody else wrote the map, or an agent was killed. */
static void test_from_anything_in_one_go(void **state)
{
	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		_cleanup_(client_plan_done) struct client_plan plan = { 0 };
		struct world world = { .have = random_clients(false),
			.wanted = random_clients(true) };

		assert_int_equal(
			client_plan_make(&world.have, &world.wanted, ROOM, true, &plan), 0);
		for (size_t j = 0; j < plan.n_ops; j++)
			apply(&world.have, &plan.ops[j]);
		check_end(&world);
		clients_done(&world.have);
		clients_done(&world.wanted);
	}
}

static void test_what_is_there_is_not_written_again(void **state)
{
	(void)state;
	for (int i = 0; i < ROUNDS; i++) {
		struct clients have = random_clients(false);

		for (int written = 0; written <= 1; written++) {
			_cleanup_(client_plan_done) struct client_plan plan = { 0 };

			assert_int_equal(client_plan_make(&have, &have, ROOM, written, &plan), 0);
			assert_int_equal(plan.n_ops, 0);
		}
		clients_done(&have);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nobody_goes_direct_meanwhile),
		cmocka_unit_test(test_from_anything_in_one_go),
		cmocka_unit_test(test_what_is_there_is_not_written_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

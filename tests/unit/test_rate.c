/* SPDX-License-Identifier: MIT */
/* From two readings of counters to rates. */

#include <stdio.h>

#include "tests/unit/unit.h"
#include "tools/ctl/rate.h"

static struct slot_counters counters(uint64_t packets, uint64_t bytes, uint64_t no_next_hop)
{
	struct slot_counters counters = { .direct = { packets, bytes } };

	counters.kept.packets[MAPS_KEPT_NO_NEXT_HOP] = no_next_hop;
	return counters;
}

static void test_difference_over_time(void **state)
{
	struct slot_counters before = counters(100, 1000, 7), now = counters(150, 3000, 8);
	struct rate rate = rate_make(&before, &now, 0.5);

	(void)state;
	assert_true(rate.known);
	assert_true(rate.packets == 100 && rate.bytes == 4000);
	assert_true(rate.kept[MAPS_KEPT_NO_NEXT_HOP] == 2);
}

static void test_nothing_before_is_unknown(void **state)
{
	struct slot_counters now = counters(1, 1, 1);

	(void)state;
	assert_false(rate_make(NULL, &now, 1).known);
	assert_false(rate_make(&now, &now, 0).known);
	assert_true(rate_make(&now, &now, 1).known);
}

/* A zeroed slot must not look like a burst of 2^64 packets. */
static void test_counters_that_went_back_are_unknown(void **state)
{
	struct slot_counters before = counters(100, 1000, 7);
	struct slot_counters packets = counters(99, 2000, 8), bytes = counters(101, 999, 8),
			     kept = counters(101, 2000, 6);

	(void)state;
	assert_false(rate_make(&before, &packets, 1).known);
	assert_false(rate_make(&before, &bytes, 1).known);
	assert_false(rate_make(&before, &kept, 1).known);
}

static void test_unknown_adds_nothing(void **state)
{
	struct slot_counters before = counters(0, 0, 0), now = counters(10, 100, 1);
	struct rate sum = { 0 }, known = rate_make(&before, &now, 1), unknown = { 0 };

	(void)state;
	rate_add(&sum, &unknown);
	assert_false(sum.known);
	rate_add(&sum, &known);
	rate_add(&sum, &unknown);
	rate_add(&sum, &known);
	assert_true(sum.known && sum.packets == 20);
}

static void test_kept_is_without_shadow_and_drops(void **state)
{
	struct rate rate = { .known = true };
	enum maps_reason reason = MAPS_KEPT_NO_ENTRY;

	(void)state;
	assert_true(rate_kept(&rate, &reason) == 0);
	assert_int_equal(reason, MAPS_REASON_COUNT);
	rate.kept[MAPS_KEPT_SHADOW] = 1000;
	rate.kept[MAPS_DROP_WRITE_FAILED] = 1000;
	rate.kept[MAPS_KEPT_SERVER_PORT] = 3;
	rate.kept[MAPS_KEPT_NO_ENTRY] = 4;
	assert_true(rate_kept(&rate, &reason) == 7);
	assert_int_equal(reason, MAPS_KEPT_NO_ENTRY);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_difference_over_time),
		cmocka_unit_test(test_nothing_before_is_unknown),
		cmocka_unit_test(test_counters_that_went_back_are_unknown),
		cmocka_unit_test(test_unknown_adds_nothing),
		cmocka_unit_test(test_kept_is_without_shadow_and_drops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

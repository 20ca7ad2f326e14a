/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <stdio.h>

#include "agent/core/offload.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tests/unit/unit.h"

/* clang-format off */
/* What a device may say of the feature. */
#define ABSENT { .changeable = false }
#define FIXED_ON { .wanted = true, .active = true }
#define ON { .changeable = true, .wanted = true, .active = true }
#define HELD_DOWN { .changeable = true, .wanted = true }
#define OFF { .changeable = true }
/* clang-format on */

static const struct decision_case {
	const char *name;
	enum offload_policy policy;
	bool kernel_clears;
	struct offload_feature feature;
	bool ours;
	enum offload_verb verb;
	enum offload_reason reason;
	bool safe;
} cases[] = {
	{ "auto, on", OFFLOAD_AUTO, false, ON, false, OFFLOAD_TURN_OFF, OFFLOAD_REASON_TURNED_OFF,
		true },
	{ "auto, turned on again by somebody", OFFLOAD_AUTO, false, ON, true, OFFLOAD_TURN_OFF,
		OFFLOAD_REASON_TURNED_OFF, true },
	{ "auto, wanted and held down", OFFLOAD_AUTO, false, HELD_DOWN, false, OFFLOAD_TURN_OFF,
		OFFLOAD_REASON_TURNED_OFF, true },
	{ "auto, off by us", OFFLOAD_AUTO, false, OFF, true, OFFLOAD_LEAVE,
		OFFLOAD_REASON_TURNED_OFF, true },
	{ "auto, off by the user", OFFLOAD_AUTO, false, OFF, false, OFFLOAD_LEAVE,
		OFFLOAD_REASON_ALREADY_OFF, true },
	{ "auto, no such feature", OFFLOAD_AUTO, false, ABSENT, false, OFFLOAD_LEAVE,
		OFFLOAD_REASON_NO_FEATURE, true },
	{ "auto, fixed", OFFLOAD_AUTO, false, FIXED_ON, false, OFFLOAD_LEAVE,
		OFFLOAD_REASON_FIXED_ON, false },
	{ "auto, kernel clears", OFFLOAD_AUTO, true, ON, false, OFFLOAD_LEAVE,
		OFFLOAD_REASON_KERNEL_CLEARS, true },
	{ "auto, kernel clears, fixed", OFFLOAD_AUTO, true, FIXED_ON, false, OFFLOAD_LEAVE,
		OFFLOAD_REASON_KERNEL_CLEARS, true },
	{ "auto, kernel clears, was on before", OFFLOAD_AUTO, true, OFF, true, OFFLOAD_GIVE_BACK,
		OFFLOAD_REASON_KERNEL_CLEARS, true },
	{ "on, on", OFFLOAD_ON, false, ON, false, OFFLOAD_TURN_OFF, OFFLOAD_REASON_TURNED_OFF,
		true },
	{ "on, kernel clears", OFFLOAD_ON, true, ON, false, OFFLOAD_TURN_OFF,
		OFFLOAD_REASON_TURNED_OFF, true },
	{ "on, kernel clears, off by us", OFFLOAD_ON, true, OFF, true, OFFLOAD_LEAVE,
		OFFLOAD_REASON_TURNED_OFF, true },
	{ "on, kernel clears, off by the user", OFFLOAD_ON, true, OFF, false, OFFLOAD_LEAVE,
		OFFLOAD_REASON_ALREADY_OFF, true },
	{ "on, fixed", OFFLOAD_ON, false, FIXED_ON, false, OFFLOAD_LEAVE, OFFLOAD_REASON_FIXED_ON,
		false },
	{ "on, kernel clears, fixed", OFFLOAD_ON, true, FIXED_ON, false, OFFLOAD_LEAVE,
		OFFLOAD_REASON_FIXED_ON, true },
	{ "off, on", OFFLOAD_OFF, false, ON, false, OFFLOAD_LEAVE, OFFLOAD_REASON_POLICY_OFF,
		true },
	{ "off, fixed", OFFLOAD_OFF, false, FIXED_ON, false, OFFLOAD_LEAVE,
		OFFLOAD_REASON_POLICY_OFF, true },
	{ "off, off by us", OFFLOAD_OFF, false, OFF, true, OFFLOAD_GIVE_BACK,
		OFFLOAD_REASON_POLICY_OFF, true },
	{ "off, off by the user", OFFLOAD_OFF, false, OFF, false, OFFLOAD_LEAVE,
		OFFLOAD_REASON_POLICY_OFF, true },
};

static void decides(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		const struct decision_case *c = &cases[i];
		struct offload_decision decision =
			offload_decide(c->policy, c->kernel_clears, &c->feature, c->ours);

		if (decision.verb != c->verb || decision.reason != c->reason)
			fail_msg("%s: verb %d, %s", c->name, decision.verb,
				offload_reason_name(decision.reason));
		if (offload_is_safe(decision.reason, c->kernel_clears) != c->safe)
			fail_msg("%s: expected it %ssafe", c->name, c->safe ? "" : "un");
	}
}

/* Carrying a decision out and deciding anew changes nothing more: the guard is idempotent. */
static void settles(void **state)
{
	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		const struct decision_case *c = &cases[i];
		struct offload_feature feature = c->feature;
		struct offload_decision next;
		bool ours = c->ours;

		if (c->verb == OFFLOAD_TURN_OFF)
			feature.wanted = feature.active = false;
		if (c->verb == OFFLOAD_GIVE_BACK)
			feature.wanted = feature.active = true;
		if (c->verb != OFFLOAD_LEAVE)
			ours = c->verb == OFFLOAD_TURN_OFF;
		next = offload_decide(c->policy, c->kernel_clears, &feature, ours);
		if (next.verb != OFFLOAD_LEAVE || next.reason != c->reason)
			fail_msg("%s: then verb %d, %s", c->name, next.verb,
				offload_reason_name(next.reason));
	}
}

static void a_failure_is_unsafe(void **state)
{
	(void)state;
	assert_false(offload_is_safe(OFFLOAD_REASON_FAILED, false));
	assert_true(offload_is_safe(OFFLOAD_REASON_FAILED, true));
}

static void policies_have_names(void **state)
{
	enum offload_policy policy = OFFLOAD_ON;

	(void)state;
	assert_int_equal(offload_policy_parse("yes", &policy), -EINVAL);
	assert_int_equal(policy, OFFLOAD_ON);
	for (enum offload_policy i = OFFLOAD_AUTO; i <= OFFLOAD_OFF; i++) {
		assert_int_equal(offload_policy_parse(offload_policy_name(i), &policy), 0);
		assert_int_equal(policy, i);
	}
}

static void add(struct offload_memory *memory, uint64_t netns, uint32_t ifindex, const char *name)
{
	struct offload_record record = { .netns = netns, .ifindex = ifindex };

	(void)snprintf(record.ifname, sizeof(record.ifname), "%s", name);
	assert_int_equal(offload_memory_add(memory, &record), 0);
}

static char *text_of(const struct offload_memory *memory)
{
	json_t *document = offload_memory_make(memory);
	char *text;

	assert_non_null(document);
	text = json_dumps(document, 0);
	json_decref(document);
	assert_non_null(text);
	return text;
}

static void memory_comes_back(void **state)
{
	_cleanup_(offload_memory_done) struct offload_memory memory = { 0 }, again = { 0 };
	_cleanup_free_ char *text = NULL, *text_again = NULL;

	(void)state;
	add(&memory, 4026531840, 2, "eth0");
	add(&memory, 4026532000, 2, "eth0");
	add(&memory, 4026531840, 7, "na\xffme"); /* a name is bytes */
	add(&memory, 4026531840, 2, "renamed");  /* is there already */
	assert_int_equal(memory.n, 3);
	text = text_of(&memory);
	assert_int_equal(offload_memory_parse(text, strlen(text), &again), 0);
	text_again = text_of(&again);
	assert_int_equal(again.n, 3);
	assert_non_null(offload_memory_find(&again, 4026532000, 2));
	assert_null(offload_memory_find(&again, 4026532000, 7));
	offload_memory_remove(&again, 4026531840, 2);
	offload_memory_remove(&again, 4026531840, 99);
	assert_int_equal(again.n, 2);
	assert_null(offload_memory_find(&again, 4026531840, 2));
	assert_non_null(offload_memory_find(&again, 4026532000, 2));
}

static void bad_memory_is_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{\"version\": 1}",
		"{\"version\": 2, \"turned_off\": []}",
		"{\"version\": 1, \"turned_off\": [1]}",
		"{\"version\": 1, \"turned_off\": [{\"netns\": 1, \"ifindex\": 0, \"ifname\": \"x\","
		" \"feature\": \"tx-ipxip4-segmentation\"}]}",
		"{\"version\": 1, \"turned_off\": [{\"netns\": 1, \"ifindex\": 4294967298,"
		" \"ifname\": \"x\", \"feature\": \"tx-ipxip4-segmentation\"}]}",
		"{\"version\": 1, \"turned_off\": [{\"netns\": 1, \"ifindex\": 2, \"ifname\": \"x\","
		" \"feature\": \"rx-gro-list\"}]}",
		"{\"version\": 1, \"turned_off\": [{\"netns\": 1, \"ifindex\": 2, \"ifname\": \"x\"",
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(texts); i++) {
		struct offload_memory memory = { .n = 7 };

		if (offload_memory_parse(texts[i], strlen(texts[i]), &memory) != -EBADMSG)
			fail_msg("'%s' is taken", texts[i]);
		assert_int_equal(memory.n, 7); /* untouched */
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(decides),
		cmocka_unit_test(settles),
		cmocka_unit_test(a_failure_is_unsafe),
		cmocka_unit_test(policies_have_names),
		cmocka_unit_test(memory_comes_back),
		cmocka_unit_test(bad_memory_is_refused),
	};

	return cmocka_run_group_tests_name("offload", tests, NULL, NULL);
}

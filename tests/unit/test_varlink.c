/* SPDX-License-Identifier: MIT */
/* Calls as bytes, and what is made of them. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/varlink.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tests/unit/unit.h"

static void assert_error(const char *text, const char *name, const char *key, const char *value)
{
	_cleanup_(varlink_call_done) struct varlink_call call = { 0 };
	json_t *parameters;

	assert_int_equal(varlink_parse(text, strlen(text), &call), 0);
	assert_non_null(call.error);
	assert_string_equal(json_string_value(json_object_get(call.error, "error")), name);
	parameters = json_object_get(call.error, "parameters");
	assert_string_equal(json_string_value(json_object_get(parameters, key)), value);
}

static void a_call_is_understood(void **state)
{
	static const char text[] = "{\"method\": \"io.ipipdirect.SetMode\", \"parameters\": "
				   "{\"netns\": \"a\", \"ifname\": \"b\", \"mode\": \"shadow\"}}";
	_cleanup_(varlink_call_done) struct varlink_call call = { 0 };

	(void)state;
	assert_int_equal(varlink_parse(text, strlen(text), &call), 0);
	assert_null(call.error);
	assert_int_equal(call.method, VARLINK_SET_MODE);
	assert_false(call.oneway || call.more);
	assert_string_equal(json_string_value(json_object_get(call.parameters, "mode")), "shadow");
}

static void flags_are_read(void **state)
{
	static const struct {
		const char *text;
		bool oneway, more;
	} calls[] = {
		{ "{\"method\":\"io.ipipdirect.Resync\",\"oneway\":true}", true, false },
		{ "{\"method\":\"io.ipipdirect.Monitor\",\"more\":true,\"parameters\":null}", false,
			true },
		{ "{\"method\":\"io.ipipdirect.GetStatus\",\"oneway\":false,\"parameters\":{}}",
			false, false },
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(calls); i++) {
		_cleanup_(varlink_call_done) struct varlink_call call = { 0 };

		assert_int_equal(varlink_parse(calls[i].text, strlen(calls[i].text), &call), 0);
		assert_null(call.error);
		assert_int_equal(call.oneway, calls[i].oneway);
		assert_int_equal(call.more, calls[i].more);
	}
}

static void what_is_no_call_is_refused(void **state)
{
	static const char *const texts[] = { "", "{", "null", "[]", "\"x\"", "{}", "{\"method\":1}",
		"{\"method\":\"a.b\",\"method\":\"a.b\"}", "{\"method\":\"a.b\"} x",
		"{\"method\":\"a.b\",\"parameters\":[]}", "{\"method\":\"a.b\",\"more\":1}",
		"{\"method\":\"a.b\",\"oneway\":true,\"more\":true}", "{\"method\":\"\xff\"}" };
	struct varlink_call call = { .method = VARLINK_MONITOR };

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(texts); i++)
		assert_int_equal(varlink_parse(texts[i], strlen(texts[i]), &call), -EBADMSG);
	assert_int_equal(call.method, VARLINK_MONITOR);
}

static void errors_name_what_is_wrong(void **state)
{
	(void)state;
	assert_error("{\"method\":\"io.ipipdirect.x\"}", "org.varlink.service.MethodNotFound",
		"method", "x");
	assert_error("{\"method\":\"a.b.c\"}", "org.varlink.service.InterfaceNotFound", "interface",
		"a.b");
	assert_error("{\"method\":\"nothing\"}", "org.varlink.service.InterfaceNotFound",
		"interface", "nothing");
	assert_error("{\"method\":\"io.ipipdirect.Resync\",\"parameters\":{\"x\":null}}",
		"org.varlink.service.InvalidParameter", "parameter", "x");
	assert_error("{\"method\":\"io.ipipdirect.SetMode\",\"parameters\":{\"netns\":1}}",
		"org.varlink.service.InvalidParameter", "parameter", "netns");
	assert_error("{\"method\":\"io.ipipdirect.Resync\",\"upgrade\":true}",
		"org.varlink.service.InvalidParameter", "parameter", "upgrade");
}

static void depth_is_bounded_and_strings_have_none(void **state)
{
	static const char head[] = "{\"method\":\"io.ipipdirect.Resync\",\"parameters\":{\"x\":";
	char text[512];

	(void)state;
	/* The two objects around it count. */
	for (int depth = VARLINK_DEPTH_MAX - 4; depth <= VARLINK_DEPTH_MAX; depth++) {
		struct varlink_call call = { 0 };
		size_t n = (size_t)snprintf(text, sizeof(text), "%s", head);
		int r;

		for (int i = 0; i < depth; i++)
			text[n++] = '[';
		for (int i = 0; i < depth; i++)
			text[n++] = ']';
		memcpy(text + n, "}}", 3);
		r = varlink_parse(text, strlen(text), &call);
		assert_int_equal(r, depth + 2 <= VARLINK_DEPTH_MAX ? 0 : -EBADMSG);
		varlink_call_done(&call);
	}
	(void)snprintf(text, sizeof(text), "%s\"[[[[[[[[[[[[[[[[[[[[[\\\"[[[[[[\"}}", head);
	assert_error(text, "org.varlink.service.InvalidParameter", "parameter", "x");
}

static void size_is_bounded(void **state)
{
	_cleanup_free_ char *text = malloc(VARLINK_MESSAGE_MAX + 1);
	_cleanup_(varlink_call_done) struct varlink_call call = { 0 };
	static const char head[] = "{\"method\":\"org.varlink.service.GetInfo\"}";

	(void)state;
	assert_non_null(text);
	memset(text, ' ', VARLINK_MESSAGE_MAX + 1);
	memcpy(text, head, strlen(head));
	assert_int_equal(varlink_parse(text, VARLINK_MESSAGE_MAX + 1, &call), -EBADMSG);
	assert_int_equal(varlink_parse(text, VARLINK_MESSAGE_MAX, &call), 0);
	assert_int_equal(call.method, VARLINK_GET_INFO);
}

/* A message cut anywhere, or with any byte changed, is refused or understood; nothing else. */
static void any_damage_is_survived(void **state)
{
	static const char text[] =
		"{\"method\":\"io.ipipdirect.SetMode\",\"parameters\":{\"netns\":\"a\","
		"\"ifname\":\"b\",\"mode\":null,\"until_reload\":true},\"more\":false}";
	char copy[sizeof(text)];

	(void)state;
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		for (int byte = 0; byte < 256; byte++) {
			_cleanup_(varlink_call_done) struct varlink_call call = { 0 };
			int r;

			memcpy(copy, text, sizeof(text));
			copy[i] = (char)byte;
			r = varlink_parse(copy, sizeof(text) - 1, &call);
			assert_true(r == 0 || r == -EBADMSG);
		}
		assert_int_equal(varlink_parse(text, i, &(struct varlink_call){ 0 }), -EBADMSG);
	}
}

static void the_interface_is_described(void **state)
{
	static const char text[] = "{\"method\":\"org.varlink.service.GetInterfaceDescription\","
				   "\"parameters\":{\"interface\":\"io.ipipdirect\"}}";
	_cleanup_(varlink_call_done) struct varlink_call call = { 0 };
	json_auto_t *reply = NULL, *info = varlink_info();
	const char *description;

	(void)state;
	assert_non_null(info);
	assert_int_equal(varlink_parse(text, strlen(text), &call), 0);
	reply = varlink_description(&call);
	description = json_string_value(
		json_object_get(json_object_get(reply, "parameters"), "description"));
	assert_non_null(strstr(description, "\ninterface io.ipipdirect\n"));
	assert_non_null(strstr(description, "\nmethod GetStatus() -> (status: object)\n"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_call_is_understood),
		cmocka_unit_test(flags_are_read),
		cmocka_unit_test(what_is_no_call_is_refused),
		cmocka_unit_test(errors_name_what_is_wrong),
		cmocka_unit_test(depth_is_bounded_and_strings_have_none),
		cmocka_unit_test(size_is_bounded),
		cmocka_unit_test(any_damage_is_survived),
		cmocka_unit_test(the_interface_is_described),
	};

	return cmocka_run_group_tests_name("varlink", tests, NULL, NULL);
}

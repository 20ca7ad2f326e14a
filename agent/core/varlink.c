/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "agent/core/config.h"
#include "agent/core/varlink.h"
#include "agent/util/array.h"

static const char service_text[] =
#include "schema/org.varlink.service.varlink.h"
	;
static const char ipipdirect_text[] =
#include "schema/io.ipipdirect.varlink.h"
	;

static const struct {
	const char *name;
	const char *description;
} interfaces[] = {
	{ VARLINK_SERVICE, service_text },
	{ VARLINK_IPIPDIRECT, ipipdirect_text },
};

enum kind {
	KIND_STRING,
	KIND_BOOL,
	KIND_MODE,
};

#define PARAMETERS_MAX 4

struct parameter {
	const char *name;
	enum kind kind;
	bool optional; /* null, or not there */
};

static const struct method {
	const char *name;
	bool changes;
	bool streams; /* only with "more" */
	struct parameter parameters[PARAMETERS_MAX];
} methods[VARLINK_METHOD_COUNT] = {
	[VARLINK_GET_INFO] = { VARLINK_SERVICE ".GetInfo" },
	[VARLINK_GET_INTERFACE_DESCRIPTION] = { VARLINK_SERVICE ".GetInterfaceDescription",
		.parameters = { { "interface", KIND_STRING } } },
	[VARLINK_GET_STATUS] = { VARLINK_IPIPDIRECT ".GetStatus" },
	[VARLINK_LIST_TUNNELS] = { VARLINK_IPIPDIRECT ".ListTunnels" },
	[VARLINK_LIST_NAMESPACES] = { VARLINK_IPIPDIRECT ".ListNamespaces" },
	[VARLINK_RESYNC] = { VARLINK_IPIPDIRECT ".Resync", .changes = true },
	[VARLINK_RELOAD] = { VARLINK_IPIPDIRECT ".Reload", .changes = true },
	[VARLINK_SET_MODE] = { VARLINK_IPIPDIRECT ".SetMode", .changes = true,
		.parameters = { { "netns", KIND_STRING }, { "ifname", KIND_STRING },
			{ "mode", KIND_MODE, true }, { "until_reload", KIND_BOOL, true } } },
	[VARLINK_ATTACH] = { VARLINK_IPIPDIRECT ".Attach", .changes = true,
		.parameters = { { "ifname", KIND_STRING, true } } },
	[VARLINK_DETACH] = { VARLINK_IPIPDIRECT ".Detach", .changes = true },
	[VARLINK_MONITOR] = { VARLINK_IPIPDIRECT ".Monitor", .streams = true },
};

bool varlink_changes(enum varlink_method method)
{
	return methods[method].changes;
}

json_t *varlink_reply(json_t *parameters, bool continues)
{
	if (continues)
		return json_pack("{s:o, s:b}", "parameters", parameters, "continues", 1);
	return json_pack("{s:o}", "parameters", parameters);
}

json_t *varlink_error(const char *name, json_t *parameters)
{
	return json_pack("{s:s, s:o}", "error", name, "parameters", parameters);
}

/* jansson would follow some thousand levels by recursion. Strings may hold any bracket. */
static bool is_too_deep(const char *text, size_t size)
{
	size_t depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < size; i++) {
		if (quoted) {
			if (text[i] == '\\')
				i++;
			else if (text[i] == '"')
				quoted = false;
		} else if (text[i] == '"') {
			quoted = true;
		} else if (text[i] == '{' || text[i] == '[') {
			if (++depth > VARLINK_DEPTH_MAX)
				return true;
		} else if ((text[i] == '}' || text[i] == ']') && depth > 0) {
			depth--;
		}
	}
	return false;
}

static bool fits(const json_t *value, const struct parameter *parameter)
{
	enum maps_mode mode;

	if (!value || json_is_null(value))
		return parameter->optional;
	switch (parameter->kind) {
	case KIND_STRING:
		return json_is_string(value);
	case KIND_BOOL:
		return json_is_boolean(value);
	case KIND_MODE:
		return json_is_string(value) &&
		       maps_mode_parse(json_string_value(value), &mode) == 0;
	}
	return false;
}

static bool takes(const struct method *method, const char *name)
{
	for (size_t i = 0; i < PARAMETERS_MAX && method->parameters[i].name; i++)
		if (strcmp(method->parameters[i].name, name) == 0)
			return true;
	return false;
}

/* The first parameter that is wrong; NULL: none is. */
static const char *wrong_parameter(const struct method *method, json_t *parameters)
{
	const char *name;
	json_t *value;

	for (size_t i = 0; i < PARAMETERS_MAX && method->parameters[i].name; i++) {
		const struct parameter *parameter = &method->parameters[i];

		if (!fits(json_object_get(parameters, parameter->name), parameter))
			return parameter->name;
	}
	json_object_foreach(parameters, name, value) if (!takes(method, name)) return name;
	return NULL;
}

static json_t *invalid_parameter(const char *name)
{
	return varlink_error(
		VARLINK_SERVICE ".InvalidParameter", json_pack("{s:s}", "parameter", name));
}

static const struct method *find_method(const char *name)
{
	for (size_t i = 0; i < ELEMENTS_OF(methods); i++)
		if (strcmp(methods[i].name, name) == 0)
			return &methods[i];
	return NULL;
}

/* Either the interface is not ours, or it has no such method. */
static json_t *method_not_found(const char *name)
{
	const char *dot = strrchr(name, '.');
	size_t n = dot ? (size_t)(dot - name) : strlen(name);

	for (size_t i = 0; i < ELEMENTS_OF(interfaces); i++)
		if (dot && strlen(interfaces[i].name) == n &&
			memcmp(interfaces[i].name, name, n) == 0)
			return varlink_error(VARLINK_SERVICE ".MethodNotFound",
				json_pack("{s:s}", "method", dot + 1));
	return varlink_error(
		VARLINK_SERVICE ".InterfaceNotFound", json_pack("{s:s%}", "interface", name, n));
}

/* NULL: the call can be made, or there is no memory to say why not (`*ret_refused`). */
static json_t *check_call(const char *name, const struct method *method, json_t *parameters,
	const struct varlink_call *call, bool upgrade, bool *ret_refused)
{
	const char *wrong = method ? wrong_parameter(method, parameters) : NULL;

	*ret_refused = true;
	if (!method)
		return method_not_found(name);
	if (upgrade)
		return invalid_parameter("upgrade");
	if (wrong)
		return invalid_parameter(wrong);
	if (method->streams && !call->more)
		return varlink_error(VARLINK_SERVICE ".ExpectedMore", json_object());
	*ret_refused = false;
	return NULL;
}

/* Absent is false; anything but a boolean is no call. */
static bool read_flag(const json_t *message, const char *name, bool *ret)
{
	const json_t *value = json_object_get(message, name);

	*ret = json_is_true(value);
	return !value || json_is_boolean(value);
}

static int read_call(json_t *message, struct varlink_call *ret)
{
	json_t *parameters = json_object_get(message, "parameters");
	const char *name = json_string_value(json_object_get(message, "method"));
	struct varlink_call call = { 0 };
	const struct method *method;
	bool upgrade, refused;

	if (json_is_null(parameters))
		parameters = NULL;
	if (!name || (parameters && !json_is_object(parameters)) ||
		!read_flag(message, "oneway", &call.oneway) ||
		!read_flag(message, "more", &call.more) ||
		!read_flag(message, "upgrade", &upgrade) || (call.oneway && call.more))
		return -EBADMSG;
	method = find_method(name);
	call.error = check_call(name, method, parameters, &call, upgrade, &refused);
	if (refused && !call.error)
		return -ENOMEM;
	if (!refused) {
		call.method = (enum varlink_method)(method - methods);
		call.parameters = json_incref(parameters);
	}
	*ret = call;
	return 0;
}

int varlink_parse(const char *text, size_t size, struct varlink_call *ret)
{
	json_auto_t *message = NULL;
	json_error_t error;

	if (size > VARLINK_MESSAGE_MAX || is_too_deep(text, size))
		return -EBADMSG;
	message = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	if (!message)
		return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EBADMSG;
	return json_is_object(message) ? read_call(message, ret) : -EBADMSG;
}

void varlink_call_done(struct varlink_call *call)
{
	json_decref(call->parameters);
	json_decref(call->error);
	*call = (struct varlink_call){ 0 };
}

json_t *varlink_info(void)
{
	json_t *names = json_array();

	for (size_t i = 0; names && i < ELEMENTS_OF(interfaces); i++)
		(void)json_array_append_new(names, json_string(interfaces[i].name));
	return varlink_reply(json_pack("{s:s, s:s, s:s, s:s, s:o}", "vendor", "ipipdirect",
				     "product", "ipipdirectd", "version", IPIPDIRECT_VERSION, "url",
				     "", "interfaces", names),
		false);
}

json_t *varlink_description(const struct varlink_call *call)
{
	const char *name = json_string_value(json_object_get(call->parameters, "interface"));

	for (size_t i = 0; i < ELEMENTS_OF(interfaces); i++)
		if (strcmp(interfaces[i].name, name) == 0)
			return varlink_reply(
				json_pack("{s:s}", "description", interfaces[i].description),
				false);
	return varlink_error(
		VARLINK_SERVICE ".InterfaceNotFound", json_pack("{s:s}", "interface", name));
}

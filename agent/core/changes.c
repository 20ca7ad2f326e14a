/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/changes.h"
#include "agent/core/status_netns.h"

/* A picture is an object of objects: kind → key → what is watched of the thing. */

/* Takes the reference. */
static int set(json_t *things, const char *key, json_t *thing)
{
	return thing ? json_object_set_new(things, key, thing) : -1;
}

static json_t *picture_namespaces(const struct status *status)
{
	json_t *things = json_object();

	for (size_t i = 0; things && i < status->snapshot->n_netns; i++) {
		const struct netns *netns = &status->snapshot->netns[i];
		char key[32];

		(void)snprintf(key, sizeof(key), "%" PRIu64, netns->seq);
		(void)set(things, key, status_netns_name(netns));
	}
	return things;
}

static json_t *picture_tunnels(const struct status *status)
{
	json_t *things = json_object();

	for (size_t i = 0; things && i < status->tunnels->n; i++) {
		const struct tunnel *tunnel = &status->tunnels->list[i];
		char key[48];

		(void)snprintf(key, sizeof(key), "%" PRIu64 ".%" PRIu32, tunnel->netns->seq,
			tunnel->link->ifindex);
		(void)set(things, key, status_tunnel(status->tunnels, tunnel));
	}
	return things;
}

static json_t *picture_rows(const struct status *status)
{
	json_t *things = json_object();

	for (size_t i = 0; things && i < status->rows->n; i++) {
		const struct row *row = &status->rows->list[i];
		char key[48];

		(void)snprintf(key, sizeof(key), "%d.%08" PRIx32 ".%08" PRIx32, (int)row->map,
			row->remote.be, row->inner_source.be);
		(void)set(things, key, status_row(status->tunnels, row));
	}
	return things;
}

static json_t *picture_interfaces(const struct status *status)
{
	json_t *things = json_object();

	for (size_t i = 0; things && i < status->n_interfaces; i++) {
		json_t *interface = status_interface(&status->interfaces[i]);

		/* As it is shown: a key must be UTF-8, the name need not. */
		(void)set(things, json_string_value(json_object_get(interface, "name")), interface);
	}
	return things;
}

json_t *picture_make(const struct status *status)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "namespace", picture_namespaces(status), "tunnel",
		picture_tunnels(status), "row", picture_rows(status), "interface",
		picture_interfaces(status));
}

/* RFC 3339, UTC, milliseconds. */
static json_t *make_time(const struct timespec *time)
{
	char text[32];
	struct tm tm;

	if (!gmtime_r(&time->tv_sec, &tm))
		return json_null();
	(void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	return json_sprintf("%s.%03ldZ", text, time->tv_nsec / 1000000);
}

json_t *event_make(const char *type, const struct timespec *time, json_t *more)
{
	json_t *event = json_pack("{s:o, s:s}", "time", make_time(time), "type", type);

	if (event && more && json_object_update(event, more) < 0) {
		json_decref(event);
		event = NULL;
	}
	json_decref(more);
	return event;
}

struct comparison {
	json_t *events;
	const struct timespec *time;
};

/* "tunnel", "-added" → {"time": …, "type": "tunnel-added", "tunnel": {…}}; `more` is taken. */
static void note(struct comparison *comparison, const char *kind, const char *verb, json_t *thing,
	json_t *more)
{
	char type[32];
	json_t *event;

	(void)snprintf(type, sizeof(type), "%s%s", kind, verb);
	event = event_make(type, comparison->time, json_pack("{s:O}", kind, thing));
	if (event && more)
		(void)json_object_update(event, more);
	json_decref(more);
	(void)json_array_append_new(comparison->events, event);
}

/* The names of the fields that differ. */
static json_t *differing(json_t *before, json_t *after)
{
	json_t *names = json_array(), *value;
	const char *name;

	json_object_foreach(
		after, name, value) if (!json_equal(value, json_object_get(before, name)))(void)
		json_array_append_new(names, json_string(name));
	return names;
}

static void compare_new(
	struct comparison *comparison, const char *kind, json_t *before, json_t *after)
{
	const char *key;
	json_t *thing;

	json_object_foreach(after, key, thing)
	{
		json_t *old = json_object_get(before, key);

		if (!old)
			note(comparison, kind, "-added", thing, NULL);
		else if (!json_equal(old, thing))
			note(comparison, kind, "-changed", thing,
				json_pack("{s:o}", "changed", differing(old, thing)));
	}
}

static void compare_old(
	struct comparison *comparison, const char *kind, json_t *before, json_t *after)
{
	const char *key;
	json_t *thing;

	json_object_foreach(before, key, thing) if (!json_object_get(after, key))
		note(comparison, kind, "-removed", thing, NULL);
}

static bool is_in_conflict(const json_t *tunnel)
{
	const char *state = json_string_value(json_object_get(tunnel, "state"));

	return state && strcmp(state, tunnel_state_name(TUNNEL_CONFLICT)) == 0;
}

/* It wants somebody to act, so it has a type of its own. */
static void compare_conflicts(struct comparison *comparison, json_t *before, json_t *after)
{
	const char *key;
	json_t *thing;

	json_object_foreach(after, key, thing)
	{
		json_t *event;

		if (!is_in_conflict(thing) || is_in_conflict(json_object_get(before, key)))
			continue;
		event = event_make(
			"conflict", comparison->time, json_pack("{s:O}", "tunnel", thing));
		(void)json_array_append_new(comparison->events, event);
	}
}

static bool is_attached(const json_t *interface)
{
	const char *kind = json_string_value(json_object_get(interface, "attachment"));

	return kind && strcmp(kind, attachment_kind_name(ATTACHMENT_NONE)) != 0;
}

static void compare_interfaces(struct comparison *comparison, json_t *before, json_t *after)
{
	const char *key;
	json_t *thing;

	json_object_foreach(after, key, thing)
	{
		json_t *old = json_object_get(before, key);

		if (is_attached(thing) && !is_attached(old))
			note(comparison, "interface", "-attached", thing, NULL);
		else if (!is_attached(thing) && is_attached(old))
			note(comparison, "interface", "-left", thing, NULL);
		else if (old && !json_equal(json_object_get(thing, "restored"),
					json_object_get(old, "restored")))
			note(comparison, "interface", "-restored", thing, NULL);
	}
	json_object_foreach(
		before, key, thing) if (is_attached(thing) && !json_object_get(after, key))
		note(comparison, "interface", "-left", thing, NULL);
}

json_t *changes_make(json_t *before, json_t *after, const struct timespec *time)
{
	static const char *const kinds[] = { "namespace", "tunnel", "row" };
	struct comparison comparison = { json_array(), time };

	if (!comparison.events)
		return NULL;
	for (size_t i = 0; i < 3; i++)
		compare_new(&comparison, kinds[i], json_object_get(before, kinds[i]),
			json_object_get(after, kinds[i]));
	compare_conflicts(
		&comparison, json_object_get(before, "tunnel"), json_object_get(after, "tunnel"));
	compare_interfaces(&comparison, json_object_get(before, "interface"),
		json_object_get(after, "interface"));
	/* What is in something goes before it. */
	for (size_t i = 3; i-- > 0;)
		compare_old(&comparison, kinds[i], json_object_get(before, kinds[i]),
			json_object_get(after, kinds[i]));
	return comparison.events;
}

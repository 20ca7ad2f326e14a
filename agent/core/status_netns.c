/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <string.h>

#include "agent/core/status.h"
#include "agent/core/status_netns.h"

/* json_pack() steals or frees "o" values, so that NULL anywhere gives NULL and no leak. */

static json_t *make_texts(char **list, size_t n)
{
	json_t *texts = json_array();

	for (size_t i = 0; texts && i < n; i++)
		(void)json_array_append_new(texts, status_text(list[i]));
	return texts;
}

/* As readlink(1) on /proc/PID/ns/net and lsns(8) show it. */
static json_t *make_id(const struct netns_id *id)
{
	if (netns_id_is_none(id))
		return json_null();
	return json_sprintf("net:[%" PRIu64 "]", id->ino);
}

static json_t *make_error(int error)
{
	return error < 0 ? json_string(strerror(-error)) : json_null();
}

/* Reading is what all of the rest depends on. */
static json_t *make_why_skipped(const struct netns *netns)
{
	if (netns->has_view)
		return json_null();
	return json_string(netns->error == 0 ? "it was not read yet" : "it was never read");
}

static json_t *make_namespace(const struct netns *netns)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:s, s:o, s:I, s:b, s:o, s:o}",
		"label", status_text(netns_label(netns)), "names",
		make_texts(netns->names, netns->n_names), "found",
		make_texts(netns->found, netns->n_found), "id", make_id(&netns->id), "dev",
		(json_int_t)netns->id.dev, "inode", (json_int_t)netns->id.ino, "nsid",
		netns->nsid < 0 ? json_null() : json_integer(netns->nsid), "owner",
		netns_owner_name(netns->owner), "resident",
		netns->label ? status_text(netns->label) : json_null(), "tunnels",
		(json_int_t)netns->view.n_links, "read", netns->has_view && netns->error == 0,
		"error", make_error(netns->error), "skipped", make_why_skipped(netns));
}

/* Who it is, without what changes all the time. */
json_t *status_netns_name(const struct netns *netns)
{
	return json_pack("{s:o, s:o, s:o, s:s, s:b}", "label", status_text(netns_label(netns)),
		"names", make_texts(netns->names, netns->n_names), "nsid",
		netns->nsid < 0 ? json_null() : json_integer(netns->nsid), "owner",
		netns_owner_name(netns->owner), "read", netns->has_view && netns->error == 0);
}

json_t *status_namespaces(const struct snapshot *snapshot)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < snapshot->n_netns; i++)
		(void)json_array_append_new(array, make_namespace(&snapshot->netns[i]));
	return array;
}

json_t *status_skipped_files(const struct snapshot *snapshot)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < snapshot->n_skipped; i++)
		(void)json_array_append_new(array,
			json_pack("{s:o, s:s}", "path", status_text(snapshot->skipped[i].path),
				"reason", snapshot->skipped[i].reason));
	return array;
}

static json_t *make_sources(const struct snapshot *snapshot)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < snapshot->n_sources; i++) {
		const struct netns_source *source = &snapshot->sources[i];

		(void)json_array_append_new(
			array, json_pack("{s:s, s:b, s:o}", "name", source->name, "read",
				       source->was_read, "error", make_error(source->error)));
	}
	return array;
}

json_t *status_discovery(const struct snapshot *snapshot)
{
	return json_pack("{s:o, s:b, s:I, s:I, s:I}", "sources", make_sources(snapshot), "complete",
		snapshot->complete, "unresolved_files", (json_int_t)snapshot->n_unresolved,
		"more_namespaces", (json_int_t)snapshot->n_more, "more_skipped_files",
		(json_int_t)snapshot->n_skipped_more);
}

__attribute__((format(printf, 2, 3))) static void add_problem(
	json_t *problems, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	(void)json_array_append_new(problems, json_vsprintf(format, ap));
	va_end(ap);
}

void status_netns_problems(const struct snapshot *snapshot, json_t *problems)
{
	if (snapshot->n_more > 0)
		add_problem(problems,
			"%zu namespaces beyond the limit of %d are not looked at: their packets stay "
			"on the tunnel",
			snapshot->n_more, NETNS_MAX);
	if (snapshot->n_unresolved > 0)
		add_problem(problems, "%zu namespace file%s cannot be opened: see skipped_files",
			snapshot->n_unresolved, snapshot->n_unresolved == 1 ? "" : "s");
	for (size_t i = 0; i < snapshot->n_sources; i++)
		if (snapshot->sources[i].error < 0)
			add_problem(problems, "cannot look for namespaces in %s: %s",
				snapshot->sources[i].name, strerror(-snapshot->sources[i].error));
}

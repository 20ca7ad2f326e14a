/* SPDX-License-Identifier: MIT */
/* netns: which network namespaces the agent found, where, and whose they are. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/output.h"
#include "tools/ctl/table.h"

#define NETNS_SCHEMA_VERSION 1 /* schema/ctl-netns.schema.json */

#define COLUMN_FOUND 6

#define SKIPPED "skipped: "

static const struct table_column columns[] = {
	{ "NAME", .shrinkto = 12 },
	{ "RESIDENT", .drop = 1 },
	{ "NSID", .right = true },
	{ "OWNER" },
	{ "TUNNELS", .right = true },
	{ "STATE", .shrinkto = 8 },
	{ "FOUND", .shrinkto = 16 },
};

static const char *dash(const char *text)
{
	return text[0] ? text : "-";
}

/* "ok", or why what it says of tunnels may be old or nothing. */
static const char *state_of(const json_t *netns)
{
	const char *error = json_text(netns, "error");

	if (json_is_true(json_object_get(netns, "read")))
		return "ok";
	return error[0] ? error : "unread";
}

/* A namespace may be found in several places: each has a line. */
static void add_more_places(struct table *table, const json_t *found)
{
	for (size_t i = 1; i < json_array_size(found); i++)
		for (size_t j = 0; j < ELEMENTS_OF(columns); j++)
			table_add(table, "%s",
				j == COLUMN_FOUND
					? json_string_value(json_array_get(found, i)) ?: "-"
					: "");
}

static void add_netns(struct table *table, const json_t *netns)
{
	const json_t *found = json_object_get(netns, "found"),
		     *nsid = json_object_get(netns, "nsid");
	const char *first = json_string_value(json_array_get(found, 0));

	table_add(table, "%s", dash(json_text(netns, "label")));
	table_add(table, "%s", dash(json_text(netns, "resident")));
	if (json_is_integer(nsid))
		table_add(table, "%" JSON_INTEGER_FORMAT, json_integer_value(nsid));
	else
		table_add(table, "-");
	table_add(table, "%s", dash(json_text(netns, "owner")));
	table_add(table, "%" JSON_INTEGER_FORMAT, json_number(netns, "tunnels"));
	table_add(table, "%s", state_of(netns));
	table_add(table, "%s", first ? first : "-");
	add_more_places(table, found);
}

static void print_skipped(const json_t *files)
{
	const json_t *file;
	size_t i;

	json_array_foreach((json_t *)files, i, file)
	{
		(void)fputs(SKIPPED, stdout);
		print_wrapped(sizeof(SKIPPED) - 1, output_width(), "%s: %s",
			json_text(file, "path"), json_text(file, "reason"));
	}
}

static void note_missing(const struct ctl *ctl, const json_t *discovery)
{
	json_int_t namespaces = json_number(discovery, "more_namespaces");
	json_int_t files = json_number(discovery, "more_skipped_files");

	if (namespaces > 0)
		ctl_note(ctl, "%" JSON_INTEGER_FORMAT " more namespaces are not looked at",
			namespaces);
	if (files > 0)
		ctl_note(ctl, "%" JSON_INTEGER_FORMAT " more files were skipped", files);
}

static int print_brief(const struct ctl *ctl, const json_t *namespaces)
{
	static const struct table_column brief[] = { { "" }, { "" }, { "" }, { "" } };
	_cleanup_(table_done) struct table table;
	const json_t *netns;
	size_t i;

	table_init(&table, brief, ELEMENTS_OF(brief));
	table.no_titles = true;
	json_array_foreach((json_t *)namespaces, i, netns)
	{
		table_add(&table, "%s", dash(json_text(netns, "label")));
		table_add(&table, "%s", dash(json_text(netns, "owner")));
		table_add(&table, "%" JSON_INTEGER_FORMAT, json_number(netns, "tunnels"));
		table_add(&table, "%s", state_of(netns));
	}
	if (table_print(&table, output_width()) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	return CTL_OK;
}

static int print_table(const struct ctl *ctl, const json_t *document)
{
	_cleanup_(table_done) struct table table = { 0 };
	const json_t *namespaces = json_object_get(document, "namespaces"), *netns;
	size_t i;

	if (ctl->brief)
		return print_brief(ctl, namespaces);
	table_init(&table, columns, ELEMENTS_OF(columns));
	table.no_titles = ctl->no_legend;
	json_array_foreach((json_t *)namespaces, i, netns)
	{
		add_netns(&table, netns);
	}
	if (table_print(&table, output_width()) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	print_skipped(json_object_get(document, "skipped_files"));
	note_missing(ctl, json_object_get(document, "discovery"));
	return CTL_OK;
}

static json_t *make_document(const struct agent_view *view)
{
	const json_t *document = view->document;

	return json_pack("{s:i, s:o, s:O, s:O?, s:O?}", "schema_version", NETNS_SCHEMA_VERSION,
		"view", agent_view_json(view), "namespaces",
		json_object_get(document, "namespaces"), "skipped_files",
		json_object_get(document, "skipped_files"), "discovery",
		json_object_get(document, "discovery"));
}

static int run_netns(const struct ctl *ctl)
{
	return agent_show(ctl, make_document, print_table);
}

const struct ctl_command ctl_netns_command = {
	.name = "netns",
	.summary = "all network namespaces, and where they are",
	.help = "Lists the network namespaces as the agent saw them last, each once.\n"
		"\n"
		"NAME is its file name, else who lives there. RESIDENT is who lives there: a\n"
		"container id, a systemd unit or a command. NSID is its number in the agent's\n"
		"namespace. OWNER is the user namespace it belongs to: host, other (a rootless\n"
		"container) or unknown. FOUND is where: a file, the process with the lowest\n"
		"number, or \"nsid only\" when nothing but the kernel's list leads there.\n",
	.options = CTL_OPTION_STATUS_FILE,
	.run = run_netns,
};

/* SPDX-License-Identifier: MIT */
/* tunnels: what the agent found in which namespace, and what became of it. */
#include <stdio.h>
#include <string.h>

#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/output.h"
#include "tools/ctl/table.h"

#define TUNNELS_SCHEMA_VERSION 1 /* schema/ctl-tunnels.schema.json */

#define COLUMN_GAME_SERVER_IP 5

#define CONFLICT "conflict: "

static const struct table_column columns[] = {
	{ "NETNS", .shrinkto = 12 },
	{ "IFNAME" },
	{ "LINK", .drop = 1 },
	{ "LOCAL", .drop = 2 },
	{ "REMOTE" },
	{ "GAME SERVER IP" },
	{ "STATE" },
	{ "RULE OR REASON", .shrinkto = 14 },
};

static const char *dash(const char *text)
{
	return text[0] ? text : "-";
}

/* Of a tunnel in the map its mode says more; of another one the mode says nothing. */
static const char *state_word(const json_t *tunnel)
{
	const char *state = json_text(tunnel, "state");

	return strcmp(state, "mapped") == 0 ? json_text(tunnel, "mode") : state;
}

static const char *why(const json_t *tunnel)
{
	const char *reason = json_text(tunnel, "reason");

	return reason[0] ? reason : json_text(tunnel, "game_server_ip_source");
}

/* A device may hold several public addresses: each has a line. */
static void add_more_addresses(struct table *table, const json_t *addresses)
{
	for (size_t i = 1; i < json_array_size(addresses); i++)
		for (size_t j = 0; j < ELEMENTS_OF(columns); j++)
			table_add(table, "%s",
				j == COLUMN_GAME_SERVER_IP
					? json_string_value(json_array_get(addresses, i)) ?: "-"
					: "");
}

static void add_tunnel(struct table *table, const json_t *tunnel)
{
	const json_t *addresses = json_object_get(tunnel, "game_server_ips");
	const char *first = json_string_value(json_array_get(addresses, 0));

	table_add(table, "%s", dash(json_text(tunnel, "netns")));
	table_add(table, "%s", dash(json_text(tunnel, "ifname")));
	table_add(table, "%s", json_is_true(json_object_get(tunnel, "up")) ? "up" : "down");
	table_add(table, "%s", dash(json_text(tunnel, "local")));
	table_add(table, "%s", dash(json_text(tunnel, "remote")));
	table_add(table, "%s", first ? first : "-");
	table_add(table, "%s", dash(state_word(tunnel)));
	table_add(table, "%s", dash(why(tunnel)));
	add_more_addresses(table, addresses);
}

static void print_conflict(const json_t *tunnel, const json_t *rival)
{
	bool known = json_is_object(rival);

	(void)fputs(CONFLICT, stdout);
	print_wrapped(sizeof(CONFLICT) - 1, output_width(), "%s %s: %s%s%s%s%s%s",
		json_text(tunnel, "netns"), json_text(tunnel, "ifname"),
		json_text(tunnel, "reason_text"), known ? " (" : "", json_text(rival, "netns"),
		known ? " " : "", json_text(rival, "ifname"), known ? ")" : "");
}

/* A conflict wants somebody to act: who against whom, in a sentence. */
static void print_conflicts(const json_t *tunnels)
{
	const json_t *tunnel;
	size_t i;

	json_array_foreach((json_t *)tunnels, i, tunnel)
	{
		if (strcmp(json_text(tunnel, "state"), "conflict") != 0)
			continue;
		print_conflict(tunnel, json_object_get(tunnel, "rival"));
	}
}

/* "a,b"; the caller's; NULL: no memory. */
static char *join(const json_t *array)
{
	_cleanup_free_ char *text = NULL;
	size_t size = 0, i;
	FILE *out = open_memstream(&text, &size);
	const json_t *item;

	if (!out)
		return NULL;
	json_array_foreach((json_t *)array, i, item)(void)
		fprintf(out, "%s%s", i > 0 ? "," : "", json_string_value(item) ?: "?");
	if (i == 0)
		(void)fputc('-', out);
	return fclose(out) == 0 ? TAKE_PTR(text) : NULL;
}

static int print_brief(const struct ctl *ctl, const json_t *tunnels)
{
	static const struct table_column brief[] = { { "" }, { "" }, { "" }, { "" }, { "" } };
	_cleanup_(table_done) struct table table;
	const json_t *tunnel;
	size_t i;

	table_init(&table, brief, ELEMENTS_OF(brief));
	table.no_titles = true;
	json_array_foreach((json_t *)tunnels, i, tunnel)
	{
		_cleanup_free_ char *list = NULL;

		if (agent_is_fallback(tunnel))
			continue;
		list = join(json_object_get(tunnel, "game_server_ips"));

		table_add(&table, "%s", dash(json_text(tunnel, "netns")));
		table_add(&table, "%s", dash(json_text(tunnel, "ifname")));
		table_add(&table, "%s", dash(state_word(tunnel)));
		table_add(&table, "%s", dash(json_text(tunnel, "remote")));
		table_add(&table, "%s", list ? list : "?");
	}
	if (table_print(&table, output_width()) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	return CTL_OK;
}

static int print_table(const struct ctl *ctl, const json_t *document)
{
	_cleanup_(table_done) struct table table = { 0 };
	const json_t *tunnels = json_object_get(document, "tunnels"), *tunnel;
	size_t i;

	if (ctl->brief)
		return print_brief(ctl, tunnels);
	table_init(&table, columns, ELEMENTS_OF(columns));
	table.no_titles = ctl->no_legend;
	json_array_foreach((json_t *)tunnels, i, tunnel)
	{
		if (!agent_is_fallback(tunnel))
			add_tunnel(&table, tunnel);
	}
	if (table_print(&table, output_width()) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	print_conflicts(tunnels);
	return CTL_OK;
}

static json_t *make_document(const struct agent_view *view)
{
	return json_pack("{s:i, s:o, s:O}", "schema_version", TUNNELS_SCHEMA_VERSION, "view",
		agent_view_json(view), "tunnels", json_object_get(view->document, "tunnels"));
}

static int run_tunnels(const struct ctl *ctl)
{
	return agent_show(ctl, make_document, print_table);
}

const struct ctl_command ctl_tunnels_command = {
	.name = "tunnels",
	.summary = "all IPIP tunnels, and what became of each",
	.help = "Lists the IPIP tunnels of all network namespaces as the agent saw them last.\n"
		"\n"
		"STATE is the mode of a tunnel that is in the map: direct, shadow (counted,\n"
		"nothing changed) or tunnel (drained). \"skipped\" tunnels cannot be served, and\n"
		"get no row; those in \"conflict\" could, but for another one, and have none for\n"
		"at least one of their addresses. \"explain\" says which packets go direct.\n"
		"RULE OR REASON is the rule that chose the game server IP, or why there is no\n"
		"entry. The ipip module's own device of each namespace, tunl0, is no tunnel\n"
		"of anybody's: only -j lists it.\n",
	.options = CTL_OPTION_STATUS_FILE,
	.run = run_tunnels,
};

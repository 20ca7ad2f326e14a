/* SPDX-License-Identifier: MIT */
/* map dump, map get: the pinned maps as they are, with or without an agent. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/core/config.h"
#include "agent/core/ip4.h"
#include "agent/core/reason.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/live.h"
#include "tools/ctl/output.h"
#include "tools/ctl/table.h"

#define MAP_SCHEMA_VERSION 1 /* schema/ctl-map.schema.json */

static const struct table_column columns[] = {
	{ "REMOTE" },
	{ "INNER SOURCE" },
	{ "GAME SERVER IP" },
	{ "MODE" },
	{ "FLAGS", .drop = 3 },
	{ "SLOT", .right = true, .drop = 2 },
	{ "DIRECT", .right = true },
	{ "BYTES", .right = true, .drop = 1 },
	{ "KEPT", .right = true },
};

static json_t *address_json(struct ip4 address)
{
	return ip4_is_none(address) ? json_null() : json_string(IP4_FORMAT(address));
}

static json_t *row_json(const struct row *row, const struct slot_counters *counters)
{
	const struct maps_entry *entry = &row->entry;

	return json_pack("{s:o, s:o, s:o, s:b, s:b, s:b, s:s, s:i, s:I, s:o}", "remote",
		address_json(row->remote), "inner_source", address_json(row->inner_source),
		"game_server_ip", address_json((struct ip4){ entry->game_server_ip }), "shared",
		(entry->flags & MAPS_FLAG_SHARED) != 0, "own_source",
		(entry->flags & MAPS_FLAG_OWN_SOURCE) != 0, "private_source",
		(entry->flags & MAPS_FLAG_PRIVATE_SOURCE) != 0, "mode",
		maps_mode_name((enum maps_mode)entry->mode), "flags", entry->flags, "slot",
		(json_int_t)entry->slot, "counters", status_counters(counters));
}

/* The rows for which `wanted` says yes; NULL: all. */
static json_t *rows_json(const struct live *live, const bool *wanted)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < live->rows.n; i++) {
		if (wanted && !wanted[i])
			continue;
		if (json_array_append_new(
			    array, row_json(&live->rows.list[i], &live->counters[i])) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static int print_json(const struct ctl *ctl, const struct live *live, const bool *wanted)
{
	return ctl_print_json(ctl,
		json_pack("{s:i, s:i, s:I, s:I, s:o}", "schema_version", MAP_SCHEMA_VERSION, "abi",
			MAPS_ABI, "max_rows", (json_int_t)live->maps.max_rows, "no_entry_packets",
			(json_int_t)live->no_entry.kept.packets[MAPS_KEPT_NO_ENTRY], "entries",
			rows_json(live, wanted)));
}

/* Of the flag that says which packets the row is for; "": none. */
static const char *flag_name(const struct maps_entry *entry)
{
	if (entry->flags & MAPS_FLAG_SHARED)
		return "shared";
	if (entry->flags & MAPS_FLAG_OWN_SOURCE)
		return "own-source";
	return entry->flags & MAPS_FLAG_PRIVATE_SOURCE ? "private-source" : "";
}

/* That name, and the other flags as a number; "-": none. */
static void format_flags(const struct maps_entry *entry, char *buf, size_t size)
{
	const char *name = flag_name(entry);
	int rest = entry->flags & ~MAPS_FLAGS_SOURCE;

	if (rest)
		(void)snprintf(buf, size, "%s%s0x%x", name, name[0] ? "," : "", (unsigned int)rest);
	else
		(void)snprintf(buf, size, "%s", name[0] ? name : "-");
}

static void add_row(
	struct table *table, const struct row *row, const struct slot_counters *counters)
{
	const struct maps_entry *entry = &row->entry;
	bool shared = (entry->flags & MAPS_FLAG_SHARED) != 0;
	char flags[32];

	format_flags(entry, flags, sizeof(flags));
	table_add(table, "%s", IP4_FORMAT(row->remote));
	table_add(table, "%s", row->map == ROW_SOURCES ? IP4_FORMAT(row->inner_source) : "-");
	table_add(table, "%s",
		shared ? "(shared)" : IP4_FORMAT(((struct ip4){ entry->game_server_ip })));
	table_add(table, "%s", shared ? "-" : maps_mode_name((enum maps_mode)entry->mode));
	table_add(table, "%s", flags);
	table_add(table, "%" PRIu32, entry->slot);
	table_add(table, "%" PRIu64, (uint64_t)counters->direct.packets);
	table_add(table, "%" PRIu64, (uint64_t)counters->direct.bytes);
	table_add(table, "%" PRIu64, kept_packets(counters));
}

/* What becomes of whose packets; `wanted` as in rows_json(). */
static int print_brief(const struct ctl *ctl, const struct live *live, const bool *wanted)
{
	static const struct table_column brief[] = { { "" }, { "" }, { "" }, { "" } };
	_cleanup_(table_done) struct table table;
	int r;

	table_init(&table, brief, ELEMENTS_OF(brief));
	table.no_titles = true;
	for (size_t i = 0; i < live->rows.n; i++) {
		const struct row *row = &live->rows.list[i];
		bool shared = (row->entry.flags & MAPS_FLAG_SHARED) != 0;

		if (wanted && !wanted[i])
			continue;
		table_add(&table, "%s", IP4_FORMAT(row->remote));
		table_add(&table, "%s",
			row->map == ROW_SOURCES ? IP4_FORMAT(row->inner_source) : "-");
		table_add(&table, "%s",
			shared ? "-" : IP4_FORMAT(((struct ip4){ row->entry.game_server_ip })));
		table_add(&table, "%s",
			shared ? "shared" : maps_mode_name((enum maps_mode)row->entry.mode));
	}
	r = table_print(&table, output_width());
	return r < 0 ? live_fail(ctl, r) : CTL_OK;
}

static int print_table(const struct ctl *ctl, const struct live *live)
{
	_cleanup_(table_done) struct table table = { 0 };
	int r;

	if (ctl->brief)
		return print_brief(ctl, live, NULL);
	table_init(&table, columns, ELEMENTS_OF(columns));
	table.no_titles = ctl->no_legend;
	for (size_t i = 0; i < live->rows.n; i++)
		add_row(&table, &live->rows.list[i], &live->counters[i]);
	r = table_print(&table, output_width());
	return r < 0 ? live_fail(ctl, r) : CTL_OK;
}

static int run_dump(const struct ctl *ctl)
{
	_cleanup_(live_done) struct live live = LIVE_NONE;
	int r;

	r = live_read(&live);
	if (r == 0)
		r = live_count(&live);
	if (r < 0)
		return live_fail(ctl, r);
	return ctl->json ? print_json(ctl, &live, NULL) : print_table(ctl, &live);
}

static void print_kept(const struct slot_counters *counters)
{
	const char *label = "kept";

	for (size_t i = 0; i < MAPS_REASON_COUNT; i++) {
		if (counters->kept.packets[i] == 0 || i == MAPS_KEPT_NO_ENTRY)
			continue;
		(void)printf("%-16s%" PRIu64 " %s\n",
			i == MAPS_DROP_WRITE_FAILED ? "dropped" : label,
			(uint64_t)counters->kept.packets[i], maps_reason_name((enum maps_reason)i));
		label = "";
	}
	if (label[0])
		(void)printf("%-16s0\n", label);
}

static void print_row(const struct row *row, const struct slot_counters *counters)
{
	const struct maps_entry *entry = &row->entry;
	bool shared = (entry->flags & MAPS_FLAG_SHARED) != 0;
	const char *name = flag_name(entry);

	(void)printf("%-16s%s\n", "remote", IP4_FORMAT(row->remote));
	if (row->map == ROW_SOURCES)
		(void)printf("%-16s%s\n", "inner source", IP4_FORMAT(row->inner_source));
	if (entry->flags & MAPS_FLAG_OWN_SOURCE)
		(void)printf("%-16s%s\n", "inner source", "the game server IP itself, no other");
	if (entry->flags & MAPS_FLAG_PRIVATE_SOURCE)
		(void)printf(
			"%-16s%s\n", "inner source", "private ones, and the game server IP itself");
	if (shared) {
		(void)printf("%-16s%s\n", "game server IP", "shared: the inner source decides");
	} else {
		(void)printf("%-16s%s\n", "game server IP",
			IP4_FORMAT(((struct ip4){ entry->game_server_ip })));
		(void)printf("%-16s%s\n", "mode", maps_mode_name((enum maps_mode)entry->mode));
	}
	(void)printf("%-16s0x%x%s%s%s\n", "flags", (unsigned int)entry->flags, name[0] ? " (" : "",
		name, name[0] ? ")" : "");
	(void)printf("%-16s%" PRIu32 "\n", "slot", entry->slot);
	(void)printf("%-16s%" PRIu64 " packets, %s\n", "direct", (uint64_t)counters->direct.packets,
		HUMAN_BYTES(counters->direct.bytes));
	print_kept(counters);
}

static int print_rows(const struct live *live, const bool *wanted)
{
	bool first = true;

	for (size_t i = 0; i < live->rows.n; i++) {
		if (!wanted[i])
			continue;
		if (!first)
			(void)fputc('\n', stdout);
		print_row(&live->rows.list[i], &live->counters[i]);
		first = false;
	}
	return CTL_OK;
}

static const char *served_sources(const struct maps_entry *entry)
{
	if (entry->flags & MAPS_FLAG_OWN_SOURCE)
		return "the game server IP as inner source";
	return entry->flags & MAPS_FLAG_PRIVATE_SOURCE ? "private inner sources"
						       : "every inner source";
}

static int fail_no_source(
	const struct ctl *ctl, const struct live *live, struct ip4 remote, struct ip4 inner_source)
{
	size_t i = live_find(live, remote, (struct ip4){ 0 });
	char hint[128];

	if (i == SIZE_MAX)
		(void)snprintf(hint, sizeof(hint),
			"there is no row for %s at all: "
			"'ipipdirectctl map dump' shows what there is",
			IP4_FORMAT(remote));
	else if (live->rows.list[i].entry.flags & MAPS_FLAG_SHARED)
		(void)snprintf(hint, sizeof(hint),
			"'ipipdirectctl map get %s' shows the inner sources that are known",
			IP4_FORMAT(remote));
	else
		(void)snprintf(hint, sizeof(hint),
			"the remote is not shared, its row serves %s: 'ipipdirectctl map get %s'",
			served_sources(&live->rows.list[i].entry), IP4_FORMAT(remote));
	return ctl_fail(ctl, CTL_FAILED, "not-found", hint,
		"no row for remote %s with inner source %s", IP4_FORMAT(remote),
		IP4_FORMAT(inner_source));
}

/* Marks the row, and for a shared remote those below it. -ENOENT: there is none. */
static int choose(const struct live *live, struct ip4 remote, struct ip4 inner_source, bool *wanted)
{
	size_t found = live_find(live, remote, inner_source);

	if (found == SIZE_MAX)
		return -ENOENT;
	wanted[found] = true;
	if (!(live->rows.list[found].entry.flags & MAPS_FLAG_SHARED))
		return 0;
	for (size_t i = 0; i < live->rows.n; i++)
		if (ip4_equal(live->rows.list[i].remote, remote))
			wanted[i] = true;
	return 0;
}

static int get(const struct ctl *ctl, struct ip4 remote, struct ip4 inner_source)
{
	_cleanup_(live_done) struct live live = LIVE_NONE;
	_cleanup_free_ bool *wanted = NULL;
	int r;

	r = live_read(&live);
	if (r == 0)
		r = live_count(&live);
	if (r < 0)
		return live_fail(ctl, r);
	wanted = calloc(live.rows.n + 1, sizeof(*wanted));
	if (!wanted)
		return live_fail(ctl, -ENOMEM);
	if (choose(&live, remote, inner_source, wanted) < 0) {
		if (!ip4_is_none(inner_source))
			return fail_no_source(ctl, &live, remote, inner_source);
		return ctl_fail(ctl, CTL_FAILED, "not-found",
			"'ipipdirectctl map dump' shows what there is, 'ipipdirectctl tunnels' why",
			"no row for remote %s: its packets stay on the tunnel", IP4_FORMAT(remote));
	}
	if (ctl->brief && !ctl->json)
		return print_brief(ctl, &live, wanted);
	return ctl->json ? print_json(ctl, &live, wanted) : print_rows(&live, wanted);
}

static int run_get(const struct ctl *ctl)
{
	struct ip4 addresses[2] = { { 0 }, { 0 } };

	for (size_t i = 0; i < ctl->n_args; i++)
		if (ip4_parse(ctl->args[i], &addresses[i]) < 0 || ip4_is_none(addresses[i]))
			return ctl_fail(ctl, CTL_USAGE, "usage",
				"try 'ipipdirectctl map get --help'", "'%s' is no IPv4 address",
				ctl->args[i]);
	return get(ctl, addresses[0], addresses[1]);
}

static const struct ctl_command dump_command = {
	.name = "dump",
	.summary = "all rows of the maps, with their counters",
	.help = "Prints all rows of the pinned maps, or fails: half a table is never a success.\n"
		"Needs no agent. DIRECT and BYTES are what was sent straight to clients, KEPT\n"
		"the packets that stayed on the tunnel; \"map get\" says for which reasons.\n",
	.run = run_dump,
};

static const struct ctl_command get_command = {
	.name = "get",
	.arguments = "REMOTE [INNER_SOURCE]",
	.summary = "what happens to packets for one remote",
	.help = "Prints the row of the tunnel remote REMOTE and its counters by reason. Where\n"
		"several tunnels share the remote, the rows of all inner sources follow;\n"
		"INNER_SOURCE, the address a game server is bound to, chooses one of them.\n"
		"Needs no agent.\n",
	.min_args = 1,
	.max_args = 2,
	.run = run_get,
};

static const struct ctl_command *const map_commands[] = { &dump_command, &get_command, NULL };

const struct ctl_command ctl_map_command = {
	.name = "map",
	.arguments = "COMMAND",
	.summary = "the pinned maps",
	.help = "Reads the pinned maps, which the BPF program works with. Needs no agent.\n",
	.sub = map_commands,
};

/* SPDX-License-Identifier: MIT */
/*
 * status: what an operator wants to know first. The agent's status file says what it saw; the
 * pinned maps, when they may be read, what is counted now. Each works without the other.
 */
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/offload.h"
#include "agent/core/reason.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/attached.h"
#include "tools/ctl/live.h"
#include "tools/ctl/output.h"

struct report {
	struct agent_view view;
	struct live live;
	int live_error; /* 0: live is there; -errno why not */
	struct attached attached;
};

static void report_done(struct report *report)
{
	agent_view_done(&report->view);
	live_done(&report->live);
	attached_done(&report->attached);
}

static int report_read(const struct ctl *ctl, struct report *report)
{
	int r;

	*report = (struct report){ .live = LIVE_NONE };
	r = agent_read(ctl, &report->view);
	if (r < 0)
		return r;
	if (ctl->status_file) { /* it may be another host's */
		report->live_error = report->attached.error = -ENOTSUP;
		return 0;
	}
	report->live_error = live_read(&report->live);
	if (report->live_error == 0)
		report->live_error = live_count(&report->live);
	attached_read(&report->attached);
	return 0;
}

/* Index of the live row that an entry of the document is about; SIZE_MAX: it is gone. */
static size_t find_live(const struct live *live, const json_t *entry)
{
	struct ip4 remote = { 0 }, inner_source = { 0 };
	const char *source = json_text(entry, "inner_source");

	if (ip4_parse(json_text(entry, "remote"), &remote) < 0 ||
		(source[0] && ip4_parse(source, &inner_source) < 0))
		return SIZE_MAX;
	return live_find(live, remote, inner_source);
}

/*
 * Puts the counters of this moment into the document, all or none: rows that came or went since it
 * was written would make a document that was never true.
 */
static bool merge_live(const struct report *report)
{
	json_t *entries = json_object_get(report->view.document, "entries");
	json_t *map = json_object_get(report->view.document, "map");
	const struct live *live = &report->live;
	json_t *entry;
	size_t i;

	if (report->live_error < 0 || json_array_size(entries) != live->rows.n)
		return false;
	json_array_foreach(entries, i, entry)
	{
		if (find_live(live, entry) == SIZE_MAX)
			return false;
	}
	json_array_foreach(entries, i, entry)
	{
		(void)json_object_set_new(entry, "counters",
			status_counters(&live->counters[find_live(live, entry)]));
	}
	(void)json_object_set_new(map, "no_entry_packets",
		json_integer((json_int_t)live->no_entry.kept.packets[MAPS_KEPT_NO_ENTRY]));
	(void)json_object_set_new(map, "no_program_packets",
		json_integer((json_int_t)live->no_entry.kept.packets[MAPS_KEPT_NO_PROGRAM]));
	return true;
}

/* The file of an agent that stopped still says how it was then. */
static void correct_stopped(const struct report *report)
{
	json_t *document = report->view.document, *interface;
	size_t i;

	(void)json_object_set_new(
		json_object_get(document, "agent"), "state", json_string("stopped"));
	json_array_foreach(json_object_get(document, "interfaces"), i, interface)
	{
		if (strcmp(json_text(interface, "attachment"), "none") == 0 ||
			attached_now(&report->attached, &report->view, interface) != 0)
			continue;
		(void)json_object_set_new(interface, "attachment", json_string("none"));
		(void)json_object_set_new(interface, "program_id", json_null());
		(void)json_object_set_new(interface, "next_hop", json_null());
		(void)json_object_set_new(interface, "error", json_string("detached since"));
		(void)json_object_set_new(
			json_object_get(interface, "offload_guard"), "active", json_false());
	}
}

static int print_json(const struct ctl *ctl, const struct report *report)
{
	json_t *document = report->view.document;
	json_t *view = agent_view_json(&report->view);
	bool live = merge_live(report);

	if (!view ||
		json_object_set_new(view, "counters", json_string(live ? "live" : "file")) < 0 ||
		json_object_set_new(document, "view", view) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	if (report->view.life == AGENT_STOPPED)
		correct_stopped(report);
	else if (agent_is_stale(&report->view))
		(void)json_object_set_new(
			json_object_get(document, "agent"), "state", json_string("stale"));
	return ctl_print_json(ctl, json_incref(document));
}

#define LABEL_WIDTH 12
#define OVERRIDES_SHOWN 4

static void label(const char *text)
{
	(void)printf("%-*s", LABEL_WIDTH, text);
}

static bool is_degraded(const struct report *report)
{
	const json_t *agent = json_object_get(report->view.document, "agent");

	return agent_is_stale(&report->view) || strcmp(json_text(agent, "state"), "ok") != 0;
}

static void print_agent_running(const json_t *agent)
{
	time_t now = time(NULL), synced = json_time_at(agent, "synced_at");

	(void)printf("%srunning%s, pid %" JSON_INTEGER_FORMAT ", version ",
		colour_begin(COLOUR_GOOD), colour_end(), json_number(agent, "pid"));
	print_escaped(stdout, "%s", json_text(agent, "version"));
	(void)printf(", up %s", HUMAN_DURATION(now - json_time_at(agent, "started_at")));
	if (synced != 0)
		(void)printf(", synced %s ago\n", HUMAN_DURATION(now - synced));
	else
		(void)puts(", not synced yet");
}

static void print_agent_stopped(const struct report *report)
{
	(void)printf("%snot running%s, ", colour_begin(COLOUR_BAD), colour_end());
	if (report->view.document)
		(void)printf("last status %s ago; ",
			HUMAN_DURATION(time(NULL) - report->view.written_at));
	if (report->attached.error < 0)
		(void)puts("whether it is still attached cannot be told");
	else if (attached_count(&report->attached, &report->view) > 0)
		(void)puts("what is attached goes on forwarding");
	else
		(void)puts("nothing is attached");
}

static void print_agent_unknown(const json_t *agent)
{
	const char *synced_at = json_text(agent, "synced_at");

	(void)fputs("unknown whether it runs", stdout);
	if (agent)
		print_escaped(stdout, "; version %s, synced %s", json_text(agent, "version"),
			synced_at[0] ? synced_at : "never");
	(void)fputc('\n', stdout);
}

static void print_agent(const struct report *report)
{
	const json_t *agent = json_object_get(report->view.document, "agent");

	label("Agent");
	switch (report->view.life) {
	case AGENT_RUNNING:
		if (agent)
			print_agent_running(agent);
		else
			(void)puts("running, but has not written its status yet");
		return;
	case AGENT_STOPPED:
		print_agent_stopped(report);
		return;
	case AGENT_UNKNOWN:
		print_agent_unknown(agent);
		return;
	}
}

static void print_state(const struct report *report)
{
	const json_t *problems =
		json_object_get(json_object_get(report->view.document, "agent"), "problems");
	bool degraded = is_degraded(report), stopped = report->view.life == AGENT_STOPPED;
	const json_t *problem;
	size_t i;

	label("State");
	if (agent_is_stale(&report->view))
		(void)printf("%sstale%s: this is how it was %s ago, see 'ipipdirectctl doctor'\n",
			colour_begin(COLOUR_WARNING), colour_end(),
			HUMAN_DURATION(time(NULL) - report->view.written_at));
	else
		(void)printf("%s%s%s%s\n", colour_begin(degraded ? COLOUR_WARNING : COLOUR_GOOD),
			degraded ? "degraded" : "ok", colour_end(),
			stopped ? " when it stopped" : "");
	json_array_foreach((json_t *)problems, i, problem)
	{
		label("");
		(void)printf("%s!%s ", colour_begin(COLOUR_WARNING), colour_end());
		print_wrapped(
			LABEL_WIDTH + 2, output_width(), "%s", json_string_value(problem) ?: "?");
	}
}

static void print_interface(const struct report *report, const json_t *interface)
{
	const char *name = json_text(interface, "name"),
		   *attachment = json_text(interface, "attachment");
	const json_t *guard = json_object_get(interface, "offload_guard");
	const char *guarded = json_is_true(json_object_get(guard, "active")) ? "; " OFFLOAD_FEATURE
									       " turned off"
									     : "";
	unsigned int width = output_width();

	if (strcmp(attachment, "none") == 0)
		print_wrapped(LABEL_WIDTH, width, "%s: not attached: %s%s", name,
			json_text(interface, "error"), guarded);
	else if (attached_now(&report->attached, &report->view, interface) == 0)
		print_wrapped(LABEL_WIDTH, width, "%s: detached since", name);
	else
		print_wrapped(LABEL_WIDTH, width,
			"%s: attached (%s, program %" JSON_INTEGER_FORMAT ")%s", name, attachment,
			json_number(interface, "program_id"), guarded);
}

static void print_interfaces(const struct report *report)
{
	const json_t *interfaces = json_object_get(report->view.document, "interfaces");
	const json_t *interface;
	size_t i;

	json_array_foreach((json_t *)interfaces, i, interface)
	{
		label(i == 0 ? "Interfaces" : "");
		print_interface(report, interface);
	}
	if (json_array_size(interfaces) == 0) {
		label("Interfaces");
		(void)puts("none");
	}
}

/* Without a document the pins say where something hangs. */
static void print_attached(const struct report *report)
{
	char name[IF_NAMESIZE];

	for (size_t i = 0; i < report->attached.n; i++) {
		label(i == 0 ? "Interfaces" : "");
		if (if_indextoname(report->attached.list[i], name))
			print_escaped(stdout, "%s: ", name);
		(void)printf("attached (interface index %" PRIu32 ")\n", report->attached.list[i]);
	}
}

/* `key` NULL: all. */
static size_t count_tunnels(const json_t *tunnels, const char *key, const char *value)
{
	const json_t *tunnel;
	size_t i, n = 0;

	json_array_foreach((json_t *)tunnels, i, tunnel)
	{
		if (agent_is_fallback(tunnel))
			continue;
		if (!key) {
			n++;
			continue;
		}
		/* A mode counts only where it is at work. */
		if (strcmp(key, "mode") == 0 && strcmp(json_text(tunnel, "state"), "mapped") != 0)
			continue;
		n += strcmp(json_text(tunnel, key), value) == 0;
	}
	return n;
}

static void print_tunnels(const json_t *document)
{
	static const struct {
		const char *key, *value, *text;
	} kinds[] = {
		{ "mode", "direct", "direct" },
		{ "mode", "shadow", "shadow" },
		{ "mode", "tunnel", "drained" },
		{ "state", "conflict", "in conflict" },
		{ "state", "skipped", "skipped" },
	};
	const json_t *tunnels = json_object_get(document, "tunnels");
	const char *gap = ": ";

	label("Tunnels");
	(void)printf("%zu in %zu namespaces", count_tunnels(tunnels, NULL, NULL),
		json_array_size(json_object_get(document, "namespaces")));
	for (size_t i = 0; i < ELEMENTS_OF(kinds); i++) {
		size_t n = count_tunnels(tunnels, kinds[i].key, kinds[i].value);

		if (n == 0)
			continue;
		(void)printf("%s%zu %s", gap, n, kinds[i].text);
		gap = ", ";
	}
	(void)fputc('\n', stdout);
}

/* Easily set in a hurry and forgotten. */
static void print_overrides(const json_t *document)
{
	const json_t *overrides = json_object_get(document, "mode_overrides"), *override;
	size_t i, n = json_array_size(overrides);

	json_array_foreach((json_t *)overrides, i, override)
	{
		label(i == 0 ? "Set by hand" : "");
		if (i == OVERRIDES_SHOWN && n > OVERRIDES_SHOWN + 1) {
			(void)printf("and %zu more: ipipdirectctl -j status\n", n - i);
			return;
		}
		print_wrapped(LABEL_WIDTH, output_width(), "%s %s: %s%s",
			json_text(override, "netns"), json_text(override, "ifname"),
			json_text(override, "mode"),
			json_is_true(json_object_get(override, "until_reload")) ? ", until a reload"
										: "");
	}
}

static void counters_of(const json_t *json, struct slot_counters *ret)
{
	const json_t *kept = json_object_get(json, "kept");

	*ret = (struct slot_counters){
		.direct.packets = (uint64_t)json_number(json, "direct_packets"),
		.direct.bytes = (uint64_t)json_number(json, "direct_bytes"),
	};
	for (size_t i = 0; i < MAPS_REASON_COUNT; i++)
		ret->kept.packets[i] =
			(uint64_t)json_number(kept, maps_reason_name((enum maps_reason)i));
}

/* Everything counted: of this moment, or of the file. */
static struct slot_counters sum_counters(const struct report *report)
{
	const json_t *entries = json_object_get(report->view.document, "entries");
	const json_t *map = json_object_get(report->view.document, "map");
	struct slot_counters sum = { 0 }, one;
	const json_t *entry;
	size_t i;

	if (report->live_error == 0) {
		for (i = 0; i < report->live.rows.n; i++)
			slot_counters_add(&sum, &report->live.counters[i]);
		slot_counters_add(&sum, &report->live.no_entry);
		return sum;
	}
	json_array_foreach((json_t *)entries, i, entry)
	{
		counters_of(json_object_get(entry, "counters"), &one);
		slot_counters_add(&sum, &one);
	}
	sum.kept.packets[MAPS_KEPT_NO_ENTRY] = (uint64_t)json_number(map, "no_entry_packets");
	sum.kept.packets[MAPS_KEPT_NO_PROGRAM] = (uint64_t)json_number(map, "no_program_packets");
	return sum;
}

static void print_map(const struct report *report)
{
	const json_t *map = json_object_get(report->view.document, "map");
	struct map_use use = {
		.remotes = (size_t)json_number(map, "remotes"),
		.sources = (size_t)json_number(map, "sources"),
	};
	json_int_t room = json_number(map, "max_rows");

	if (report->live_error == 0) {
		use = live_use(&report->live);
		room = (json_int_t)report->live.maps.max_rows;
	}
	label("Map");
	(void)printf("%zu remotes, %zu inner sources; room for %" JSON_INTEGER_FORMAT " of each\n",
		use.remotes, use.sources, room);
}

static void print_packets(const struct report *report)
{
	struct slot_counters sum = sum_counters(report);

	label("Packets");
	(void)printf("%12" PRIu64 "  direct, %s\n", (uint64_t)sum.direct.packets,
		HUMAN_BYTES(sum.direct.bytes));
	for (size_t i = 0; i < MAPS_REASON_COUNT; i++) {
		if (sum.kept.packets[i] == 0)
			continue;
		label("");
		(void)printf("%12" PRIu64 "  %s: %s\n", (uint64_t)sum.kept.packets[i],
			i == MAPS_DROP_WRITE_FAILED ? "dropped" : "kept",
			maps_reason_name((enum maps_reason)i));
	}
	label("");
	if (report->live_error == 0)
		(void)puts("(live, from the pinned maps)");
	else
		(void)printf("(of the status file, %s old)\n",
			HUMAN_DURATION(time(NULL) - report->view.written_at));
}

static void print_dashboard(const struct report *report)
{
	print_agent(report);
	if (report->view.document) {
		print_state(report);
		print_interfaces(report);
		print_tunnels(report->view.document);
		print_overrides(report->view.document);
	} else {
		print_attached(report);
	}
	if (report->view.document || report->live_error == 0) {
		print_map(report);
		print_packets(report);
	}
}

static const char *brief_state(const struct report *report)
{
	if (report->view.life == AGENT_STOPPED)
		return "stopped";
	if (agent_is_stale(&report->view))
		return "stale";
	return is_degraded(report) ? "degraded" : "ok";
}

/* "ok  2/2 attached  5 of 7 tunnels mapped  5 rows  28000 direct  91 kept" */
static void print_brief(const struct report *report)
{
	const json_t *document = report->view.document, *map = json_object_get(document, "map");
	const json_t *interfaces = json_object_get(document, "interfaces");
	const json_t *tunnels = json_object_get(document, "tunnels"), *interface;
	struct slot_counters sum = sum_counters(report);
	size_t i, n = 0;

	json_array_foreach((json_t *)interfaces, i, interface) n +=
		attached_now(&report->attached, &report->view, interface) != 0;
	(void)printf("%s  %zu/%zu attached  %zu of %zu tunnels mapped  %" JSON_INTEGER_FORMAT
		     " rows  %" PRIu64 " direct  %" PRIu64 " kept\n",
		brief_state(report), n, json_array_size(interfaces),
		count_tunnels(tunnels, "state", "mapped"), json_array_size(tunnels),
		json_number(map, "remotes") + json_number(map, "sources"),
		(uint64_t)sum.direct.packets, kept_packets(&sum));
}

static int finish(const struct ctl *ctl, const struct report *report)
{
	if (report->view.life == AGENT_STOPPED && !ctl->json)
		return ctl_fail(ctl, CTL_UNREACHABLE, "agent-unreachable", CTL_HINT_START,
			"the agent is not running");
	if (report->view.life == AGENT_STOPPED)
		return CTL_UNREACHABLE;
	return is_degraded(report) ? CTL_DEGRADED : CTL_OK;
}

static int run_status(const struct ctl *ctl)
{
	_cleanup_(report_done) struct report report;
	int status;

	if (report_read(ctl, &report) < 0)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	if (!report.view.document) {
		if (!ctl->json && !ctl->status_file)
			print_dashboard(&report);
		return agent_fail(ctl, &report.view);
	}
	if (ctl->json) {
		status = print_json(ctl, &report);
		if (status != CTL_OK)
			return status;
	} else if (ctl->brief) {
		print_brief(&report);
	} else {
		print_dashboard(&report);
	}
	return finish(ctl, &report);
}

const struct ctl_command ctl_status_command = {
	.name = "status",
	.summary = "the agent, its problems, tunnels and packets",
	.help = "Shows on one screen whether the agent runs, what needs attention, where it is\n"
		"attached, and how many packets went straight to clients or stayed on the\n"
		"tunnel, by reason. -j prints the status document of the agent with the\n"
		"counters of now; status.schema.json describes it.\n"
		"\n"
		"Exit status: 3 when the agent is not running, 4 when it reports a problem.\n",
	.options = CTL_OPTION_STATUS_FILE,
	.run = run_status,
};

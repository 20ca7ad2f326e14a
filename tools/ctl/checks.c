/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/attachment.h"
#include "agent/core/reason.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/advice.h"
#include "tools/ctl/checks.h"
#include "tools/ctl/output.h"

#define OUTER_HEADER 20
#define NEARLY_FULL 80 /* percent */
#define CLOCK_TOLERANCE_S 2
#define RESTART "systemctl restart ipipdirect"

void facts_done(struct facts *facts)
{
	for (size_t i = 0; i < facts->n_interfaces; i++)
		free(facts->interfaces[i].filters);
	free(facts->interfaces);
	free(facts->tunnels);
	json_decref(facts->nat);
}

static const json_t *document_of(const struct facts *facts)
{
	return facts->view->document;
}

static const json_t *agent_of(const struct facts *facts)
{
	return json_object_get(document_of(facts), "agent");
}

/* Ends a check that needs the status when there is none. */
static bool has_status(const struct facts *facts, struct findings *findings, const char *name)
{
	if (document_of(facts))
		return true;
	findings_add(findings, name, RESULT_UNKNOWN, "there is no status of an agent to look at");
	return false;
}

/* ---- the kernel */

static void check_kernel(const struct facts *facts, struct findings *findings)
{
	unsigned int major = 0, minor = 0;

	if (sscanf(facts->kernel, "%u.%u", &major, &minor) != 2) {
		findings_add(
			findings, "kernel", RESULT_UNKNOWN, "'%s' is no version", facts->kernel);
		return;
	}
	if (major < 5 || (major == 5 && minor < 10)) {
		findings_add(findings, "kernel", RESULT_FAIL, "Linux %s is older than 5.10",
			facts->kernel);
		findings_remedy(findings, "install a kernel from 5.10 on");
		return;
	}
	findings_add(findings, "kernel", RESULT_OK, "Linux %s: attaches by %s; %s", facts->kernel,
		major > 6 || (major == 6 && minor >= 6) ? "TCX" : "clsact",
		facts->clears_mark.error < 0 ? "whether it clears the tunnel's mark is not known"
		: facts->clears_mark.value   ? "clears the tunnel's mark of stripped packets"
					     : "leaves the tunnel's mark on stripped packets, so "
					       "offloads need the guard");
}

static void check_jit(const struct facts *facts, struct findings *findings)
{
	if (facts->jit.error < 0) {
		findings_add(findings, "bpf-jit", RESULT_UNKNOWN,
			"net.core.bpf_jit_enable cannot be read here: %s",
			strerror(-facts->jit.error));
	} else if (facts->jit.value == 0) {
		findings_add(findings, "bpf-jit", RESULT_WARN,
			"off: the kernel interprets the program, many times slower");
		findings_remedy(findings, "sysctl -w net.core.bpf_jit_enable=1");
	} else {
		findings_add(findings, "bpf-jit", RESULT_OK, "on");
	}
}

static void check_bpffs(const struct facts *facts, struct findings *findings)
{
	if (facts->bpffs_error == 0) {
		findings_add(findings, "bpffs", RESULT_OK, "mounted on /sys/fs/bpf");
		return;
	}
	findings_add(findings, "bpffs", RESULT_FAIL, "/sys/fs/bpf is no BPF file system here");
	findings_remedy(findings,
		"'ip netns exec' hides it: use 'nsenter --net=FILE'; if it is nowhere: mount -t bpf "
		"bpf /sys/fs/bpf");
}

static void check_pins(const struct facts *facts, struct findings *findings)
{
	switch (facts->live_error) {
	case 0:
		findings_add(findings, "pins", RESULT_OK, "the pinned maps can be read");
		return;
	case -EACCES:
	case -EPERM:
		findings_add(findings, "pins", RESULT_UNKNOWN,
			"the pinned maps may not be read: %s", strerror(-facts->live_error));
		findings_remedy(findings, CTL_HINT_READ);
		return;
	case -ENOENT:
		findings_add(
			findings, "pins", RESULT_FAIL, "no maps are pinned: nothing goes direct");
		findings_remedy(findings, "systemctl start ipipdirect");
		return;
	default:
		findings_add(findings, "pins", RESULT_FAIL, "the pinned maps cannot be read: %s",
			strerror(-facts->live_error));
		findings_remedy(findings, "use the ipipdirectctl of the version that pinned them");
	}
}

/* ---- the agent */

static void check_agent(const struct facts *facts, struct findings *findings)
{
	switch (facts->view->life) {
	case AGENT_RUNNING:
		findings_add(findings, "agent", RESULT_OK, "running, pid %" JSON_INTEGER_FORMAT,
			json_number(agent_of(facts), "pid"));
		return;
	case AGENT_STOPPED:
		findings_add(findings, "agent", RESULT_FAIL,
			"not running: what is in the kernel goes on, but nobody sees what changes");
		findings_remedy(findings, "systemctl start ipipdirect");
		return;
	case AGENT_UNKNOWN:
		findings_add(findings, "agent", RESULT_UNKNOWN, "whether it runs cannot be told");
		findings_remedy(findings, CTL_HINT_READ);
		return;
	}
}

/* Those of the agent's problems that a check of their own looks at; of one that is worded anew both tell. */
static bool has_check(const char *problem)
{
	static const char *const parts[] = {
		"detached",
		"no interface to attach to",
		"not attached to",
		" in conflict, ",
		"map full",
		" namespace could not be read",
		" namespaces could not be read",
		"configuration refused",
	};

	for (size_t i = 0; i < ELEMENTS_OF(parts); i++)
		if (strstr(problem, parts[i]))
			return true;
	return false;
}

/* What else makes `status` say "degraded". */
static void check_problems(const struct facts *facts, struct findings *findings)
{
	const json_t *problem;
	bool any = false;
	size_t i;

	if (!has_status(facts, findings, "problems"))
		return;
	if (facts->view->life == AGENT_STOPPED) {
		findings_add(
			findings, "problems", RESULT_UNKNOWN, "no agent runs that would tell them");
		return;
	}
	json_array_foreach(json_object_get(agent_of(facts), "problems"), i, problem)
	{
		const char *text = json_string_value(problem);

		if (!text || has_check(text))
			continue;
		any = true;
		findings_add(findings, "problems", RESULT_WARN, "%s", text);
		findings_remedy(findings,
			"'ipipdirectctl status' says more, and its log: journalctl -u ipipdirect");
	}
	if (!any)
		findings_add(findings, "problems", RESULT_OK, "the agent knows of no others");
}

/* The file, by its age, and what is in it, by the agent's own word. */
static void check_status(const struct facts *facts, struct findings *findings)
{
	time_t synced = json_time_at(agent_of(facts), "synced_at"),
	       limit = AGENT_STALE_AFTER(facts->resync_s);
	time_t age = facts->now - facts->view->written_at;

	if (!document_of(facts)) {
		bool denied = facts->view->error == -EACCES || facts->view->error == -EPERM;

		findings_add(findings, "status", denied ? RESULT_UNKNOWN : RESULT_FAIL,
			"the status file cannot be read: %s",
			facts->view->error == -EBADMSG ? facts->view->message
						       : strerror(-facts->view->error));
		findings_remedy(findings, "%s", denied ? CTL_HINT_READ : RESTART);
	} else if (facts->view->life != AGENT_RUNNING) {
		findings_add(findings, "status", RESULT_NOTE,
			"of an agent that ended; written %s ago", HUMAN_DURATION(age));
	} else if (synced == 0) {
		findings_add(findings, "status", RESULT_WARN,
			"the agent has not read everything yet: nothing is removed");
		findings_remedy(findings, "see its log: journalctl -u ipipdirect");
	} else if (age > limit || facts->now - synced > limit) {
		findings_add(findings, "status", RESULT_WARN,
			"stale: written %s ago, everything read %s ago, though a pass is due every %s",
			HUMAN_DURATION(age), HUMAN_DURATION(facts->now - synced),
			HUMAN_DURATION(facts->resync_s));
		findings_remedy(findings, "see its log, then " RESTART);
	} else {
		findings_add(findings, "status", RESULT_OK, "everything was read %s ago",
			HUMAN_DURATION(facts->now - synced));
	}
}

static void check_clock(const struct facts *facts, struct findings *findings)
{
	time_t latest = facts->now + CLOCK_TOLERANCE_S;
	const json_t *agent = agent_of(facts);

	if (!has_status(facts, findings, "clock"))
		return;
	if (json_time_at(agent, "started_at") > latest ||
		json_time_at(agent, "synced_at") > latest || facts->view->written_at > latest) {
		findings_add(findings, "clock", RESULT_WARN,
			"the agent's status is of the future: the clock was set back, and ages "
			"shown here are wrong");
		findings_remedy(findings, RESTART);
		return;
	}
	findings_add(findings, "clock", RESULT_OK, "agrees with the agent's");
}

static void check_config(const struct facts *facts, struct findings *findings)
{
	static const char refused[] = "configuration refused";
	const json_t *problem, *error = json_object_get(agent_of(facts), "config_error");
	const char *path = json_text(agent_of(facts), "config"), *why = json_text(error, "message");
	size_t i;

	if (!has_status(facts, findings, "config"))
		return;
	json_array_foreach(json_object_get(agent_of(facts), "problems"), i, problem)
	{
		const char *text = json_string_value(problem);

		if (!why[0] && text && strncmp(text, refused, strlen(refused)) == 0)
			why = text;
	}
	if (!why[0]) {
		findings_add(
			findings, "config", RESULT_OK, "%s", path[0] ? path : "none: the defaults");
		return;
	}
	findings_add(findings, "config", RESULT_WARN, "refused, the former one holds: %s%s%s",
		json_text(error, "place"), json_text(error, "place")[0] ? ": " : "", why);
	findings_remedy(
		findings, "mend %s, then ipipdirectctl reload", path[0] ? path : "the file");
}

/* The agent says so where it lists what it had to pass over. */
static bool hides_processes(const json_t *document)
{
	const json_t *file;
	size_t i;

	json_array_foreach((json_t *)json_object_get(document, "skipped_files"), i,
		file) if (strcmp(json_text(file, "path"), "/proc") == 0) return true;
	return false;
}

static void check_namespaces(const struct facts *facts, struct findings *findings)
{
	const json_t *namespaces = json_object_get(document_of(facts), "namespaces"), *netns;
	const char *first = NULL;
	size_t i, n = 0;

	if (!has_status(facts, findings, "namespaces"))
		return;
	json_array_foreach((json_t *)namespaces, i, netns)
	{
		if (!json_is_false(json_object_get(netns, "read")))
			continue;
		if (n++ == 0)
			first = json_text(netns, "label");
	}
	if (n == 0 && hides_processes(document_of(facts))) {
		findings_add(findings, "namespaces", RESULT_WARN,
			"%zu, all of them read; but /proc hides processes from the agent, and those that "
			"only a process leads to are not seen",
			json_array_size(namespaces));
		findings_remedy(findings, "mount -o remount,gid=ipipdirect /proc");
		return;
	}
	if (n == 0) {
		findings_add(findings, "namespaces", RESULT_OK, "%zu, all of them read",
			json_array_size(namespaces));
		return;
	}
	findings_add(findings, "namespaces", RESULT_WARN,
		"%zu of %zu could not be read, the first is %s: what was read before holds", n,
		json_array_size(namespaces), first);
	findings_remedy(findings, "'ipipdirectctl explain %s' says why", SHELL_WORD(first));
}

/* ---- the tunnels */

static size_t count_tunnels(
	const struct facts *facts, const char *key, const char *value, const json_t **ret_first)
{
	const json_t *tunnel;
	size_t i, n = 0;

	json_array_foreach(json_object_get(document_of(facts), "tunnels"), i, tunnel)
	{
		if (strcmp(json_text(tunnel, key), value) != 0)
			continue;
		if (n++ == 0)
			*ret_first = tunnel;
	}
	return n;
}

static void check_conflicts(const struct facts *facts, struct findings *findings)
{
	const json_t *first = NULL;
	size_t n;

	if (!has_status(facts, findings, "conflicts"))
		return;
	n = count_tunnels(facts, "state", "conflict", &first);
	if (n == 0) {
		findings_add(findings, "conflicts", RESULT_OK, "none");
		return;
	}
	findings_add(findings, "conflicts", RESULT_WARN,
		"%zu tunnel%s in conflict, the first is %s %s: %s", n, n == 1 ? "" : "s",
		json_text(first, "netns"), json_text(first, "ifname"),
		json_text(first, "reason_text"));
	findings_remedy(findings, "ipipdirectctl explain %s %s",
		SHELL_WORD(json_text(first, "netns")), SHELL_WORD(json_text(first, "ifname")));
}

/* Tunnels that direct return cannot serve as they are. */
static void check_kinds(const struct facts *facts, struct findings *findings)
{
	static const struct {
		const char *reason, *text;
	} kinds[] = {
		{ "encapsulation", "use FOU or GUE" },
		{ "external", "are in external mode" },
		{ "no-remote", "have no fixed remote" },
		{ "not-ipip", "carry MPLS" },
		{ "remote-forbidden", "have a remote that is no POP's" },
		{ "no-public-address", "have no public address" },
		{ "not-allowed", "claim an address that is not allowed" },
	};
	const json_t *first = NULL;
	bool any = false;

	if (!has_status(facts, findings, "tunnel-kinds"))
		return;
	for (size_t i = 0; i < ELEMENTS_OF(kinds); i++) {
		size_t n = count_tunnels(facts, "reason", kinds[i].reason, &first);

		if (n == 0)
			continue;
		any = true;
		findings_add(findings, "tunnel-kinds", RESULT_NOTE,
			"%zu tunnel%s cannot be served, for they %s; the first is %s %s", n,
			n == 1 ? "" : "s", kinds[i].text, json_text(first, "netns"),
			json_text(first, "ifname"));
		findings_remedy(findings, "%s", advice_tunnel(kinds[i].reason));
	}
	if (!any)
		findings_add(findings, "tunnel-kinds", RESULT_OK, "all can be served");
}

static void check_trust(const struct facts *facts, struct findings *findings)
{
	const json_t *netns, *first = NULL;
	size_t i, n_tunnels, n_other = 0;
	bool told = false;

	if (!has_status(facts, findings, "trust"))
		return;
	json_array_foreach(json_object_get(document_of(facts), "namespaces"), i, netns)
	{
		const char *owner = json_text(netns, "owner");

		told = told || owner[0];
		n_other += strcmp(owner, "other") == 0;
	}
	n_tunnels = count_tunnels(facts, "reason", "untrusted", &first);
	if (n_tunnels > 0) {
		findings_add(findings, "trust", RESULT_WARN,
			"%zu tunnel%s in namespaces that nobody vouches for; the first is %s %s",
			n_tunnels, n_tunnels == 1 ? "" : "s", json_text(first, "netns"),
			json_text(first, "ifname"));
		findings_remedy(findings, "%s", advice_tunnel("untrusted"));
	} else if (!told) {
		findings_add(findings, "trust", RESULT_UNKNOWN,
			"the status does not say who owns the namespaces");
	} else {
		findings_add(findings, "trust", RESULT_OK,
			"no tunnel is refused for its owner; %zu namespaces are not the host's",
			n_other);
	}
}

/* ---- the maps */

static void check_map_room(const struct facts *facts, struct findings *findings)
{
	size_t n_no_room = json_array_size(
		json_object_get(json_object_get(document_of(facts), "map"), "no_room"));
	struct map_use use;
	size_t most;

	if (facts->live_error < 0) {
		findings_add(findings, "map-room", RESULT_UNKNOWN, "the maps cannot be read");
		return;
	}
	use = live_use(facts->live);
	most = use.remotes > use.sources ? use.remotes : use.sources;
	if (n_no_room > 0)
		findings_add(findings, "map-room", RESULT_FAIL,
			"full: %zu rows found no room, their packets stay on the tunnel",
			n_no_room);
	else if (most * 100 >= (size_t)facts->live->maps.max_rows * NEARLY_FULL)
		findings_add(findings, "map-room", RESULT_WARN,
			"nearly full: %zu remotes and %zu inner sources, room for %" PRIu32
			" of each",
			use.remotes, use.sources, facts->live->maps.max_rows);
	else
		findings_add(findings, "map-room", RESULT_OK,
			"%zu remotes and %zu inner sources, room for %" PRIu32 " of each",
			use.remotes, use.sources, facts->live->maps.max_rows);
	if (n_no_room > 0 || most * 100 >= (size_t)facts->live->maps.max_rows * NEARLY_FULL)
		findings_remedy(findings, "raise max_entries, then 'ipipdirectctl reload'");
}

static void check_packets(const struct facts *facts, struct findings *findings)
{
	struct slot_counters sum = { 0 };
	bool any = false;

	if (facts->live_error < 0) {
		findings_add(findings, "packets", RESULT_UNKNOWN, "the maps cannot be read");
		return;
	}
	for (size_t i = 0; i < facts->live->rows.n; i++)
		slot_counters_add(&sum, &facts->live->counters[i]);
	slot_counters_add(&sum, &facts->live->no_entry);
	for (size_t i = 0; i < MAPS_REASON_COUNT; i++) {
		struct advice advice = advice_kept((enum maps_reason)i);
		bool grave = i == MAPS_DROP_WRITE_FAILED || i == MAPS_KEPT_NO_PROGRAM;

		if (sum.kept.packets[i] == 0 || advice.wanted)
			continue;
		any = true;
		findings_add(findings, "packets", grave ? RESULT_WARN : RESULT_NOTE,
			"%" PRIu64 " stayed as %s: %s", (uint64_t)sum.kept.packets[i],
			maps_reason_name((enum maps_reason)i), advice.meaning);
		if (advice.remedy)
			findings_remedy(findings, "%s", advice.remedy);
	}
	if (!any)
		findings_add(findings, "packets", RESULT_OK,
			"%" PRIu64 " went direct, none stayed that should not",
			(uint64_t)sum.direct.packets);
}

/* ---- the interfaces */

/* Ends a check of interfaces when it would look at the wrong ones, or there are none. */
static bool has_interfaces(const struct facts *facts, struct findings *findings, const char *name)
{
	if (!has_status(facts, findings, name))
		return false;
	if (facts->own_netns.error == 0 && !facts->own_netns.value) {
		findings_add(findings, name, RESULT_UNKNOWN,
			"this is not the agent's network namespace");
		return false;
	}
	if (facts->n_interfaces == 0) {
		findings_add(findings, name, RESULT_UNKNOWN, "there is no interface to look at");
		return false;
	}
	return true;
}

static void check_attached(const struct facts *facts, struct findings *findings)
{
	bool detached = agent_is_detached(facts->view);

	if (detached) {
		findings_add(findings, "attached", RESULT_WARN,
			"an operator has detached the program, and the agent leaves it off");
		findings_remedy(findings, "ipipdirectctl attach");
	}
	if (document_of(facts) &&
		json_array_size(json_object_get(document_of(facts), "interfaces")) == 0) {
		if (detached)
			return;
		findings_add(findings, "attached", RESULT_FAIL, NO_INTERFACE);
		findings_remedy(findings, "name them in 'interfaces' of the configuration");
		return;
	}
	if (!has_interfaces(facts, findings, "attached"))
		return;
	for (size_t i = 0; i < facts->n_interfaces; i++) {
		const struct fact_interface *interface = &facts->interfaces[i];
		const char *error = json_text(interface->status, "error");

		if (interface->attached == 0) {
			findings_add(findings, "attached", RESULT_OK, "%s: by %s", interface->name,
				json_text(interface->status, "attachment"));
		} else if (interface->attached == -ENOENT) {
			findings_add(findings, "attached", RESULT_FAIL, "%s: not attached%s%s",
				interface->name, error[0] ? ": " : "", error);
			findings_remedy(findings, RESTART);
		} else {
			findings_add(findings, "attached", RESULT_UNKNOWN,
				"%s: cannot be looked at: %s", interface->name,
				strerror(-interface->attached));
			findings_remedy(findings, CTL_HINT_ROOT);
		}
	}
}

static void name_program(const struct fact_program *program, char *buf, size_t size)
{
	(void)snprintf(buf, size, "program %" PRIu32 "%s%s%s", program->id,
		program->name[0] ? " (" : "", program->name, program->name[0] ? ")" : "");
}

static void check_tcx_order(const struct fact_interface *interface, struct findings *findings)
{
	uint32_t ours = (uint32_t)json_number(interface->status, "program_id");
	size_t place = interface->n_programs;
	char name[64];

	for (size_t i = 0; i < interface->n_programs; i++)
		if (interface->programs[i].id == ours)
			place = i;
	if (place == interface->n_programs)
		return; /* not attached: another check says so */
	if (place > 0) {
		name_program(&interface->programs[0], name, sizeof(name));
		findings_add(findings, "hook-order", RESULT_WARN,
			"%s: %s is before ours in TCX: what it takes or sends elsewhere never gets "
			"here",
			interface->name, name);
		findings_remedy(findings, "have it attach after ours, or " RESTART);
	} else if (interface->n_programs > 1) {
		name_program(&interface->programs[1], name, sizeof(name));
		findings_add(findings, "hook-order", RESULT_NOTE,
			"%s: ours is first; %s comes after it and sees packets as they leave",
			interface->name, name);
	} else if (interface->n_filters > 0) {
		findings_add(findings, "hook-order", RESULT_NOTE,
			"%s: ours is first; %zu clsact filter%s after it and sees packets as they "
			"leave",
			interface->name, interface->n_filters,
			interface->n_filters == 1 ? " comes" : "s come");
	} else {
		findings_add(findings, "hook-order", RESULT_OK, "%s: ours is the only program",
			interface->name);
	}
}

static void check_clsact_order(const struct fact_interface *interface, struct findings *findings)
{
	uint32_t ours = (uint32_t)json_number(interface->status, "program_id");
	size_t place = interface->n_filters;

	for (size_t i = 0; i < interface->n_filters; i++)
		if (ours != 0 && interface->filters[i].program_id == ours)
			place = i;
	if (place == interface->n_filters)
		return;
	if (place > 0) {
		findings_add(findings, "hook-order", RESULT_WARN,
			"%s: a %s filter of priority %" PRIu32
			" is before ours: what it takes or sends elsewhere never gets here",
			interface->name, interface->filters[0].kind,
			interface->filters[0].priority);
		findings_remedy(findings, "give it a priority above %" PRIu32,
			interface->filters[place].priority);
	} else if (interface->n_filters > 1) {
		findings_add(findings, "hook-order", RESULT_NOTE,
			"%s: ours is first; the filter of priority %" PRIu32
			" after it sees packets as they leave",
			interface->name, interface->filters[1].priority);
	} else {
		findings_add(findings, "hook-order", RESULT_OK, "%s: ours is the only filter",
			interface->name);
	}
}

static void check_order(const struct facts *facts, struct findings *findings)
{
	size_t before = findings->n;

	if (!has_interfaces(facts, findings, "hook-order"))
		return;
	for (size_t i = 0; i < facts->n_interfaces; i++) {
		const struct fact_interface *interface = &facts->interfaces[i];
		bool tcx = strcmp(json_text(interface->status, "attachment"), "tcx") == 0;
		int error = tcx ? interface->programs_error : interface->filters_error;

		if (error < 0)
			findings_add(findings, "hook-order", RESULT_UNKNOWN,
				"%s: who else is on its egress cannot be looked at: %s",
				interface->name, strerror(-error));
		else if (tcx)
			check_tcx_order(interface, findings);
		else
			check_clsact_order(interface, findings);
	}
	if (findings->n == before)
		findings_add(findings, "hook-order", RESULT_UNKNOWN, "ours is not there");
}

static void check_next_hop(const struct facts *facts, struct findings *findings)
{
	if (!has_interfaces(facts, findings, "next-hop"))
		return;
	for (size_t i = 0; i < facts->n_interfaces; i++) {
		const char *state = json_text(facts->interfaces[i].status, "next_hop");

		if (!state[0])
			findings_add(findings, "next-hop", RESULT_UNKNOWN,
				"%s: the status does not say", facts->interfaces[i].name);
		else if (facts->view->life == AGENT_STOPPED)
			findings_add(findings, "next-hop", RESULT_NOTE,
				"%s: each packet asks the kernel's routes as long as no agent runs",
				facts->interfaces[i].name);
		else
			findings_add(findings, "next-hop",
				strcmp(state, "shortcut") == 0 ? RESULT_OK : RESULT_NOTE, "%s: %s",
				facts->interfaces[i].name, advice_next_hop(state));
	}
}

static void check_forwarding(const struct facts *facts, struct findings *findings)
{
	if (!has_interfaces(facts, findings, "forwarding"))
		return;
	for (size_t i = 0; i < facts->n_interfaces; i++) {
		const struct fact_interface *interface = &facts->interfaces[i];

		if (interface->forwarding.error < 0) {
			findings_add(findings, "forwarding", RESULT_UNKNOWN,
				"%s: cannot be looked at: %s", interface->name,
				strerror(-interface->forwarding.error));
		} else {
			advise_forwarding(findings, interface->name, interface->forwarding.value,
				agent_has_shortcut(facts->view, interface->status));
		}
	}
}

/* Cannot be seen from here, and is what fails most. */
static void check_source(const struct facts *facts, struct findings *findings)
{
	(void)facts;
	findings_add(findings, "source-address", RESULT_NOTE,
		"direct packets leave with the game server IP as source. rp_filter of this host does "
		"not matter, it looks at what comes in; but the provider must let them out (BCP 38), "
		"which cannot be seen from here");
	findings_remedy(findings,
		"have the provider allow the game server IPs as sources; try one server first");
}

/* Drivers that look at the tunnel's mark of every packet; docs/DATAPATH.md, Offloads. */
static bool is_marked_driver(const char *driver)
{
	return strcmp(driver, "i40e") == 0 || strcmp(driver, "iavf") == 0 ||
	       strcmp(driver, "ice") == 0;
}

static void check_offload_of(const struct facts *facts, const struct fact_interface *interface,
	struct findings *findings)
{
	const json_t *guard = json_object_get(interface->status, "offload_guard");
	const char *reason = json_text(guard, "reason");
	bool clears = facts->clears_mark.error == 0 && facts->clears_mark.value;

	if (clears) {
		findings_add(findings, "offloads", RESULT_OK,
			"%s: the kernel clears the tunnel's mark", interface->name);
	} else if (strcmp(reason, "fixed-on") == 0 || strcmp(reason, "failed") == 0) {
		findings_add(findings, "offloads", RESULT_FAIL,
			"%s: " OFFLOAD_FEATURE " cannot be turned off (%s)", interface->name,
			reason);
		findings_remedy(
			findings, "turn it off on the device below, and set offload_guard off");
	} else if (interface->offload_error == 0 && interface->offload.active) {
		findings_add(findings, "offloads", RESULT_FAIL,
			"%s: " OFFLOAD_FEATURE
			" is on: the device may cut stripped packets wrongly",
			interface->name);
		findings_remedy(findings, "ethtool -K %s " OFFLOAD_FEATURE " off",
			SHELL_WORD(interface->name));
	} else if (is_marked_driver(interface->driver)) {
		findings_add(findings, "offloads", RESULT_WARN,
			"%s: driver %s may send wrong checksums of UDP", interface->name,
			interface->driver);
		findings_remedy(findings,
			"for each tunnel, in its namespace: ethtool -K TUNNEL tx off; 'nsenter "
			"--net=FILE' gets there, 'ipipdirectctl netns' says by which file or "
			"process");
	} else if (interface->offload_error < 0) {
		findings_add(findings, "offloads", RESULT_UNKNOWN, "%s: cannot be looked at: %s",
			interface->name, strerror(-interface->offload_error));
	} else {
		findings_add(findings, "offloads", RESULT_OK,
			"%s: " OFFLOAD_FEATURE " is off%s%s%s", interface->name,
			reason[0] ? " (" : "", reason, reason[0] ? ")" : "");
	}
}

static void check_offloads(const struct facts *facts, struct findings *findings)
{
	if (!has_interfaces(facts, findings, "offloads"))
		return;
	for (size_t i = 0; i < facts->n_interfaces; i++)
		check_offload_of(facts, &facts->interfaces[i], findings);
}

/* The smallest MTU of the interfaces by which packets leave; 0: unknown. */
static int64_t smallest_mtu(const struct facts *facts)
{
	int64_t smallest = 0;

	for (size_t i = 0; i < facts->n_interfaces; i++) {
		const struct fact *mtu = &facts->interfaces[i].mtu;

		if (mtu->error == 0 && (smallest == 0 || mtu->value < smallest))
			smallest = mtu->value;
	}
	return smallest;
}

static void check_mtu(const struct facts *facts, struct findings *findings)
{
	const json_t *first = NULL;
	size_t n_large = 0, n_unknown = 0;
	int64_t room, first_mtu = 0;
	char ip[ADVICE_IP_MAX];

	if (!has_interfaces(facts, findings, "mtu"))
		return;
	room = smallest_mtu(facts) - OUTER_HEADER;
	for (size_t i = 0; i < facts->n_tunnels; i++) {
		const struct fact_tunnel *tunnel = &facts->tunnels[i];

		n_unknown += tunnel->mtu.error < 0;
		if (tunnel->mtu.error < 0 || tunnel->mtu.value <= room)
			continue;
		if (n_large++ == 0) {
			first = tunnel->status;
			first_mtu = tunnel->mtu.value;
		}
	}
	if (room <= 0) {
		findings_add(findings, "mtu", RESULT_UNKNOWN, "no MTU of an interface is known");
	} else if (n_large > 0) {
		findings_add(findings, "mtu", RESULT_WARN,
			"%zu tunnel%s more than the interface has room for (%" PRId64
			"): large packets are fragmented and stay; the first is %s %s with %" PRId64,
			n_large, n_large == 1 ? " takes" : "s take", room,
			json_text(first, "netns"), json_text(first, "ifname"), first_mtu);
		advice_ip(document_of(facts), json_text(first, "netns"), ip);
		findings_remedy(findings, "%s link set %s mtu %" PRId64, ip,
			SHELL_WORD(json_text(first, "ifname")), room);
	} else if (n_unknown > 0) {
		findings_add(findings, "mtu", RESULT_UNKNOWN,
			"that of %zu of %zu tunnels is not known", n_unknown, facts->n_tunnels);
	} else {
		findings_add(findings, "mtu", RESULT_OK, "no tunnel has more than %" PRId64, room);
	}
}

/* ---- what others do to tunnel packets */

enum rewrite {
	REWRITE_NONE,
	REWRITE_UNKNOWN,
	REWRITE_SOURCE,
};

/* A target of iptables-nft: nft has no more than its name, and old ones not even that. */
static enum rewrite rewrite_of_target(const json_t *rule, const json_t *xt)
{
	const char *type = json_text(xt, "type"), *name = json_text(xt, "name");
	const char *chain = json_text(rule, "chain");

	if (strcmp(type, "match") == 0 || strcmp(type, "watcher") == 0)
		return REWRITE_NONE;
	if (!name[0])
		return REWRITE_UNKNOWN;
	if (strcmp(name, "MASQUERADE") == 0 || strcmp(name, "SNAT") == 0)
		return REWRITE_SOURCE;
	/* In these two it rewrites destinations. */
	return strcmp(name, "NETMAP") == 0 && strcmp(chain, "PREROUTING") != 0 &&
			       strcmp(chain, "OUTPUT") != 0
		       ? REWRITE_SOURCE
		       : REWRITE_NONE;
}

static enum rewrite rewrite_of_statement(const json_t *rule, const json_t *statement)
{
	const json_t *field, *xt = json_object_get(statement, "xt");

	if (json_object_get(statement, "masquerade") || json_object_get(statement, "snat"))
		return REWRITE_SOURCE;
	field = json_object_get(
		json_object_get(json_object_get(statement, "mangle"), "key"), "payload");
	if (strcmp(json_text(field, "protocol"), "ip") == 0 &&
		strcmp(json_text(field, "field"), "saddr") == 0)
		return REWRITE_SOURCE;
	return xt ? rewrite_of_target(rule, xt) : REWRITE_NONE;
}

static enum rewrite rewrite_of(const json_t *rule)
{
	enum rewrite most = REWRITE_NONE;
	const json_t *statement;
	size_t i;

	if (strcmp(json_text(rule, "family"), "ip6") == 0)
		return REWRITE_NONE;
	json_array_foreach(json_object_get(rule, "expr"), i, statement)
	{
		enum rewrite rewrite = rewrite_of_statement(rule, statement);

		most = rewrite > most ? rewrite : most;
	}
	return most;
}

static size_t count_rewrites(
	const struct facts *facts, enum rewrite rewrite, const json_t **ret_first)
{
	const json_t *item, *rule;
	size_t i, n = 0;

	json_array_foreach(json_object_get(facts->nat, "nftables"), i, item)
	{
		rule = json_object_get(item, "rule");
		if (!rule || rewrite_of(rule) != rewrite)
			continue;
		if (n++ == 0)
			*ret_first = rule;
	}
	return n;
}

/* By number: nft and iptables take "ipip" for protocol 94, as /etc/protocols has it. */
static void remedy_nat(const json_t *rule, struct findings *findings)
{
	const json_t *statement;
	size_t i;

	json_array_foreach(json_object_get(rule, "expr"), i, statement)
	{
		if (!json_object_get(statement, "xt"))
			continue;
		findings_remedy(findings,
			"leave out tunnel packets: 'iptables -t %s -I %s -p 4 -j RETURN'",
			SHELL_WORD(json_text(rule, "table")), SHELL_WORD(json_text(rule, "chain")));
		return;
	}
	findings_remedy(findings, "leave out tunnel packets: 'ip protocol 4 return' before them");
}

static void check_nat(const struct facts *facts, struct findings *findings)
{
	const json_t *first = NULL;
	size_t n;

	if (facts->nat_error < 0) {
		findings_add(findings, "nat", RESULT_UNKNOWN,
			"rules that rewrite source addresses could not be looked for: %s",
			facts->nat_error == -ENOENT ? "'nft' is not there"
						    : strerror(-facts->nat_error));
		return;
	}
	n = count_rewrites(facts, REWRITE_SOURCE, &first);
	if (n > 0) {
		findings_add(findings, "nat", RESULT_NOTE,
			"%zu rule%s source addresses, the first is in %s %s, chain %s. Direct "
			"packets are made after them; but a tunnel packet whose outer source they "
			"change may be refused by the POP",
			n, n == 1 ? " rewrites" : "s rewrite", json_text(first, "family"),
			json_text(first, "table"), json_text(first, "chain"));
		remedy_nat(first, findings);
		return;
	}
	n = count_rewrites(facts, REWRITE_UNKNOWN, &first);
	if (n > 0) {
		findings_add(findings, "nat", RESULT_UNKNOWN,
			"%zu rule%s of iptables a target that nft does not name, the first is in %s "
			"%s, chain %s: it may rewrite source addresses",
			n, n == 1 ? " has" : "s have", json_text(first, "family"),
			json_text(first, "table"), json_text(first, "chain"));
		findings_remedy(findings, "look with iptables-save");
		return;
	}
	findings_add(findings, "nat", RESULT_OK,
		"no nftables rule rewrites source addresses (iptables-legacy is not looked at)");
}

typedef void check_fn(const struct facts *facts, struct findings *findings);

static check_fn *const checks[] = {
	check_kernel,
	check_jit,
	check_bpffs,
	check_pins,
	check_agent,
	check_status,
	check_problems,
	check_clock,
	check_config,
	check_attached,
	check_order,
	check_next_hop,
	check_forwarding,
	check_source,
	check_offloads,
	check_mtu,
	check_nat,
	check_namespaces,
	check_trust,
	check_conflicts,
	check_kinds,
	check_map_room,
	check_packets,
};

void checks_run(const struct facts *facts, struct findings *findings)
{
	for (size_t i = 0; i < ELEMENTS_OF(checks); i++)
		checks[i](facts, findings);
}

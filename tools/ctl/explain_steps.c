/* SPDX-License-Identifier: MIT */
/* The steps that explain shows: what the agent saw, what the maps hold, where the packets leave. */
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/config.h"
#include "agent/core/reason.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/file.h"
#include "tools/ctl/advice.h"
#include "tools/ctl/attached.h"
#include "tools/ctl/explain.h"
#include "tools/ctl/net.h"
#include "tools/ctl/output.h"

static json_t *document_of(const struct inquiry *inquiry)
{
	return inquiry->view.document;
}

/* ---- what the agent saw */

static void step_agent(struct inquiry *inquiry)
{
	const json_t *agent = json_object_get(document_of(inquiry), "agent");
	time_t synced = json_time_at(agent, "synced_at");

	switch (inquiry->view.life) {
	case AGENT_RUNNING:
		if (synced)
			findings_add(&inquiry->steps, "agent", RESULT_OK,
				"running; it read everything %s ago",
				HUMAN_DURATION(time(NULL) - synced));
		else
			findings_add(&inquiry->steps, "agent", RESULT_WARN,
				"running, but it has not read everything yet");
		return;
	case AGENT_STOPPED:
		if (document_of(inquiry))
			findings_add(&inquiry->steps, "agent", RESULT_WARN,
				"not running: what is in the kernel goes on, but nobody sees what "
				"changes; this is what it saw %s ago",
				HUMAN_DURATION(time(NULL) - inquiry->view.written_at));
		else
			findings_add(&inquiry->steps, "agent", RESULT_WARN,
				"not running: what is in the kernel goes on, but nobody sees what "
				"changes; it has left no status that could be read");
		findings_remedy(&inquiry->steps, "systemctl start ipipdirect");
		return;
	case AGENT_UNKNOWN:
		findings_add(&inquiry->steps, "agent", RESULT_NOTE, "unknown whether it runs");
		return;
	}
}

static void step_namespace(struct inquiry *inquiry, const json_t *netns)
{
	const char *label = json_text(netns, "label"), *error = json_text(netns, "error");

	if (json_is_false(json_object_get(netns, "read"))) {
		findings_add(&inquiry->steps, "namespace", RESULT_WARN,
			"%s could not be read (%s): what was read before holds", label,
			error[0] ? error : "not yet");
		return;
	}
	findings_add(&inquiry->steps, "namespace", RESULT_OK, "%s, read without error", label);
}

static void step_device(struct inquiry *inquiry)
{
	const json_t *tunnel = inquiry->tunnel;
	const char *ifname = json_text(tunnel, "ifname"), *netns = json_text(tunnel, "netns");
	const char *local = json_text(tunnel, "local"), *remote = json_text(tunnel, "remote");
	bool up = json_is_true(json_object_get(tunnel, "up"));
	char ip[ADVICE_IP_MAX];

	findings_add(&inquiry->steps, "device", up ? RESULT_OK : RESULT_WARN,
		"%s in namespace %s, %s, local %s, remote %s", ifname, netns,
		up ? "up" : "down: it sends nothing", local[0] ? local : "any",
		remote[0] ? remote : "none");
	if (up)
		return;
	advice_ip(document_of(inquiry), netns, ip);
	findings_remedy(&inquiry->steps, "%s link set %s up", ip, SHELL_WORD(ifname));
}

/* Whether it can be served at all. */
static bool step_state(struct inquiry *inquiry)
{
	const json_t *tunnel = inquiry->tunnel, *rival = json_object_get(tunnel, "rival");
	const char *state = json_text(tunnel, "state"), *reason = json_text(tunnel, "reason");
	const char *remedy = advice_tunnel(reason);

	if (strcmp(state, "mapped") == 0)
		return true;
	if (json_is_object(rival))
		findings_add(&inquiry->steps, "state", RESULT_FAIL,
			"%s (%s): %s; that is %s in "
			"namespace %s",
			state, reason, json_text(tunnel, "reason_text"), json_text(rival, "ifname"),
			json_text(rival, "netns"));
	else
		findings_add(&inquiry->steps, "state", RESULT_FAIL, "%s (%s): %s", state, reason,
			json_text(tunnel, "reason_text"));
	if (remedy)
		findings_remedy(&inquiry->steps, "%s", remedy);
	return false;
}

static void print_list(FILE *out, const json_t *array)
{
	const json_t *item;
	size_t i;

	json_array_foreach((json_t *)array, i, item)
	{
		(void)fputs(i > 0 ? ", " : "", out);
		if (json_is_integer(item))
			(void)fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(item));
		else
			(void)fputs(json_string_value(item) ?: "?", out);
	}
}

/* "a, b"; the caller's; NULL: no memory. */
static char *list_text(const json_t *array)
{
	_cleanup_free_ char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	print_list(out, array);
	return fclose(out) == 0 ? TAKE_PTR(text) : NULL;
}

static void step_address(struct inquiry *inquiry)
{
	const char *source = json_text(inquiry->tunnel, "game_server_ip_source");
	_cleanup_free_ char *list = list_text(json_object_get(inquiry->tunnel, "game_server_ips"));

	if (!list || !list[0])
		return;
	findings_add(&inquiry->steps, "address", RESULT_OK, "game server IP %s, by rule %s: %s",
		list, source, advice_source(source));
}

/* Which rule of the configuration decides; agents that do not say leave it out. */
static void step_rule(struct inquiry *inquiry)
{
	const json_t *rule = json_object_get(inquiry->tunnel, "rule");
	const char *config = json_text(json_object_get(document_of(inquiry), "agent"), "config");

	if (json_is_integer(rule))
		findings_add(&inquiry->steps, "rule", RESULT_OK,
			"rules[%" JSON_INTEGER_FORMAT "] of %s decides how it is treated",
			json_integer_value(rule), config[0] ? config : "the configuration");
	else if (json_is_null(rule))
		findings_add(&inquiry->steps, "rule", RESULT_OK,
			"no rule of %s matches it: the defaults hold",
			config[0] ? config : "a configuration");
}

/* A mode set by hand wins over the configuration: there is nothing to change there. */
static void step_mode(struct inquiry *inquiry)
{
	const json_t *tunnel = inquiry->tunnel;
	const char *mode = json_text(tunnel, "mode");
	bool by_hand = strcmp(json_text(tunnel, "mode_source"), "override") == 0;
	const char *how = by_hand ? ", set by hand" : "";

	if (strcmp(mode, "direct") == 0) {
		findings_add(&inquiry->steps, "mode", RESULT_OK,
			"direct%s: replies go straight to the client", how);
		return;
	}
	findings_add(&inquiry->steps, "mode", RESULT_FAIL, "%s%s: %s", mode, how,
		strcmp(mode, "shadow") == 0
			? "what would go direct is only counted, and stays on the tunnel"
			: "everything is left to the tunnel");
	if (by_hand)
		findings_remedy(&inquiry->steps, "ipipdirectctl mode %s %s default",
			SHELL_WORD(json_text(tunnel, "netns")),
			SHELL_WORD(json_text(tunnel, "ifname")));
	else
		findings_remedy(
			&inquiry->steps, "set mode direct for it in the configuration, and reload");
}

/* Packets that policy excepts from the mode. */
static void step_exceptions(struct inquiry *inquiry)
{
	_cleanup_free_ char *ports = list_text(json_object_get(inquiry->tunnel, "server_ports"));
	_cleanup_free_ char *exempt = list_text(json_object_get(inquiry->tunnel, "exempt"));

	if (ports && ports[0])
		findings_add(&inquiry->steps, "ports", RESULT_NOTE,
			"only packets from source ports %s go direct", ports);
	if (exempt && exempt[0])
		findings_add(&inquiry->steps, "exempt", RESULT_NOTE,
			"query answers stay on the tunnel, since POPs cache them: %s", exempt);
}

/* ---- what the maps hold */

static const char *which_packets(const struct row *row)
{
	if (row->entry.flags & MAPS_FLAG_OWN_SOURCE)
		return " where that is the inner source";
	return row->entry.flags & MAPS_FLAG_PRIVATE_SOURCE ? " where the inner source is private"
							   : "";
}

static void describe_row(const struct row *row, char *buf, size_t size)
{
	char key[64];

	if (row->map == ROW_SOURCES)
		(void)snprintf(key, sizeof(key), "remote %s and inner source %s",
			IP4_FORMAT(row->remote), IP4_FORMAT(row->inner_source));
	else
		(void)snprintf(key, sizeof(key), "remote %s", IP4_FORMAT(row->remote));
	if (row->entry.flags & MAPS_FLAG_SHARED)
		(void)snprintf(buf, size, "%s is shared, the inner source decides", key);
	else
		(void)snprintf(buf, size, "%s gets source %s%s, mode %s", key,
			IP4_FORMAT(((struct ip4){ row->entry.game_server_ip })), which_packets(row),
			maps_mode_name((enum maps_mode)row->entry.mode));
}

/* The row that an entry of the status says there is. */
static int row_of(const json_t *entry, struct row *ret)
{
	const char *source = json_text(entry, "inner_source");
	const char *address = json_text(entry, "game_server_ip");
	struct row row = { .map = source[0] ? ROW_SOURCES : ROW_REMOTES };
	struct ip4 game_server_ip = { 0 };
	enum maps_mode mode;

	if (ip4_parse(json_text(entry, "remote"), &row.remote) < 0 ||
		(source[0] && ip4_parse(source, &row.inner_source) < 0) ||
		(address[0] && ip4_parse(address, &game_server_ip) < 0) ||
		maps_mode_parse(json_text(entry, "mode"), &mode) < 0)
		return -EBADMSG;
	row.entry.game_server_ip = game_server_ip.be;
	row.entry.mode = (uint8_t)mode;
	if (json_is_true(json_object_get(entry, "shared")))
		row.entry.flags = MAPS_FLAG_SHARED;
	if (json_is_true(json_object_get(entry, "own_source")))
		row.entry.flags |= MAPS_FLAG_OWN_SOURCE;
	if (json_is_true(json_object_get(entry, "private_source")))
		row.entry.flags |= MAPS_FLAG_PRIVATE_SOURCE;
	*ret = row;
	return 0;
}

static bool says_the_same(const struct row *a, const struct row *b)
{
	if ((a->entry.flags ^ b->entry.flags) & MAPS_FLAGS_SOURCE)
		return false;
	return (a->entry.flags & MAPS_FLAG_SHARED) ||
	       (a->entry.game_server_ip == b->entry.game_server_ip &&
		       a->entry.mode == b->entry.mode);
}

static bool is_shared(const struct row *row)
{
	return (row->entry.flags & MAPS_FLAG_SHARED) != 0;
}

static bool sends_direct(const struct row *row)
{
	return !is_shared(row) && row->entry.mode == MAPS_MODE_DIRECT;
}

/* A row that decides about packets of the tunnel: that of its remote decides about all. */
static void note_reach(struct inquiry *inquiry, const struct row *row)
{
	enum reach reach = row->map == ROW_REMOTES ? REACH_ALL : REACH_SOME;

	if (sends_direct(row) && reach > inquiry->reach)
		inquiry->reach = reach;
}

/* Row `i` of those that are there; of those of the status, where the maps cannot be looked at. */
static bool get_row(const struct inquiry *inquiry, size_t i, struct row *ret)
{
	const struct rows *rows = &inquiry->live.rows;

	if (inquiry->live_error < 0)
		return row_of(json_array_get(json_object_get(document_of(inquiry), "entries"), i),
			       ret) == 0;
	if (i >= rows->n)
		return false;
	*ret = rows->list[i];
	return true;
}

static bool get_remote_row(const struct inquiry *inquiry, struct ip4 remote, struct row *ret)
{
	struct row row;

	for (size_t i = 0; get_row(inquiry, i, &row); i++) {
		if (row.map != ROW_REMOTES || !ip4_equal(row.remote, remote))
			continue;
		*ret = row;
		return true;
	}
	return false;
}

/* Whether anything goes direct; `remote`: by its inner source, below that remote. */
static bool has_direct_row(const struct inquiry *inquiry, const struct ip4 *remote)
{
	struct row row;

	for (size_t i = 0; get_row(inquiry, i, &row); i++)
		if (sends_direct(&row) &&
			(!remote || (row.map == ROW_SOURCES && ip4_equal(row.remote, *remote))))
			return true;
	return false;
}

/* Whether the row is what the agent means for the tunnel: it may not have been able to write that yet. */
static bool is_meant(const struct inquiry *inquiry, const struct row *row)
{
	struct ip4 address = { row->entry.game_server_ip };

	return is_shared(row) ||
	       (search_has(
			json_object_get(inquiry->tunnel, "game_server_ips"), IP4_FORMAT(address)) &&
		       strcmp(json_text(inquiry->tunnel, "mode"),
			       maps_mode_name((enum maps_mode)row->entry.mode)) == 0);
}

static void compare_row(struct inquiry *inquiry, const struct row *wanted)
{
	const struct live *live = &inquiry->live;
	const struct row *there = wanted;
	char text[160], other[160];

	describe_row(wanted, text, sizeof(text));
	if (inquiry->live_error == 0) {
		size_t i = live_find(live, wanted->remote, wanted->inner_source);

		if (i == SIZE_MAX) {
			findings_add(&inquiry->steps, "row", RESULT_FAIL,
				"%s, says the status, but the pinned map has no such row", text);
			findings_remedy(&inquiry->steps,
				"systemctl restart ipipdirect: the agent writes what is missing");
			return;
		}
		there = &live->rows.list[i];
		slot_counters_add(&inquiry->counters, &live->counters[i]);
		inquiry->n_rows++;
	}
	note_reach(inquiry, there);
	if (!says_the_same(wanted, there)) {
		describe_row(there, other, sizeof(other));
		findings_add(&inquiry->steps, "row", RESULT_FAIL,
			"%s, says the status, but in the pinned map %s", text, other);
		findings_remedy(&inquiry->steps, "systemctl restart ipipdirect");
	} else if (!is_meant(inquiry, wanted)) {
		findings_add(
			&inquiry->steps, "row", RESULT_FAIL, "%s, but it is meant otherwise", text);
		findings_remedy(&inquiry->steps,
			"see 'ipipdirectctl status': the agent could not write it, or waits until "
			"all namespaces were read");
	} else if (inquiry->live_error < 0) {
		findings_add(&inquiry->steps, "row", RESULT_WARN,
			"%s, says the status; the pinned map cannot be looked at: %s", text,
			strerror(-inquiry->live_error));
	} else {
		findings_add(
			&inquiry->steps, "row", RESULT_OK, "%s; so it is in the pinned map", text);
	}
}

/* Whether its addresses are the inner sources of its rows. */
static bool has_tunnel_addresses(const json_t *tunnel)
{
	const char *source = json_text(tunnel, "game_server_ip_source");

	return strcmp(source, "tunnel-address") == 0 || strcmp(source, "auto:tunnel-address") == 0;
}

/*
 * Whether the row, below its remote, is for packets of the tunnel. One row serves equal claims, which only a
 * namespace can have, and names the first of them. The status does not say which other addresses a device has.
 */
static bool is_for(const struct inquiry *inquiry, const json_t *entry)
{
	const json_t *tunnel = inquiry->tunnel, *owner = json_object_get(entry, "tunnel");
	const json_t *ips = json_object_get(tunnel, "game_server_ips");

	if (search_same(owner, tunnel))
		return true;
	if (has_tunnel_addresses(tunnel))
		return search_has(ips, json_text(entry, "inner_source"));
	return !inquiry->owns_rows && search_has(ips, json_text(entry, "game_server_ip")) &&
	       (!json_is_object(owner) ||
		       strcmp(json_text(owner, "netns"), json_text(tunnel, "netns")) == 0);
}

/* The next entry from *i on that decides about packets of the tunnel, of its remote or below; NULL: no more. */
static const json_t *next_entry(const struct inquiry *inquiry, size_t *i)
{
	const json_t *entries = json_object_get(document_of(inquiry), "entries"), *entry;
	const char *remote = json_text(inquiry->tunnel, "remote");

	while ((entry = json_array_get(entries, (*i)++)))
		if (strcmp(json_text(entry, "remote"), remote) == 0 &&
			(!json_text(entry, "inner_source")[0] || is_for(inquiry, entry)))
			return entry;
	return NULL;
}

static bool owns_rows(const struct inquiry *inquiry)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(json_object_get(document_of(inquiry), "entries"), i, entry)
	{
		if (search_same(json_object_get(entry, "tunnel"), inquiry->tunnel))
			return true;
	}
	return false;
}

/* Whether any row but a shared one is there for it. */
static bool has_rows(const struct inquiry *inquiry)
{
	const json_t *entry;

	for (size_t i = 0; (entry = next_entry(inquiry, &i));)
		if (!json_is_true(json_object_get(entry, "shared")))
			return true;
	return false;
}

static void fail_no_row(struct inquiry *inquiry, const char *what)
{
	findings_add(&inquiry->steps, "row", RESULT_FAIL,
		"no row was made for %s: the map is full, or writing it failed", what);
	findings_remedy(&inquiry->steps,
		"see the agent's log; if it is full, raise max_entries, then 'ipipdirectctl reload'");
}

static void remove_text(json_t *array, const char *text)
{
	const json_t *item;
	size_t i;

	json_array_foreach(array, i, item)
	{
		if (strcmp(json_string_value(item) ?: "", text) == 0) {
			(void)json_array_remove(array, i);
			return;
		}
	}
}

/* Which of its addresses have no row below the shared one. */
static void tell_left(struct inquiry *inquiry, const json_t *left)
{
	_cleanup_free_ char *list = list_text(left);

	if (!list || !list[0])
		return;
	if (strcmp(json_text(inquiry->tunnel, "state"), "mapped") == 0)
		fail_no_row(inquiry, list);
	else
		findings_add(&inquiry->steps, "row", RESULT_NOTE,
			"no row is for inner source %s: such packets stay on the tunnel", list);
}

/* The row of its remote, whoever it was made for, and where that is shared those of the tunnel below it. */
static void step_rows(struct inquiry *inquiry)
{
	json_auto_t *left = json_copy(json_object_get(inquiry->tunnel, "game_server_ips"));
	const json_t *entry;
	struct row row;
	bool is_below = false;
	size_t n = 0;

	for (size_t i = 0; (entry = next_entry(inquiry, &i));) {
		if (row_of(entry, &row) < 0 || (row.map == ROW_SOURCES && !is_below))
			continue;
		compare_row(inquiry, &row);
		remove_text(left, json_text(entry, "inner_source"));
		is_below = is_below || is_shared(&row);
		n += !is_shared(&row);
	}
	if (n == 0)
		fail_no_row(inquiry, "it");
	else if (is_below && has_tunnel_addresses(inquiry->tunnel))
		tell_left(inquiry, left);
	if (ip4_parse(json_text(inquiry->tunnel, "remote"), &row.remote) == 0 &&
		get_remote_row(inquiry, row.remote, &row))
		note_reach(inquiry, &row);
	else
		inquiry->reach = REACH_NONE;
}

static bool is_one_of(const char *word, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(words[i], word) == 0)
			return true;
	return false;
}

/* Of a tunnel that has none: the program does not ask which tunnel a packet is of. */
static void step_rows_of_others(struct inquiry *inquiry)
{
	static const char *const no_ipip[] = { "encapsulation", "not-ipip" };
	/* No other tunnel gets a row for an inner source of these. */
	static const char *const heeded[] = { "no-public-address", "not-allowed",
		"addresses-unknown" };
	const char *reason = json_text(inquiry->tunnel, "reason");
	struct ip4 remote;
	struct row row;
	char text[160];

	if (is_one_of(reason, no_ipip, ELEMENTS_OF(no_ipip)))
		return;
	if (ip4_parse(json_text(inquiry->tunnel, "remote"), &remote) < 0) {
		if (!has_direct_row(inquiry, NULL))
			return;
		inquiry->reach = REACH_SOME;
		findings_add(&inquiry->steps, "row", RESULT_NOTE,
			"each packet chooses its remote: where that has a row, the row decides");
		return;
	}
	if (!get_remote_row(inquiry, remote, &row))
		return;
	describe_row(&row, text, sizeof(text));
	if (!(row.entry.flags & (MAPS_FLAG_SHARED | MAPS_FLAG_OWN_SOURCE))) {
		note_reach(inquiry, &row);
		findings_add(&inquiry->steps, "row", RESULT_WARN,
			"%s; it was made for another tunnel and decides about what is sent to that "
			"remote",
			text);
		findings_remedy(&inquiry->steps, "give one of the two another remote");
	} else if (!is_one_of(reason, heeded, ELEMENTS_OF(heeded)) &&
		   (sends_direct(&row) || has_direct_row(inquiry, &remote))) {
		inquiry->reach = REACH_SOME;
		findings_add(&inquiry->steps, "row", RESULT_NOTE,
			"%s, also where it is another tunnel's", text);
	}
}

/* ---- where the packets leave */

static void step_attached(
	struct inquiry *inquiry, const json_t *interface, uint32_t ifindex, const char *name)
{
	const char *error = json_text(interface, "error");
	int r = attached_check(interface, ifindex);

	if (r == 0 && !document_of(inquiry)) {
		findings_add(&inquiry->steps, "attached", RESULT_NOTE,
			"the program is pinned for the egress of %s; whether it is still there cannot "
			"be told without a status",
			name);
		return;
	}
	if (r == 0) {
		findings_add(&inquiry->steps, "attached", RESULT_OK,
			"the program is on the egress of %s (%s, program %" JSON_INTEGER_FORMAT ")",
			name, interface ? json_text(interface, "attachment") : "not by this agent",
			json_number(interface, "program_id"));
		return;
	}
	if (r != -ENOENT) {
		findings_add(&inquiry->steps, "attached", RESULT_WARN,
			"whether the program is on %s cannot be looked at: %s", name, strerror(-r));
		findings_remedy(&inquiry->steps, CTL_HINT_READ);
		return;
	}
	findings_add(&inquiry->steps, "attached", RESULT_FAIL, "the program is not on %s%s%s", name,
		error[0] ? ": " : "", error);
	if (!interface && agent_is_detached(&inquiry->view)) {
		findings_remedy(
			&inquiry->steps, "an operator has detached it: ipipdirectctl attach");
		return;
	}
	findings_remedy(&inquiry->steps,
		interface ? "systemctl restart ipipdirect: the agent attaches again"
			  : "name the interface in 'interfaces' of the configuration, if replies "
			    "shall leave there");
}

static bool read_switch(const char *path, bool *ret)
{
	_cleanup_free_ char *text = NULL;
	size_t size;

	if (file_read(path, 64, &text, &size) < 0)
		return false;
	*ret = text[0] != '0';
	return true;
}

static void step_next_hop(struct inquiry *inquiry, const json_t *interface, const char *name)
{
	const char *next_hop = json_text(interface, "next_hop");
	char path[96];
	bool on;

	(void)snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/forwarding", name);
	if (strchr(name, '/') || !read_switch(path, &on)) {
		findings_add(&inquiry->steps, "forwarding", RESULT_WARN,
			"whether IPv4 forwarding is on for %s cannot be looked at", name);
	} else {
		advise_forwarding(
			&inquiry->steps, name, on, agent_has_shortcut(&inquiry->view, interface));
	}
	if (next_hop[0] && inquiry->view.life == AGENT_STOPPED)
		findings_add(&inquiry->steps, "next-hop", RESULT_NOTE,
			"each packet asks the kernel's routes as long as no agent runs");
	else if (next_hop[0])
		findings_add(&inquiry->steps, "next-hop", RESULT_OK, "%s: %s", next_hop,
			advice_next_hop(next_hop));
}

static void step_interface(struct inquiry *inquiry)
{
	const char *remote_text = json_text(inquiry->tunnel, "remote");
	char name[IF_NAMESIZE];
	struct ip4 remote, local = { 0 };
	uint32_t ifindex;
	const json_t *interface;
	int r;

	if (ip4_parse(remote_text, &remote) < 0)
		return;
	if (document_of(inquiry) && agent_is_of_netns(document_of(inquiry)) == 0) {
		findings_add(&inquiry->steps, "route", RESULT_WARN,
			"the agent works in another network namespace than this one: where replies "
			"leave cannot be looked at from here");
		findings_remedy(
			&inquiry->steps, "use \"nsenter --net=FILE ipipdirectctl explain ...\"");
		return;
	}
	/* Rules may decide by the source, which is the host's own address for tunnels without a veth between. */
	(void)ip4_parse(json_text(inquiry->tunnel, "local"), &local);
	r = net_route(remote, local, &ifindex);
	if (r < 0 || !if_indextoname(ifindex, name)) {
		findings_add(&inquiry->steps, "route",
			r == -ENETUNREACH ? RESULT_FAIL : RESULT_WARN,
			"this host has no route to the remote %s: %s", remote_text,
			strerror(r < 0 ? -r : errno));
		return;
	}
	findings_add(&inquiry->steps, "route", RESULT_OK, "the remote %s is reached by %s",
		remote_text, name);
	interface = agent_interface(document_of(inquiry), ifindex);
	step_attached(inquiry, interface, ifindex, name);
	step_next_hop(inquiry, interface, name);
}

/* ---- what became of its packets */

static enum maps_reason main_reason(const struct slot_counters *counters)
{
	enum maps_reason most = MAPS_REASON_COUNT;

	for (size_t i = 0; i < MAPS_REASON_COUNT; i++)
		if (counters->kept.packets[i] > 0 &&
			(most == MAPS_REASON_COUNT ||
				counters->kept.packets[i] > counters->kept.packets[most]))
			most = (enum maps_reason)i;
	return most;
}

static void step_counters(struct inquiry *inquiry)
{
	const struct slot_counters *counters = &inquiry->counters;
	enum maps_reason reason = main_reason(counters);
	uint64_t direct = counters->direct.packets, kept = kept_packets(counters);
	struct advice advice;
	enum result result = RESULT_OK;

	if (inquiry->live_error < 0 || inquiry->n_rows == 0)
		return;
	if (reason == MAPS_REASON_COUNT) {
		findings_add(&inquiry->steps, "packets", direct > 0 ? RESULT_OK : RESULT_NOTE,
			direct > 0 ? "%" PRIu64 " went direct (%s), none stayed"
				   : "%" PRIu64
				     " so far (%s): nothing was sent yet, or not this way",
			direct, HUMAN_BYTES(counters->direct.bytes));
		if (direct == 0)
			findings_remedy(&inquiry->steps,
				"where it does send: this host has to route its packets, out of an "
				"interface above; by a bridge's port, or a NIC of the namespace's own, they "
				"pass the program by");
		return;
	}
	advice = advice_kept(reason);
	if (!advice.wanted && kept > 0)
		result = direct == 0 ? RESULT_FAIL : direct < kept ? RESULT_WARN : RESULT_OK;
	findings_add(&inquiry->steps, "packets", result,
		"%" PRIu64 " went direct (%s), %" PRIu64 " stayed, mostly (%" PRIu64 ") as %s: %s",
		direct, HUMAN_BYTES(counters->direct.bytes), kept,
		(uint64_t)counters->kept.packets[reason], maps_reason_name(reason), advice.meaning);
	if (advice.remedy && result != RESULT_OK)
		findings_remedy(&inquiry->steps, "%s", advice.remedy);
}

/* ---- all of it */

/* What a row sends direct does not get there when something stands in its way. */
static void step_way(struct inquiry *inquiry)
{
	size_t n = inquiry->steps.n;

	if (inquiry->ctl->status_file) /* it may be another host's */
		return;
	step_interface(inquiry);
	step_counters(inquiry);
	for (; n < inquiry->steps.n; n++)
		if (inquiry->steps.list[n].result == RESULT_FAIL)
			inquiry->reach = REACH_NONE;
}

void explain_tunnel(struct inquiry *inquiry)
{
	const json_t *netns =
		agent_netns(document_of(inquiry), json_text(inquiry->tunnel, "netns"));
	bool is_mapped;

	inquiry->owns_rows = owns_rows(inquiry);
	step_agent(inquiry);
	if (netns)
		step_namespace(inquiry, netns);
	step_device(inquiry);
	is_mapped = step_state(inquiry);
	if (strcmp(json_text(inquiry->tunnel, "state"), "skipped") == 0) {
		step_rows_of_others(inquiry);
	} else if (is_mapped || has_rows(inquiry)) {
		step_rule(inquiry);
		step_address(inquiry);
		step_mode(inquiry);
		step_exceptions(inquiry);
		step_rows(inquiry);
	}
	if (is_mapped || inquiry->reach != REACH_NONE)
		step_way(inquiry);
}

void explain_empty_namespace(struct inquiry *inquiry)
{
	const char *label = json_text(inquiry->search.netns, "label");
	char ip[ADVICE_IP_MAX];

	step_agent(inquiry);
	step_namespace(inquiry, inquiry->search.netns);
	if (json_is_false(json_object_get(inquiry->search.netns, "read")))
		findings_add(&inquiry->steps, "device", RESULT_FAIL,
			"no such IPIP device is known in namespace %s, which could not be read",
			label);
	else
		findings_add(&inquiry->steps, "device", RESULT_FAIL,
			"there is no such IPIP device in namespace %s", label);
	advice_ip(document_of(inquiry), label, ip);
	findings_remedy(&inquiry->steps, "look with '%s -d link show type ipip'", ip);
}

/* What the row itself says, and for a shared one those below it. */
static void step_found_row(struct inquiry *inquiry, const struct row *row)
{
	if (is_shared(row) && !has_direct_row(inquiry, &row->remote))
		findings_add(&inquiry->steps, "mode", RESULT_FAIL,
			"no row of an inner source below it sends anything direct");
	else if (is_shared(row))
		findings_add(&inquiry->steps, "mode", RESULT_NOTE,
			"packets whose inner source has a row in mode direct go direct");
	else if (row->entry.mode != MAPS_MODE_DIRECT)
		findings_add(&inquiry->steps, "mode", RESULT_FAIL, "%s",
			maps_mode_name((enum maps_mode)row->entry.mode));
}

void explain_row(struct inquiry *inquiry, size_t row)
{
	const struct row *found = &inquiry->live.rows.list[row];
	json_t *stand_in = json_pack("{s:s}", "remote", IP4_FORMAT(found->remote));
	char text[160];

	step_agent(inquiry);
	describe_row(found, text, sizeof(text));
	findings_add(&inquiry->steps, "device", RESULT_WARN, "no tunnel with it is in a status");
	findings_add(&inquiry->steps, "row", RESULT_OK, "%s, says the pinned map", text);
	step_found_row(inquiry, found);
	inquiry->counters = inquiry->live.counters[row];
	inquiry->n_rows = 1;
	inquiry->tunnel = stand_in;
	if (stand_in)
		step_interface(inquiry);
	inquiry->tunnel = NULL;
	json_decref(stand_in);
	step_counters(inquiry);
}
